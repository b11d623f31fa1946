"""Every Redis command that is sent about a map, but SUBSCRIBE and UNSUBSCRIBE.

What needs an answer in any case goes through `Commands.retry_while_reconnecting`; what is asked for anew on each link,
as the reads of the table of keys, does not. Nothing here knows a waiter, a call or a watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from coord.core.names import HEAD, MapNames, idle_map, idle_maps
from coord.errors import Unreachable
from coord.link.link import CONNECTED
from coord.link.replies import LinkLost, ServerError, explain, will_pass
from coord.link.scripts import APPLY, BEAT, HEADS, HISTORY, HOLDERS, IDLE, LOOK, SWEEP
from coord.session.answers import query
from coord.session.node import Node
from coord.session.settings import OUTCOMES_KEPT

if TYPE_CHECKING:
    from coord.link.map_link import AnyLink

__all__ = ["Commands", "HistoryReply", "Look", "Swept"]

T = TypeVar("T")

_KEYS_A_SCAN: Final = b"1000"


class HistoryReply(NamedTuple):
    """A part of a map's history: the head, entries of the stream, and present records, field and value in turn."""

    head: bytes | None
    entries: list[tuple[bytes, list[bytes]]]
    records: list[bytes]


class Look(NamedTuple):
    """Records of a map, as of one moment, with the milliseconds until the end of each event that has a TTL (or 0)."""

    head: bytes | None
    records: list[bytes | None]
    left: list[int]


class Swept(NamedTuple):
    """What a sweep of a map has found.

    ``next`` is the number of milliseconds until the map's lease clock has to be looked at again (0: it need not be),
    ``passed`` that since the last look. ``over`` has the letter, key and data of each call that ends something.
    """

    next: int
    passed: int
    over: list[tuple[int, bytes, bytes]]

    @classmethod
    def of(cls, reply: list[Any]) -> Swept:
        """Return what the reply of ``sweep.lua`` says."""
        following, passed, *words = reply
        calls = zip(words[::3], words[1::3], words[2::3], strict=True)
        return cls(following, passed, [(letter[0], key, data) for letter, key, data in calls])


