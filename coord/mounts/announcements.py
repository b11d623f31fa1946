"""What the cluster should hear of a mount table, and what is to be done so that it does.

Pure: facts and records in, steps out. `plan` is the one place that decides. It compares what is
mounted with what stands in Redis, so it does not matter how the two came apart: a change here, a
reset by somebody else, a call that failed, a stop, a reboot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from coord import InvalidKey, Json, Kind, Record, Revision
from coord.core.names import check_key
from coord.mounts.mountinfo import Mount
from coord.mounts.selection import Selection

__all__ = ["Facts", "Fire", "Reset", "Step", "is_own", "plan", "withdraw"]


@dataclass(frozen=True, slots=True)
class Fire:
    """Announce it."""

    key: str
    value: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Reset:
    """Take an announcement of this node back, unless another record stands by then."""

    key: str
    revision: Revision


Step: TypeAlias = Fire | Reset


@dataclass(frozen=True, slots=True)
class Facts:
    """What is mounted on ``node``.

    ``mounted`` holds all that is visible, announced or not: mount point to (source, type).
    ``wanted`` is what should be announced: key to value, parents before what is mounted in them.
    ``unspeakable`` are mount points that would be announced if they could be keys, and why not.
    """

    node: str
    mounted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    wanted: Mapping[str, dict[str, Json]] = field(default_factory=dict)
    unspeakable: Mapping[bytes, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: str, mounts: Mapping[bytes, Mount], selection: Selection) -> Facts:
        """Read them off a table of visible mounts."""
        mounted: dict[str, tuple[str, str]] = {}
        wanted: dict[str, dict[str, Json]] = {}
        unspeakable: dict[bytes, str] = {}
        for raw, mount in sorted(mounts.items()):
            try:
                target = _speakable(node, raw)
            except ValueError as error:
                if mount in selection:
                    unspeakable[raw] = str(error)
                continue
            mounted[target] = (mount.source, mount.fstype)
            if mount in selection:
                wanted[target] = wanted[f"{node}:{target}"] = _describe(node, target, mount)
        return cls(node, mounted, wanted, unspeakable)

    def bear_out(self, record: Record) -> bool:
        """Whether what this node once announced is so now; its options may have changed since."""
        assert isinstance(record.value, dict)
        source, fstype = record.value.get("source"), record.value.get("fstype")
        return self.mounted.get(str(record.value["target"])) == (source, fstype)

    def concern(self, record: Record) -> bool:
        """Whether `plan` could ever need this record."""
        return record.key in self.wanted or is_own(self.node, record)


def plan(facts: Facts, standing: Mapping[str, Record]) -> list[Step]:
    """Answer what to do, in order; nothing where the cluster hears what is so.

    ``standing`` may be behind the times: `Reset` names the record it means, and firing what is
    fired changes nothing, so a step planned on an old record does no harm.

    A shared key that another node has fired is left alone: it says *somewhere*, which is so. A key
    of this node's that somebody else latched by hand is left alone too.
    """
    stale = {
        record.key: record.revision
        for record in standing.values()
        if is_own(facts.node, record) and not facts.bear_out(record)
    }
    # Innermost mounts first, as umount needs it.
    resets = [Reset(key, stale[key]) for key in sorted(stale, reverse=True)]
    fires = [
        Fire(key, value)
        for key, value in facts.wanted.items()
        if key in stale or key not in standing or not standing[key].latched
    ]
    return [*resets, *fires]


def withdraw(node: str, standing: Mapping[str, Record]) -> list[Step]:
    """Answer how to take back everything that this node has announced."""
    return plan(Facts(node), standing)


def is_own(node: str, record: Record) -> bool:
    """Whether the mount agent of ``node`` announced this, now or in an earlier life.

    The author's name is not enough: users fire events of their own from the same host, and these
    are not the agent's to take back.
    """
    value = record.value
    if record.kind is not Kind.FIRED or not isinstance(value, dict) or value.get("node") != node:
        return False
    target = value.get("target")
    return isinstance(target, str) and record.key in {target, f"{node}:{target}"}


def _speakable(node: str, target: bytes) -> str:
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
