"""The network in memory: endpoints whose connections a test can cut, stall and slow."""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004  # the one Twisted's endpoints errback with
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.clock import steady
from coord.testing._shapes import Clock, WireFactory
from coord.testing._transport import (
    Deliver,
    Delivery,
    Direction,
    Kind,
    MemoryTransport,
    Pipe,
    at_once,
)

__all__ = ["MemoryConnection", "MemoryEndpoint"]

_SERVER = IPv4Address("TCP", "127.0.0.1", 6379)
_FIRST_PORT = 40_000


class MemoryConnection:
    """A client's and a server's transport, and the two pipes between them."""

    def __init__(
        self,
        clock: Clock,
        deliver: Deliver,
        number: int,
        caller: WireFactory,
        called: WireFactory,
    ) -> None:
        self.number = number
        self._caller = caller
        self._called = called
        here = IPv4Address("TCP", _SERVER.host, _FIRST_PORT + number)
        there = Pipe(clock, deliver, self._at_server)
        back = Pipe(clock, deliver, self._at_client)
        self._pipes: dict[Direction, Pipe] = {"to server": there, "to client": back}
        self.client = MemoryTransport(self, "to server", back, clock, here, _SERVER)
        self.server = MemoryTransport(self, "to client", there, clock, _SERVER, here)
        self._answer: Deferred[Any] | None = Deferred(self._cancelled)
        self._on_end: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<connection {self.number}>"

    @property
    def open(self) -> bool:
        """Whether either end still considers it connected or connecting."""
        return self.client.connected or self.server.connected

    @property
    def in_flight(self) -> bool:
        """Whether a delivery is in flight to either end."""
        return any(pipe.in_flight for pipe in self._pipes.values())

    # --- faults ----------------------------------------------------------------------------

    def cut(self) -> None:
        """Break it: data in flight is lost, and both ends are notified."""
        for pipe in self._pipes.values():
            pipe.clear()
        for end in (self.client, self.server):
            if end.connected:
                end.lose_later(ConnectionLost())

    def stall(self, direction: Direction | None = None) -> None:
        """Stop deliveries without an error, in one direction or in both."""
        for each in _each(direction):
            self._pipes[each].stop("stall")

    def unstall(self, direction: Direction | None = None) -> None:
        """Let through what waits, and what comes."""
        for each in _each(direction):
            self._pipes[each].go("stall")

    # --- what its ends call ----------------------------------------------------------------

    def send(self, direction: Direction, kind: Kind, data: bytes = b"") -> None:
        """Send it, unless the other end is gone."""
        far = self.server if direction == "to server" else self.client
        if far.connected:
            self._pipes[direction].put(Delivery(self.number, direction, kind, data))

    def ended(self, outward: Direction, reason: Exception) -> None:
        """Record that an end is gone."""
        if not self.open:
            self._on_end()
        if outward == "to server":
            self._caller.doStop()
            if self._answer is not None:
                answer, self._answer = self._answer, None
                answer.errback(Failure(reason))

    # --- connecting: there and back, as with TCP -------------------------------------------

    def connect(self, on_end: Callable[[], None]) -> Deferred[Any]:
        """Call the server; `on_end` is called once both ends are gone."""
        assert self._answer is not None
        self._on_end = on_end
        self._caller.doStart()
        self.send("to server", "connect")
        return self._answer

    def _at_server(self, delivery: Delivery) -> None:
        if delivery.kind != "connect":
            self.server.receive(delivery)
            return
        protocol = self._called.buildProtocol(self.server.getPeer())
        if protocol is None:
            self.send("to client", "refuse")
            self.server.lose(_refused())
        else:
            self.send("to client", "connect")
            self.server.attach(protocol)

    def _at_client(self, delivery: Delivery) -> None:
        if delivery.kind == "connect":
            self._established()
        elif delivery.kind == "refuse":
            self.client.lose(_refused())
        else:
            self.client.receive(delivery)

    def _established(self) -> None:
        try:
            protocol = self._caller.buildProtocol(self.client.getPeer())
            if protocol is None:
                raise NoProtocol
        except Exception as problem:  # noqa: BLE001  # whatever a factory may raise
            self._abandon(problem)
            return
        answer, self._answer = self._answer, None
        self.client.attach(protocol)
        if answer is not None:
            answer.callback(protocol)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._abandon(ConnectingCancelledError(_SERVER))

    def _abandon(self, reason: Exception) -> None:
        self.send("to server", "end")
        self.client.lose(reason)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """A client's way to a server; give each client its own endpoint to break its network alone.

    `server` is any protocol factory (it refuses a connection if buildProtocol returns None), and
    `deliver` returns the delay of each delivery. Both can be replaced for later connections.
    """

    def __init__(self, server: WireFactory, clock: Clock, deliver: Deliver = at_once) -> None:
        self.server = server
        self.deliver = deliver
        self._clock = steady(clock)
        self._made = 0
        self._stalled: set[Direction] = set()
        self._connections: dict[MemoryConnection, None] = {}

    @property
    def connections(self) -> tuple[MemoryConnection, ...]:
        """The connections that either end considers open or connecting, oldest first."""
        return tuple(self._connections)

    def connect(self, protocolFactory: WireFactory) -> Deferred[Any]:  # noqa: N803
        """Connect; errbacks ConnectionRefusedError if the server refuses."""
        self._made += 1
        connection = MemoryConnection(self._clock, self.deliver, self._made, protocolFactory, self.server)
        for direction in self._stalled:
            connection.stall(direction)
        self._connections[connection] = None
        return connection.connect(lambda: self._connections.pop(connection))

    # --- faults ----------------------------------------------------------------------------

    def cut(self) -> None:
        """Break every connection; new ones are possible."""
        for connection in self.connections:
            connection.cut()

    def stall(self, direction: Direction | None = None) -> None:
        """Stop deliveries without an error, on later connections too."""
        self._stalled.update(_each(direction))
        for connection in self.connections:
            connection.stall(direction)

    def unstall(self, direction: Direction | None = None) -> None:
        """Let through what waits, and what comes."""
        self._stalled.difference_update(_each(direction))
        for connection in self.connections:
            connection.unstall(direction)


def _refused() -> Exception:
    return ConnectionRefusedError()


def _each(direction: Direction | None) -> tuple[Direction, ...]:
    return ("to server", "to client") if direction is None else (direction,)
