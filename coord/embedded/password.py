"""The password file of a server at a local port, for the other processes of its user."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from coord.errors import ServerRefused
from coord.link.local import password_file

__all__ = ["PasswordFile"]

# A process that checks the lock holds it for a moment itself.
_TRIES: Final = 25
_PAUSE: Final = 0.02


class PasswordFile:
    """A file of mode 0600, locked from `open` to `close`; empty but between `tell` and `close`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.path = password_file(folder, port)
        self._port = port
        self._file = -1

    def open(self) -> None:
        """Create and lock the file.

        :raises ServerRefused: if this user has another server at the port, or the file cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._lock()
            os.fchmod(self._file, 0o600)
            os.ftruncate(self._file, 0)
        except OSError as error:
            raise ServerRefused(f"{self.path}: {error.strerror}") from None

    def _lock(self) -> None:
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            else:
                return
        os.close(self._file)
        self._file = -1
        raise ServerRefused(f"port {self._port} of 127.0.0.1 is in use by another coord server of yours")

    def tell(self, password: str) -> None:
        """Write the password for this user's processes: the server is ready."""
        os.pwrite(self._file, f"{password}\n".encode(), 0)

    def close(self) -> None:
        """Erase the password: the server has ended."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1
