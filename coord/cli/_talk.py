"""Standard error: what is said there goes through here, and no password does."""

from __future__ import annotations

import os
import re
import shutil
import sys

from coord.cli._escapes import escaped
from coord.cli._stderr import Writer

__all__ = ["Progress", "Stderr", "begin", "clean", "debug_hint", "debugging", "finish", "say", "write"]

# Greedy on purpose: a password that holds an "@" or a "/" goes with it.
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@")

_LINE_END = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_writer = Writer(2)


def clean(text: str) -> str:
    """Take users and passwords out of the URLs in ``text``."""
    return _USERINFO.sub(r"\1", text)


_last_said = ""


def begin() -> None:
    """Begin a command: nothing was said yet."""
    global _last_said
    _last_said = ""


def say(text: str, *, again: bool = True) -> None:
    """Write ``coord: TEXT`` as one line, its spaces as they are, above the progress bar if there is one.

    Not ``again``: what was said last is not repeated. Access denied is first a warning in the log, then the end.
    """
    global _last_said
    one_line = _LINE_END.sub(" ", text.strip("\r\n"))
    line = f"coord: {escaped(one_line)}\n"
    if line == _last_said and not again:
        return
    _last_said = line
    bar = Progress.shown
    if bar is not None:
        bar.clear()
    write(line)
    if bar is not None:
        bar.draw()


def write(text: str) -> None:
    """Write ``text`` to stderr, several lines perhaps, without passwords and with what is not plain escaped."""
    # A NUL is the shield of a number in argv, which click shows with it.
    _put(clean(escaped(text.replace("\0", ""), keep="\n\t")))


def finish() -> bool:
    """Wait a moment for what is not written yet; return whether all of it was."""
    return _writer.finish()


def _put(text: str) -> None:
    """Write ``text`` to stderr."""
    if sys.stderr is sys.__stderr__:
        _writer.write(text)
    else:  # Another program's, or a test's.
        sys.stderr.write(text)


class Stderr:
    """A file whose lines are written as `write` writes them."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        """Write ``text``."""
        write(text)

    def flush(self) -> None:
        """Do nothing: that was done."""


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("COORD_DEBUG", "") not in ("", "0")


def debug_hint() -> str:
    """Return how to get more than a line, where that is not what the user gets anyway."""
    return "" if debugging() else " (COORD_DEBUG=1 shows where)"


class Progress:
    """A bar in a terminal's last line; nothing where stderr is none, or one thing is to come."""

    shown: Progress | None = None

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __enter__(self) -> Progress:
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if terminal and self._total > 1:
            Progress.shown = self
            self.draw()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        Progress.shown = None

    def advance(self) -> None:
        """One more is there, and its line is written."""
        self._done += 1
        self.draw()

    def draw(self) -> None:
        """Draw the bar."""
        if self is Progress.shown and not _writer.stuck:
            count = f" {self._done}/{self._total}"
            room = max(10, min(40, shutil.get_terminal_size().columns - len(count) - 3))
            filled = room * self._done // self._total
            _put(f"\r\x1b[K[{'#' * filled}{'-' * (room - filled)}]{count}")

    def clear(self) -> None:
        """Take the bar away, so that a line can be written in its place."""
        if self is Progress.shown and not _writer.stuck:
            _put("\r\x1b[K")
