"""Standard error, written without waiting for its reader."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["Writer"]

_MOST: Final = 64 << 10
"""How many bytes wait for a reader; what comes on top is dropped, and counted."""

_MOMENT: Final = 0.05
_AT_THE_END: Final = 1.0
"""Seconds: how long a write waits to be done, so that lines on both outputs keep their order; and how long the last."""


class Writer:
    """Writes to a descriptor in a thread of its own, so that a log driver that hangs, or a pager, holds up nothing.

    No other way is sure. The descriptor is shared with other processes, so it must not be made non-blocking; and what
    polls as writable may be full again, by another process, before we write.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self.stuck = False

    def write(self, text: str) -> None:
        """Write ``text``: now if it is read now, else later if there is room for it until then."""
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._size and self._size + len(data) > _MOST:
                self._dropped += text.count("\n")
                return
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = _start(self._run)
            if not self.stuck:
                self._wait(_MOMENT)

    def finish(self) -> bool:
        """Wait a second for what is not written yet; return whether all of it is."""
        with self._changed:
            return self._wait(_AT_THE_END)

    def _wait(self, within: float) -> bool:
        written = self._changed.wait_for(lambda: not self._size, within)
        self.stuck = not written
        return written

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._take()
            size = len(data)
            self._write(data)
            with self._changed:
                self._size -= size
                if not self._size:
                    self.stuck = False
                self._changed.notify_all()

    def _take(self) -> bytes:
        """Return what waits, and how much was dropped behind it."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            said = f"coord: lines dropped here, because standard error was not read: {dropped}\n".encode()
            self._waiting.append(said)
            self._size += len(said)
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def _write(self, data: bytes) -> None:
        # A full disk, or a reader that has gone, is no reason to fail.
        with suppress(OSError):
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    # Another process made it non-blocking.
                    select.select([], [self._fd], [])


def _start(run: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread to which no signal is delivered."""
    thread = threading.Thread(target=run, name="stderr", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
