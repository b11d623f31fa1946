"""Results that many callers wait for, each with a Deferred of its own, which it may cancel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.errors import Closed

__all__ = ["OneShot", "Waiters", "hush", "resolve"]

T = TypeVar("T")


class Waiters(Generic[T]):
    """Deferreds that wait for the next result.

    :param make: makes a Deferred with this canceller.
    """

    def __init__(self, make: Callable[[Callable[[Deferred[Any]], None]], Deferred[T]] = Deferred) -> None:
        self._make = make
        self._waiting: list[Deferred[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """Return a Deferred for the next result."""
        waiting = self._make(self._forget)
        self._waiting.append(waiting)
        return waiting

    def fire(self, result: T | Exception) -> None:
        """Resolve all Deferreds, with an error if that is the result."""
        # A callback may wait again: for the next result.
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            resolve(each, result)

    def _forget(self, waiting: Deferred[Any]) -> None:
        with suppress(ValueError):
            self._waiting.remove(waiting)


class OneShot(Waiters[T]):
    """A result that is set once, and kept for later calls of `wait`; only the first `fire` counts."""

    _result: tuple[T | Exception] | None = None

    @property
    def fired(self) -> bool:
        """Whether the result is there."""
        return self._result is not None

    def wait(self) -> Deferred[T]:
        """Return a Deferred for the result."""
        waiting = super().wait()
        if self._result is not None:
            super().fire(*self._result)
        return waiting

    def fire(self, result: T | Exception) -> None:
        """Set the result, and resolve all Deferreds, with an error if that is the result."""
        if self._result is None:
            self._result = (result,)
            super().fire(result)


def resolve(deferred: Deferred[Any], result: Any) -> None:
    """Resolve a Deferred that may have been cancelled; log nothing if it ends with `Closed`."""
    if not deferred.called:
        if isinstance(result, Exception):
            deferred.errback(result)
            hush(deferred)
        else:
            deferred.callback(result)


def hush(waiting: Deferred[Any]) -> None:
    """Keep Twisted from logging an unhandled `Closed` of this Deferred."""
    result = getattr(waiting, "result", None)
    if isinstance(result, Failure) and result.check(Closed) and waiting._debugInfo is not None:
        # A holder without an errback does not care, and one that looks later still finds the failure. Twisted has no
        # public way to do this: it looks at this attribute when an unhandled failure is collected.
        waiting._debugInfo.failResult = None
