"""Runs an async test function on the global reactor, as one of trial's cases.

Trial's case gives it a deadline, fails it for what was logged as an error, and for what it leaves in the reactor:
timers, sockets, processes, threads.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any
from unittest import TestResult

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from coord.clock import steady

__all__ = ["Case", "run_case"]

Body = Callable[["Case"], Coroutine[Deferred[Any], Any, None]]
Error = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Case(TestCase):
    """One test function; ``body`` is called with the case, for its cleanups and its logged errors."""

    def __init__(self, name: str, body: Body, timeout: float) -> None:
        super().__init__("body")  # type: ignore[no-untyped-call]
        self.timeout = timeout
        self._name = name
        self._body = body

    def id(self) -> str:
        """Return the name in messages and temporary paths."""
        return self._name

    def body(self) -> Deferred[None]:
        """Run the function; where trial gives it up, end it, lest it goes on into the next test."""
        running = Deferred.fromCoroutine(self._body(self))
        told: Deferred[None] = Deferred()

        def tell(result: None | Failure) -> None:
            if not told.called:
                told.callback(result)  # a Failure makes it an error

        def end(failure: Failure) -> Failure:
            running.cancel()
            return failure

        running.addBoth(tell)
        return told.addErrback(end)


class _Outcome(TestResult):
    """Keeps what went wrong as exceptions, not as text."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[BaseException] = []

    def addError(self, test: object, err: Error) -> None:
        """Keep it."""
        if err[1] is not None:
            self.problems.append(err[1])

    def addFailure(self, test: object, err: Error) -> None:
        """Keep it too."""
        self.addError(test, err)


def _empty_clock() -> None:
    """End what a failed test left on coord's clock, lest the next test fails or waits for ever.

    Trial takes the clock's descriptors, and the call that would run it, out of the reactor; the clock cannot know.
    """
    clock = steady(reactor)
    for call in clock.getDelayedCalls():
        call.cancel()
    clock.close()
    clock._signalled = False


def run_case(case: Case) -> None:
    """Run it; raise the first thing that went wrong, with the others in its notes."""
    __tracebackhide__ = True
    outcome = _Outcome()
    case.run(outcome)  # type: ignore[no-untyped-call]
    if outcome.problems:
        _empty_clock()
        first, *others = outcome.problems
        for other in others:
            first.add_note(f"and then: {type(other).__name__}: {other}")
        raise first
