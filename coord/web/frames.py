"""What a stream consists of, as bytes: server-sent events, or lines of JSON (NDJSON).

A change has no event name, so that ``onmessage`` of an EventSource gets it; its kind is in the data. Only
``caught-up``, ``lost`` and ``end`` are named. All data is JSON on one line.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["EVENTS", "LATER", "LINES", "Format"]

LATER: Final = 500, 5_000
"""The least and the most milliseconds after which a client shall come back that was sent away, or whose gateway stops.
Each gets a time of its own between, so that they do not all come at once."""


class Format(Protocol):
    """How a stream is written; ``id`` is where the stream is behind what is written."""

    name: str
    content_type: str

    def change(self, id: bytes, data: bytes) -> bytes:  # noqa: A002
        """Return a change."""

    def named(self, event: str, id: bytes, data: bytes) -> bytes:  # noqa: A002
        """Return an event with a name; ``id`` may be empty."""

    def beat(self, id: bytes, *, moved: bool) -> bytes:  # noqa: A002
        """Return a sign of life.

        :param moved: whether the client does not know this ``id`` yet: it passed changes that are not shown.
        """

    def retry(self, milliseconds: int) -> bytes:
        """Return how long a client shall wait before it connects again."""


class _Events:
    """Server-sent events, as the HTML standard has them."""

    name = "events"
    content_type = "text/event-stream; charset=utf-8"

    def change(self, id: bytes, data: bytes) -> bytes:  # noqa: A002
        return b"id: %b\ndata: %b\n\n" % (id, data)

    def named(self, event: str, id: bytes, data: bytes) -> bytes:  # noqa: A002
        head = b"id: %b\n" % id if id else b""
        return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), data)

    def beat(self, id: bytes, *, moved: bool) -> bytes:  # noqa: A002
        # An id without data is no event, but it is what a browser sends as Last-Event-ID when it connects again.
        return b"id: %b\n\n" % id if moved else b":\n\n"

    def retry(self, milliseconds: int) -> bytes:
        return b"retry: %d\n\n" % milliseconds


class _Lines:
    """Lines of JSON: ``{"id", "event"?, "data"}``."""

    name = "lines"
    content_type = "application/x-ndjson"

    def change(self, id: bytes, data: bytes) -> bytes:  # noqa: A002
        return b'{"id":"%b","data":%b}\n' % (id, data)

    def named(self, event: str, id: bytes, data: bytes) -> bytes:  # noqa: A002
        head = b'"id":"%b",' % id if id else b""
        return b'{%b"event":"%b","data":%b}\n' % (head, event.encode(), data)

    def beat(self, id: bytes, *, moved: bool) -> bytes:  # noqa: A002, ARG002
        return b'{"id":"%b"}\n' % id if id else b"{}\n"

    def retry(self, milliseconds: int) -> bytes:  # noqa: ARG002
        return b""


EVENTS: Final[Format] = _Events()
LINES: Final[Format] = _Lines()
