"""Locks: what users call ``await jobs.lock("nightly")``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred

from coord.client.waits import any_of
from coord.core.maps import MapState
from coord.core.records import Applied, Record, StoredRecord
from coord.errors import Error, HoldLost, TimedOut
from coord.link.one_shot import hush
from coord.session.answers import Answer
from coord.session.settings import MAX_DEADLINE, check_seconds

if TYPE_CHECKING:
    from coord.session.locking import LockHolding
    from coord.session.session import Session

__all__ = ["Lock", "LockAnswer", "ask", "ask_any"]

P = ParamSpec("P")


class Lock:
    """A lock that this node owns, until `release`; as an asynchronous context manager, until its block ends.

    ``key`` names it, ``node`` this node. ``token`` is the fencing token of the grant: text of a fixed width, higher
    than all earlier tokens of the map when compared as text. Let what you write to refuse a token that is lower than
    one it has seen: then nothing can go wrong, whatever happens to this process. ``record`` is the record of the grant.

    There is no re-entrant lock: a second request of the same process waits for the first one's release.
    """

    def __init__(self, session: Session, holding: LockHolding, key: str, record: Record) -> None:
        self.key = key
        self.node = session.node.name
        self.record = record
        self.token: str = record.token or ""
        self._session = session
        self._holding = holding

    def __repr__(self) -> str:
        return f"<Lock {self._holding.map_state.names.name}/{self.key}{'' if self.valid else ', not valid'}>"

    @property
    def valid(self) -> bool:
        """Whether it is certainly this node's: of all `Lock` objects of a key, at most one is valid (L5).

        That is so until the lease time after the last renewal that the server has answered, counted from when it was
        sent. Asking compares clocks, so it is right though no timer ran meanwhile. Once it is false, it stays so.
        """
        return self._holding.valid

    @property
    def deadline(self) -> float:
        """Until when it is `valid` without a further renewal, in seconds of the coordinator's clock."""
        return self._holding.deadline

    def on_renewed(self, callback: Callable[[float], object]) -> None:
        """Call ``callback`` with the new `deadline` whenever that moves."""
        self._session.thread.check()
        self._holding.callbacks.append(callback)

    def lost(self) -> Deferred[None]:
        """Return a Deferred that errbacks `HoldLost` when the lock is this node's no more, at its `deadline` or before.

        It errbacks `Closed` when the lock is released, or the coordinator is closed; it is never called back. End the
        work then, and release the lock: nobody is granted it before that, for as long as the grace time.
        """
        self._session.thread.check()
        return self._holding.lost.wait()

    def check(self) -> None:
        """Raise `HoldLost` unless the lock is `valid`."""
        if not self.valid:
            raise HoldLost(f"{self.key}: the lock is not this node's any more")

    def release(self, timeout: float | None = None) -> Deferred[Applied | None]:
        """Give the lock to the next in the queue; the Deferred is called back once the server has applied that.

        It errbacks as a call does, and then the lock is released all the same: as soon as the server is reached, or its
        lease ends. It is called back with ``None`` if the lock was released already.

        :raises InvalidTime: ``timeout`` is no deadline of a call; the lock is not released.
        """
        self._session.thread.check()
        default = self._session.node.settings.timeout
        seconds = default if timeout is None else check_seconds("timeout", timeout, most=MAX_DEADLINE)
        return self._session.holds.withdraw(self._holding, seconds)

    async def __aenter__(self) -> Lock:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        was_lost, released = not self.valid, self.release()
        if was_lost:
            # The server may be out of reach.
            released.addErrback(lambda failure: failure.trap(Error))
            if error is None or isinstance(error, CancelledError):
                raise HoldLost(f"{self.key}: the lock was lost before the block ended")
            return
        try:
            await released
        except Error:
            # It is over; an error of the block matters more.
            if error is None:
                raise


class LockAnswer(Answer[Lock]):
    """The answer to a request for a lock: await it, or enter it with ``async with``."""

    def __init__(self, what: str, inner: Deferred[Lock]) -> None:
        super().__init__(what, lambda _: inner.cancel())
        inner.addCallbacks(self.callback, self._failed)

    def _failed(self, failure: Any) -> None:
        self.errback(failure)
        hush(self)

    def run(self, function: Callable[Concatenate[Lock, P], Any], *args: P.args, **kwargs: P.kwargs) -> Deferred[Any]:
        """Call ``function(lock, ...)`` once the lock is granted, and release it when that is done.

        As `twisted.internet.defer.DeferredLock.run`. If the lock is lost meanwhile, the Deferred or coroutine that
        ``function`` has returned is cancelled, and the result is `HoldLost`.
        """
        return Deferred.fromCoroutine(self._run(function, args, kwargs))

    async def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        async with self as lock:
            work = maybeDeferred(function, lock, *args, **kwargs)
            lost = lock.lost()
            lost.addErrback(lambda failure: work.cancel() if failure.check(HoldLost) else None)
            return await work

    async def __aenter__(self) -> Lock:
        self._entered = await self
        return self._entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.__aexit__(kind, error, trace)


def ask(
    session: Session, map_state: MapState, key: str, data: bytes, timeout: float | None, *, once: bool = False
) -> Deferred[Lock]:
    """Ask for a lock; cancel the Deferred to give up.

    :param once: do not wait for it if it is not free; so it is without time, too.
    """

    def granted(stored: StoredRecord) -> Lock:
        return Lock(session, holding, key, stored.record(map_state.names.name, key))

    answer: Deferred[Any] = Deferred(lambda _: session.holds.give_up(holding))
    if timeout == 0:
        # So long may the answer take.
        once, timeout = True, session.node.settings.timeout
    holding = session.holds.lock(map_state, key.encode(), data, timeout, answer, once=once)
    return answer.addCallback(granted)


async def ask_any(
    begin: Callable[..., Deferred[Lock]], keys: list[str], timeout: float | None, seconds: Callable[[], float]
) -> Lock:
    """Return the first of these locks that is granted.

    :param begin: asks for one, as `ask` does.
    :param seconds: returns the time.
    """
    end = seconds() + timeout if timeout else inf
    for key in keys:
        if seconds() >= end:
            break
        # A free one is taken at once, and none that is not needed.
        with suppress(TimedOut):
            return await begin(key, end - seconds() if timeout else timeout, once=True)
    if timeout == 0 or seconds() >= end:
        raise TimedOut("not granted in time: all of them are owned")
    taken: list[Lock] = []

    def take(lock: Lock) -> Lock:
        if taken:
            lock.release().addErrback(lambda failure: failure.trap(Error))
        taken.append(lock)
        return lock

    left = end - seconds() if timeout else None
    _, lock = await any_of({key: begin(key, left).addCallback(take) for key in keys})
    return lock
