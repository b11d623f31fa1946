"""The file that stores the position of `on`."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import coord
from coord.cli._exits import CannotWrite, InUse

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["Cursor"]

# Two numbers of sixteen digits, a dot, a line end, and white space that an editor may add.
_MOST_BYTES = 64
# Seconds.
_LOCK_PATIENCE = 1.0


class Cursor:
    """A revision in a file, as ``GENERATION.NUMBER``: changes up to it were handled."""

    def __init__(self, path: Path) -> None:
        """Read the file if it exists; raise `InvalidInput` if it is not a cursor file, or a link of another user."""
        self.path = _followed(path)
        self._mode: int | None = None
        self.revision = self._read()
        if not os.access(self.path.parent, os.W_OK):
            raise coord.InvalidInput(f"cursor file {path}: its directory does not exist")

    def lock(self) -> int:
        """Keep other processes from using the file, and read it again: another may have moved it until now.

        The lock is a file beside it, because each move replaces the file itself. Return the descriptor that holds the
        lock, until every process that has it has ended; raise `InUse`, or `InvalidInput` if it cannot be made.
        """
        path = f"{self.path}.lock"
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            if not _lock(held):
                pid = os.pread(held, 20, 0).strip()
                by = pid.decode() if pid.isdigit() else "unknown"
                raise InUse(f"cursor file {self.path}: another coord on (pid {by}) is using it; give each its own file")
            os.ftruncate(held, 0)
            os.pwrite(held, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            raise coord.InvalidInput(f"cursor file {self.path}: {path}: {error.strerror}") from None
        self.revision = self._read()
        return held

    def _read(self) -> Revision | None:
        from coord import Revision

        try:
            text = self._text()
        except OSError as error:
            raise coord.InvalidInput(f"cursor file {self.path}: {error.strerror}") from None
        if text is None:
            return None
        try:
            return Revision.parse(text)
        except coord.InvalidInput:
            raise coord.InvalidInput(
                f"cursor file {self.path}: it holds {text[:40]!r}, not a revision like"
                " 1763820000000000.17; remove it to start over"
            ) from None

    def _text(self) -> str | None:
        try:
            # Do not follow a path that has become a link since, and do not block on a pipe without a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "not a regular file")
            self._mode = stat.S_IMODE(mode)
            return file.read(_MOST_BYTES + 1).decode(errors="replace").strip()

    def move(self, revision: Revision) -> None:
        """Save ``revision``; raise `CannotWrite`.

        The write is atomic: after a crash the file is the old or the new one. The file keeps its mode.
        """
        fresh = None
        try:
            # An unguessable name, created exclusively: never write to a file that another user has put there.
            descriptor, fresh = tempfile.mkstemp(prefix=".coord-cursor-", dir=self.path.parent)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{revision}\n")
                file.flush()
                os.fchmod(descriptor, self._mode_of_new())
                os.fsync(descriptor)
            Path(fresh).replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            if fresh is not None:
                with suppress(OSError):
                    Path(fresh).unlink(missing_ok=True)
            raise CannotWrite(f"cursor file {self.path}: {error.strerror}") from None
        self.revision = revision

    def _mode_of_new(self) -> int:
        """Return the mode of the file, or the default mode of a new one."""
        if self._mode is None:
            mask = os.umask(0o077)
            os.umask(mask)
            self._mode = 0o666 & ~mask
        return self._mode


def _followed(path: Path) -> Path:
    """Return the file to replace: the target if ``path`` is a link. Refuse a link that another user has planted.

    The kernel refuses such links in directories like /tmp, but this function resolves the path itself.
    """
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
            raise coord.InvalidInput(f"cursor file {path}: the link belongs to another user")
    return Path(os.path.realpath(path))


def _lock(held: int) -> bool:
    """Take the lock; wait a moment for the guard of a coord that was just killed, which ends its command."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        else:
            return True
        time.sleep(0.02)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
