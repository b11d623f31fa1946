"""How a mount table writes the path of a mount point."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from coord.mounts.mountinfo import Mount, parse, visible

__all__ = ["announced_as", "resolve"]

# Without a device, but local: reading a link there never waits for a server.
_LOCAL = {"btrfs", "overlay", "ramfs", "tmpfs", "zfs"}
_MAX_LINKS = 40


def announced_as(keys: Iterable[str], node: str) -> dict[str, str]:
    """Return the keys that name a mount point otherwise than the mount agent does: key to the agent's key.

    Those are ``/PATH`` and ``NODE:/PATH`` with '//', '.', '..', a final '/', or on this host a link.

    :param node: this host's name.
    """
    found = {}
    mounts: Mapping[bytes, Mount] | None = None
    for key in keys:
        host, colon, path = ("", "", key) if key.startswith("/") else key.partition(":")
        if path.startswith("/"):
            mounts = _mounts() if mounts is None else mounts
            # The links of other hosts are unknown here.
            walk = _Walk(mounts, links=host in {"", node})
            announced = f"{host}{colon}{walk.resolve(path)}"
            if announced != key:
                found[key] = announced
    return found


def resolve(path: str, mounts: Mapping[bytes, Mount] | None = None) -> str:
    """Return an absolute path without '//', '.', '..', a final '/' and symbolic links.

    A link beyond a mount point of a network file system is not followed: that may wait for ever.

    :param mounts: the visible mounts; this process's by default.
    """
    return _Walk(_mounts() if mounts is None else mounts).resolve(path)


def _mounts() -> dict[bytes, Mount]:
    try:
        return visible(parse(Path("/proc/self/mountinfo").read_bytes())[0])
    except OSError:
        return {}


class _Walk:
    """Follows the links of a path as the kernel does, on local file systems only."""

    def __init__(self, mounts: Mapping[bytes, Mount], *, links: bool = True) -> None:
        self._mounts = mounts
        self._links_left = _MAX_LINKS if links else 0

    def resolve(self, path: str) -> str:
        """Return the path without links."""
        done: list[str] = []
        left = path.split("/")[::-1]
        while left:
            name = left.pop()
            if name == "..":
                del done[-1:]
            elif name not in {"", "."}:
                done.append(name)
                if link := self._read_link("/" + "/".join(done)):
                    done = [] if link.startswith("/") else done[:-1]
                    left += link.split("/")[::-1]
        return "/" + "/".join(done)

    def _read_link(self, path: str) -> str:
        """Return where a link leads; nothing if it is none, or may not be looked at."""
        try:
            if self._links_left and self._is_local(os.fsencode(path)):
                link = str(Path(path).readlink())
                self._links_left -= 1
                return link
        except (OSError, ValueError):
            pass
        return ""

    def _is_local(self, path: bytes) -> bool:
        """Whether the folder that has this name in it is on a local file system, and no mount hides it."""
        if path in self._mounts:
            return False
        while path not in {b"/", b""}:
            path = path.rpartition(b"/")[0] or b"/"
            if mount := self._mounts.get(path):
                return path == b"/" or not mount.device.startswith("0:") or mount.fstype in _LOCAL
        return True
