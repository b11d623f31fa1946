"""HTTP in memory: requests to a gateway without a socket, on the clock of `coord.testing.Cluster`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from coord import Coordinator
from coord.testing import Cluster
from coord.web.addresses import Address
from coord.web.config import Config
from coord.web.gateway import Gateway
from coord.web.server import Server

LISTENER = Address("127.0.0.1", 8181)
NOW = 1_700_000_000.0
KEY = b"k" * 32

__all__ = ["ALL", "Connection", "Response", "Web"]

ALL = ("read:*", "write:*", "hold:*", "lock:*", "count:*", "ack:*", "join:*", "evict:*", "metrics")
"""Each right there is."""


@dataclass
class Response:
    """An answer; the names of ``headers`` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class _Transport(StringTransport):
    """Keeps what is written, and whether it was closed."""

    gone: Callable[[], object] = staticmethod(lambda: None)

    def unregisterProducer(self) -> None:
        # As a real one: twice is no error.
        self.producer = None

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.gone()

    def loseWriteConnection(self) -> None:
        """Close half of it: the client may still send."""

    def abortConnection(self) -> None:
        self.loseConnection()


class Connection:
    """One connection of a client; without an address, to a unix socket."""

    def __init__(self, web: Web, address: str = "127.0.0.1") -> None:
        self._web = web
        peer = IPv4Address("TCP", address, 50_000) if address else UNIXAddress(b"")
        self.transport: Any = _Transport(peerAddress=peer)  # type: ignore[no-untyped-call]
        channel: Any = web.site.buildProtocol(peer)
        self.transport.gone = lambda: web.cluster.clock.callLater(0, self.lose)
        self.channel = channel
        self.lost = False
        self.channel.makeConnection(self.transport)

    @property
    def written(self) -> bytes:
        """What the gateway has written."""
        data: bytes = self.transport.value()
        return data

    @property
    def closed(self) -> bool:
        """Whether the gateway has closed it."""
        return bool(self.transport.disconnecting)

    def send(self, data: bytes) -> None:
        """Send bytes, and let what follows happen."""
        self.channel.dataReceived(data)
        self._web.cluster.settle()

    def hang_up(self) -> None:
        """Close it, if it is open."""
        self.lose()
        self._web.cluster.settle()

    def lose(self) -> None:
        """Be closed."""
        if not self.lost:
            self.lost = True
            self.channel.connectionLost(Failure(ConnectionDone()))

    def take(self) -> Response | None:
        """Return the next whole answer, and forget it; `None` if there is none yet."""
        head, end, rest = self.written.partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body, rest = _unchunked(rest)
            if body is None:
                return None
        else:
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return None
            body, rest = rest[:length], rest[length:]
        self.transport.clear()
        self.transport.write(rest)
        return Response(int(status.split()[1]), headers, body)


def _unchunked(data: bytes) -> tuple[bytes | None, bytes]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return body, data[2:]
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return None, b""


class Web:
    """A gateway in this process, and its clients.

    ``cluster`` has the clock and the server in memory, ``node`` the gateway's coordinator. Nothing happens by itself:
    `request` lets happen what is due; ``cluster.advance`` lets time pass.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: Config | None = None,
        *,
        name: str = "web1",
        listener: Address = LISTENER,
    ) -> None:
        self.cluster = cluster
        self.node: Coordinator = cluster.node(name)
        cluster.settle()
        clock = cluster.clock
        self.gateway = Gateway(
            self.node, config or Config(anonymous=ALL), clock=clock, key=KEY, now=lambda: NOW + clock.seconds()
        )
        self.server = Server(self.gateway)
        self.site = self.server.site(listener)
        self._connections: list[Connection] = []

    def connection(self, address: str = "127.0.0.1") -> Connection:
        """Return a new connection."""
        self._connections.append(Connection(self, address))
        return self._connections[-1]

    def begin(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        on: Connection | None = None,
    ) -> Connection:
        """Send a request, on a new connection if there is none; its answer is to be taken from that.

        :param body: bytes as they are, anything else as JSON; `None` for no body.
        """
        connection = on or self.connection()
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        length = {} if body is None else {"Content-Length": str(len(data))}
        sent = {"Host": "localhost", **length, **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
        return connection

    def request(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        within: float = 60.0,
        address: str = "127.0.0.1",
    ) -> Response:
        """Return the answer to a request, letting time pass if need be."""
        connection = self.begin(method, target, body, headers, on=self.connection(address))
        end = self.cluster.clock.seconds() + within
        while (response := connection.take()) is None:
            assert self.cluster.clock.seconds() < end, f"no answer within {within:g} s: {connection.written!r}"
            self.cluster.advance(0.1)
        if not connection.closed:
            connection.hang_up()
        return response

    def get(self, target: str, **headers: str) -> Response:
        """GET."""
        return self.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target: str, body: object = None, **headers: str) -> Response:
        """POST."""
        return self.request("POST", target, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def close(self) -> None:
        """Stop the gateway; then clients hang up."""
        from twisted.internet.defer import Deferred

        self.cluster.result(Deferred.fromCoroutine(self.server.stop()))
        for connection in self._connections:
            connection.hang_up()


Make = Callable[..., Web]
