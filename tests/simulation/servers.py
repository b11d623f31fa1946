"""The server in memory, and beside it the books: what it really holds, and held at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coord.core.history import Line, parse_entry
from coord.core.names import MapNames
from coord.core.records import NEVER, Kind, Revision
from coord.testing import MemoryServer, Snapshot
from simulation.clock import SimClock
from simulation.history import Change, History, Key, Moment

__all__ = ["Mark", "SimServer"]

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
    what stood from which moment on.
    """

    def __init__(
        self,
        history: History,
        clock: SimClock,
        number: int,
        maps: Iterable[MapNames],
        linked: Callable[[SimServer], frozenset[int]],
    ) -> None:
        super().__init__(clock)
        self._linked = linked
        self.history = history
        self.number = number
        self.born = history.now()
        self.retired: Moment | None = None
        self._names = tuple(maps)
        self.lineage: Lineage = {names.name: [] for names in self._names}
        self.ended: list[Lineage] = []
        self.standing: dict[Key, list[tuple[Moment, Change | None]]] = {}
        self.trimmed: dict[str, int] = {names.name: 0 for names in self._names}
        # No two processes begin a generation in the same microsecond, as they would on a clock that stands still.
        self.step_clock(number * 0.000_37)

    def worked(self) -> None:
        """Look what was changed; also where a command stood behind a WAIT."""
        if self.running:
            self._look()

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
                for line in parse_entry(names.name, identifier.encode(), stream._values_dict[identifier], {}):
                    self._note(line, lines)

    def _note(self, line: Line, lines: list[Change]) -> None:
        record = line.record
        value = record.value
        named = value.get("n") if isinstance(value, dict) else None
        serial = named if isinstance(named, int) else None
        where = record.map, record.key
        previous = lines[-1].revision if lines else NEVER
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
        )
        self.history.changes.append(change)
        lines.append(change)
        self.standing.setdefault(where, []).append((change.moment, change))

    # What becomes of the data.

    def mark(self) -> Mark:
        """Return the data as they are now."""
        return Mark(self.snapshot(), {name: list(lines) for name, lines in self.lineage.items()})

    def take(self, mark: Mark | None) -> None:
        """Have exactly the data of a mark, or none."""
        moment = self.history.now()
        lineage = {name: list(mark.lineage[name]) if mark else [] for name in self.lineage}
        if any(self.lineage[name] != lineage[name] for name in lineage):
            self.history.losses.append(moment)
            self.ended.append(self.lineage)
        self.flush()
        if mark is not None:
            self.restore(mark.snapshot)
        self.lineage = lineage
        self._stand(moment)

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

    def stands(self, where: Key) -> Change | None:
        """Return the change that stands for a key now."""
        changes = self.standing.get(where)
        return changes[-1][1] if changes else None

    def latched(self, where: Key) -> bool:
        """Whether a key is fired or failed now."""
        change = self.stands(where)
        return change is not None and change.kind in (Kind.FIRED, Kind.FAILED)

    def head(self, name: str) -> Revision | None:
        """Return the newest revision of a map."""
        lines = self.lineage[name]
        return lines[-1].revision if lines else None

    def replicate(self, number: int) -> None:
        """Have so many replicas from now on, which have everything."""
        self.history.replicas.append((self.history.now(), self.number, number))
        self.replicas = number

    def trim(self, keep: int) -> None:
        """Forget all but so many entries of each map's history, as its bound would."""
        for names in self._names:
            item = self.fake.dbs[0]._dict.get(names.log)
            if item is not None and len(item.value) > keep:
                item.value.trim(maxlen=keep)
                self.trimmed[names.name] += 1
