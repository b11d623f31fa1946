"""One map of events: what users call ``on_mount``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn, TypedDict, Unpack

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from coord.client.listings import Listings, Pages
from coord.client.waits import Waiter, all_of, any_of, canceller, expiring, joint
from coord.client.watch import Watch
from coord.core.calls import Call, CallName
from coord.core.names import check_key, check_keys
from coord.core.records import (
    FAILED,
    FIRED,
    PULSED,
    RESET,
    Applied,
    Kind,
    Listing,
    Page,
    Record,
    Revision,
    StoredRecord,
    not_a_record,
)
from coord.core.values import Json, encode
from coord.errors import CorruptRecord, InvalidInput, InvalidKey
from coord.link.link import CLOSED
from coord.session.settings import MAX_DEADLINE, MAX_WAIT, check_seconds

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["EventMap"]


class CallOptions(TypedDict, total=False):
    """What can be asked of a call.

    ``timeout``: its deadline, in seconds. ``replicas``: it is acknowledged once that many replicas have it; errbacks
    `NotReplicated` where they do not ``within`` so many seconds (2 by default; Redis' ``WAIT``). ``once``: a name for
    the call, 1 to 512 bytes of UTF-8 without control characters. A call that is made again under its name, by any node
    of the namespace, is applied no second time: it is answered as the first was, for an hour. The name belongs to the
    map; another call under it errbacks `NameReused`.
    """

    timeout: float | None
    replicas: int
    within: float
    once: str | None


class EventMap:
    """A named set of events, shared by every node of a namespace; made by ``Coordinator.events``.

    Bad input raises at once, before anything is sent: `InvalidKey`, `InvalidValue`, `InvalidTime`.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self._session = session
        self._map = session.map(name)
        self._commands = session.commands
        self._timeout = session.node.settings.timeout
        self._listings = Listings(self._commands, self._map.names)
        self._prefix = self._map.names.prefix
        self._cancelled = canceller(session)

    def __repr__(self) -> str:
        return f"<EventMap {self._session.node.namespace}/{self.name}>"

    # Waiting.

    def __getitem__(self, key: str) -> Deferred[Json]:
        """Return a Deferred of your own for ``key``.

        It is called back with the event's value: at once where this node knows it already, else when the event is
        fired or pulsed on any node. It errbacks `EventFailed` where the event fails, `Closed` when the coordinator is
        closed, `CorruptRecord` or `AccessDenied` where the key cannot be read. Cancelling it leaves nothing behind.
        """
        waiter = Waiter(self._prefix + check_key(key), self._cancelled)
        session = self._session
        if session.link_status.state is CLOSED:
            waiter.give_up(session.link_status.closed_error())
            return waiter
        stored = session.wait(self._map, waiter.channel, waiter)
        if stored is not None:
            waiter.wake(stored, self._map.names)
        return waiter

    def wait(self, key: str, timeout: float | None = None) -> Deferred[Json]:
        """Return the same as ``self[key]``, which errbacks `TimedOut` after ``timeout`` seconds."""
        self._check_wait(timeout)
        return expiring(self[key], timeout, self._session.clock, f"{self.name}/{key}")

    def wait_all(self, keys: Iterable[str], timeout: float | None = None) -> Deferred[dict[str, Json]]:
        """Return ``{key: value}`` when all have come. It fails as soon as one failed; the other waits are cancelled."""
        waiters = self._waiters(keys, timeout)
        return expiring(joint(all_of(waiters)), timeout, self._session.clock, self.name)

    def wait_any(self, keys: Iterable[str], timeout: float | None = None) -> Deferred[tuple[str, Json]]:
        """Return ``(key, value)`` of the first that comes, failure included; the other waits are cancelled."""
        waiters = self._waiters(keys, timeout)
        if not waiters:
            raise InvalidKey("wait_any needs at least one key: of none, none will ever come")
        return expiring(joint(any_of(waiters)), timeout, self._session.clock, self.name)

    def armed(self) -> Deferred[None]:
        """Return a Deferred for when every wait made so far is armed or resolved: no later fire can miss it."""
        return self._session.arming.armed(self._map)

    def _waiters(self, keys: Iterable[str], timeout: float | None) -> dict[str, Deferred[Json]]:
        self._check_wait(timeout)
        return {key: self[key] for key in check_keys(keys)}

    def _check_wait(self, timeout: float | None) -> None:
        if timeout is not None:
            check_seconds("timeout", timeout, most=MAX_WAIT)

    # Changing. Each answers `Applied`, or errbacks: `Unreachable`, `AccessDenied`, `ServerRefused`, `CorruptRecord` and
    # `Closed` mean that it was not applied; `Unconfirmed` that it may have been, or may yet be; `NotReplicated` that it
    # was. The options of all four are in `CallOptions`.

    def fire(self, key: str, value: object = True, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Fire the event: every waiter of the cluster gets ``value``, those who come later get it at once.

        Of many callers one is ``first``; the others are answered with the record that stands.
        """
        return self._call(FIRED, key, encode(value), options)

    def fail(self, key: str, reason: object, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Let the event fail: every waiter gets `EventFailed` with ``reason``, a JSON value, Failure or exception."""
        if isinstance(reason, Failure):
            reason = reason.value
        if isinstance(reason, BaseException):
            reason = f"{type(reason).__name__}: {reason}"
        return self._call(FAILED, key, encode(reason), options)

    def pulse(self, key: str, value: object = True, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Wake every waiter with ``value``, and leave the key pending: those that wait later wait for the next one."""
        return self._call(PULSED, key, encode(value), options)

    def reset(
        self, key: str, revision: Revision | str | None = None, **options: Unpack[CallOptions]
    ) -> Deferred[Applied]:
        """Make a fired or failed key pending again; with ``revision`` only if that record still stands."""
        data = b"" if revision is None else b"%d,%d" % Revision.of(revision)
        return self._call(RESET, key, data, options)

    def _call(self, kind: Kind, key: str, data: bytes, options: CallOptions) -> Deferred[Applied]:
        session = self._session
        encoded = check_key(key)
        timeout, replication, name = self._timeout, (0, 0), None
        if options:
            timeout, replication = _checked(options, timeout)
            once = options.get("once")
            if once is not None:
                check_key(once, "once")
                name = CallName.of(session.node.namespace, "", once, kind, encoded, data)
        if session.link_status.state is CLOSED:
            closed: Deferred[Applied] = Deferred()
            closed.errback(session.link_status.closed_error())
            return closed
        deadline = session.clock.seconds() + timeout
        call = Call(kind, encoded, data, deadline, session.table.order(), None, replication, name=name)
        result: Deferred[Applied] = Deferred(call)
        call.result = result
        session.call(self._map, call)
        return result

    # Asking.

    def record(self, key: str) -> Deferred[Record | None]:
        """Ask the server what stands for ``key`` now; ``None`` where nothing is known. Leaves nothing behind."""
        encoded, commands = check_key(key), self._commands
        asked = commands.retry_while_reconnecting(lambda: commands.read_one(self._map.names, encoded), key)
        return commands.with_deadline(Deferred.fromCoroutine(asked)).addCallback(self._shown, key)

    def _shown(self, payload: bytes | None, key: str) -> Record | None:
        if payload is None:
            return None
        try:
            return StoredRecord.parse(payload).record(self.name, key)
        except (ValueError, CorruptRecord):
            raise not_a_record(key) from None

    def records(self, prefix: str = "") -> Deferred[Listing]:
        """List the records of all keys that begin with ``prefix``, with the revision to resume a watch from.

        All at once, in the order of the keys; `pages` needs less memory.
        """
        return self._listings.records(prefix)

    def page(self, prefix: str = "", after: str | None = None, limit: int = 500) -> Deferred[Page]:
        """Return a part of the same listing: the first, or the one ``after`` a page's ``next``.

        It has about ``limit`` records (1 to 100,000) and about 1 MiB. It errbacks `ListingLost` where another server
        process answers than the one that the page before came from: then begin again.
        """
        return self._listings.page(prefix, after, limit)

    def pages(self, prefix: str = "", limit: int = 500) -> Pages:
        """Return an asynchronous iterator of all pages; each is asked for when it is wanted.

        Of bad input it raises at once, of all else as `page` does.
        """
        return Pages(self._listings, prefix, limit)

    def remove_foreign(self) -> Deferred[tuple[str, ...]]:
        """Remove from the server what somebody else has put into this map under names that can be no keys.

        Return those names, escaped. Keys and their records stay, corrupt ones too: `reset` repairs those.
        """
        return self._listings.remove_foreign()

    def subscribers(self, keys: Iterable[str]) -> Deferred[dict[str, int]]:
        """Count, for each key, the nodes that are subscribed to it now (waiting for it, or caching it)."""
        channels = {key: self._map.names.channel(key) for key in check_keys(keys)}
        if not channels:
            return succeed({})
        commands = self._commands
        asked = commands.retry_while_reconnecting(lambda: commands.count_subscribers(channels.values()), self.name)
        counted = commands.with_deadline(Deferred.fromCoroutine(asked))
        return counted.addCallback(lambda counts: dict(zip(channels, counts, strict=True)))

    def watch(self, prefix: str = "", since: str | Revision = "now") -> Watch:
        """Return the ordered history of the keys that begin with ``prefix``, from ``since`` on and then live.

        ``since`` is ``"now"``, ``"start"`` or a `Revision` (the first change shown is the one after it)::

            async with on_mount.watch("tank/", since="start") as changes:
                async for change in changes: ...
        """
        return Watch(self._session, self._map, prefix, since)

    # A look must not create, and a spelling that would lie is refused.

    def __setitem__(self, key: str, value: object) -> NoReturn:
        raise TypeError("events are not assigned: call fire(key, value), and reset(key) to re-arm")

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("events are not deleted: call reset(key) to make one pending again")

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError("'in' cannot ask the cluster: await record(key), and look at its .latched")

    def __iter__(self) -> NoReturn:
        raise TypeError("iteration cannot ask the cluster: await records()")

    def __len__(self) -> NoReturn:
        raise TypeError("len() cannot ask the cluster: await records() and count them")

    def __bool__(self) -> NoReturn:
        raise TypeError("bool() cannot ask the cluster: await records()")


def _checked(options: CallOptions, default: float) -> tuple[float, tuple[int, int]]:
    """Return a call's deadline in seconds from now, and its replication; raise for what makes no sense."""
    unknown = set(options) - CallOptions.__optional_keys__
    if unknown:
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}; there are timeout, replicas, within and once")
    timeout, replicas, within = options.get("timeout"), options.get("replicas", 0), options.get("within", 2.0)
    timeout = default if timeout is None else check_seconds("timeout", timeout, most=MAX_DEADLINE)
    check_seconds("within", within, least=0.001, most=MAX_DEADLINE)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= 1_000:
        raise InvalidInput(f"replicas: a whole number from 0 to 1000, not {replicas!r}")
    if not replicas:
        return timeout, (0, 0)
    return timeout, (replicas, int(within * 1000))
