"""The server in memory, and beside it the books: what it really holds, and held at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from coord.core.history import Line, parse_entry
from coord.core.names import MapNames
from coord.core.records import NEVER, Revision
from coord.errors import CorruptRecord
from coord.testing._connection import ServerConnection
from memory import MemoryServer, Snapshot
from simulation.clock import SimClock
from simulation.history import BLUR, Change, End, Held, History, Key, Moment, Spell

__all__ = ["Mark", "SimServer"]

_LEAD = 60.0
"""Seconds: a generation that begins behind another is up to a second ahead of that, and runs have few of them."""

_LATER = 2**50
"""What ``due.lua`` adds to the ends of events."""

_HOLDER = b"\0holder:"
"""The beginning of the name of a holder's field."""

Lineage = dict[str, list[Change]]
"""By map: the changes that a server's data are made of, in order, whoever made them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a disk or a replica has: the data at one moment."""

    snapshot: Snapshot
    lineage: Lineage


class SimServer(MemoryServer):
    """A `MemoryServer` that writes every change it makes into the history.

    ``lineage`` is what its data are made of now; ``ended`` the lineages that it lost. ``standing`` says for each key
    what stood from which moment on. ``leader`` is the primary that it is a replica of, ``streams`` whether it gets
    what happens there; ``ticks`` counts what may have changed its data. ``ends`` says when each event ends, from which
    moment on, and ``steps`` how far its clock is ahead of the virtual time. Ends are looked at if it is ``timed``.
    """

    def __init__(
        self,
        history: History,
        clock: SimClock,
        number: int,
        maps: Iterable[MapNames],
        linked: Callable[[SimServer], frozenset[int]],
        servers: Iterable[SimServer],
    ) -> None:
        self.steps: list[tuple[Moment, float]] = []
        self.ends: dict[Key, list[End]] = {}
        self.timed = self.keeps_holders = False
        self.lease = 0.0
        # The holders that it has, by map and name.
        self.holders: dict[tuple[str, bytes], Held] = {}
        self.history = history
        super().__init__(clock)
        self._linked = linked
        self._servers = servers
        self.number = number
        self.born = history.now()
        self.retired: Moment | None = None
        self._names = tuple(maps)
        self.lineage: Lineage = {names.name: [] for names in self._names}
        self.ended: list[Lineage] = []
        self.standing: dict[Key, list[tuple[Moment, Change | None]]] = {}
        self.trimmed: dict[str, int] = {names.name: 0 for names in self._names}
        self.leader: SimServer | None = None
        self.streams = False
        self.ticks = 0
        self._synchronised: tuple[SimServer, int] | None = None
        self.demoted: Moment | None = None
        # No two processes begin a generation in the same microsecond, as they would on a clock that stands still.
        self.step_clock(number * 0.000_37)

    def worked(self) -> None:
        """Look what was changed; also where a command stood behind a WAIT."""
        if self.running:
            self.ticks += 1
            self._look()
            if self.keeps_holders:
                self._look_at_holders(None)
                self.history.check_deadlines(self.lease)

    def received(self, connection: ServerConnection, data: bytes | None) -> None:
        """Have what the primary has, before anybody looks."""
        if self.leader is not None:
            self.catch_up()
        super().received(connection, data)

    def acknowledged(self, offset: int) -> int:
        """Note what was changed, and with it how far the replicas have to be."""
        self._look()
        return super().acknowledged(offset)

    def _acknowledge(self, offset: int) -> None:
        super()._acknowledge(offset)
        self.history.acknowledged.append((self.history.now(), self.number, self._acknowledged))

    def published(self, channel: bytes, message: bytes) -> None:
        """Have those hear it that are subscribed at a replica."""
        for replica in self._servers:
            if replica.leader is self and replica.streams:
                replica.say(channel, message)

    def say(self, channel: bytes, message: bytes) -> None:
        """Send a message to all that are subscribed here."""
        for subscriber in list(self.fake.subscribers.get(channel, ())):
            subscriber.put_response([b"message", channel, message])

    def _look(self) -> None:
        items = self.fake.dbs[0]._dict
        for names in self._names:
            item = items.get(names.log)
            if item is None:
                continue
            stream = item.value
            lines = self.lineage[names.name]
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
            self._look_at_ends(None)

    def _look_at_holders(self, copied: Moment | None) -> None:
        """Write down who has come and gone; ``copied`` is the moment if other data were taken."""
        found: dict[tuple[str, bytes], bytes] = {}
        for names in self._names:
            item = self.fake.dbs[0]._dict.get(names.records)
            fields = item.value.items() if item is not None and not self.retired else ()
            found |= {(names.name, name): value for name, value in fields if name.startswith(_HOLDER)}
        for where in self.holders.keys() - found.keys():
            held = self.holders.pop(where)
            hold = self.history.holds.get(held.serial) or self.history.locks[held.serial]
            held.end, held.lost = copied or self.history.now(), copied is not None
            held.valid = hold.held is not None and hold.life.crashed is None and hold.held.valid
        for where, value in found.items():
            if where not in self.holders:
                head, _, data = value.partition(b"\n")
                key, serial = head.split(b" ", 4)[4].decode(), json.loads(data)["n"]
                begin = copied or self.history.now()
                held = Held(self.number, (where[0], key), where[1].decode(), serial, begin, copied is not None)
                self.holders[where] = held
                (self.history.queued if held.serial in self.history.locks else self.history.held).append(held)

    @property
    def _clocks(self) -> set[str]:
        """The maps that have a lease clock."""
        items = self.fake.dbs[0]._dict
        found = ((names.name, items.get(names.records)) for names in self._names)
        return {name for name, item in found if item is not None and b"\0clock" in item.value}

    def step_clock(self, seconds: float) -> None:
        """Set the clock, and write it down."""
        super().step_clock(seconds)
        self.steps.append((self.history.now(), self._offset))

    def _look_at_ends(self, copied: Moment | None) -> None:
        """Write down which ends have changed; ``copied`` is the moment if other data were taken."""
        items = self.fake.dbs[0]._dict
        for names in self._names:
            item = items.get(names.due)
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
        ends.append(End(copied or made or self.history.now(), change, at, self.now(), copied is not None))

    def is_over(self, where: Key, blur: float) -> bool:
        """Whether the end of the event that stands for a key has passed, as far as it was looked at, or is so near."""
        ends = self.ends.get(where)
        last = ends[-1] if ends else None
        return (
            last is not None and last.at is not None and last.of is self.stands(where) and last.at <= self.now() + blur
        )

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
            self._linked(self),
            self._written,
            self._ttl_of(serial),
            self.is_over(where, -BLUR if passes else BLUR),
            record.count,
            record.goal,
            record.latched_at,
            self.history.valid_holds(where) if self.keeps_holders else frozenset(),
            record.token,
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
        self.history.latest = max(self.history.latest, self.now())
        if change.revision.generation > (self.history.latest + _LEAD) * 1e6:
            self.history.wrong.append(
                ("forged", f"the change {change.revision} is of a generation ahead of all clocks")
            )

    # What becomes of the data.

    def mark(self) -> Mark:
        """Return the data as they are now."""
        return Mark(self.snapshot(), {name: list(lines) for name, lines in self.lineage.items()})

    def take(self, mark: Mark | None) -> None:
        """Have exactly the data of a mark, or none."""
        moment = self.history.now()
        self.history.copies.append(moment)
        lineage = {name: list(mark.lineage[name]) if mark else [] for name in self.lineage}
        if any(lineage[name][: len(lines)] != lines for name, lines in self.lineage.items()):
            self.history.losses.append(moment)
            self.ended.append(self.lineage)
        self.ticks += 1
        clocks = self._clocks
        self.flush()
        if mark is not None:
            self.restore(mark.snapshot)
        if clocks - self._clocks:
            self.history.flushes.append(moment)
        self.lineage = lineage
        self._stand(moment)

    def become_replica(self, leader: SimServer, *, synchronised: bool, streams: bool) -> None:
        """Be a replica from now on, in place.

        :param synchronised: it gets the primary's data now; else it keeps its own, as where it cannot reach it yet.
        :param streams: it gets what happens there from now on.
        """
        self.demoted = self.history.now()
        self.leader, self.streams = leader, synchronised and streams
        self.follow(leader.replid)
        if synchronised:
            self.synchronise()

    def synchronise(self) -> None:
        """Get the primary's data."""
        if self.leader is not None:
            self._synchronised = self.leader, self.leader.ticks
            self.replid = self.leader.replid
            self.take(self.leader.mark())

    def catch_up(self) -> None:
        """Get what the primary has now, if it streams."""
        leader = self.leader
        if leader is not None and self.streams and leader.running and self._synchronised != (leader, leader.ticks):
            self.synchronise()

    def become_primary(self) -> None:
        """Be a primary from now on, in place, with the data that it has."""
        self.catch_up()
        self.leader, self.streams, self.demoted = None, False, None
        self.promote()
        # Nor does one process, demoted and promoted again in no time, which a real one cannot be.
        self.step_clock(0.000_01)

    def retire(self) -> None:
        """Stop for good: what it holds stands no more."""
        self.stop()
        self.ended.append(self.lineage)
        self.lineage = {name: [] for name in self.lineage}
        self.retired = self.history.now()
        self.history.losses.append(self.retired)
        self._stand(self.retired)

    def _stand(self, moment: Moment) -> None:
        stands: dict[Key, Change] = {change.where: change for changes in self.lineage.values() for change in changes}
        for where in set(self.standing) | set(stands):
            changes = self.standing.setdefault(where, [])
            change = stands.get(where)
            if not changes or changes[-1][1] is not change:
                changes.append((moment, change))
        if self.timed:
            self._look_at_ends(moment)
        if self.keeps_holders:
            self._look_at_holders(moment)

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

    def replicate(self, number: int) -> None:
        """Have so many replicas from now on, which have everything."""
        self.history.replicas.append((self.history.now(), self.number, number))
        self.attach(number)

    def trim(self, keep: int) -> None:
        """Forget all but so many entries of each map's history, as its bound would."""
        for names in self._names:
            item = self.fake.dbs[0]._dict.get(names.log)
            if item is not None and len(item.value) > keep:
                item.value.trim(maxlen=keep)
                self.trimmed[names.name] += 1
