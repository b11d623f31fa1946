"""Twisted's Deferreds as asyncio's futures, and the loop that they belong to."""

from __future__ import annotations

import asyncio
import os
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.errors import Closed
from coord.link.forks import MADE_BEFORE

__all__ = ["Answer", "Home", "answer"]

T = TypeVar("T")


class Answer(asyncio.Future[T]):
    """A future of the running loop that ends as a Deferred does; cancelling it cancels the Deferred at once."""

    # No dict, and one callback: each object more that is kept for a request is visited by the garbage collector.
    __slots__ = ("_deferred",)

    def __init__(self, deferred: Deferred[T]) -> None:
        super().__init__()
        self._deferred: Deferred[Any] | None = None
        deferred.addBoth(self._ended)
        if not self.done():
            self._deferred = deferred

    def cancel(self, msg: Any = None) -> bool:
        """Take the request back; return whether it was pending."""
        deferred, self._deferred = self._deferred, None
        cancelled = super().cancel(msg)
        if deferred is not None:
            deferred.cancel()
        return cancelled

    def _ended(self, result: T | Failure) -> None:
        if self.done():
            return
        self._deferred = None
        if not isinstance(result, Failure):
            self.set_result(result)
            return
        error: Any = result.value
        if isinstance(error, CancelledError):
            super().cancel()
            return
        self.set_exception(error)
        if isinstance(error, Closed):
            # Who closes the coordinator need not be told of each wait; asking keeps asyncio from logging it.
            self.exception()


def answer(deferred: Deferred[T]) -> asyncio.Future[T]:
    """Return a future of the running loop for a Deferred."""
    return Answer(deferred)


class Home:
    """The loop of a coordinator: the one that runs where this is made.

    :raises RuntimeError: no loop runs in this thread.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        loop = asyncio._get_running_loop()
        if loop is None:
            raise RuntimeError(
                "no asyncio loop runs here: connect in a coroutine; in FastAPI and Starlette, in the application's "
                "lifespan; in threads and scripts without asyncio, use coord.blocking"
            )
        self.loop = loop

    def check(self) -> None:
        """Raise `RuntimeError` if another loop than this one runs, or none; `Closed` in the child of a fork."""
        if asyncio._get_running_loop() is not self.loop:
            self._refuse()

    def _refuse(self) -> NoReturn:
        if os.getpid() != self._process:
            raise Closed(MADE_BEFORE)
        raise RuntimeError(
            "this coordinator was made on another loop, or is called outside of its loop: connect once for each loop; "
            "from another thread use asyncio.run_coroutine_threadsafe(), or coord.blocking"
        )
