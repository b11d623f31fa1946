"""Holding a key under asyncio; a block that holds one is cancelled when its hold is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.aio.answers import Answer, Home, answer
from coord.client import barriers, holds
from coord.core.records import Applied, Record
from coord.errors import Error, HoldLost

__all__ = ["Barrier", "Hold", "Holding"]


class Hold:
    """A key that this node holds, until `withdraw`; as an asynchronous context manager, until its block ends.

    If somebody else ends the hold, the task that runs the block is cancelled, as by ``asyncio.timeout``, and the block
    raises `HoldLost`. What runs in a thread, or does not await, goes on: look at ``valid``. See ``coord.Hold``.
    """

    def __init__(self, home: Home, hold: holds.Hold, *, cancel: bool) -> None:
        self._home = home
        self._hold = hold
        self._cancel = cancel
        self._guard: _Guard | None = None

    def __repr__(self) -> str:
        return repr(self._hold)

    @property
    def key(self) -> str:
        """The key."""
        return self._hold.key

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._hold.node

    @property
    def first(self) -> bool:
        """Whether this hold latched the key."""
        return self._hold.first

    @property
    def record(self) -> Record | None:
        """The record of the key when the hold was made."""
        return self._hold.record

    @property
    def valid(self) -> bool:
        """Whether the server certainly counts this hold now."""
        return self._hold.valid

    def lost(self) -> asyncio.Future[None]:
        """Return a future that fails with `HoldLost` when somebody else ends this hold; `Closed` at its own end."""
        self._home.check()
        return answer(self._hold.lost())

    def withdraw(self, timeout: float | None = None) -> asyncio.Future[Applied | None]:
        """End this hold; the result is ``None`` if it was over already."""
        self._home.check()
        return answer(self._hold.withdraw(timeout))

    async def __aenter__(self) -> Hold:
        self._home.check()
        if self._cancel:
            self._guard = _Guard(self._hold.lost())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard, self._guard = self._guard, None
        try:
            if guard is not None:
                await guard.leave(error)
        except BaseException:
            await self._end()
            raise
        try:
            await self.withdraw()
        except Error:
            # It is over; an error of the block matters more.
            if error is None:
                raise

    async def _end(self) -> None:
        with suppress(Error):
            await self.withdraw()


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
                "the block was entered in one task and left in another, so it could not be cancelled: ask for the hold "
                "with cancel=False, and look at its `valid` and `lost()`"
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


class Holding(Answer[Hold]):
    """The answer to ``hold``: await it, or enter it with ``async with``."""

    def __init__(self, home: Home, holding: Deferred[holds.Hold], *, cancel: bool) -> None:
        super().__init__()
        self._home = home
        self.follow(holding.addCallback(lambda hold: Hold(home, hold, cancel=cancel)))

    def __await__(self) -> Generator[Any, None, Hold]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            if not self.cancelled() and self.exception() is None:
                # It was answered before the task was cancelled: nobody would get the hold, and end it.
                self.result().withdraw().add_done_callback(_forget)
            raise

    async def __aenter__(self) -> Hold:
        hold = await self
        return await hold.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.result().__aexit__(kind, error, trace)


def _forget(ended: asyncio.Future[Any]) -> None:
    # An error is for nobody: the hold is over all the same.
    if not ended.cancelled():
        ended.exception()


class Barrier:
    """What ``barrier`` returns: enter it with ``async with``; the block runs once enough have entered."""

    def __init__(self, home: Home, barrier: barriers.Barrier, *, cancel: bool) -> None:
        self._home = home
        self._barrier = barrier
        self._cancel = cancel

    async def __aenter__(self) -> Hold:
        self._home.check()
        entering = Deferred.fromCoroutine(self._barrier.__aenter__())
        self._holding = Holding(self._home, entering, cancel=self._cancel)
        return await self._holding.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._holding.__aexit__(kind, error, trace)
