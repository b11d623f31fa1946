"""Compares what is mounted with the records of the map, and plans the calls that make them agree.

Pure: facts and records in, steps out. `plan` is the one place that decides. It looks at the two
states and not at how they came to differ: a mount, a reset by a user, a failed call, a reboot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coord import InvalidKey, Json, Kind, Record, Revision
from coord.core.names import check_key
from coord.mounts.mountinfo import Mount
from coord.mounts.selection import PLACEHOLDERS, Selection

__all__ = ["Facts", "Fire", "Reset", "Step", "is_own", "plan", "withdraw"]


@dataclass(frozen=True, slots=True)
class Fire:
    """Announce a mount."""

    key: str
    value: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Reset:
    """Withdraw an announcement of this node, unless the record has changed by then."""

    key: str
    revision: Revision


Step: TypeAlias = Fire | Reset


@dataclass(frozen=True, slots=True)
class Facts:
    """What is mounted on ``node``.

    :param mounted: all visible mounts, announced or not, but no placeholders unless selected: mount
        point to value.
    :param wanted: what should be announced: key to value, outer mount points before inner ones.
    :param unannounceable: selected mount points that cannot be keys, and why not.
    """

    node: str
    mounted: Mapping[str, dict[str, Json]] = field(default_factory=dict)
    wanted: Mapping[str, dict[str, Json]] = field(default_factory=dict)
    unannounceable: Mapping[bytes, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: str, mounts: Mapping[bytes, Mount], selection: Selection) -> Facts:
        """Return the facts of a table of visible mounts."""
        mounted: dict[str, dict[str, Json]] = {}
        wanted: dict[str, dict[str, Json]] = {}
        unannounceable: dict[bytes, str] = {}
        for raw, mount in sorted(mounts.items()):
            selected = mount in selection
            if mount.fstype in PLACEHOLDERS and not selected:
                continue
            try:
                target = _as_key(node, raw)
            except ValueError as error:
                if selected:
                    unannounceable[raw] = str(error)
                continue
            mounted[target] = value = _describe(node, target, mount)
            if selected:
                wanted[target] = wanted[f"{node}:{target}"] = value
        return cls(node, mounted, wanted, unannounceable)

    def matches(self, record: Record) -> bool:
        """Whether a record of this node's is true now, its options included."""
        assert isinstance(record.value, dict)
        return self.mounted.get(str(record.value["target"])) == record.value

    def concerns(self, record: Record) -> bool:
        """Whether `plan` could ever need this record."""
        return record.key in self.wanted or is_own(self.node, record)


def plan(facts: Facts, records: Mapping[str, Record]) -> list[Step]:
    """Return the calls to make, in order; none if the records agree with the facts.

    ``records`` may be out of date: `Reset` names the revision it means, and firing a latched key
    changes nothing, so a step planned on an old record does no harm.

    A shared key that another node has fired is left alone: it means *somewhere*, and that is true.
    So is a key of this node's that a user latched with a value of their own.
    """
    stale = {
        record.key: record.revision
        for record in records.values()
        if is_own(facts.node, record) and not facts.matches(record)
    }
    # Innermost mounts first, as umount needs it.
    resets = [Reset(key, stale[key]) for key in sorted(stale, reverse=True)]
    fires = [
        Fire(key, value)
        for key, value in facts.wanted.items()
        if key in stale or key not in records or not records[key].latched
    ]
    return [*resets, *fires]


def withdraw(node: str, records: Mapping[str, Record]) -> list[Step]:
    """Return the calls that withdraw everything that this node has announced."""
    return plan(Facts(node), records)


def is_own(node: str, record: Record) -> bool:
    """Whether the mount agent of ``node`` announced this, in this run or an earlier one.

    The author's name is not enough: users fire events of their own from the same host, and the
    agent must not reset those.
    """
    value = record.value
    if record.kind is not Kind.FIRED or not isinstance(value, dict) or value.get("node") != node:
        return False
    target = value.get("target")
    return isinstance(target, str) and record.key in {target, f"{node}:{target}"}


def _as_key(node: str, target: bytes) -> str:
    try:
        text = target.decode()
    except UnicodeDecodeError:
        raise InvalidKey("it is not UTF-8") from None
    # The longer of its two keys: a mount point is announced twice or not at all.
    check_key(f"{node}:{text}")
    return text


def _describe(node: str, target: str, mount: Mount) -> dict[str, Json]:
    return {
        "node": node,
        "source": mount.source,
        "target": target,
        "fstype": mount.fstype,
        "options": mount.options,
    }
