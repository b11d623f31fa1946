"""What is announced, and the difference to what is held already. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coord import InvalidKey, Json
from coord.core.names import check_key
from coord.mounts.mountinfo import Mount
from coord.mounts.selection import Selection

__all__ = ["Announcements", "Facts", "Value", "plan"]

Value: TypeAlias = dict[str, Json]
Announcements: TypeAlias = Mapping[str, Value]
"""Key to value, outer mount points before inner ones."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is mounted on a node.

    :param wanted: what should be announced.
    :param unannounceable: selected mount points that cannot be keys, and why not.
    """

    wanted: Announcements = field(default_factory=dict)
    unannounceable: Mapping[bytes, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: str, mounts: Mapping[bytes, Mount], selection: Selection) -> Facts:
        """Return the facts of a table of visible mounts."""
        wanted: dict[str, Value] = {}
        unannounceable: dict[bytes, str] = {}
        for raw, mount in sorted(mounts.items()):
            if mount not in selection:
                continue
            try:
                target = _as_key(node, raw)
            except ValueError as error:
                unannounceable[raw] = str(error)
            else:
                wanted[target] = wanted[f"{node}:{target}"] = _describe(node, target, mount)
        return cls(wanted, unannounceable)


def plan(wanted: Announcements, held: Announcements) -> tuple[list[str], list[str]]:
    """Return the keys to withdraw and the keys to hold, with a new value perhaps, each in the order of the calls."""
    # Innermost mounts first, as umount needs it.
    over = sorted(held.keys() - wanted.keys(), reverse=True)
    new = [key for key, value in wanted.items() if held.get(key) != value]
    return over, new


def _as_key(node: str, target: bytes) -> str:
    try:
        text = target.decode()
    except UnicodeDecodeError:
        raise InvalidKey("it is not UTF-8") from None
    # The longer of its two keys: a mount point is announced twice or not at all.
    check_key(f"{node}:{text}")
    return text


def _describe(node: str, target: str, mount: Mount) -> Value:
    return {
        "node": node,
        "source": mount.source,
        "target": target,
        "fstype": mount.fstype,
        "options": mount.options,
    }
