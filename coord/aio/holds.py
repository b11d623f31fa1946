"""Holds, locks and barriers under asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.aio.answers import Answer, Home, answer
from coord.client import barriers, holds, locks
from coord.core.records import Applied, Record
from coord.errors import Error, HoldLost

__all__ = ["Barrier", "Hold", "Holding", "Lock", "holding", "locking"]

B = TypeVar("B", bound="Block")


class Block:
    """What a block of ``async with`` owns: given back at its end, and if it is lost, the block is cancelled.

    The task that runs the block is cancelled, as by ``asyncio.timeout``, and the block raises `HoldLost`. What runs in
    a thread, or does not await, goes on: look at ``valid``.
    """

    def __init__(self, home: Home, owned: holds.Hold | locks.Lock, *, cancel: bool) -> None:
        self._home = home
        self._owned = owned
        self._cancel = cancel
        self._guard: _Guard | None = None

    def __repr__(self) -> str:
        return repr(self._owned)

    @property
    def key(self) -> str:
        """The key."""
        return self._owned.key

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._owned.node

    @property
    def valid(self) -> bool:
        """Whether it is certainly this node's now."""
        return self._owned.valid

    def lost(self) -> asyncio.Future[None]:
        """Return a future that fails with `HoldLost` when it is lost, and with `Closed` at its own end."""
        self._home.check()
        return answer(self._owned.lost())

    def _end(self, timeout: float | None = None) -> asyncio.Future[Applied | None]:
        raise NotImplementedError

    def _check_end(self) -> None:
        """Raise `HoldLost` if it is lost, also if `lost` has not said so yet."""

    async def __aenter__(self) -> Self:
        self._home.check()
        if self._cancel:
            self._guard = _Guard(self._owned.lost())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard, self._guard = self._guard, None
        try:
            if guard is not None:
                await guard.leave(error)
            if error is None:
                self._check_end()
        except HoldLost:
            # The server may be out of reach.
            self._give_up()
            raise
        except BaseException:
            with suppress(Error):
                await self._end()
            raise
        try:
            await self._end()
        except Error:
            # It is over; an error of the block matters more.
            if error is None:
                raise

    def _give_up(self) -> None:
        """End it without waiting. Errors are dropped: it ends with its lease at the latest."""
        self._end().add_done_callback(lambda ended: ended.cancelled() or ended.exception())


class Hold(Block):
    """A key that this node holds, until `withdraw`, or until the end of a block; see ``coord.Hold``.

    It is lost if somebody else ends it (``reset`` with ``evict=True``).
    """

    _owned: holds.Hold

    @property
    def first(self) -> bool:
        """Whether this hold latched the key."""
        return self._owned.first

    @property
    def record(self) -> Record | None:
        """The record of the key when the hold was made."""
        return self._owned.record

    def withdraw(self, timeout: float | None = None) -> asyncio.Future[Applied | None]:
        """End this hold; the result is ``None`` if it was over already."""
        self._home.check()
        return answer(self._owned.withdraw(timeout))

    _end = withdraw


class Lock(Block):
    """A lock that this node owns, until `release`, or until the end of a block; see ``coord.Lock``.

    A loop that is blocked for longer than the lease loses its locks, because it does not renew them.
    """

    _owned: locks.Lock

    @property
    def token(self) -> str:
        """The fencing token of the grant: text that is higher than all earlier tokens of the map."""
        return self._owned.token

    @property
    def record(self) -> Record:
        """The record of the grant."""
        return self._owned.record

    @property
    def deadline(self) -> float:
        """Until when it is `valid` without a further renewal, in seconds of the coordinator's clock."""
        return self._owned.deadline

    def on_renewed(self, callback: Callable[[float], object]) -> None:
        """Call ``callback`` in the loop, with the new `deadline`, whenever that moves."""
        self._home.check()
        soon, context = self._home.loop.call_soon, copy_context()
        self._owned.on_renewed(lambda deadline: soon(callback, deadline, context=context))

    def check(self) -> None:
        """Raise `HoldLost` unless the lock is `valid`."""
        self._owned.check()

    def release(self, timeout: float | None = None) -> asyncio.Future[Applied | None]:
        """Give the lock to the next in the queue; the result is ``None`` if it was released already."""
        self._home.check()
        return answer(self._owned.release(timeout))

    _end = release

    def _check_end(self) -> None:
        if not self.valid:
            raise HoldLost(f"{self.key}: the lock was lost before the block ended")


class _Guard:
    """Cancels the task that has entered a block, once that is lost; made where the block is entered."""

    def __init__(self, lost: Deferred[None]) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task = task
        self._requests = task.cancelling()
        self._error: HoldLost | None = None
        self._lost = lost.addErrback(self._cancel)

    def _cancel(self, failure: Failure) -> None:
        if isinstance(failure.value, HoldLost):
            self._error = failure.value
            self._task.cancel()

    async def leave(self, error: BaseException | None) -> None:
        """End watching, where the block ends with ``error``; raise what it ends with instead, if anything."""
        self._lost.cancel()
        if asyncio.current_task() is not self._task:
            raise RuntimeError(
                "the block was entered in one task and left in another, so it could not be cancelled: ask with "
                "cancel=False, and look at `valid` and `lost()`"
            )
        if self._error is None:
            return
        if not isinstance(error, asyncio.CancelledError):
            # The block did not await: it has ended before it was cancelled.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        cancelled_by_others = self._task.uncancel() > self._requests
        if error is None or isinstance(error, asyncio.CancelledError):
            if cancelled_by_others:
                raise error or asyncio.CancelledError
            raise self._error from error
        error.add_note(f"meanwhile: {type(self._error).__name__}: {self._error}")


class Holding(Answer[B]):
    """The answer to ``hold`` and ``lock``: await it, or enter it with ``async with``."""

    def __await__(self) -> Generator[Any, None, B]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            if not self.cancelled() and self.exception() is None:
                # It was answered before the task was cancelled: nobody would get it, and end it.
                self.result()._give_up()
            raise

    async def __aenter__(self) -> B:
        owned = await self
        return await owned.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.result().__aexit__(kind, error, trace)


def holding(home: Home, deferred: Deferred[holds.Hold], *, cancel: bool) -> Holding[Hold]:
    """Return the answer to a request for a hold."""
    return Holding(deferred.addCallback(lambda hold: Hold(home, hold, cancel=cancel)))


def locking(home: Home, deferred: Deferred[locks.Lock], *, cancel: bool) -> Holding[Lock]:
    """Return the answer to a request for a lock."""
    return Holding(deferred.addCallback(lambda lock: Lock(home, lock, cancel=cancel)))


class Barrier:
    """What ``barrier`` returns: enter it with ``async with``; the block runs once enough have entered."""

    def __init__(self, home: Home, barrier: barriers.Barrier, *, cancel: bool) -> None:
        self._home = home
        self._barrier = barrier
        self._cancel = cancel

    async def __aenter__(self) -> Hold:
        self._home.check()
        entering = Deferred.fromCoroutine(self._barrier.__aenter__())
        self._holding = holding(self._home, entering, cancel=self._cancel)
        return await self._holding.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._holding.__aexit__(kind, error, trace)
