"""The last changes of a map, each encoded once, for the streams that follow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from coord.core.records import Revision
from coord.web.frames import Format

__all__ = ["BITE", "Change", "Ring", "bite_of"]

BITE: Final = 32_768
"""About how many bytes a stream writes before it looks whether its client still reads."""

_OVERHEAD: Final = 400
"""About how many bytes a change takes beside its data."""


class Change:
    """One change: ``id`` is its revision as text, ``data`` its record as JSON."""

    __slots__ = ("_frames", "data", "id", "key", "revision")

    def __init__(self, revision: Revision, key: str, data: bytes) -> None:
        self.revision = revision
        self.key = key
        self.data = data
        self.id = str(revision).encode()
        self._frames: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<change {self.revision}>"

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self.data) + _OVERHEAD

    def frame(self, form: Format) -> bytes:
        """Return it as streams of this map alone show it; made once."""
        frame = self._frames.get(form.name)
        if frame is None:
            frame = self._frames[form.name] = form.change(self.id, self.data)
        return frame


class Ring:
    """The last changes of a map, without a gap.

    ``head`` is the revision of the newest, or that the map had when the ring began; `None` before it begins.

    :param most, most_bytes: how many changes, and about how many bytes of them, it keeps.
    """

    def __init__(self, most: int = 1_000, most_bytes: int = 4 << 20) -> None:
        self.head: Revision | None = None
        self.size = 0
        self._most = most, most_bytes
        self._changes: deque[Change] = deque()
        # The number of the first change kept, and by revision, that of the change behind it.
        self._first = 0
        self._behind: dict[Revision, int] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def begin(self, head: Revision) -> None:
        """Forget all changes, and go on behind ``head``."""
        self._first += len(self._changes)
        self._changes.clear()
        self.size = 0
        self._behind = {head: self._first}
        self._base = self.head = head

    def append(self, change: Change) -> None:
        """Add the change that follows the head."""
        self._changes.append(change)
        self._behind[change.revision] = self._first + len(self._changes)
        self.head = change.revision
        self.size += change.size
        most, most_bytes = self._most
        while len(self._changes) > most or self.size > most_bytes:
            self._drop()

    def _drop(self) -> None:
        oldest = self._changes.popleft()
        del self._behind[self._base]
        self._base = oldest.revision
        self._first += 1
        self.size -= oldest.size

    def has(self, position: object) -> bool:
        """Whether it has all that follows this position."""
        return position in self._behind

    def after(self, position: Revision) -> list[Change]:
        """Return the next changes behind a position that it `has`: a bite of them, or none if it is the head."""
        if position == self.head:
            return []
        return bite_of(self._changes, self._behind[position] - self._first)


def bite_of(changes: Iterable[Change], start: int) -> list[Change]:
    """Return the changes from number ``start`` on: some `BITE` bytes of them."""
    bite: list[Change] = []
    left = BITE
    for change in islice(changes, start, None):
        bite.append(change)
        left -= change.size
        if left <= 0:
            break
    return bite
