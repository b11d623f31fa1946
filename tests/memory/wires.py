"""A reactor, as far as a node of a cluster needs one: time, and connections by port to servers in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.testing import Deliver, MemoryConnection, MemoryEndpoint
from coord.testing._shapes import WireFactory
from coord.testing._transport import Direction

__all__ = ["Wires"]


@implementer(IReactorTime)
class Wires:
    """One node's network and time.

    :param clock: seconds and later calls.
    :param server_at: returns the server at a port.
    :param deliver: how long each delivery takes.
    :param time: the time of the network and the servers, if the node may be stopped.
    """

    def __init__(self, clock: Any, server_at: Callable[[int], WireFactory], deliver: Deliver, time: Any = None) -> None:
        self.seconds, self.callLater = clock.seconds, clock.callLater
        self._clock = time or clock
        self._server_at = server_at
        self._deliver = deliver
        self._endpoints: dict[int, MemoryEndpoint] = {}
        self._stalled: set[Direction | None] = set()

    @property
    def steady(self) -> Wires:
        """The time that does not step: there is no other."""
        return self

    def network(self, port: int) -> MemoryEndpoint:
        """Return the way to the server at a port."""
        if port not in self._endpoints:
            endpoint = self._endpoints[port] = MemoryEndpoint(self._server_at(port), self._clock, self._deliver)
            for direction in self._stalled:
                endpoint.stall(direction)
        return self._endpoints[port]

    @property
    def connections(self) -> list[MemoryConnection]:
        """All connections that either end takes for open or connecting."""
        return [each for port in sorted(self._endpoints) for each in self._endpoints[port].connections]

    def cut(self) -> None:
        """Break every connection; new ones are possible."""
        for each in self._endpoints.values():
            each.cut()

    def stall(self, direction: Direction | None = None) -> None:
        """Stop deliveries without an error, on later connections too."""
        self._stalled.add(direction)
        for each in self._endpoints.values():
            each.stall(direction)

    def unstall(self, direction: Direction | None = None) -> None:
        """Let through what waits, and what comes; without a direction, all."""
        self._stalled = self._stalled - {direction} if direction else set()
        for each in self._endpoints.values():
            each.unstall(direction)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:  # noqa: N803
        """Connect a client's factory (IReactorTCP)."""
        return _Connector(self, port, factory, timeout)


class _Connector:
    """A connection on its way (IConnector)."""

    def __init__(self, wires: Wires, port: int, factory: Any, timeout: float) -> None:
        self._factory = factory
        self._destination = IPv4Address("TCP", "127.0.0.1", port)
        factory.startedConnecting(self)
        self._connecting = wires.network(port).connect(factory)
        self._timer = wires.callLater(timeout, self._give_up)
        self._connecting.addBoth(self._ended)

    def getDestination(self) -> IPv4Address:
        """Return where it goes."""
        return self._destination

    def stopConnecting(self) -> None:
        """Give up."""
        self._connecting.cancel()

    def _give_up(self) -> None:
        self._connecting.cancel()

    def _ended(self, result: Any) -> None:
        if self._timer.active():
            self._timer.cancel()
            late = False
        else:
            late = True
        if isinstance(result, Failure):
            self._factory.clientConnectionFailed(self, Failure(TookTooLong()) if late else result)
