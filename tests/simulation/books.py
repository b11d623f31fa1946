"""The books of what servers really hold, and held at any moment: the truth beside what coord says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Protocol

from coord.core.history import Line, parse_entry
from coord.core.names import MapNames
from coord.core.records import NEVER, Revision
from coord.errors import CorruptRecord
from simulation.history import BLUR, Change, End, Held, History, Key, Moment, Spell

__all__ = ["Books", "Lineage", "Place"]

_LEAD = 60.0
"""Seconds: a generation that begins behind another is up to a second ahead of that, and runs have few of them."""

_LATER = 2**50
"""What ``due.lua`` adds to the ends of events."""

_HOLDER = b"\0holder:"
"""The beginning of the name of a holder's field."""

_CLOCK = b"\0clock"
"""The name of the lease clock's field."""

Lineage = dict[str, list[Change]]
"""By map: the changes that a server's data are made of, in order, whoever made them."""


class Place(Protocol):
    """Where the data are now."""

    @property
    def process(self) -> str:
        """The name of the server's process."""

    @property
    def written(self) -> int:
        """Where its stream to its replicas is."""

    def item(self, key: bytes) -> Any:
        """Return what a key of the server has, or ``None``."""

    def now(self) -> float:
        """Return what the server's clock shows."""

    def linked(self) -> frozenset[int]:
        """Return the lives (by number) whose link is connected, and asks this server."""


