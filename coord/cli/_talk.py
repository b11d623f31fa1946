"""Standard error: all messages are written here, without passwords."""

from __future__ import annotations

import os
import re
import shutil
import sys

from coord.cli._escapes import escaped
from coord.cli._stderr import Writer

__all__ = ["Progress", "Stderr", "begin", "clean", "debug_hint", "debugging", "finish", "say", "write"]

# Greedy on purpose: it also matches a password that contains "@" or "/".
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@")

_LINE_END = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_writer = Writer(2)


def clean(text: str) -> str:
    """Remove users and passwords from the URLs in ``text``."""
    return _USERINFO.sub(r"\1", text)


_last_said = ""


def begin() -> None:
    """Begin a command: forget the last message."""
    global _last_said
    _last_said = ""


def say(text: str, *, again: bool = True) -> None:
    """Write ``coord: TEXT`` as one line, its spaces unchanged, above the progress bar if there is one.

    Without ``again``, do not repeat the last message: access denied is first a warning in the log, then the error.
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
    """Write ``text``, one or more lines, to stderr: passwords removed, special characters escaped."""
    # click's errors show the NUL that shields a number in argv.
    _put(clean(escaped(text.replace("\0", ""), keep="\n\t")))


def finish() -> bool:
    """Wait a moment for pending text; return whether all of it was written."""
    return _writer.finish()


def _put(text: str) -> None:
    """Write ``text`` to stderr."""
    if sys.stderr is sys.__stderr__:
        _writer.write(text)
    else:  # Another program's, or a test's.
        sys.stderr.write(text)


class Stderr:
    """A file that writes through `write`."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        """Write ``text``."""
        write(text)

    def flush(self) -> None:
        """Do nothing: `write` has flushed."""


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("COORD_DEBUG", "") not in ("", "0")


def debug_hint() -> str:
    """Return a hint at COORD_DEBUG, unless it is set already."""
    return "" if debugging() else " (COORD_DEBUG=1 shows where)"


class Progress:
    """The last line of a terminal: a bar if ``total`` is above 1, else a note; nothing if stderr is no terminal."""

    shown: Progress | None = None

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._note = ""

    def __enter__(self) -> Progress:
        if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            Progress.shown = self
            self.draw()
        return self

    def note(self, text: str) -> None:
        """Show this text from now on, if there is no bar."""
        self._note = clean(escaped(text))
        self.draw()

    @property
    def takes_notes(self) -> bool:
        """Whether a note would be seen."""
        return self is Progress.shown and self._total <= 1

    @property
    def _empty(self) -> bool:
        return self._total <= 1 and not self._note

    def __exit__(self, *_: object) -> None:
        self.clear()
        Progress.shown = None

    def advance(self) -> None:
        """Count one more, after its line was written."""
        self._done += 1
        self.draw()

    def draw(self) -> None:
        """Draw the line."""
        if self is not Progress.shown or _writer.stuck or self._empty:
            return
        if self._total <= 1:
            # In bytes, so that wide characters do not need a second line.
            room = shutil.get_terminal_size().columns - 1
            shown = self._note.encode()[:room].decode(errors="ignore")
            _put(f"\r\x1b[K{shown}")
        else:
            count = f" {self._done}/{self._total}"
            room = max(10, min(40, shutil.get_terminal_size().columns - len(count) - 3))
            filled = room * self._done // self._total
            _put(f"\r\x1b[K[{'#' * filled}{'-' * (room - filled)}]{count}")

    def clear(self) -> None:
        """Remove it, so that a line can take its place."""
        if self is Progress.shown and not _writer.stuck and not self._empty:
            _put("\r\x1b[K")
