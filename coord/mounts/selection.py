"""Which mounts are announced."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import translate

from coord.mounts.mountinfo import Mount

__all__ = ["KERNEL_FILE_SYSTEMS", "PLACEHOLDERS", "Selection"]

# What the kernel shows of itself: there is no data on any of them that a service could wait for.
# tmpfs, ramfs, overlay, FUSE and every network file system are data, and are announced.
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

# Something will be mounted here when it is first used; nothing is yet.
PLACEHOLDERS = frozenset({"autofs"})


class Selection:
    """Leaves out kernel file systems and placeholders; with patterns, these alone decide.

    ``only`` are shell patterns for the whole mount point (``*`` also matches ``/``, ``?`` and
    ``[...]`` one character; case counts). A mount that matches any of them is announced, whatever
    its type.
    """

    def __init__(self, only: Iterable[str] = ()) -> None:
        self._only = [re.compile(translate(pattern)) for pattern in only]

    def __contains__(self, mount: Mount) -> bool:
        if self._only:
            # fsdecode: a pattern from the command line was decoded in the same way.
            target = os.fsdecode(mount.target)
            return any(pattern.match(target) for pattern in self._only)
        return mount.fstype not in KERNEL_FILE_SYSTEMS | PLACEHOLDERS
