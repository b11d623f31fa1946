"""Questions to the server: asked when the link is up, and asked again when it was lost meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.core.entries import MapState
from coord.core.names import HEAD, check_key, check_keys, is_key
from coord.core.records import NEVER, Head, Listing, Record, Stored
from coord.errors import CorruptRecord, InvalidKey, Unreachable
from coord.link.replies import LinkLost, ServerError, explain, will_pass

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["Queries", "persist"]

_PAGE = b"500"


async def persist(session: Session, ask: Callable[[], Deferred[Any]], what: str, *, writing: bool = False) -> Any:
    """Return what ``ask`` answers, on this link or a later one; ``what`` is for the error's message.

    A server that only has no time is asked again, after a pause that grows.

    :param writing: it may write: then a server that is full is a refusal.
    """
    while True:
        await session.standing.connected()
        try:
            return await ask()
        except LinkLost:
            continue
        except ServerError as error:
            words = str(error)
            if not will_pass(words, writing=writing):
                raise explain(words, what) from None
        await session.asked_later(words)


def within(session: Session, answer: Deferred[Any]) -> Deferred[Any]:
    """Hold a question to the default deadline."""

    def too_late(result: object, seconds: float) -> object:
        if isinstance(result, Failure) and result.check(CancelledError):
            raise Unreachable(f"{session.link.target.shown} did not answer within {seconds:g} s ({session.reason})")
        return result

    return answer.addTimeout(session.settings.timeout, session.clock, onTimeoutCancel=too_late)


class Queries:
    """What can be asked about one map."""

    def __init__(self, session: Session, map_state: MapState) -> None:
        self._session = session
        self._map = map_state
        self._names = map_state.names

    def record(self, key: str) -> Deferred[Record | None]:
        """See ``EventMap.record``."""
        return within(self._session, Deferred.fromCoroutine(self._record(key, check_key(key))))

    async def _record(self, key: str, encoded: bytes) -> Record | None:
        names = self._names
        payload = await self._ask(lambda: self._session.link.ask(b"HGET", names.records, encoded), key)
        if payload is None:
            return None
        record = _decoded(names.name, key, payload)
        if record is None:
            raise CorruptRecord(f"{key}: what stands in Redis for it is not a record of coord's; reset repairs it")
        return record

    def records(self, prefix: str) -> Deferred[Listing]:
        """See ``EventMap.records``."""
        check_prefix(prefix)
        return within(self._session, Deferred.fromCoroutine(self._records(prefix)))

    async def _records(self, prefix: str) -> Listing:
        names, match = self._names, _glob(prefix) + b"*"
        payload, found = await self._ask(lambda: Deferred.fromCoroutine(self._scan(match)), names.name)
        return _listing(names.name, found, Head.read(names, payload))

    async def _scan(self, match: bytes) -> tuple[bytes | None, dict[bytes, bytes]]:
        """Read the head and then all records, on one link: a cursor means nothing to another server.

        The head first: a change during the scan may be in the listing and comes again in a watch from here, but none
        is missed.
        """
        names, link = self._names, self._session.link
        head = await link.ask(b"HGET", names.records, HEAD)
        found: dict[bytes, bytes] = {}
        cursor = b"0"
        while True:
            cursor, page = await link.ask(b"HSCAN", names.records, cursor, b"MATCH", match, b"COUNT", _PAGE)
            found.update((key, record) for key, record in zip(page[::2], page[1::2], strict=True) if is_key(key))
            if cursor == b"0":
                return head, found

    def subscribers(self, keys: Iterable[str]) -> Deferred[dict[str, int]]:
        """See ``EventMap.subscribers``."""
        channels = {key: self._names.channel(key) for key in check_keys(keys)}
        return within(self._session, Deferred.fromCoroutine(self._subscribers(channels)))

    async def _subscribers(self, channels: dict[str, bytes]) -> dict[str, int]:
        if not channels:
            return {}
        words = (b"PUBSUB", b"NUMSUB", *channels.values())
        reply = await self._ask(lambda: self._session.link.ask(*words), self._names.name)
        return dict(zip(channels, map(int, reply[1::2]), strict=True))

    async def _ask(self, ask: Callable[[], Deferred[Any]], what: str) -> Any:
        return await persist(self._session, ask, what)


def check_prefix(prefix: object) -> str:
    """Return ``prefix`` if keys can begin with it; the empty one is that of all keys."""
    if not isinstance(prefix, str):
        raise InvalidKey(f"prefix {prefix!r}: a prefix is a str, not {type(prefix).__name__}")
    if prefix:
        check_key(prefix)
    return prefix


def _glob(prefix: str) -> bytes:
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix.encode())


def _listing(map_name: str, found: dict[bytes, bytes], head: Head | None) -> Listing:
    records, corrupt = [], []
    for key, payload in sorted(found.items()):
        shown = key.decode(errors="backslashreplace")
        record = _decoded(map_name, shown, payload)
        if record is None:
            corrupt.append(shown)
        else:
            records.append(record)
    return Listing(tuple(records), head.revision if head else NEVER, tuple(corrupt))


def _decoded(map_name: str, key: str, payload: bytes) -> Record | None:
    try:
        return Stored.parse(payload).record(map_name, key)
    except (ValueError, CorruptRecord):
        return None
