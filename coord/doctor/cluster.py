"""The rules of ``coord doctor`` for a cluster: which of its states and settings could lose events or stop maps.

Pure: facts in, findings out. What holds for a single server (`coord.doctor.rules`) is judged for each primary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from coord.core.slots import SLOTS
from coord.doctor.rules import SETTINGS, Facts, Finding, Level, judge

__all__ = ["CLUSTER_SETTINGS", "ClusterFacts", "Member", "judge_cluster", "members_of"]

CLUSTER_SETTINGS: Final = (*SETTINGS, "cluster-require-full-coverage", "cluster-node-timeout")

# Milliseconds: a failed primary's maps are away for at least as long.
_NODE_TIMEOUT: Final = 5_000
_SHOWN: Final = 5
_OPEN: Final = re.compile(r"\[(\d+)-([<>])-([0-9a-f]+)\]")


@dataclass(frozen=True, slots=True)
class Member:
    """A server as the one that was asked knows it: a line of CLUSTER NODES.

    ``primary`` is the id of the server that it is a replica of; ``open_slots`` are those on their way to another
    server, by that server's id, if it is the one that was asked.
    """

    id: str
    address: str
    flags: frozenset[str]
    primary: str | None
    slots: int
    open_slots: Mapping[int, str]

    @property
    def failed(self) -> bool:
        """Whether the others take it for failed."""
        return bool(self.flags & {"fail", "fail?", "noaddr"})


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a cluster reported: its servers, and the facts of each primary that answered.

    ``found`` says, by the announced address, which server answered there: its id, or an error in words.
    ``facts`` and ``open_slots`` are by the address of the primary.
    """

    members: Sequence[Member]
    found: Mapping[str, str]
    facts: Mapping[str, Facts]
    open_slots: Mapping[str, Mapping[int, str]]

    @property
    def primaries(self) -> list[Member]:
        """The servers that have slots, or may get some."""
        return [each for each in self.members if "master" in each.flags and "noaddr" not in each.flags]


def members_of(text: str) -> list[Member]:
    """Return what CLUSTER NODES says; lines that are not understood are left out."""
    return [_member(words) for words in map(str.split, text.splitlines()) if len(words) >= 8]


def _member(words: Sequence[str]) -> Member:
    identity, address, flags, primary = words[:4]
    # HOST:PORT@BUS,HOSTNAME,...: connect to the name if there is one.
    at, _, more = address.partition(",")
    host_port, name = at.partition("@")[0], more.partition(",")[0]
    if name and "=" not in name:
        host_port = f"{name}:{host_port.rpartition(':')[2]}"
    slots, moving = 0, {}
    for word in words[8:]:
        opened = _OPEN.fullmatch(word)
        if opened is not None:
            moving[int(opened[1])] = opened[3]
        else:
            first, _, last = word.partition("-")
            slots += int(last or first) - int(first) + 1
    own = None if primary == "-" else primary
    return Member(identity, host_port, frozenset(flags.split(",")), own, slots, moving)


def judge_cluster(facts: ClusterFacts) -> list[Finding]:
    """Return what every rule finds, and what the rules for one server find at each primary."""
    return [*(finding for rule in _RULES for finding in rule(facts)), *_of_each(facts)]


def _covered(facts: ClusterFacts) -> Iterator[Finding]:
    served = sum(each.slots for each in facts.primaries if not each.failed)
    if served < SLOTS:
        words = f"{SLOTS - served} of {SLOTS} slots have no server: their maps wait"
        yield Finding("slots", Level.WARNING, words, "start the servers that have them, or redis-cli --cluster fix")
    else:
        yield Finding("slots", Level.OK, f"all {SLOTS} have one of {len(facts.primaries)} primaries")


def _failed(facts: ClusterFacts) -> Iterator[Finding]:
    failed = [each.address for each in facts.members if each.failed]
    if failed:
        yield Finding("servers", Level.WARNING, f"not reached by the others: {_some(failed)}", "start them again")


def _replicated(facts: ClusterFacts) -> Iterator[Finding]:
    kept = {each.primary for each in facts.members if not each.failed}
    alone = [each.address for each in facts.primaries if each.slots and not each.failed and each.id not in kept]
    if alone:
        words = f"none of {_some(alone)}: if that server ends, its maps wait until it is back"
        yield Finding("shards' replicas", Level.WARNING, words, "redis-cli --cluster add-node --cluster-slave")
    else:
        yield Finding("shards' replicas", Level.OK, "each shard has one that answers")


def _coverage(facts: ClusterFacts) -> Iterator[Finding]:
    said = {each.settings.get("cluster-require-full-coverage") for each in facts.facts.values()}
    if "yes" in said:
        words = "cluster-require-full-coverage yes: one shard that is lost stops the maps of all"
        yield Finding("coverage", Level.WARNING, words, "cluster-require-full-coverage no")
    elif said == {"no"}:
        yield Finding("coverage", Level.OK, "cluster-require-full-coverage no")
    else:
        yield _not_reported("coverage", "cluster-require-full-coverage")


