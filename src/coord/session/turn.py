"""When a turn of the reactor ends: what it has asked for is sent then, together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Turn"]


class Turn:
    """The present turn; ``due`` says that something is to be sent when it ends.

    As a context, it is a turn that began with something that has arrived, and it ends with the context. Of any other
    turn only the reactor knows when it ends, and tells in its next round: some 25 us later in a process that has
    slept, of the 300 that a lone wake-up takes.

    :param send: sends what there is to be sent.
    """

    def __init__(self, clock: Any, send: Callable[[], None]) -> None:
        self.due = False
        self._clock = clock
        self._send = send
        self._reading = False
        self._round: Any = None

    def __enter__(self) -> None:
        self._reading = True

    def __exit__(self, *_: object) -> None:
        self._reading = False
        # Where the reactor was asked before, it will tell.
        if self.due and self._round is None:
            self._end()

    def schedule(self) -> None:
        """Have what is wanted sent when this turn ends."""
        if not self.due:
            self.due = True
            if not self._reading:
                self._round = self._clock.callLater(0, self._end)

    def cancel(self) -> None:
        """Send nothing any more."""
        self.due = False
        if self._round is not None:
            self._round.cancel()
            self._round = None

    def _end(self) -> None:
        self.due = False
        self._round = None
        self._send()
