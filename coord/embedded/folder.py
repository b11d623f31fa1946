"""Where the embedded server keeps its data and its socket."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from coord.errors import ServerRefused

__all__ = ["Folder"]

# Bytes that the kernel takes as a socket's path: 107 on Linux, 103 on macOS.
_SOCKET_PATH_LIMIT: Final = 103


class Folder:
    """The folder of one server: a given one, which is kept, or a temporary one.

    ``socket`` is in it, so that the address stays the same in the next process too. If its path would
    be too long, it is in a private folder with a short name.
    """

    def __init__(self, given: Path | str | None) -> None:
        self._temporary = given is None
        self.path = _unused_name(tempfile.gettempdir()) if given is None else Path(given).absolute()
        self.socket = self.path / "server.sock"
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_LIMIT:
            self.socket = _unused_name("/tmp") / "server.sock"  # noqa: S108 - made with mode 700

    def make(self, settings: Mapping[str, str]) -> bool:
        """Create what is missing, and check that a server with ``settings`` would read the existing data.

        Return whether the folder is new.

        :raises ServerRefused: naming the folder.
        """
        try:
            new = not self.path.exists()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            self._check(keeps_log=settings["appendonly"].lower() == "yes")
        except OSError as error:
            raise ServerRefused(f"{self.path}: {error.strerror}") from error
        return new

    def remove(self) -> None:
        """Remove the temporary folders."""
        if self.socket.parent != self.path:
            shutil.rmtree(self.socket.parent, ignore_errors=True)
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def _check(self, *, keeps_log: bool) -> None:
        """Refuse data that the server would silently ignore, starting empty."""
        if any(self.path.glob("primary-*")):
            raise ServerRefused(f"{self.path} holds the data of a cluster: one server would ignore it")
        logged = (self.path / "appendonlydir").exists()
        if logged and not keeps_log:
            raise ServerRefused(
                f"{self.path} holds an append-only file: a server without 'appendonly yes' would ignore it"
            )
        if keeps_log and not logged and (self.path / "dump.rdb").exists():
            raise ServerRefused(
                f"{self.path} holds a dump.rdb and no append-only file: a server with 'appendonly yes' would ignore it"
            )


def _unused_name(folder: str) -> Path:
    """Return an unused, unguessable name in ``folder``."""
    return Path(folder) / f"coord-{secrets.token_hex(8)}"
