"""Pauses before requests are repeated that the server had no time for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from coord.link.backoff import backoff
from coord.link.one_shot import Waiters

__all__ = ["Retry"]

_CALM: Final = 1.0
"""Seconds without a postponed request, besides the last pause, after which pauses are short again."""


class Retry:
    """One pause for all postponed requests; each is longer than the last one as long as requests are postponed.

    :param resume: sends all postponed requests again.
    :param pause: returns the seconds of a pause, given its number in the series.
    """

    def __init__(self, clock: Any, resume: Callable[[], None], pause: Callable[[int], float] | None = None) -> None:
        self._clock = clock
        self._resume = resume
        self._pause = pause or backoff()
        self._attempt = 0
        self._calm = 0.0
        self._timer: Any = None
        self._waiting: Waiters[None] = Waiters()

    @property
    def pausing(self) -> bool:
        """Whether a pause is under way."""
        return self._timer is not None

    def begin(self) -> bool:
        """Begin a pause, unless one is under way; return whether it is the first of a series."""
        if self._timer is not None:
            return False
        now = self._clock.seconds()
        first: bool = now >= self._calm
        self._attempt = 1 if first else self._attempt + 1
        pause = self._pause(self._attempt)
        self._calm = now + 2 * pause + _CALM
        self._timer = self._clock.callLater(pause, self._end)
        return first

    def wait_over(self) -> Deferred[None]:
        """Return a Deferred that fires at the end of the pause."""
        return self._waiting.wait()

    def close(self) -> None:
        """End the pause without resuming; what waits for its end goes on, and finds that the node is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.fire(None)

    def _end(self) -> None:
        self._timer = None
        self._resume()
        self._waiting.fire(None)
