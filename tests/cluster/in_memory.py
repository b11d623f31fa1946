"""The cluster in memory with the verbs of a real one, on the real reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory

from cluster.moving import Move, Step
from coord.clock import steady
from coord.testing import MemoryEndpoint
from memory.shards import Flavour, MemoryCluster, ShardServer
from support.servers import Server
from support.waiting import until

__all__ = ["MemoryNode", "MemoryServers"]

_reactor: Any = reactor


class _Late(Factory):
    """Leads to a server that is made when its port is known."""

    server: ShardServer

    def buildProtocol(self, addr: Any) -> Any:
        """Return the server's end of a connection."""
        return self.server.buildProtocol(addr)


class MemoryNode(Server):
    """One server; ``memory`` is itself."""

    def __init__(self, memory: ShardServer) -> None:
        self.memory = memory
        self.id = memory.id
        self.port = memory.port

    def endpoint(self) -> Any:
        """Return an endpoint for the test's own connections."""
        return MemoryEndpoint(self.memory, reactor)


class MemoryServers:
    """Two primaries in memory with a replica each, at ports of this machine; each test gets new ones."""

    def __init__(self, flavour: Flavour) -> None:
        self.kind: Flavour = flavour
        self._nodes: list[MemoryNode] = []
        self._ports: list[Any] = []

    @property
    def url(self) -> str:
        """The cluster's URL."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self._nodes) + "/"

    async def heal(self) -> None:
        """Begin anew."""
        await self.end()
        factories = [_Late() for _ in range(4)]
        self._ports = [_reactor.listenTCP(0, factory, interface="127.0.0.1") for factory in factories]
        one, two, *others = [port.getHost().port for port in self._ports]
        self.cluster = MemoryCluster(steady(reactor), self.kind, (one, two))
        for server, port in zip(self.cluster.servers[:], others, strict=True):
            self.cluster.add_replica(server, port)
        for factory, server in zip(factories, self.cluster.servers, strict=True):
            factory.server = server
        self._nodes = [MemoryNode(server) for server in self.cluster.servers]

    async def end(self) -> None:
        """Close the ports, and what is connected."""
        ports, self._ports = self._ports, []
        for port in ports:
            # One that was stopped before says nothing.
            await maybeDeferred(port.stopListening)
        for node in self._nodes:
            node.memory.drop_connections()
        await until(lambda: not any(node.memory.connections for node in self._nodes), "nobody is connected")

    async def stop_one(self) -> int:
        """Stop the first primary, which nobody reaches from then on; return its port."""
        node = self._nodes[0]
        await self._ports[0].stopListening()
        node.memory.drop_connections()
        return node.port

    async def primaries(self) -> list[MemoryNode]:
        """Return the servers that are primaries."""
        return [node for node in self._nodes if node.memory.slots.primary is None]

    async def owner(self, slot: int) -> MemoryNode:
        """Return the primary that says that it owns a slot."""
        return next(node for node in self._nodes if node.memory.slots.owns(slot))

    async def replica_of(self, primary: MemoryNode) -> MemoryNode:
        """Return a primary's replica."""
        return next(node for node in self._nodes if node.memory.slots.primary == primary.memory.slots.own)

    async def move(self, slot: int, *, target: MemoryNode | None = None, pause_at: int = Step.TOLD) -> Move:
        """Move a slot to another primary, as far as a step."""
        source = await self.owner(slot)
        if target is None:
            target = next(node for node in await self.primaries() if node is not source)
        move = Move(self, slot, source, target)
        await move.to(pause_at)
        return move

    async def failover(self, primary: MemoryNode) -> MemoryNode:
        """Have a primary's replica take over; return it."""
        promoted = self.cluster.fail_over(primary.memory)
        return next(node for node in self._nodes if node.memory is promoted)
