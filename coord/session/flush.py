"""Sending at the end of a reactor turn: all requests of one turn are sent together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["FlushScheduler"]


class FlushScheduler:
    """Calls ``send`` once at the end of the present turn, if needed; ``scheduled`` says that this is arranged.

    As a context, it stands for a turn that began with received data: that turn ends with the context. The end of any
    other turn is known only in the reactor's next round: some 25 us later in a process that has slept, of the 300 us
    of a lone wake-up.

    :param send: sends all pending requests.
    :param has_pending: whether there are any. It is asked once at the end of a context, however much was received, so
        that code inside a context need not schedule.
    """

    def __init__(self, clock: Any, send: Callable[[], None], has_pending: Callable[[], bool]) -> None:
        self.scheduled = False
        # A `task.Clock` has no `call_soon`.
        self._call_soon = getattr(clock, "call_soon", partial(clock.callLater, 0))
        self._send = send
        self._has_pending = has_pending
        self._call: Any = None

    def __enter__(self) -> None:
        self.scheduled = True

    def __exit__(self, *_: object) -> None:
        # It may have been scheduled with the reactor before.
        self.scheduled = self._call is not None
        if not self.scheduled and self._has_pending():
            self._send()

    def schedule(self) -> None:
        """Send at the end of this turn."""
        if not self.scheduled:
            self.scheduled = True
            self._call = self._call_soon(self._end)

    def cancel(self) -> None:
        """Cancel the scheduled flush."""
        self.scheduled = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _end(self) -> None:
        self.scheduled = False
        self._call = None
        self._send()
