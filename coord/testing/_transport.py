"""Transports in memory: what one end writes arrives at the other when the test lets it."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.testing._shapes import Clock, Delayed, Wire

__all__ = ["Deliver", "Delivery", "Direction", "Kind", "Line", "MemoryTransport", "Pipe", "at_once"]

_log = Logger()

Direction = Literal["to server", "to client"]
Kind = Literal["connect", "refuse", "data", "end"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery in flight: a connection request, its answer, bytes, or the end.

    ``connection`` is the number of its connection, counted from 1 by the endpoint.
    """

    connection: int
    direction: Direction
    kind: Kind
    data: bytes = b""


Deliver = Callable[[Delivery], float]
"""Returns the delay of a delivery in seconds; a delivery never overtakes an earlier one."""


def at_once(delivery: Delivery) -> float:  # noqa: ARG001  # a Deliver
    """Deliver in the next turn of the reactor."""
    return 0.0


class Pipe:
    """One direction of a connection: the deliveries ``in_flight`` arrive in order, each after its delay."""

    def __init__(self, clock: Clock, deliver: Deliver, arrive: Callable[[Delivery], None]) -> None:
        self._clock = clock
        self._deliver = deliver
        self._arrive = arrive
        self.in_flight: deque[tuple[float, Delivery]] = deque()
        self._next: Delayed | None = None
        self._latest = 0.0
        self._stopped: set[str] = set()

    def put(self, delivery: Delivery) -> None:
        """Send it."""
        due = self._clock.seconds() + self._deliver(delivery)
        self._latest = max(self._latest, due)
        self.in_flight.append((self._latest, delivery))
        self._schedule()

    def stop(self, why: str) -> None:
        """Deliver nothing until `go` is called with the same reason."""
        self._stopped.add(why)
        self._cancel()

    def go(self, why: str) -> None:
        """Deliver again, unless stopped for another reason too."""
        self._stopped.discard(why)
        self._schedule()

    def clear(self) -> None:
        """Drop the deliveries in flight."""
        self.in_flight.clear()
        self._cancel()

    def _schedule(self) -> None:
        # One timer per pipe, for its first delivery: a reactor's order of equal times is not guaranteed.
        if self.in_flight and not self._stopped and self._next is None:
            wait = max(0.0, self.in_flight[0][0] - self._clock.seconds())
            self._next = self._clock.callLater(wait, self._turn)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _turn(self) -> None:
        self._next = None
        _, delivery = self.in_flight.popleft()
        # Before the delivery: the protocol may write, stop this pipe or lose the connection.
        self._schedule()
        self._arrive(delivery)


class Line(Protocol):
    """The connection between two transports."""

    def send(self, direction: Direction, kind: Kind, data: bytes = b"") -> None: ...

    def ended(self, outward: Direction, reason: Exception) -> None: ...


@implementer(ITransport, IPushProducer)
class MemoryTransport:
    """One end of a connection, as its protocol sees it; ``outward`` is its direction, ``inward`` the pipe to it."""

    def __init__(
        self, line: Line, outward: Direction, inward: Pipe, clock: Clock, host: IPv4Address, peer: IPv4Address
    ) -> None:
        self._line = line
        self._inward = inward
        self._outward: Direction = outward
        self._clock = clock
        self._host = host
        self._peer = peer
        self._losing: Delayed | None = None
        self.protocol: Wire | None = None
        self.connected = True
        self.disconnecting = False

    # --- called by the connection ----------------------------------------------------------

    def attach(self, protocol: Wire) -> None:
        """Connect the protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def receive(self, delivery: Delivery) -> None:
        """Pass a delivery to the protocol; if it raises, its connection is lost, as with TCP."""
        if self.protocol is None or not self.connected or self.disconnecting:
            return
        if delivery.kind == "end":
            self.lose(ConnectionDone())
            return
        try:
            self.protocol.dataReceived(delivery.data)
        except Exception as problem:  # noqa: BLE001  # whatever a protocol may raise
            _log.failure("{protocol} could not take its data", protocol=self.protocol)
            self.hang_up(problem)

    def lose(self, reason: Exception) -> None:
        """Lose the connection and notify the protocol, once."""
        if not self.connected:
            return
        self.connected = False
        if self._losing is not None and self._losing.active():
            self._losing.cancel()
        self._inward.clear()
        self._line.ended(self._outward, reason)
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(reason))

    def lose_later(self, reason: Exception) -> None:
        """Lose the connection in a later turn of the reactor; nothing more is read or written."""
        self.disconnecting = True
        if self._losing is None:
            self._losing = self._clock.callLater(0, self.lose, reason)

    def hang_up(self, reason: Exception) -> None:
        """Close after the data written so far; the other end is notified."""
        if self.connected and not self.disconnecting:
            self._line.send(self._outward, "end")
            self.lose_later(reason)

    # --- what its protocol calls -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes; after the end they are dropped."""
        if data and self.connected and not self.disconnecting:
            self._line.send(self._outward, "data", bytes(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send bytes, joined."""
        self.write(b"".join(data))

    def loseConnection(self, *_: Any) -> None:
        """Close after the data written so far."""
        self.hang_up(ConnectionDone())

    def abortConnection(self) -> None:
        """Close at once."""
        self.hang_up(ConnectionAborted())

    def getPeer(self) -> IPv4Address:
        """Return the other end's address."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """Return this end's address."""
        return self._host

    def pauseProducing(self) -> None:
        """Stop reading: data sent to this end waits."""
        self._inward.stop("reader")

    def resumeProducing(self) -> None:
        """Resume reading."""
        self._inward.go("reader")

    def stopProducing(self) -> None:
        """Close after the data written so far."""
        self.loseConnection()
