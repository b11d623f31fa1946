"""Deferreds that say what they are of, and what to use under asyncio.

A coroutine of asyncio that awaits a Deferred ends with "Task got bad yield: ..." and the ``repr`` of the Deferred. That
is the one place where coord can say what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

__all__ = ["Answer", "Pending", "all_of", "query"]

T = TypeVar("T")


class Pending(Deferred[T]):
    """A Deferred with that ``repr``, and with nothing more to make or to keep: one is made for each wait and call."""

    def describe(self) -> str:
        """Return what it is of; called while it is not resolved."""
        raise NotImplementedError

    def __repr__(self) -> str:
        if self.called:
            return super().__repr__()
        return (
            f"<{type(self).__name__} {self.describe()}, pending: Twisted's reactor has to run; under asyncio use "
            "coord.aio, in threads coord.blocking>"
        )

    __str__ = __repr__


class Answer(Pending[T]):
    """The Deferred of a request that is made rarely; ``what`` names it."""

    def __init__(self, what: str, canceller: Callable[[Deferred[Any]], None] | None = None) -> None:
        super().__init__(canceller)
        self.what = what

    def describe(self) -> str:
        """Return what was asked."""
        return self.what


def query(inner: Deferred[T]) -> Deferred[T]:
    """Return the answer to a query, which ``inner`` gets: a Deferred of a coroutine cannot have a ``repr`` of ours."""
    outer: Deferred[T] = Answer("query", lambda _: inner.cancel())
    inner.chainDeferred(outer)
    return outer


async def all_of(asked: Iterable[Deferred[T]]) -> list[T]:
    """Return the answers to all of these, or raise the first error once all are answered."""
    answers: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
    for succeeded, answer in answers:
        if not succeeded:
            answer.raiseException()
    return [answer for _, answer in answers]
