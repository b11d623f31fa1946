"""Where a watch stands in a map's history, and whether what was read follows.

A line follows the one before it where its number is the next of the same generation, or where it names that one
itself: the first line of a generation does, and one behind a change that had to be undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from coord.core.records import NEVER, Head, Kind, Record, Revision, Stored
from coord.errors import CorruptRecord, HistoryLost

__all__ = ["Cursor", "Line", "parse_line"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the revision it stands at, the one it names as its predecessor (if any), and what it tells."""

    revision: Revision
    after: Revision | None
    record: Record

    def follows(self, position: Revision) -> bool:
        """Whether nothing is missing between ``position`` and this line."""
        if self.after is not None:
            return self.after == position
        return self.revision == (position.generation, position.number + 1)


class Cursor:
    """Moves along one map's history, and stops at a gap.

    ``position`` is the last revision that was passed; ``None`` where the watch begins with whatever comes first.
    """

    __slots__ = ("_map", "position")

    def __init__(self, map_name: str, position: Revision | None) -> None:
        self._map = map_name
        self.position = position

    def advance(self, lines: list[Line], head: Head | None) -> bool:
        """Move over ``lines``, read in one step with ``head``; answer whether that is the end of the past.

        :raises HistoryLost: where a line does not follow, or nothing is left between the position and another head.
        """
        for line in lines:
            if self.position is not None and not line.follows(self.position):
                raise self._lost(f"the next change kept is {line.revision}")
            self.position = line.revision
        now = head.revision if head else NEVER
        if self.position is None:
            self.position = now
        if not lines and self.position != now:
            raise self._lost(f"the map is at {now}" if head else "the map's data is gone")
        return self.position == now

    def _lost(self, what: str) -> HistoryLost:
        return HistoryLost(f"{self._map}: the history after {self.position} is lost: {what}")


def parse_line(map_name: str, identifier: bytes, fields: list[bytes]) -> Line:
    """Read one line of the log; raise `CorruptRecord` where it is not one of coord's."""
    try:
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        stored = Stored.parse(named[b"record"])
        after = Revision(*map(int, named[b"after"].split(b" "))) if b"after" in named else None
        revision = Revision(*map(int, identifier.split(b"-")))
        key = named[b"key"].decode()
    except (KeyError, TypeError, ValueError):
        raise CorruptRecord(
            f"{map_name}: line {identifier.decode(errors='replace')} of the history is not one of coord's"
        ) from None
    if b"omitted" not in named:
        return Line(revision, after, stored.record(map_name, key))
    standing = _standing(named.get(b"standing"), revision)
    if standing is None:
        # A reset has no value to miss: what was left out is the wake that it keeps.
        return Line(revision, after, stored.record(map_name, key, omitted=stored.kind is not Kind.RESET))
    stored.data = standing.data
    return Line(revision, after, stored.record(map_name, key))


def _standing(payload: bytes | None, revision: Revision) -> Stored | None:
    """Return the record that stands, if it still has the value of the change at ``revision``."""
    try:
        stored = Stored.parse(payload or b"")
    except ValueError:
        return None
    return stored if stored.wake == revision else None