class Commands:
    """The commands of one session.

    ``asking`` counts the questions that need an answer in any case and have none.

    :param postpone: called with the message of a server that has no time; returns a Deferred for when to ask again.
    """

    def __init__(self, node: Node, link: AnyLink, postpone: Callable[[str], Deferred[None]]) -> None:
        self._node = node
        self._link = link
        self._sharded = link.target.cluster is not None and not link.target.cluster.classic
        self._idle = idle_map(node.namespace, node.alone) if node.alone else idle_maps(node.namespace)
        self._postpone = postpone
        self.asking = 0

    @property
    def server_process(self) -> str:
        """The run id of the server process; empty without a link."""
        return self._link.process.decode()

    @property
    def moving(self) -> bool:
        """Whether what was lost now was lost as the map moves: no answer was too large for the server."""
        return self._link.moving

    @property
    def reason(self) -> str:
        """Why the link is in its state."""
        return self._node.link_status.reason

    # Waiting for an answer.

    async def retry_while_reconnecting(self, ask: Callable[[], Deferred[T]], what: str, *, writing: bool = False) -> T:
        """Return the answer to ``ask``, on this link or a later one; ``what`` begins the error message.

        A server that has no time is asked again after a growing pause.

        :param writing: the command may write, so "out of memory" is an error, and not asked again.
        :raises AccessDenied, ServerRefused, CorruptRecord, Closed:
        """
        self.asking += 1
        try:
            while True:
                await self._node.link_status.connected()
                try:
                    return await ask()
                except LinkLost:
                    if self._node.link_status.state is CONNECTED:
                        # One map of a server after the other is told that its link is lost, and this one comes later in
                        # this turn: without a pause, this would ask in vain for ever, and the turn never end.
                        await deferLater(self._node.clock, 0)
                    continue
                except ServerError as error:
                    message = str(error)
                    if not will_pass(message, writing=writing):
                        raise explain(message, what) from None
                await self._postpone(message)
        finally:
            self.asking -= 1

    def with_deadline(self, answer: Deferred[T]) -> Deferred[T]:
        """Add the default deadline to an answer; errback `Unreachable` after it."""

        def too_late(result: T | Failure, seconds: float) -> T | Failure:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise Unreachable(f"{self._link.target.shown} did not answer within {seconds:g} s ({self.reason})")
            return result

        node = self._node
        return query(answer.addTimeout(node.settings.timeout, node.clock, onTimeoutCancel=too_late))

    # One map.

    def apply(self, names: MapNames, arguments: Sequence[bytes], *, others_first: bool) -> Deferred[Any]:
        """Apply calls (``apply.lua``). See `Link.run_script` for ``others_first``."""
        return self._link.run_script(APPLY, names.keys, arguments, others_first=others_first)

    def read(self, names: MapNames, keys: Iterable[bytes]) -> Deferred[list[bytes | None]]:
        """Read the head and these keys' records, as of one moment (HMGET)."""
        return self._link.ask(b"HMGET", names.records, HEAD, *keys)

    def fields(self, names: MapNames, fields: Iterable[bytes]) -> Deferred[list[bytes | None]]:
        """Read any fields of a map's hash, as of one moment (HMGET)."""
        return self._link.ask(b"HMGET", names.records, *fields)

    def read_one(self, names: MapNames, key: bytes) -> Deferred[bytes | None]:
        """Read one record (HGET)."""
        return self._link.ask(b"HGET", names.records, key)

    def look(self, names: MapNames, keys: Iterable[bytes]) -> Deferred[Look]:
        """Read the head and these keys' records, and how long those of them will stand that are events with a TTL."""
        return self._link.run_script(LOOK, (names.records, names.due), [*keys]).addCallback(Look._make)

    def scan(self, names: MapNames, cursor: int, pattern: bytes, count: int) -> Deferred[tuple[bytes, list[bytes]]]:
        """Read some fields of a map, and the next cursor, which is valid for this server process only (HSCAN)."""
        return self._link.ask(b"HSCAN", names.records, b"%d" % cursor, b"MATCH", pattern, b"COUNT", b"%d" % count)

    def history(self, names: MapNames, after: bytes, lines: int, size: int) -> Deferred[HistoryReply]:
        """Read the history after an entry: at most ``lines`` lines and about ``size`` bytes."""
        arguments = after, b"%d" % lines, b"%d" % size
        asked = self._link.run_script(HISTORY, (names.records, names.log), arguments)
        return asked.addCallback(HistoryReply._make)

    def remove_fields(self, names: MapNames, fields: Iterable[bytes]) -> Deferred[int]:
        """Remove fields (HDEL)."""
        return self._link.ask(b"HDEL", names.records, *fields)

    def count_subscribers(self, channels: Iterable[bytes]) -> Deferred[list[int]]:
        """Count the subscribers of each channel (PUBSUB NUMSUB)."""
        word = b"SHARDNUMSUB" if self._sharded else b"NUMSUB"
        asked: Deferred[list[bytes]] = self._link.ask(b"PUBSUB", word, *channels)
        return asked.addCallback(lambda reply: list(map(int, reply[1::2])))

    def channels(self, pattern: bytes) -> Deferred[list[bytes]]:
        """Return the channels that fit a pattern and that anybody is subscribed to, on the map's server."""
        return self._link.ask(b"PUBSUB", b"SHARDCHANNELS" if self._sharded else b"CHANNELS", pattern)

    def renew(self, names: MapNames, lease: bytes, times: tuple[float, float], *, makes: bool) -> Deferred[list[Any]]:
        """Renew a lease, or make it (``beat.lua``); ``times`` are its lease time and its grace time, in seconds."""
        lengths = [b"%d" % round(1000 * seconds) for seconds in times]
        return self._link.run_script(BEAT, names.keys, (names.name.encode(), lease, *lengths, b"%d" % makes))

    def held_under(self, names: MapNames, lease: bytes) -> Deferred[list[bytes]]:
        """Return the names of all holders under a lease (ZRANGEBYLEX)."""
        first = b"\0%b\0" % lease
        asked: Deferred[list[bytes]] = self._link.ask(
            b"ZRANGEBYLEX", names.entries, b"[" + first, b"(" + first[:-1] + b"\1"
        )
        return asked.addCallback(lambda entries: [entry[len(first) :] for entry in entries])

    def entries(self, names: MapNames, prefix: bytes) -> Deferred[list[bytes]]:
        """Return all members of the sorted set of holders that begin so (ZRANGEBYLEX); the last byte is not 255."""
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        return self._link.ask(b"ZRANGEBYLEX", names.entries, b"[" + prefix, b"(" + end)

    def has_entry(self, names: MapNames, entry: bytes) -> Deferred[bytes | None]:
        """Return ``None`` if the sorted set of holders has no such member (ZSCORE)."""
        return self._link.ask(b"ZSCORE", names.entries, entry)

    def holders_before(self, names: MapNames, key: bytes, entry: bytes) -> Deferred[int]:
        """Count the holders of a key before the one with this member of the sorted set (ZLEXCOUNT)."""
        return self._link.ask(b"ZLEXCOUNT", names.entries, b"[%b\0" % key, b"(" + entry)

    def holders(self, names: MapNames, key: bytes, most: int) -> Deferred[list[Any]]:
        """Read the number of holders of a key, and the fields of at most ``most`` of them, the oldest first."""
        return self._link.run_script(HOLDERS, (names.records, names.entries), (key, b"%d" % most))

    # Many maps.

    def heads(self, maps: Iterable[MapNames]) -> Deferred[list[bytes | None]]:
        """Read the heads of many maps of one server."""
        return self._link.run_script(HEADS, [names.records for names in maps], ())

    def scan_hashes(self, cursor: bytes, pattern: bytes) -> Deferred[tuple[bytes, list[bytes]]]:
        """Return the next cursor, and some of the keys of hashes (SCAN)."""
        return self._link.ask(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _KEYS_A_SCAN, b"TYPE", b"hash")

    def idle_maps(self, most: int) -> Deferred[list[bytes]]:
        """Return names of maps of the namespace that have data to forget now."""
        return self._link.run_script(IDLE, (self._idle,), (b"%d" % most,))

    def sweep(self, names: MapNames, most: int) -> Deferred[Swept]:
        """Forget at most ``most`` expired fields of a map, and find what is over."""
        arguments = names.name.encode(), b"%d" % most, b"%d" % OUTCOMES_KEPT
        return self._link.run_script(SWEEP, names.keys, arguments).addCallback(Swept.of)

    def execute(self, *arguments: bytes) -> Deferred[Any]:
        """Send any command."""
        return self._link.ask(*arguments)