def _timeout(facts: ClusterFacts) -> Iterator[Finding]:
    said = [each.settings.get("cluster-node-timeout", "") for each in facts.facts.values()]
    times = [int(text) for text in said if text.isascii() and text.isdigit()]
    if not times:
        yield _not_reported("failover", "cluster-node-timeout")
    elif (longest := max(times)) > _NODE_TIMEOUT:
        words = (
            f"cluster-node-timeout {longest}: the maps of a primary that fails wait for {longest / 1000:g} s or more"
        )
        yield Finding("failover", Level.WARNING, words, f"cluster-node-timeout {_NODE_TIMEOUT}")
    else:
        yield Finding("failover", Level.OK, f"cluster-node-timeout {longest}")


def _endpoints(facts: ClusterFacts) -> Iterator[Finding]:
    known = {each.address: each.id for each in facts.members if not each.failed}
    wrong = []
    for address, identity in known.items():
        found = facts.found.get(address)
        if found is not None and found != identity:
            # A server's id is 40 hex digits; an error has other words.
            other = re.fullmatch(r"[0-9a-f]{40}", found)
            wrong.append(f"{address} ({'another server answers there' if other else found})")
    if wrong:
        words = f"announced, but not found from here: {_some(wrong)}"
        fix = "cluster-announce-ip (or -hostname) and cluster-announce-port, or remap= in Python"
        yield Finding("addresses", Level.WARNING, words, fix)
    else:
        yield Finding("addresses", Level.OK, "each server answers where it is announced")


def _open(facts: ClusterFacts) -> Iterator[Finding]:
    moving = sorted({slot for slots in facts.open_slots.values() for slot in slots})
    if moving:
        words = (
            f"on the move: {_some(list(map(str, moving)))}: until that is finished, calls on their maps may wait, and "
            "wake-ups be late"
        )
        yield Finding("moves", Level.WARNING, words, "finish them: redis-cli --cluster fix")
    else:
        yield Finding("moves", Level.OK, "no slot is on the move")


def _versions(facts: ClusterFacts) -> Iterator[Finding]:
    versions = sorted({" ".join(each.program) for each in facts.facts.values()})
    if len(versions) > 1:
        yield Finding("versions", Level.NOTE, f"different ones: {', '.join(versions)}")
    older = [at for at, each in facts.facts.items() if _release(each, "redis") < (7, 0)]
    if older:
        words = f"{_some(older)}: no sharded messages before Redis 7, so each change costs every server"
        yield Finding("messages", Level.WARNING, words, "use Redis 7 or later, or Valkey")
    elif facts.facts:
        yield Finding("messages", Level.OK, "sharded: a change costs its own shard only")


def _atomic(facts: ClusterFacts) -> Iterator[Finding]:
    each = list(facts.facts.values())
    if each and all(_release(one, "valkey") >= (9, 0) or _release(one, "redis") >= (8, 4) for one in each):
        yield Finding("moving slots", Level.OK, "in one step: CLUSTER MIGRATESLOTS (Redis: CLUSTER MIGRATION)")


def _release(facts: Facts, kind: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", facts.info.get(f"{kind}_version", ""))[:2]))


def _of_each(facts: ClusterFacts) -> Iterator[Finding]:
    """Judge each primary by the rules for one server; what is the same at all is said once, and what is well."""
    found: dict[Finding, list[str]] = {}
    well: dict[str, tuple[Finding, list[str]]] = {}
    for address, each in facts.facts.items():
        for finding in judge(each):
            # What a failover may lose is judged by the shard: a cluster's own way to fence a primary is its time-out.
            if finding.check in ("locks", "replicas"):
                continue
            where = found.setdefault(finding, [])
            if finding.level is Level.OK:
                _, where = well.setdefault(finding.check, (finding, []))
            where.append(address)
    for finding, where in [*found.items(), *well.values()]:
        if where:
            everywhere = len(where) == len(facts.facts)
            yield finding if everywhere else replace(finding, text=f"{_some(where)}: {finding.text}")


def _not_reported(check: str, setting: str) -> Finding:
    return Finding(
        check, Level.UNKNOWN, f"the servers do not report {setting}", f"allow CONFIG GET, or check {setting}"
    )


def _some(names: Sequence[str]) -> str:
    """Join the first names; say how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_RULES: Final[tuple[Callable[[ClusterFacts], Iterator[Finding]], ...]] = (
    _covered,
    _failed,
    _replicated,
    _coverage,
    _timeout,
    _endpoints,
    _open,
    _versions,
    _atomic,
)
