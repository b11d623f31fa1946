"""Many calls that are made and answered in one go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred

from coord.core.calls import Call
from coord.core.records import Applied
from coord.errors import Unconfirmed
from coord.session.answers import Answer

__all__ = ["AllApplied", "Part"]


class AllApplied(Answer[dict[str, Applied]]):
    """The outcomes by key, once all calls are answered.

    If any failed, it errbacks the first `Unconfirmed`, or else the first error, with a note. ``calls`` are those that
    may still have to be cancelled.
    """

    def __init__(self, what: str, keys: Iterable[str]) -> None:
        super().__init__(what, _cancel)
        self._outcomes: dict[str, Any] = dict.fromkeys(keys)
        self._errors: list[Exception] = []
        self._left = len(self._outcomes)
        self.calls: list[Call] = []

    def applied(self, key: str, outcome: Applied) -> None:
        """Take the outcome of one call."""
        self._outcomes[key] = outcome
        self._count_down()

    def failed(self, error: Exception) -> None:
        """Take the error of one call."""
        self._errors.append(error)
        self._count_down()

    def _count_down(self) -> None:
        self._left -= 1
        if not self._left:
            self.end()

    def end(self) -> None:
        """Resolve it; all calls are answered."""
        self.calls = []
        if self.called:
            return
        if not self._errors:
            self.callback(self._outcomes)
            return
        # F3: errors of other kinds say that a call was not applied.
        first = next((error for error in self._errors if isinstance(error, Unconfirmed)), self._errors[0])
        first.add_note(f"{len(self._errors)} of {len(self._outcomes)} calls failed")
        self.errback(first)


def _cancel(answer: Deferred[Any]) -> None:
    assert isinstance(answer, AllApplied)
    for call in answer.calls:
        call()
        # A call that waits for replicas is dropped when it is seen to be resolved.
        call.result.called = True
    answer.calls = []
    answer.errback(CancelledError())


class Part(Struct, eq=False, gc=False):
    """The result of one of these calls, for the call sender: a Deferred for each would take most of the time."""

    whole: AllApplied
    key: str
    called: bool = False

    # `hush` looks at these two, to keep an error of the whole from being logged.
    @property
    def result(self) -> Any:
        """What the whole has become; an `AttributeError` if it is not resolved."""
        return self.whole.result

    @property
    def _debugInfo(self) -> Any:
        return self.whole._debugInfo

    def callback(self, outcome: Applied) -> None:
        """Take the outcome."""
        self.called = True
        self.whole.applied(self.key, outcome)

    def errback(self, error: Exception) -> None:
        """Take the error."""
        self.called = True
        self.whole.failed(error)
