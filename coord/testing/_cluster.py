"""A whole cluster in one process, on a clock that the test advances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from coord.client.coordinator import Coordinator, connect
from coord.client.options import NodeOptions
from coord.testing._endpoint import MemoryConnection, MemoryEndpoint
from coord.testing._server import MemoryServer

__all__ = ["Cluster"]

T = TypeVar("T")


class Cluster:
    """Nodes and their server, without a socket, a thread or a second of waiting.

    ::

        cluster = coord.testing.Cluster()
        alice, bob = cluster.node("alice"), cluster.node("bob")
        waiting = bob.events("mount")["abc"]
        cluster.result(alice.events("mount").fire("abc", 7))
        assert cluster.result(waiting) == 7
        cluster.close()

    Nothing happens by itself: `settle` delivers what is due, `advance` lets time pass, `result` does both until a
    Deferred has a result. Control ``server`` with `MemoryServer.stop`, ``start``, ``hang``, ``flush`` and so on; cut or
    stall each node's own network in ``networks``.

    :param server: creates the server, from the clock.
    """

    def __init__(self, server: Callable[[Clock], MemoryServer] = MemoryServer) -> None:
        self.clock = Clock()
        self.server = server(self.clock)
        self.nodes: list[Coordinator] = []
        self.networks: dict[str, MemoryEndpoint] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def node(self, name: str, **options: Unpack[NodeOptions]) -> Coordinator:
        """Return a new node; the options are those of `coord.connect`. `settle` makes its connections."""
        network: Any = MemoryEndpoint(self.server, self.clock)
        self.networks[name] = network
        node = connect(network, node=name, reactor=self.clock, **options)
        self.nodes.append(node)
        return node

    def settle(self) -> None:
        """Deliver everything that is due, and its consequences, without letting time pass."""
        while self._times() and min(self._times()) <= self.clock.seconds():
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping whenever something is due."""
        end = self.clock.seconds() + seconds
        self.settle()
        while (due := min(self._times(), default=end + 1)) <= end:
            self.clock.advance(max(0.0, due - self.clock.seconds()))
            self.settle()
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def result(self, deferred: Deferred[T], *, within: float = 60.0) -> T:
        """Return the result of ``deferred`` or raise its error, letting at most ``within`` seconds pass.

        :raises AssertionError: if it has no result by then.
        """
        results: list[Any] = []
        deferred.addBoth(results.append)
        self._pass(within, lambda: bool(results))
        if not results:
            raise AssertionError(f"no result within {within:g} s")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]

    def _times(self) -> list[float]:
        """Due times of the pending calls."""
        calls: Sequence[Any] = self.clock.getDelayedCalls()
        return [call.getTime() for call in calls]

    def _pass(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Let time pass until it is enough, stopping wherever something is due."""
        end = self.clock.seconds() + seconds
        self.settle()
        while not enough() and self.clock.seconds() < end:
            due = min(self._times(), default=end)
            self.advance(max(0.0, min(due, end) - self.clock.seconds()))

    def close(self) -> None:
        """Close every node, let what is in flight arrive, and raise if a connection or a timer is left.

        :raises AssertionError: what is left.
        """
        for node in self.nodes:
            self.result(node.close())
        for network in self.networks.values():
            network.unstall()
        self._pass(60.0, lambda: not any(connection.in_flight for connection in self._connections()))
        left, timers = self._connections(), self.clock.getDelayedCalls()
        if left or timers:
            raise AssertionError(f"left behind: connections {left}, timers {timers}")

    def _connections(self) -> list[MemoryConnection]:
        return [connection for network in self.networks.values() for connection in network.connections]
