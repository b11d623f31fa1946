"""The mount table as a thing that says when it changed.

The kernel signals a change of a mountinfo file as EPOLLPRI|EPOLLERR, which Twisted's reactors take
for a dead descriptor. An epoll that watches the file, and nothing else, becomes *readable* instead:
that one is handed to the reactor. Nothing is polled, and no mount point is ever touched.

The file shows one mount namespace: that of the process it belongs to. `/proc/self/mountinfo` does
not show what is mounted in other containers, or on the host unless the mount is propagated here.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.mounts.mountinfo import Mount, parse, visible

__all__ = ["MountTable"]

_CHUNK = 1 << 16
# A table of 100,000 mounts is some 20 MB. More than this is another kind of file.
_MAX_BYTES = 1 << 26
# How often in a row a table that changes while it is read is read again at once.
_TORN_READS = 5
_BREATH = 0.1


@implementer(IReadDescriptor)
class MountTable:
    """Follows one mountinfo file.

    ``mounts`` is what is visible now, by mount point. ``changed()`` is called, from the reactor,
    after it became another. ``live`` is False where the kernel signals no changes because the file
    is a regular one (a copy, in tests): then only `refresh` reads it again.
    """

    _log = Logger()

    def __init__(self, path: Path, changed: Callable[[], None], reactor: Any) -> None:
        self.mounts: dict[bytes, Mount] = {}
        self.live = False
        self._path = path
        self._changed = changed
        self._reactor = reactor
        self._file: int | None = None
        self._epoll: select.epoll | None = None
        self._told: frozenset[bytes] = frozenset()
        self._again: DelayedCall | None = None

    def open(self) -> None:
        """Read the table for the first time, and follow it from here on.

        Raises `OSError` if the file cannot be read, `ValueError` if it is no mount table.
        """
        self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Followed first, read second: each look at the epoll, the one that registering it takes
            # too, uses up the kernel's signal, and a change signalled so is seen by the read.
            self._follow()
            table = self._read()
            mounts, broken = parse(table)
            if broken and not mounts:
                raise ValueError(f"{self._path} is not a mount table (see proc(5), mountinfo)")
        except BaseException:
            self.close()
            raise
        self._tell(broken)
        self.mounts = visible(mounts)

    def refresh(self) -> None:
        """Read the table now; call ``changed()`` if it is another. A failure is logged."""
        if self._file is None:
            return
        try:
            mounts, broken = parse(self._read())
        except OSError as error:
            # Better what was true a moment ago than an empty table: that would withdraw everything.
            self._log.error("{path}: {error}; going by what it said before", path=self._path, error=error)
            return
        self._tell(broken)
        if broken and not mounts:
            return
        before, self.mounts = self.mounts, visible(mounts)
        if self.mounts != before:
            self._changed()

    def close(self) -> None:
        """Stop following; can be called twice."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._epoll is not None:
            if self.live:
                self._reactor.removeReader(self)
            self._epoll.close()
        if self._file is not None:
            os.close(self._file)
        self._epoll = self._file = None
        self.live = False

    def _follow(self) -> None:
        assert self._file is not None
        self._epoll = select.epoll()
        try:
            self._epoll.register(self._file, select.EPOLLPRI | select.EPOLLERR)
        except PermissionError:
            # What epoll says of a regular file: it can always be read, and never says more.
            return
        self._reactor.addReader(self)
        self.live = True

    def _read(self) -> bytes:
        table = self._read_once()
        for _ in range(_TORN_READS):
            # The kernel hands the table out in pages. One that changed in between may lack a line
            # or have one twice, and a mount point would be withdrawn and announced again.
            if not (self.live and self._epoll is not None and self._epoll.poll(0)):
                break
            table = self._read_once()
        else:
            # It never stops changing. The last signal is used up, so the reactor would not hear of
            # what came with it.
            if self._again is None:
                self._again = self._reactor.callLater(_BREATH, self._read_again)
        return table

    def _read_again(self) -> None:
        self._again = None
        self.refresh()

    def _read_once(self) -> bytes:
        assert self._file is not None
        os.lseek(self._file, 0, os.SEEK_SET)
        table = bytearray()
        while chunk := os.read(self._file, _CHUNK):
            table += chunk
            if len(table) > _MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._path))
        return bytes(table)

    def _tell(self, broken: list[bytes]) -> None:
        for line in sorted(set(broken) - self._told):
            self._log.warn("{path}: not understood, left out: {line}", path=self._path, line=repr(line[:200]))
        self._told = frozenset(broken)

    # What the reactor calls.

    def fileno(self) -> int:  # noqa: D102
        return -1 if self._epoll is None else self._epoll.fileno()

    def doRead(self) -> None:  # noqa: D102
        self.refresh()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002, D102
        self.close()

    def logPrefix(self) -> str:  # noqa: D102
        return "mounts"
