"""Standard error: what is said there goes through here, and no password does."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress

__all__ = ["Progress", "clean", "debug_hint", "debugging", "say", "write"]

# Greedy on purpose: a password that holds an "@" or a "/" goes with it.
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Take users and passwords out of the URLs in ``text``."""
    return _USERINFO.sub(r"\1", text)


def say(text: str) -> None:
    """Write ``coord: TEXT`` as one line."""
    write(f"coord: {_CONTROL.sub('?', ' '.join(text.split()))}\n")


def write(text: str) -> None:
    """Write ``text`` to stderr. Nobody listening there is no reason to fail."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(clean(text.replace("\0", "")))
            sys.stderr.flush()


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("COORD_DEBUG", "") not in ("", "0")


def debug_hint() -> str:
    """Return how to get more than a line, where that is not what the user gets anyway."""
    return "" if debugging() else " (COORD_DEBUG=1 shows where)"


class Progress:
    """A bar in a terminal's last line; nothing where stderr is none, or one thing is to come."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = terminal and total > 1

    def show(self) -> None:
        """Draw the bar."""
        if self._shown:
            count = f" {self._done}/{self._total}"
            room = max(10, min(40, shutil.get_terminal_size().columns - len(count) - 3))
            filled = room * self._done // self._total
            write(f"\r\x1b[K[{'#' * filled}{'-' * (room - filled)}]{count}")

    def clear(self) -> None:
        """Take the bar away, so that a line can be written in its place."""
        if self._shown:
            write("\r\x1b[K")

    def advance(self) -> None:
        """One more is there."""
        self._done += 1
