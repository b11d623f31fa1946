"""The world of one server, which others may replace."""

from __future__ import annotations

from typing import Any

from coord.client.coordinator import connect
from coord.link.link import LinkState
from coord.testing import MemoryEndpoint
from simulation.books import Books
from simulation.clock import WallClock
from simulation.evidence import Evidence
from simulation.history import Astray
from simulation.node import SimNode
from simulation.servers import Mark, SimServer
from simulation.setup import Setup
from simulation.world import World

__all__ = ["SingleNode", "SingleWorld"]


class SingleNode(SimNode):
    """A node that uses one server."""

    world: SingleWorld
    network: MemoryEndpoint

    def connect(self) -> None:
        """Make its clock, its network, and the coordinator."""
        world, setup = self.world, self.world.setup
        self.wall = WallClock(world.clock)
        self.clock = self.wall.steady
        self.network = MemoryEndpoint(world.primary, world.clock, world.deliver_to(self.life.number))
        address: Any = self.network
        self.coordinator = connect(
            address,
            node=self.life.node,
            reactor=self.wall,
            heartbeat=setup.heartbeat,
            cache_size=setup.cache,
            lease=setup.lease,
            grace=setup.grace,
        )
        if setup.held:
            self.note_renewals(self.coordinator._session, self._reached)

    def _reached(self) -> None:
        if self.life.crashed is None:
            now = self.world.history.now
            self.life.reached += ((now(), each.number) for each in self.world.servers if self.asks(each))

    def asks(self, server: SimServer) -> bool:
        """Whether its link is up, and a connection that is no subscriber leads to this server."""
        link: Any = self.coordinator._session.link
        return self.coordinator.link is LinkState.CONNECTED and self.far_end(link.connections) is server

    def astray(self, server: SimServer) -> bool:
        """Whether its link leads to this server, which is a replica."""
        return server.demoted is not None and server.running and self.asks(server)

    @property
    def channels(self) -> list[str]:
        """What it should be subscribed to when nothing is under way."""
        return [f"coord:0:node:{self.coordinator.incarnation}", *super().channels]


class SingleWorld(World):
    """All of one run on one server.

    ``other`` is a second server that can be reached: one that was replaced and takes itself for the primary still, or
    the primary's replica.
    """

    nodes: list[SingleNode]  # type: ignore[assignment]  # each is one

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.servers: list[SimServer] = []
        self.primary = self.new_server()
        self.primary.replicate(setup.seed % 2)
        self.other: SimServer | None = None
        self.saved: Mark | None = None
        self.nodes += (self.new_node(index) for index in range(setup.nodes))

    def new_node(self, index: int) -> SingleNode:
        """Start a node."""
        return SingleNode(self, index)

    def new_server(self) -> SimServer:
        """Start another server, without data."""
        number = len(self.servers)
        maps = (*self.names.values(), *self.beside.values())
        server = SimServer(self.history, self.clock, number, maps, self._linked_to, self.servers)
        server.books.timed = self.setup.timed
        server.books.keeps_holders, server.books.lease = self.setup.lease > 0, self.setup.lease
        self.servers.append(server)
        return server

    def _linked_to(self, server: SimServer) -> frozenset[int]:
        return frozenset(node.life.number for node in self.nodes if node.asks(server))

    def books(self, name: str) -> Books:
        """Return the primary's."""
        return self.primary.books

    def evidence(self) -> list[Evidence]:
        """Return that of all maps."""
        books = [server.books for server in self.servers]
        return [Evidence(self.history, self.setup, books, self.primary.books, self.history.now())]

    @property
    def set_back(self) -> float:
        """Seconds by which clocks of servers were set back in all."""
        return sum(server.books.set_back for server in self.servers)

    def subscribed(self) -> dict[str, int]:
        """Return how many connections are subscribed to each channel of the primary."""
        return self.primary.channels

    def set_clocks_ahead(self) -> None:
        """Set the primary's clock to where the furthest of all has ever been."""
        highest = max(offset for server in self.servers for _, offset in server.books.steps)
        self.primary.step_clock(highest - self.primary.books.steps[-1][1])

    def look(self) -> None:
        """Take note of what replicas have, and whose link leads to one."""
        other = self.other
        if other is None or other.demoted is None:
            return
        other.catch_up()
        now = self.clock.seconds()
        for node in self.nodes:
            if node.astray(other):
                begin = max(other.demoted, node.life.links[-1][0])
                self.history.astray.append(Astray(node.life, begin, now))