class Books:
    """The books of one server's data, or of one map of a cluster, whose data go from server to server.

    ``lineage`` is what its data are made of now; ``ended`` the lineages that it lost. ``standing`` says for each key
    what stood from which moment on. ``ends`` says when each event ends, from which moment on, and ``steps`` how far its
    clock is ahead of the virtual time; ``clocks`` which process has moved the lease clock of a map, at which moments.
    Ends are looked at if it is ``timed``.
    """

    def __init__(self, history: History, number: int, maps: Iterable[MapNames], place: Place) -> None:
        self.history = history
        self.number = number
        self.place = place
        self.born = history.now()
        self.retired: Moment | None = None
        self.steps: list[tuple[Moment, float]] = []
        self.ends: dict[Key, list[End]] = {}
        self.timed = self.keeps_holders = False
        self.lease = 0.0
        # The holders that it has, by map and name.
        self.holders: dict[tuple[str, bytes], Held] = {}
        self.clocks: dict[str, list[tuple[Moment, str]]] = {}
        self._clocks: dict[str, bytes] = {}
        self._names = tuple(maps)
        self.lineage: Lineage = {names.name: [] for names in self._names}
        self.ended: list[Lineage] = []
        self.standing: dict[Key, list[tuple[Moment, Change | None]]] = {}
        self.trimmed: dict[str, int] = {names.name: 0 for names in self._names}

    # What has become of the data.

    def look(self) -> None:
        """Write down what was changed."""
        for names in self._names:
            item = self.place.item(names.log)
            if item is None:
                continue
            stream, lines = item.value, self.lineage[names.name]
            newest = tuple(lines[-1].revision) if lines else (0, 0)
            if stream.last_id == newest:
                continue
            fresh = []
            for identifier in reversed(stream._ids):
                if identifier == newest:
                    break
                fresh.append(identifier)
            for identifier in reversed(fresh):
                # A call's last line gives its entry the name.
                try:
                    entry = parse_entry(names.name, identifier.encode(), stream._values_dict[identifier], {})
                except CorruptRecord as error:
                    self._broken(str(error))
                    return
                for line in entry:
                    self._note(line, lines)
        if self.timed:
            self.look_at_ends(None)

    def look_at_holders(self, copied: Moment | None) -> None:
        """Write down who has come and gone; ``copied`` is the moment if other data were taken."""
        history = self.history
        found: dict[tuple[str, bytes], bytes] = {}
        for names in self._names:
            item = self.place.item(names.records)
            fields = item.value if item is not None and not self.retired else {}
            self._look_at_clock(names.name, fields.get(_CLOCK, b""))
            found |= {(names.name, name): value for name, value in fields.items() if name.startswith(_HOLDER)}
        for where in self.holders.keys() - found.keys():
            held = self.holders.pop(where)
            hold = (history.holds | history.joins).get(held.serial) or history.locks[held.serial]
            held.end, held.lost = copied or history.now(), copied is not None
            held.valid = hold.held is not None and hold.life.crashed is None and hold.held.valid
        for where, value in found.items():
            if where not in self.holders:
                head, _, data = value.partition(b"\n")
                key, serial = head.split(b" ", 4)[4].decode(), json.loads(data)["n"]
                begin = copied or history.now()
                held = Held(self.number, (where[0], key), where[1].decode(), serial, begin, copied is not None)
                self.holders[where] = held
                joined = history.members if serial in history.joins else history.held
                (history.queued if serial in history.locks else joined).append(held)

    def _look_at_clock(self, name: str, clock: bytes) -> None:
        if clock != self._clocks.get(name, b""):
            self._clocks[name] = clock
            self.clocks.setdefault(name, []).append((self.history.now(), self.place.process))

    @property
    def clocked_maps(self) -> set[str]:
        """The maps that have a lease clock."""
        found = ((names.name, self.place.item(names.records)) for names in self._names)
        return {name for name, item in found if item is not None and _CLOCK in item.value}

    def look_at_ends(self, copied: Moment | None) -> None:
        """Write down which ends have changed; ``copied`` is the moment if other data were taken."""
        for names in self._names:
            item = self.place.item(names.due)
            for where in [where for where in self.standing if where[0] == names.name]:
                score = item.value.get(where[1].encode(), None) if item is not None else None
                at = None if score is None or score < _LATER or self.retired else (score - _LATER) / 1000
                self._note_end(where, at, copied)

    def _note_end(self, where: Key, at: float | None, copied: Moment | None) -> None:
        ends, change = self.ends.setdefault(where, []), self.stands(where)
        known = bool(ends) and ends[-1].of is change
        if known and ends[-1].at == at:
            return
        made = change.moment if change is not None and not known and change.server == self.number else None
        ends.append(End(copied or made or self.history.now(), change, at, self.place.now(), copied is not None))

    def _broken(self, words: str) -> None:
        if ("forged", words) not in self.history.wrong:
            self.history.wrong.append(("forged", words))

    def _note(self, line: Line, lines: list[Change]) -> None:
        record = line.record
        assert record is not None, "a change that no node of coord's makes"
        value = record.value
        named = value.get("n") if isinstance(value, dict) else None
        serial = named if isinstance(named, int) else None
        where = record.map, record.key
        previous = lines[-1].revision if lines else NEVER
        # Where an end is as near as that, the record itself tells on which side of it the change was made.
        passes = record.latched_at not in (None, line.revision)
        change = Change(
            self.history.now(),
            where,
            record.kind,
            line.revision,
            record.node,
            serial,
            self.number,
            previous,
            self.place.linked(),
            self.place.written,
            self._ttl_of(serial),
            self.is_over(where, -BLUR if passes else BLUR),
            record.count,
            record.goal,
            record.latched_at,
            self.history.valid_holds(where) if self.keeps_holders else frozenset(),
            record.token,
            self.place.process,
        )
        self._check_generation(change)
        self.history.changes.append(change)
        lines.append(change)
        self.standing.setdefault(where, []).append((change.moment, change))

    def _ttl_of(self, serial: int | None) -> float:
        call = self.history.calls.get(serial) if serial is not None else None
        return call.ttl if call is not None else 0.0

    def _check_generation(self, change: Change) -> None:
        """No generation is ahead of all clocks: whoever forges messages could say the last one that there can be."""
        self.history.latest = max(self.history.latest, self.place.now())
        if change.revision.generation > (self.history.latest + _LEAD) * 1e6:
            self.history.wrong.append(
                ("forged", f"the change {change.revision} is of a generation ahead of all clocks")
            )

    def begin_anew(self, lineage: Lineage, moment: Moment) -> None:
        """Have other data from a moment on."""
        self.lineage = lineage
        stands: dict[Key, Change] = {change.where: change for changes in self.lineage.values() for change in changes}
        for where in set(self.standing) | set(stands):
            changes = self.standing.setdefault(where, [])
            change = stands.get(where)
            if not changes or changes[-1][1] is not change:
                changes.append((moment, change))
        if self.timed:
            self.look_at_ends(moment)
        if self.keeps_holders:
            self.look_at_holders(moment)

    def step(self, offset: float) -> None:
        """Write down that the clock is so far ahead from now on."""
        self.steps.append((self.history.now(), offset))

    # What is, and was, the case.

    @property
    def set_back(self) -> float:
        """By how much its clock was set back in all, in seconds."""
        return sum(max(0.0, before - after) for (_, before), (_, after) in pairwise(self.steps))

    def is_over(self, where: Key, blur: float) -> bool:
        """Whether the end of the event that stands for a key has passed, as far as it was looked at, or is so near."""
        ends = self.ends.get(where)
        last = ends[-1] if ends else None
        known = last is not None and last.of is self.stands(where)
        return known and last is not None and last.at is not None and last.at <= self.place.now() + blur

    def spells(self, where: Key, first: Moment, last: Moment) -> Iterator[Spell]:
        """Yield what was the case for a key between two moments, in order."""
        begin, until = (first[1], first[0]), (last[1], last[0])
        change, at, offset = None, None, self.steps[0][1]
        for moment, mark in self._marks(where):
            if moment > until:
                break
            if moment > begin:
                yield Spell(begin[0], change, at, begin[0] + offset, moment[0] + offset)
                begin = moment
            match mark:
                case float():
                    offset = mark
                case End():
                    at = mark.at if mark.of is change else at
                case _:
                    change, at = mark, None
        yield Spell(begin[0], change, at, begin[0] + offset, until[0] + offset)

    def wall(self, moment: Moment) -> float:
        """Return what its clock showed at a moment."""
        offsets = [offset for at, offset in self.steps if at <= moment] or [self.steps[0][1]]
        return moment[1] + offsets[-1]

    def _marks(self, where: Key) -> list[tuple[tuple[float, int], Change | End | float | None]]:
        marks: list[tuple[Moment, Change | End | float | None]] = [*self.standing.get(where, ()), *self.steps]
        marks += [(end.moment, end) for end in self.ends.get(where, ())]
        ordered = [((time, number), mark) for (number, time), mark in marks]
        return sorted(ordered, key=lambda entry: (entry[0], isinstance(entry[1], End)))

    def stands(self, where: Key) -> Change | None:
        """Return the change that stands for a key now."""
        changes = self.standing.get(where)
        return changes[-1][1] if changes else None

    def latched(self, where: Key) -> bool:
        """Whether a key is fired or failed now."""
        change = self.stands(where)
        return change is not None and change.latched

    def head(self, name: str) -> Revision | None:
        """Return the newest revision of a map."""
        lines = self.lineage[name]
        return lines[-1].revision if lines else None
