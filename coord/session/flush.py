"""When a turn of the reactor ends: what it has asked for is sent then, together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["FlushScheduler"]


class FlushScheduler:
    """The present turn; ``due`` says that it is known how its end will be told.

    As a context, it is a turn that began with something that has arrived, and it ends with the context. Of any other
    turn only the reactor knows when it ends, and tells in its next round: some 25 us later in a process that has
    slept, of the 300 that a lone wake-up takes.

    :param send: sends what there is to be sent.
    :param wanted: whether there is something. Asked at the end of a turn that began with what has arrived, however much
        came in it: so whoever takes in what arrives has nothing to schedule.
    """

    def __init__(self, clock: Any, send: Callable[[], None], wanted: Callable[[], bool]) -> None:
        self.scheduled = False
        # A clock for tests has no such thing.
        self._call_soon = getattr(clock, "call_soon", partial(clock.callLater, 0))
        self._send = send
        self._has_pending = wanted
        self._call: Any = None

    def __enter__(self) -> None:
        self.scheduled = True

    def __exit__(self, *_: object) -> None:
        # Where the reactor was asked before, it will tell.
        self.scheduled = self._call is not None
        if not self.scheduled and self._has_pending():
            self._send()

    def schedule(self) -> None:
        """Have what is wanted sent when this turn ends."""
        if not self.scheduled:
            self.scheduled = True
            self._call = self._call_soon(self._end)

    def cancel(self) -> None:
        """Take back what the reactor was asked for."""
        self.scheduled = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _end(self) -> None:
        self.scheduled = False
        self._call = None
        self._send()
