"""A client of server-sent events, as the HTML standard says: what a browser's EventSource makes of the bytes."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "Parser"]


@dataclass(frozen=True)
class Event:
    """An event: its ``type`` is ``message`` if it has no name."""

    type: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        """The data."""
        return json.loads(self.data)


class Parser:
    """Parses a stream of events.

    ``last_id`` is what is sent as Last-Event-ID to the next connection, ``retry`` the milliseconds before it.
    ``comments`` counts lines that are for nobody.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = self._id = last_id
        self.retry: int | None = None
        self.comments = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = False
        self._rest = ""
        self._begin()

    def _begin(self) -> None:
        self._data: list[str] = []
        self._type = ""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete."""
        text = self._rest + self._decode(data)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        events = []
        while (line := self._line(text)) is not None:
            text = text[line[1] :]
            event = self._take(line[0])
            if event is not None:
                events.append(event)
        self._rest = text
        return events

    @staticmethod
    def _line(text: str) -> tuple[str, int] | None:
        """Return the first line, and where the next one begins."""
        ends = [at for mark in "\r\n" if (at := text.find(mark)) >= 0]
        if not ends:
            return None
        end = min(ends)
        if text[end] == "\r" and end + 1 == len(text):
            # It may be the half of a CR LF.
            return None
        return text[:end], end + (2 if text[end : end + 2] == "\r\n" else 1)

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self.comments += 1
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        data, kind = "\n".join(self._data), self._type
        empty = not self._data
        self._begin()
        return None if empty else Event(kind or "message", data, self.last_id)
