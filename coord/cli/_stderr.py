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
"""How many bytes may wait for a reader; the rest is dropped, and counted."""

_MOMENT: Final = 0.05
_AT_THE_END: Final = 1.0
"""Seconds that a write may wait, so that lines on both outputs keep their order; and that the last one may."""


class Writer:
    """Writes to a descriptor in a thread of its own, so that a hanging log driver or pager does not block coord.

    Nothing else is reliable. Other processes share the descriptor, so it must not be made non-blocking; and after it
    polls as writable, another process may fill it before we write.
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
        """Write ``text``: now if the reader keeps up, else later if the buffer has room."""
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
        """Wait a second for pending text; return whether all of it was written."""
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
        """Return the pending text, and how many lines were dropped after it."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            said = f"coord: lines dropped here, because standard error was not read: {dropped}\n".encode()
            self._waiting.append(said)
            self._size += len(said)
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def _write(self, data: bytes) -> None:
        # Do not fail because the disk is full or the reader has gone.
        with suppress(OSError):
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    # Another process made it non-blocking.
                    select.select([], [self._fd], [])


def _start(run: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread that receives no signals."""
    thread = threading.Thread(target=run, name="stderr", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
