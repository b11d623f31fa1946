"""A request of a thread that waits for its answer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["Job"]


class Job:
    """Calls ``ask``, which may return a Deferred, in the reactor's thread. Quicker than a `Future`, which tells others.

    ``done`` says whether there is a result.
    """

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.done = False
        self._ask = ask
        self._deferred: Deferred[Any] | None = None
        self._abandoned = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._lock = Lock()
        self._lock.acquire()

    def run(self) -> None:
        """Ask; in the reactor's thread."""
        if self._abandoned:
            return
        try:
            asked = self._ask()
        except Exception as error:  # noqa: BLE001 - raised in the thread that asked
            self._end(None, error)
            return
        if isinstance(asked, Deferred):
            self._deferred = asked
            asked.addCallbacks(self._end, lambda failure: self._end(None, failure.value))
        else:
            self._end(asked)

    def _end(self, result: Any, error: BaseException | None = None) -> None:
        self._result, self._error, self.done = result, error, True
        self._lock.release()

    def wait(self, seconds: float = -1) -> None:
        """Return once it is done, or after so many seconds."""
        self._lock.acquire(timeout=seconds)

    def result(self) -> Any:
        """Return the result, or raise the error."""
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            # No cycle of the error, its traceback and this frame.
            self._error = None

    def abandon(self, undo: Callable[[Any], object] | None) -> None:
        """Take the request back."""
        self._abandoned = True
        if self._deferred is not None and not self.done:
            self._deferred.cancel()
        elif undo is not None and self.done and self._error is None:
            undo(self._result)
