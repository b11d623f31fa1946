"""Asking again what the server has put off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from coord.link.backoff import backoff
from coord.session.link_status import resolve

__all__ = ["Retry"]

_CALM: Final = 1.0
"""Seconds, and the last pause, without being put off after which the next pause is a short one again."""


class Retry:
    """A pause, one for all that was put off meanwhile; each is longer than the last while that goes on.

    :param again: asks for all of it again.
    """

    def __init__(self, clock: Any, again: Callable[[], None]) -> None:
        self._clock = clock
        self._resume = again
        self._pause = backoff()
        self._attempt = 0
        self._calm = 0.0
        self._timer: Any = None
        self._waiting: list[Deferred[None]] = []

    @property
    def pausing(self) -> bool:
        """Whether something that was put off waits to be asked for again."""
        return self._timer is not None

    def begin(self) -> bool:
        """Begin the pause, unless it has begun; answer whether it is the first one in a row."""
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
        """Return a Deferred for the end of the pause."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def close(self) -> None:
        """Ask no more; whoever waits goes on, and finds out that it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._notify()

    def _end(self) -> None:
        self._timer = None
        self._resume()
        self._notify()

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            resolve(each, None)
