"""A reactor on asyncio's running loop: private, one for each loop that has coordinators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase

from coord.clock import steady
from coord.reactors import PrivateReactor

__all__ = ["LoopReactor"]


class LoopReactor(PrivateReactor, AsyncioSelectorReactor):
    """Twisted's reactor for a loop that somebody else runs, so it neither stops the loop nor needs to be stopped.

    All that it calls runs in an empty context: a connection outlives the request in which it was made, and would keep
    the context of that request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._loop = loop
        self._users = 0
        self.startRunning(installSignalHandlers=False)

    @classmethod
    def acquire(cls, loop: asyncio.AbstractEventLoop) -> LoopReactor:
        """Return the reactor of a loop, for one more user, which must `release` it."""
        for other in list(_reactors):
            if other.is_closed():
                # It was closed before its coordinators were.
                _reactors.pop(other, None)
        reactor = _reactors.get(loop)
        if reactor is None:
            reactor = _reactors[loop] = cls(loop)
        reactor._users += 1
        return reactor

    def release(self) -> None:
        """Be without that user; without any, leave no descriptor and no thread behind."""
        self._users -= 1
        if self._users:
            return
        _reactors.pop(self._loop, None)
        clock = steady(self)
        if not clock.getDelayedCalls():
            clock.close()
        self.fireSystemEvent("shutdown")

    def installWaker(self) -> None:  # noqa: D102 - the loop has its own
        pass

    def wakeUp(self) -> None:  # noqa: D102 - the loop does that
        pass

    def crash(self) -> None:  # noqa: D102 - it must not stop the loop, as Twisted's does
        ReactorBase.crash(self)

    def callFromThread(self, callable: Any, *args: Any, **options: Any) -> None:  # type: ignore[override]  # noqa: A002, D102
        self._loop.call_soon_threadsafe(lambda: callable(*args, **options), context=Context())

    def call_soon(self, callable: Callable[[], object]) -> asyncio.Handle:  # noqa: A002
        """Call it in the loop's next round, which does not depend on any clock (see `coord.clock`)."""
        if self._loop.is_closed():
            # Before its coordinators were: nothing is called any more.
            return asyncio.Handle(callable, (), self._loop)
        return self._loop.call_soon(callable, context=Context())

    def addReader(self, reader: Any) -> None:  # noqa: D102
        Context().run(super().addReader, reader)

    def addWriter(self, writer: Any) -> None:  # noqa: D102
        Context().run(super().addWriter, writer)


_reactors: Final[dict[asyncio.AbstractEventLoop, LoopReactor]] = {}
