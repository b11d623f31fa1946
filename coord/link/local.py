"""The password of this user's own `coord server`, in a file that only this user may read.

The server process holds a lock on the file as long as it runs. So a password that an earlier server has left is never
sent to another program at its port, and no password is used while a server starts.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from coord.link.replies import NoServer

__all__ = ["password_file", "password_of", "state_folder"]

_LONGEST = 4096


def state_folder() -> Path | None:
    """Return the folder for the state of this user's servers; `None` for a user without a home directory."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG standard says to ignore relative paths.
    if Path(state).is_absolute():
        return Path(state) / "coord"
    try:
        return Path.home() / ".local" / "state" / "coord"
    except RuntimeError:
        return None


def password_file(folder: Path, port: int) -> Path:
    """Return the path of the password file of the server at ``port``."""
    return folder / f"{port}.password"


def password_of(port: int) -> str | None:
    """Return the password of this user's server at ``port`` of 127.0.0.1; `None` if none runs.

    :raises NoServer: the server is about to start.
    """
    folder = state_folder()
    if folder is None:
        return None
    try:
        descriptor = os.open(password_file(folder, port), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        if not _is_ours(descriptor) or not _is_locked(descriptor):
            return None
        text = file.read(_LONGEST)
    if not text.endswith("\n"):
        raise NoServer(f"coord server is about to start at port {port}")
    return text[:-1]


def _is_ours(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
