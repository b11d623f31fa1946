"""Which mounts are announced."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import translate

from coord import InvalidInput
from coord.mounts.mountinfo import Mount

__all__ = ["KERNEL_FILE_SYSTEMS", "PLACEHOLDERS", "Selection"]

# Views of the kernel's own state, without data that a service could wait for. tmpfs, ramfs, overlay,
# FUSE and network file systems hold data, and are announced.
KERNEL_FILE_SYSTEMS = frozenset(
    {
        "anon_inodefs",
        "apparmorfs",
        "bdev",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devfs",
        "devpts",
        "devtmpfs",
        "dlmfs",
        "dmabuf",
        "drm",
        "efivarfs",
        "functionfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nfsd",
        "nsfs",
        "pidfs",
        "pipefs",
        "proc",
        "pstore",
        "resctrl",
        "rootfs",
        "rpc_pipefs",
        "secretmem",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sockfs",
        "spufs",
        "sysfs",
        "tracefs",
        "usbfs",
        "xenfs",
    }
)

# Mount points at which a file system will be mounted on first use; nothing is mounted there yet.
PLACEHOLDERS = frozenset({"autofs"})

# What no mount point has: the kernel resolves these.
_UNRESOLVED = re.compile("//|/[.]{1,2}(?:/|\\Z)|./\\Z")


class Selection:
    """Decides which mounts are announced.

    All patterns are shell patterns for the whole text: ``*`` also matches ``/``, ``?`` and ``[...]``
    match one character, case counts. A mount is announced if its mount point matches one of ``only``
    and its type one of ``types`` (if given), and neither matches ``exclude`` or ``exclude_types``.

    Without ``types``, placeholders (autofs) are left out; with neither ``types`` nor ``only``, kernel
    file systems are left out too.

    :raises InvalidInput: a pattern that can match no mount point, or no type.
    """

    def __init__(
        self,
        only: Iterable[str] = (),
        *,
        exclude: Iterable[str] = (),
        types: Iterable[str] = (),
        exclude_types: Iterable[str] = (),
    ) -> None:
        self._only = _compile([_mount_point(pattern) for pattern in _listed(only)])
        self._exclude = _compile([_mount_point(pattern) for pattern in _listed(exclude)])
        self._types = _compile([_type(pattern) for pattern in _listed(types)])
        self._exclude_types = _compile([_type(pattern) for pattern in _listed(exclude_types)])

    def __contains__(self, mount: Mount) -> bool:
        # fsdecode, as Python decodes the command line.
        target = os.fsdecode(mount.target)
        if _match(self._exclude, target) or _match(self._exclude_types, mount.fstype):
            return False
        if self._only is not None and not _match(self._only, target):
            return False
        if self._types is not None:
            return _match(self._types, mount.fstype)
        if mount.fstype in PLACEHOLDERS:
            return False
        return self._only is not None or mount.fstype not in KERNEL_FILE_SYSTEMS


def _listed(patterns: Iterable[str]) -> list[str]:
    """Return the patterns; refuse one string, which would be taken for its characters."""
    if isinstance(patterns, str):
        raise InvalidInput(f"{patterns!r} is one pattern: give a list of them")
    return list(patterns)


def _mount_point(pattern: str) -> str:
    if not pattern.startswith(("/", "*", "?", "[")):
        raise InvalidInput(f"pattern {pattern!r} matches no mount point: it must begin with '/' or '*'")
    if _UNRESOLVED.search(pattern):
        raise InvalidInput(f"pattern {pattern!r} matches no mount point: these have no '//', '/.', '/..' or final '/'")
    return pattern


def _type(pattern: str) -> str:
    if not pattern:
        raise InvalidInput("a type of file system cannot be empty")
    return pattern


def _compile(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns))) if patterns else None


def _match(patterns: re.Pattern[str] | None, text: str) -> bool:
    return patterns is not None and patterns.match(text) is not None
