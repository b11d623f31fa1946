"""Questions to the server: asked when the link is up, and asked again when it was lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.core.entries import MapState
from coord.core.names import check_key, check_keys
from coord.core.quoting import quoted
from coord.core.records import Record, Stored
from coord.errors import CorruptRecord, InvalidKey, Unreachable
from coord.link.replies import LinkLost, ServerError, explain, will_pass

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["Queries", "check_prefix", "decoded", "persist", "within"]


async def persist(session: Session, ask: Callable[[], Deferred[Any]], what: str, *, writing: bool = False) -> Any:
    """Return what ``ask`` answers, on this link or a later one; ``what`` is for the error's message.

    A server that only has no time is asked again, after a pause that grows.

    :param writing: it may write: then a server that is full is a refusal.
    """
    while True:
        await session.link_status.connected()
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
        record = decoded(names.name, key, payload)
        if record is None:
            raise CorruptRecord(
                f"{quoted(key)}: what stands in Redis for it is not a record of coord's; reset repairs it"
            )
        return record

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
        check_key(prefix, "prefix")
    return prefix


def decoded(map_name: str, key: str, payload: bytes) -> Record | None:
    """Return a record as the user sees it; ``None`` if it is not one of coord's."""
    try:
        return Stored.parse(payload).record(map_name, key)
    except (ValueError, CorruptRecord):
        return None
