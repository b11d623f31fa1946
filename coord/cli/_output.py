"""Standard output, written without stopping the reactor.

A pager that does not read, or a pipe into a slow program, may delay this command's output, but
nothing else: the heartbeat goes on, and a signal still ends us.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.cli import _signals
from coord.cli._escapes import escaped
from coord.cli._exits import CannotWrite, OutputClosed

__all__ = ["Output"]

_TAB, _LINES = "\t", "\n"
_LOOK_AGAIN = 0.02


@implementer(IReadWriteDescriptor)
class Output:
    """Lines on a file descriptor, in UTF-8 like keys and values, whatever the locale."""

    def __init__(self, reactor: Any, fd: int = 1) -> None:
        self._reactor = reactor
        self._waitable = _is_waitable(fd)
        self._terminal = os.isatty(fd)
        self._own = _opened_again(fd) if self._waitable else None
        self._fd = fd if self._own is None else self._own
        self._room: Deferred[None] | None = None
        self._on_hangup: Callable[[], None] | None = None

    async def line(self, text: str) -> None:
        """Write ``text`` as one line, escaped except tabs; raise `OutputClosed` or `CannotWrite`."""
        await self.write(f"{escaped(text, keep=_TAB)}\n")

    async def value(self, text: str) -> None:
        """Write ``text`` and a line end unchanged; to a terminal, escaped except tabs and line ends."""
        await self.write(f"{escaped(text, keep=_TAB + _LINES) if self._terminal else text}\n")

    async def write(self, text: str) -> None:
        """Write ``text`` unescaped, such as text with our own colours."""
        rest = text.encode(errors="backslashreplace")
        while rest:
            if self._waitable and not _has_room(self._fd):
                await self._wait_for_room()
            written = self._write(rest)
            if not written:
                # A terminal may poll as writable, but have no room for another line end.
                await deferLater(self._reactor, _LOOK_AGAIN)
            rest = rest[written:]

    def _write(self, data: bytes) -> int:
        try:
            # At most what a pipe that polls as writable takes at once. If the write blocks anyway, because another
            # process filled the pipe first or the terminal is another user's, a signal ends it.
            with _signals.raised():
                return os.write(self._fd, data[: select.PIPE_BUF] if self._waitable else data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as error:
            raise CannotWrite(f"standard output: {error.strerror}") from None

    def on_hangup(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the reader of our pipe has gone; for other outputs, only a write notices."""
        if _is_writing_end(self._fd):
            self._on_hangup = callback
            self._reactor.addReader(self)

    def close(self) -> None:
        """Leave the reactor. The descriptor that we were given stays open: we do not own it."""
        self._on_hangup = None
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    async def _wait_for_room(self) -> None:
        self._room = Deferred()
        self._reactor.addWriter(self)
        try:
            await self._room
        finally:
            self._room = None
            self._reactor.removeWriter(self)

    # Called by the reactor.

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return "stdout"

    def doWrite(self) -> None:
        """There is room."""
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def doRead(self) -> Exception:
        """Report a broken pipe: some reactors signal it as a readable writing end."""
        return OutputClosed()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's name
        """Call the hangup callback: the reader has gone."""
        callback, self._on_hangup = self._on_hangup, None
        if callback is not None:
            callback()
        # Wake a writer that waits for room: its next write raises.
        self.doWrite()


def _mode(fd: int) -> int:
    try:
        return os.fstat(fd).st_mode
    except OSError:
        return 0


def _is_waitable(fd: int) -> bool:
    """Whether the reactor can wait until ``fd`` is writable: a plain file or /dev/null always is."""
    mode = _mode(fd)
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


def _opened_again(fd: int) -> int | None:
    """Return our own non-blocking descriptor for the same pipe or terminal; ``None`` if there is no way.

    ``fd`` itself is shared with other processes, and would become non-blocking for them too. Sockets and another
    user's files cannot be reopened, and only Linux offers the path.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None


def _is_writing_end(fd: int) -> bool:
    return stat.S_ISFIFO(_mode(fd)) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    # An error counts too: the write will raise it.
    return bool(poll.poll(0))
