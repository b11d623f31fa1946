"""What has happened on a server, from its own data: the truth that clients of streams are held to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coord.core.history import Line, parse_entry
from coord.core.names import MapNames
from coord.core.records import NEVER, Head, Revision

__all__ = ["Truth"]


class Truth:
    """The changes of some maps, those that were undone included; `look` before data are lost.

    :param data: a client of redis-py.
    """

    def __init__(self, data: Any, maps: Iterable[str]) -> None:
        self._lines: dict[str, dict[Revision, Line]] = {name: {} for name in maps}
        self._seen = dict.fromkeys(self._lines, b"")
        self._data = data
        # As it comes: an entry may have a key twice.
        self._data.set_response_callback("XRANGE", lambda reply, **_: reply)

    def look(self) -> None:
        """Take note of what has happened."""
        for name in self._lines:
            self._note(name, self._data.xrange(*self._new(name)))

    def flush(self) -> None:
        """Delete all data, and take note of what has happened until then."""
        with self._data.pipeline() as both:
            for name in self._lines:
                both.xrange(*self._new(name))
            both.flushall()
            for name, entries in zip(self._lines, both.execute(), strict=False):
                self._note(name, entries)

    def _new(self, name: str) -> tuple[bytes, bytes]:
        return MapNames("default", name, 0).log, b"(" + self._seen[name] if self._seen[name] else b"-"

    def _note(self, name: str, entries: list[tuple[bytes, list[bytes]]]) -> None:
        for identifier, fields in entries:
            self._seen[name] = identifier
            self._lines[name] |= {line.revision: line for line in parse_entry(name, identifier, fields, {})}

    def line(self, name: str, revision: Revision) -> Line | None:
        """Return a change that has happened."""
        if revision not in self._lines[name]:
            self.look()
        return self._lines[name].get(revision)

    def head(self, name: str) -> Revision:
        """Return the map's newest change."""
        head = Head.parse(self._data.hget(MapNames("default", name, 0).records, b"\0head"))
        return head.revision if head else NEVER

    def resumable(self, name: str, position: object) -> bool:
        """Whether the server still has all that followed a position."""
        if isinstance(position, str):
            return True
        at = self.head(name)
        while at != position:
            line = self.line(name, at)
            if line is None:
                return False
            at = line.after
        return True
