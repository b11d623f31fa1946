"""Where a watch stands in a map's history, and whether what was read follows.

The lines of one call are one entry, and follow each other. An entry follows the line before it where its first number
is the next of the same generation, or where it names that line itself: the first entry of a generation does, and one
behind a change that had to be undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from coord.core.names import parse_key
from coord.core.records import NEVER, Head, Record, Revision, StoredRecord
from coord.errors import CorruptRecord, HistoryLost

__all__ = ["Cursor", "Line", "parse_entry"]


@dataclass(frozen=True, slots=True)
class Line:
    """One change: its revision, the revision that it follows, and what it tells of which key.

    ``record`` is ``None`` if the key cannot be one of coord's, or the value or the node's name cannot be shown: such a
    change has its place in the history, and is no reason to end a watch.
    """

    revision: Revision
    after: Revision
    key: bytes
    record: Record | None


class Cursor:
    """Moves along one map's history, and stops at a gap.

    ``position`` is the last revision that was passed; ``None`` where the watch begins with whatever comes first.
    """

    __slots__ = ("_map", "position")

    def __init__(self, map_name: str, position: Revision | None) -> None:
        self._map = map_name
        self.position = position

    def advance(self, lines: list[Line], head: Head | None) -> tuple[list[Line], bool]:
        """Move over ``lines``, read in one step with ``head``; return the new ones, and whether the past ends there.

        :raises HistoryLost: where a line does not follow, or nothing is left between the position and another head.
        """
        new = []
        for line in lines:
            if self._passed(line.revision):
                # The position is in the middle of an entry.
                continue
            if self.position is not None and line.after != self.position:
                raise self._lost(f"the next change kept is {line.revision}")
            self.position = line.revision
            new.append(line)
        now = head.revision if head else NEVER
        if self.position is None:
            self.position = now
        if not new and self.position != now:
            raise self._lost(f"the map is at {now}" if head else "the map's data is gone")
        return new, self.position == now

    def _passed(self, revision: Revision) -> bool:
        position = self.position
        return position is not None and revision.generation == position.generation and revision <= position

    def _lost(self, what: str) -> HistoryLost:
        return HistoryLost(f"{self._map}: the history after {self.position} is lost: {what}")


def parse_entry(map_name: str, identifier: bytes, fields: list[bytes], standing: dict[bytes, bytes]) -> list[Line]:
    """Read one entry of the log; raise `CorruptRecord` where it is not one of coord's.

    :param standing: the records that stand, by key, for lines that leave a large value out.
    """
    try:
        named = list(zip(fields[::2], fields[1::2], strict=True))
        last = Revision(*map(int, identifier.split(b"-")))
        after = None
        if not named[0][0]:
            after = Revision(*map(int, named.pop(0)[1].split(b" ")))
        lines: list[Line] = []
        for key, payload in named:
            stored = StoredRecord.parse(payload, whole=False)
            revision = stored.revision
            before = lines[-1].revision if lines else NEVER
            if revision.generation != last.generation or not before < revision <= last:
                raise ValueError("a line of another entry")
            follows = after or Revision(revision.generation, revision.number - 1)
            lines.append(Line(revision, follows, key, _shown(map_name, key, stored, standing)))
            after = revision
    except (AttributeError, IndexError, TypeError, ValueError):
        raise CorruptRecord(
            f"{map_name}: entry {identifier.decode(errors='replace')} of the history is not one of coord's"
        ) from None
    return lines


def _shown(map_name: str, field: bytes, stored: StoredRecord, standing: dict[bytes, bytes]) -> Record | None:
    key = parse_key(field)
    try:
        return None if key is None else _with_value(stored, standing.get(field, b"")).record(map_name, key)
    except CorruptRecord:
        return None


def _with_value(stored: StoredRecord, payload: bytes) -> StoredRecord:
    """Return a line with the value that it leaves out, if the record that stands still has it."""
    if stored.data is None:
        try:
            standing = StoredRecord.parse(payload)
        except ValueError:
            return stored
        if standing.wake_revision == stored.revision:
            stored.data = standing.data
    return stored
