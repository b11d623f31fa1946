"""One client of streams over a socket: it connects to a gateway, reads or does not, and is cut."""

from __future__ import annotations

import re
import socket
import struct
from contextlib import suppress
from urllib.parse import quote, urlsplit

from web.stream_client import Broken, Client

__all__ = ["Answer", "Line"]

_SMALL = 4_096
"""Bytes that the kernel keeps for a client that does not read."""


class Answer:
    """The answer to a request, as far as it has come."""

    def __init__(self) -> None:
        self.status = 0
        self.complete = False
        self._rest = b""
        self._chunked = False
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return what these bytes are of the body."""
        self._rest += data
        if not self.status and not self._head():
            return b""
        if not self._chunked:
            body, self._rest = self._rest, b""
            self._left -= len(body)
            self.complete = self._left <= 0
            return body
        body = b""
        while (chunk := self._chunk()) is not None:
            body += chunk
            self.complete = not chunk
        return body

    def _head(self) -> bool:
        head, end, rest = self._rest.partition(b"\r\n\r\n")
        if end:
            self.status = int(head.split()[1])
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            self._chunked = length is None
            self._left = int(length[1]) if length else 0
            self._rest = rest
        return bool(end)

    def _chunk(self) -> bytes | None:
        size, end, rest = self._rest.partition(b"\r\n")
        if self.complete or not end or len(rest) < int(size, 16) + 2:
            return None
        self._rest = rest[int(size, 16) + 2 :]
        return rest[: int(size, 16)]


class Line:
    """A client and its connection, if it has one; ``reads`` is whether it reads."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reads = True
        self.socket: socket.socket | None = None
        self._answer = Answer()

    def connect(self, url: str, *, lines: bool) -> None:
        """Ask a gateway for the stream, from where the client is; nothing if it is not there."""
        parts = urlsplit(url)
        last = self.client.begin(lines=lines)
        maps = "&".join(f"map={quote(name)}" for name in self.client.maps)
        prefix = "&prefix=open" if self.client.narrow else ""
        kind = "application/x-ndjson" if lines else "text/event-stream"
        resume = f"Last-Event-ID: {last}\r\n" if last not in ("now", "start") else ""
        since = "" if resume else f"&since={quote(last)}"
        request = f"GET /v1/watch?{maps}{prefix}{since} HTTP/1.1\r\nHost: localhost\r\nAccept: {kind}\r\n{resume}\r\n"
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        try:
            connection.connect((parts.hostname, parts.port))
            connection.sendall(request.encode())
        except OSError:
            connection.close()
            return
        connection.setblocking(False)
        self.socket, self._answer = connection, Answer()

    def receive(self) -> None:
        """Read what is there."""
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        body, status = self._answer.feed(data), self._answer.status
        with suppress(Broken):
            if status == 200:
                self.client.receive(body)
            elif status == 410:
                self.client.refused("410")
            elif status not in (0, 503):
                self.client.broken.append(f"status {status}: {body!r}")
        if status not in (0, 200) or self._answer.complete:
            self.close()

    def cut(self) -> None:
        """Reset the connection: what is under way is lost."""
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
