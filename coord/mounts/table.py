"""Follows a mount table and reports changes.

The kernel signals a change of a mountinfo file as EPOLLPRI|EPOLLERR, which Twisted's reactors take
for a closed descriptor. So an epoll of our own watches the file; it becomes *readable*, and the
reactor watches that one. No mount point is ever touched.

The kernel signals no rename of a folder above a mount point, and no file system that becomes
read-only after an error or is remounted in another namespace. So the table is also read every ten
seconds. For that the file is opened again, because it shows the mount namespace and the root
directory which the process had at that time: `/proc/self/mountinfo` does not show mounts in other
containers, or on the host unless they are propagated here.

An open mountinfo file keeps its mount namespace, and all devices mounted there, in use. So it is
closed as soon as its process ends.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.mounts.file import MountFile
from coord.mounts.mountinfo import Mount, parse, visible

__all__ = ["LOOK_EVERY", "MountTable"]

LOOK_EVERY: Final = 10.0
"""Seconds between two reads of a table of which the kernel signals no change."""

# How often in a row a table that changes while it is read is read again at once.
_TORN_READS = 5
_TORN_PAUSE = 0.1
# The pause between two looks is at least this many times as long as a look: 1 % of the time.
_LOOK_SHARE = 100
# What opening /proc/PID/mountinfo fails with when the process has ended, or is a zombie.
_ENDED = {errno.ENOENT, errno.ESRCH, errno.EINVAL}


@implementer(IReadDescriptor)
class MountTable:
    """Follows one mountinfo file.

    :param changed: called from the reactor after ``mounts`` has changed.
    :param ended: called with the reason when the process of the table has ended. ``mounts`` is empty
        then, and the file closed.
    :param look_every: seconds between two reads without a signal.
    :ivar mounts: the visible mounts, by mount point.
    :ivar live: whether the kernel signals changes; it does not if the file is a regular one (a copy,
        in tests).
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        changed: Callable[[], None],
        ended: Callable[[OSError], None],
        reactor: Any,
        *,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self.mounts: dict[bytes, Mount] = {}
        self.live = False
        self._path = path
        self._changed = changed
        self._ended = ended
        self._reactor = reactor
        self._look_every = look_every
        self._text = b""
        self._file: MountFile | None = None
        self._epoll: select.epoll | None = None
        self._logged: frozenset[bytes] = frozenset()
        self._trouble = ""
        self._torn: DelayedCall | None = None
        self._look: DelayedCall | None = None

    def open(self) -> None:
        """Read the table for the first time, and follow it from then on.

        :raises OSError: the file cannot be read.
        :raises ValueError: it is no mount table.
        """
        began = monotonic()
        try:
            text = self._open()
            mounts, broken = parse(text)
            if broken and not mounts:
                raise ValueError(f"{self._path} is not a mount table (see proc(5), mountinfo)")
        except BaseException:
            self.close()
            raise
        self._log_broken(broken)
        self._text, self.mounts = text, visible(mounts)
        self._look_later(began)

    def refresh(self) -> None:
        """Read the table now; call ``changed()`` if the mounts have changed. A failure is logged."""
        if self._file is None:
            return
        try:
            text = self._read()
        except OSError as error:
            # Keep the last mounts: those of an empty table would withdraw everything.
            self._log_trouble(error)
            return
        if text == self._text:
            return
        self._text = text
        mounts, broken = parse(text)
        self._log_broken(broken)
        if broken and not mounts:
            return
        before, self.mounts = self.mounts, visible(mounts)
        if self.mounts != before:
            self._changed()

    def close(self) -> None:
        """Stop following; may be called twice."""
        for timer in (self._torn, self._look):
            if timer is not None:
                timer.cancel()
        if self.live:
            self._reactor.removeReader(self)
        if self._epoll is not None:
            self._epoll.close()
        if self._file is not None:
            self._file.close()
        self._torn = self._look = self._epoll = self._file = None
        self.live = False

    def _open(self) -> bytes:
        self._file = MountFile(self._path)
        self._epoll = select.epoll()
        # Followed first, read second: each look at the epoll, including the one of registering the
        # file, consumes the signal, and the read sees the change that it was for.
        self.live = _watched(self._epoll, self._file.fd)
        if self.live:
            self._reactor.addReader(self)
            if self._file.process is not None:
                self._epoll.register(self._file.process, select.EPOLLIN)
        return self._read()

    # Changes without a signal.

    def _look_later(self, began: float) -> None:
        pause = max(self._look_every, _LOOK_SHARE * (monotonic() - began))
        self._look = self._reactor.callLater(pause, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        began = monotonic()
        assert self._file is not None
        assert self._epoll is not None
        try:
            self._file.reopen()  # The former descriptor leaves the epoll when it is closed.
            _watched(self._epoll, self._file.fd)
        except OSError as error:
            if self.live and error.errno in _ENDED:
                self._end()
                return
            self._log_trouble(error)
        self.refresh()
        # What it calls may have closed this.
        if self._file is not None:
            self._look_later(began)

    def _end(self) -> None:
        self.close()
        self.mounts = {}
        self._ended(ProcessLookupError(errno.ESRCH, "its process has ended", str(self._path)))

    # Reading.

    def _read(self) -> bytes:
        assert self._file is not None
        text = self._file.read()
        for _ in range(_TORN_READS):
            # The kernel hands the table out in pages. If it changed in between, a line may be missing
            # or doubled, and a mount point would be withdrawn and announced again.
            if not self._signalled(self._file.fd):
                break
            text = self._file.read()
        else:
            # It does not stop changing. The last signal is consumed, so the reactor will not report
            # the change that it was for.
            if self._torn is None:
                self._torn = self._reactor.callLater(_TORN_PAUSE, self._read_again)
        return text

    def _signalled(self, fd: int | None) -> bool:
        return self.live and self._epoll is not None and any(fd == ready for ready, _ in self._epoll.poll(0))

    def _read_again(self) -> None:
        self._torn = None
        self.refresh()

    def _log_broken(self, broken: list[bytes]) -> None:
        for line in sorted(set(broken) - self._logged):
            self._log.warn("{path}: malformed line ignored: {line}", path=self._path, line=repr(line[:200]))
        self._logged = frozenset(broken)

    def _log_trouble(self, error: OSError) -> None:
        trouble = error.strerror or str(error)
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.error("{path}: {error}; its last contents still count", path=self._path, error=trouble)

    # What the reactor calls.

    def fileno(self) -> int:  # noqa: D102
        return -1 if self._epoll is None else self._epoll.fileno()

    def doRead(self) -> None:  # noqa: D102
        if self._file is not None and self._signalled(self._file.process):
            self._end()
        else:
            self.refresh()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002, D102
        self.close()

    def logPrefix(self) -> str:  # noqa: D102
        return "mounts"


def _watched(epoll: select.epoll, mountinfo: int) -> bool:
    """Have ``epoll`` watch a file; return whether the kernel signals its changes."""
    try:
        epoll.register(mountinfo, select.EPOLLPRI | select.EPOLLERR)
    except PermissionError:
        # What epoll says of a regular file: it is always readable.
        return False
    return True
