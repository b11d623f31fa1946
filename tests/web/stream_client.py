"""A client of streams that checks what it gets: each change once, in order and without a gap, or it is told.

It knows the whole history of each map, from the server itself. An id may only move over changes that the stream does
not show, and a change may only come if all that is between it and the last position is not shown either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from coord.core.history import Line
from coord.core.records import NEVER, Revision
from coord.web.positions import NOW, START, Position, parse, text_of
from web.eventsource import Parser

__all__ = ["Broken", "Client", "History"]


class Broken(AssertionError):
    """A promise was broken."""


class History(Protocol):
    """What has happened on the server."""

    def line(self, name: str, revision: Revision) -> Line | None:
        """Return a change of a map, one that was undone included."""

    def resumable(self, name: str, position: Position) -> bool:
        """Whether the server still has all that followed a position."""

    def head(self, name: str) -> Revision:
        """Return the map's newest change."""


class Client:
    """Follows maps by streams, one after the other; ``positions`` is where it knows to be.

    ``lines`` is whether the stream is NDJSON, ``narrow`` whether it is asked for a prefix.

    :param sees: whether the stream shows a key.
    """

    def __init__(self, name: str, history: History, maps: tuple[str, ...], sees: Callable[[str], bool]) -> None:
        self.name = name
        self.maps = maps
        self.sees = sees
        self.lines = self.narrow = False
        self.shown = self.lost = 0
        self.ended: str | None = None
        self.broken: list[str] = []
        self.positions: dict[str, Position] = dict.fromkeys(maps, NOW)
        self._history = history
        self._parser = Parser()
        self._rest = b""
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.positions}>"

    def begin(self, *, lines: bool) -> str:
        """Connect anew; return the id to send."""
        last = text_of(self.positions.items()).decode()
        self.lines = lines
        self._parser = Parser(last)
        self._rest = b""
        self._told = set()
        self.ended = None
        return last

    def receive(self, data: bytes) -> None:
        """Check what the stream has written."""
        for event, id_, content in self._lines(data) if self.lines else self._events(data):
            if event == "lost":
                self._lose(content)
            elif event == "message":
                self._show(content["map"], content["key"], Revision.parse(content["revision"]))
            elif event == "caught-up":
                self._once(event)
            elif event == "end":
                self.ended = content["type"].rpartition(":")[2]
            if id_:
                self._at(id_)

    def _events(self, data: bytes) -> Iterable[tuple[str, str, Any]]:
        events = self._parser.feed(data)
        yield from ((event.type, event.id, event.json) for event in events)
        # An id that came without an event.
        yield "", self._parser.last_id, None

    def _lines(self, data: bytes) -> Iterable[tuple[str, str, Any]]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in map(json.loads, whole):
            name = line.get("event", "message" if "data" in line else "")
            yield name, line.get("id", ""), line.get("data")

    # The checks.

    def _once(self, event: str) -> None:
        self._check(event not in self._told, f"{event} comes twice")
        self._told.add(event)

    def _show(self, name: str, key: str, revision: Revision) -> None:
        line = self._history.line(name, revision)
        self._check(line is not None, f"{name} {revision} never happened")
        assert line is not None
        self._check(line.key.decode() == key and self.sees(key), f"{name} {revision} of {key} is not to be shown")
        self._check_between(name, line.after, revision)
        self.positions[name] = revision
        self.shown += 1

    def _at(self, text: str) -> None:
        for name, position in zip(self.maps, parse(text, self.maps), strict=True):
            before = self.positions[name]
            if position != before:
                self._check(isinstance(position, Revision), f"the id of {name} goes from {before} to {position}")
                assert isinstance(position, Revision)
                self._check_between(name, position, position)
                self.positions[name] = position

    def _check_between(self, name: str, last: Revision, what: Revision) -> None:
        """Check that no change that is shown lies between our position and ``last``, the latter included."""
        missed = self._missed(name, last)
        self._check(not missed, f"{name} goes from {self.positions[name]} to {what}, {missed}")

    def _missed(self, name: str, last: Revision) -> str:
        before, at = self.positions[name], last
        while before != NOW and at != before:
            line = self._history.line(name, at)
            if at == NEVER and before == START:
                return ""
            if line is None:
                return "which does not follow it"
            if line.record is not None and self.sees(line.key.decode()):
                return f"without {at}"
            at = line.after
        return ""

    def refused(self, name: str) -> None:
        """Take a 410: begin again at what is now."""
        self.lost += 1
        gone = [each for each in self.maps if not self._history.resumable(each, self.positions[each])]
        self._check(bool(gone), f"{name}, but nothing is lost")
        self.positions = dict.fromkeys(self.maps, NOW)

    def _lose(self, content: Any) -> None:
        name = content["map"]
        self.lost += 1
        asked = Revision.parse(content["asked"])
        # The stream may have passed changes that it does not show.
        self._check_between(name, asked, asked)
        self._check(not self._history.resumable(name, asked), f"{name} {asked} is not lost")
        self.positions[name] = Revision.parse(content["head"])

    def up_to_date(self) -> bool:
        """Whether it has got all there is."""
        return not any(
            self.positions[name] in (NOW, START) or self._missed(name, self._history.head(name)) for name in self.maps
        )

    def check_end(self) -> None:
        """Check that it has got all there is."""
        for name in self.maps:
            self._check_between(name, self._history.head(name), self._history.head(name))
            self._check(self.positions[name] not in (NOW, START), f"{name} has not begun")

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            self.broken.append(what)
            raise Broken(f"{self.name}: {what}")
