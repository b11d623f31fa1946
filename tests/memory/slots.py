"""Which server a command belongs on, as one server of a cluster sees it: Redis 7.0's `getNodeByQuery`, pure."""

from __future__ import annotations

from binascii import crc_hqx
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

__all__ = ["SLOTS", "Owners", "Place", "Run", "SlotTable", "slot_of"]

SLOTS: Final = 16384
TRYAGAIN: Final = "TRYAGAIN Multiple keys request during rehashing of slot"
CROSSSLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"
UNBOUND: Final = "CLUSTERDOWN Hash slot not served"
DOWN: Final = "CLUSTERDOWN The cluster is down"


@lru_cache(maxsize=10_000)
def slot_of(name: bytes) -> int:
    """Return the slot of a key or channel."""
    _, brace, rest = name.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return crc_hqx(tag if brace and end and tag else name, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Place:
    """A server as the others name it."""

    id: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command names: keys, or the channels of sharded messages; whether ASKING came directly before."""

    names: Sequence[bytes]
    sharded: bool = False
    asking: bool = False
    migrates: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Slots in a row that a server owns since an epoch."""

    first: int
    last: int
    epoch: int
    owner: Place


class Owners:
    """Who owns which slots since which epoch, in runs: all 16,384 one by one take too long."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs = list(runs)
        self._known: dict[int, Run | None] = {}

    def at(self, slot: int) -> Run | None:
        """Return the run that has a slot."""
        if slot not in self._known:
            place = bisect_left(self.runs, slot, key=lambda run: run.last)
            found = self.runs[place] if place < len(self.runs) else None
            self._known[slot] = found if found is not None and found.first <= slot else None
        return self._known[slot]

    def put(self, new: Run) -> None:
        """Have a run own its slots, whoever did."""
        runs = [new]
        for run in self.runs:
            if run.first < new.first:
                runs.append(replace(run, last=min(run.last, new.first - 1)))
            if run.last > new.last:
                runs.append(replace(run, first=max(run.first, new.last + 1)))
        self.runs = sorted(runs, key=lambda run: run.first)
        self._known.clear()

    def hand_on(self, given: Run, giver: Place) -> None:
        """Have a run own those of its slots that were a giver's."""
        for run in [run for run in self.runs if run.owner == giver]:
            first, last = max(run.first, given.first), min(run.last, given.last)
            if first <= last:
                self.put(replace(given, first=first, last=last))

    def older(self, news: Run) -> list[Run]:
        """Return the parts of a run that are news: nobody owns them, or somebody since an earlier epoch."""
        known = [run for run in self.runs if run.first <= news.last and run.last >= news.first]
        fresh, at = [], news.first
        for run in [run for run in known if run.epoch >= news.epoch]:
            if at < run.first:
                fresh.append(replace(news, first=at, last=run.first - 1))
            at = run.last + 1
        return [*fresh, replace(news, first=at)] if at <= news.last else fresh


class SlotTable:
    """What a server knows: who owns each slot since which epoch, and its own open slots.

    ``primary`` is whom it is a replica of; ``down`` whether it takes the cluster for failed.
    """

    def __init__(self, own: Place) -> None:
        self.own = own
        self.primary: Place | None = None
        self.down = False
        self.owners = Owners()
        self.migrating: dict[int, Place] = {}
        self.importing: dict[int, Place] = {}

    def owner(self, slot: int) -> Place | None:
        """Return the owner, if the slot has one."""
        known = self.owners.at(slot)
        return None if known is None else known.owner

    def owns(self, slot: int) -> bool:
        """Whether the slot is this server's."""
        return self.owner(slot) == self.own

    def ranges(self) -> list[tuple[int, int, Place]]:
        """Return the slots as CLUSTER SLOTS has them: first, last, owner."""
        found: list[tuple[int, int, Place]] = []
        for run in self.owners.runs:
            if found and found[-1][1] == run.first - 1 and found[-1][2] == run.owner:
                found[-1] = (found[-1][0], run.last, run.owner)
            else:
                found.append((run.first, run.last, run.owner))
        return found

    def refusal(self, asked: Asked, has: Callable[[bytes], bool]) -> str | None:
        """Return the error for a command that is not to run here; None if it is."""
        if not asked.names:
            return None
        slot = slot_of(asked.names[0])
        if any(slot_of(name) != slot for name in asked.names[1:]):
            return CROSSSLOT
        owner = self.owner(slot)
        if owner is None:
            return UNBOUND
        if self.down and not asked.sharded:
            return DOWN
        if asked.sharded and self.primary == owner:
            return None
        return self._moving(slot, owner, asked, has)

    def _moving(self, slot: int, owner: Place, asked: Asked, has: Callable[[bytes], bool]) -> str | None:
        ours = owner == self.own
        if ours and not self.migrating:
            return None
        target = self.migrating.get(slot) if ours else None
        coming = not ours and slot in self.importing
        if asked.migrates and (target or coming):
            return None
        # Channels are nowhere but where their subscribers are: they are neither missing nor there.
        there = [] if asked.sharded else [has(name) for name in asked.names]
        if target and not all(there):
            return TRYAGAIN if any(there) else f"ASK {slot} {target}"
        if coming and asked.asking:
            return TRYAGAIN if len(asked.names) > 1 and not all(there) else None
        return None if ours else f"MOVED {slot} {owner}"
