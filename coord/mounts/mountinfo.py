"""Parses the kernel's mount table, and finds the visible mounts in it.

`/proc/PID/mountinfo` (proc(5)) has one line a mount::

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    id parent device root target options [optional fields] - fstype source super-options

It lists all mounts, including those hidden by a later mount over them. `visible` walks the tree as
the kernel walks a path, and so finds the mount that a program sees at each mount point. It uses the
parents' ids and not the order of the lines: a mount that was moved, or put *beneath* another, may be
on any line.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Mount", "parse", "visible"]

_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")
_FIXED_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Mount:
    r"""One line of the table.

    Paths are bytes, as the kernel's are, with the octal escapes decoded. Other fields are text; a
    byte in them that is not UTF-8 becomes ``\xff``. Both kinds of options keep their octal
    escapes: a decoded comma would split an option in two.
    """

    id: int
    parent: int
    device: str
    root: bytes
    target: bytes
    mount_options: str
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: str

    @property
    def options(self) -> str:
        """The mount's and the file system's options in one string, as `findmnt` shows them.

        ``ro`` comes first if either is read-only, else ``rw``; then each other word once.
        """
        words = [*self.mount_options.split(","), *self.super_options.split(",")]
        mode = "ro" if "ro" in words else "rw"
        rest = dict.fromkeys(word for word in words if word not in {"", "ro", "rw"})
        return ",".join([mode, *rest])


def parse(table: bytes) -> tuple[list[Mount], list[bytes]]:
    """Parse a whole table; return its mounts, and the lines that are malformed. Raises nothing."""
    mounts: list[Mount] = []
    broken: list[bytes] = []
    for line in table.split(b"\n"):
        if not line.strip():
            continue
        try:
            mounts.append(_parse_line(line))
        except ValueError:
            broken.append(line)
    return mounts, broken


def visible(mounts: Iterable[Mount]) -> dict[bytes, Mount]:
    """Return the topmost mount at each mount point that a path can reach."""
    by_id = {mount.id: mount for mount in mounts}
    children: defaultdict[int | None, list[Mount]] = defaultdict(list)
    for mount in by_id.values():
        outside = mount.parent == mount.id or mount.parent not in by_id
        children[None if outside else mount.parent].append(mount)

    seen: dict[bytes, Mount] = {}
    # This ends, because each mount is a child of one parent. Mounts that are each other's parents
    # (no kernel writes that) are never reached.
    reached: list[Mount] = list(_first_met(children[None]))
    while reached:
        mount = reached.pop()
        above = list(_first_met(children[mount.id]))
        reached.extend(above)
        if all(child.target != mount.target for child in above):
            seen[mount.target] = mount
    return seen


def _first_met(siblings: list[Mount]) -> Iterator[Mount]:
    """Of the mounts on one parent, yield those that a path meets first; they hide the others.

    Kernels since 4.11 have no two on one mount point; if there are two, the later line counts.
    """
    spots = {mount.target: mount for mount in siblings}
    return (mount for spot, mount in spots.items() if not any(up in spots for up in _above(spot)))


def _above(path: bytes) -> Iterator[bytes]:
    while path not in {b"/", b""}:
        path = path.rpartition(b"/")[0] or b"/"
        yield path


def _parse_line(line: bytes) -> Mount:
    fields = line.split(b" ")
    end = fields.index(b"-", _FIXED_FIELDS)
    # Split at most twice: some file systems print options with a space in them, and an empty source
    # leaves two spaces in a row.
    fstype, source, super_options = b" ".join(fields[end + 1 :]).split(b" ", 2)
    target = _unescape(fields[4])
    if not target.startswith(b"/") or not fstype:
        raise ValueError(line)
    return Mount(
        id=int(fields[0]),
        parent=int(fields[1]),
        device=_text(fields[2]),
        root=_unescape(fields[3]),
        target=target,
        mount_options=_text(fields[5]),
        propagation=tuple(_text(field) for field in fields[_FIXED_FIELDS:end]),
        fstype=_text(_unescape(fstype)),
        source=_text(_unescape(source)),
        super_options=_text(super_options),
    )


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)


def _text(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")
