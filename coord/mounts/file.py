"""A mountinfo file: opens it, again and again, reads it, and finds the process that it belongs to."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

__all__ = ["MountFile"]

# O_PATH: anybody may search the folder of a process, but perhaps not list it.
_FOLDER_FLAGS = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 1 << 16
# A table of 100,000 mounts is some 20 MB. More than this is another kind of file.
_MAX_BYTES = 1 << 26
_OF_A_PROCESS = re.compile("(/.+)/([0-9]+)/mountinfo")


class MountFile:
    """An open mountinfo file.

    :ivar fd: its descriptor.
    :ivar process: a descriptor that becomes readable when the process of the file ends. None if there
        is no such process, or no such descriptor: for a single thread, or in another PID namespace.
    :raises OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        real = os.path.realpath(path)
        folder, self._name = os.path.split(real)
        # It stays the folder of the same process, whatever process gets the number later.
        self._folder = os.open(folder, _FOLDER_FLAGS)
        try:
            self.fd = self._open()
        except BaseException:
            os.close(self._folder)
            raise
        self.process = self._open_process(real)

    def reopen(self) -> None:
        """Open it again, with another descriptor: it shows the process's mount namespace and root of that time.

        :raises OSError: it cannot be opened; the former descriptor is still good.
        """
        before, self.fd = self.fd, self._open()
        os.close(before)

    def read(self) -> bytes:
        """Return the whole text.

        :raises OSError: it cannot be read, or is too large for a mount table.
        """
        os.lseek(self.fd, 0, os.SEEK_SET)
        text = bytearray()
        while chunk := os.read(self.fd, _CHUNK):
            text += chunk
            if len(text) > _MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._path))
        return bytes(text)

    def close(self) -> None:
        """Close all descriptors."""
        for fd in (self.fd, self._folder, self.process):
            if fd is not None:
                os.close(fd)

    def _open(self) -> int:
        return os.open(self._name, _FILE_FLAGS, dir_fd=self._folder)

    def _open_process(self, real: str) -> int | None:
        found = _OF_A_PROCESS.fullmatch(real)
        if found is None:
            return None
        proc, pid = found.groups()
        try:
            process = os.pidfd_open(int(pid))
        except (AttributeError, OSError):
            return None  # No Linux, an old kernel, a sandbox, or no such process.
        try:
            # In another PID namespace (the host's /proc, mounted in a container) the number is that of
            # another process. So ask this /proc for the number of the process that was opened.
            facts = Path(f"{proc}/self/fdinfo/{process}").read_text()
            os.stat(self._name, dir_fd=self._folder)
        except OSError:
            facts = ""
        if f"\nPid:\t{pid}\n" in facts:
            return process
        os.close(process)
        return None
