"""The position of a watch in a map's history, and whether the lines read continue it.

The lines of one batch are one entry. An entry continues the line before it if its first number is the next one of the
same generation, or if it names that line: so do the first entry of a generation and an entry after an undone change.
"""

from __future__ import annotations

from dataclasses import dataclass

from coord.core.names import parse_key
from coord.core.records import NEVER, Head, Record, Revision, StoredRecord
from coord.errors import CorruptRecord, HistoryLost

__all__ = ["Cursor", "Line", "parse_entry"]


@dataclass(frozen=True, slots=True)
class Line:
    """One change: its revision, the revision before it, its key and its record.

    ``record`` is ``None`` if the key, the value or the node's name is invalid: such a change has its position in the
    history, and does not end a watch.
    """

    revision: Revision
    after: Revision
    key: bytes
    record: Record | None


class Cursor:
    """Moves along one map's history, and stops at a gap.

    ``position`` is the last revision passed; ``None`` if the watch begins with the first line.
    """

    __slots__ = ("_map", "position")

    def __init__(self, map_name: str, position: Revision | None) -> None:
        self._map = map_name
        self.position = position

    def advance(self, lines: list[Line], head: Head | None) -> tuple[list[Line], bool]:
        """Move over ``lines``, read in one step with ``head``; return the new ones, and whether they reach the head.

        :raises HistoryLost: a line does not continue the position, or no lines are left before the head.
        """
        new = []
        for line in lines:
            if self._passed(line.revision):
                # The position is inside of an entry.
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


def parse_entry(map_name: str, identifier: bytes, fields: list[bytes], current: dict[bytes, bytes]) -> list[Line]:
    """Parse one entry of the log; raise `CorruptRecord` if coord has not written it.

    :param current: the present records, by key, for lines that leave a large value out.
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
            lines.append(Line(revision, follows, key, _shown(map_name, key, stored, current)))
            after = revision
    except (AttributeError, IndexError, TypeError, ValueError):
        raise CorruptRecord(
            f"{map_name}: entry {identifier.decode(errors='replace')} of the history is not one of coord's"
        ) from None
    return lines


def _shown(map_name: str, field: bytes, stored: StoredRecord, current: dict[bytes, bytes]) -> Record | None:
    key = parse_key(field)
    try:
        return None if key is None else _with_value(stored, current.get(field, b"")).record(map_name, key)
    except CorruptRecord:
        return None


def _with_value(stored: StoredRecord, payload: bytes) -> StoredRecord:
    """Fill in the value that a line leaves out, if the present record still has it."""
    if stored.data is None:
        try:
            present = StoredRecord.parse(payload)
        except ValueError:
            return stored
        if present.wake_revision == stored.revision:
            stored.data = present.data
    return stored
