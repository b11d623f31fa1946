"""Clusters in memory for `coord.aio` and `coord.blocking`, in real time: nobody could wait on a clock that stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeVar, Unpack

from coord import aio, blocking
from coord.aio.reactor import LoopReactor
from coord.blocking.thread import ReactorThread
from coord.client.options import NodeOptions
from coord.clock import steady
from coord.testing._endpoint import MemoryEndpoint
from coord.testing._server import MemoryServer

__all__ = ["AioCluster", "BlockingCluster"]

T = TypeVar("T")


class AioCluster:
    """Nodes of `coord.aio` and their server, without a socket or a thread, on the loop that runs.

    ::

        async with coord.testing.AioCluster() as cluster:
            alice, bob = cluster.node("alice"), cluster.node("bob")
            waiting = bob.events("mount")["abc"]
            await alice.events("mount").fire("abc", 7)
            assert await waiting == 7

    ``server`` and ``networks`` are as of `Cluster`. All nodes are closed at the end of the block.
    """

    def __init__(self) -> None:
        self._reactor = LoopReactor.acquire(asyncio.get_running_loop())
        self._clock = steady(self._reactor)
        self.server = MemoryServer(self._clock)
        self.nodes: list[aio.Coordinator] = []
        self.networks: dict[str, MemoryEndpoint] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.close()
        self._reactor.release()

    def node(self, name: str, **options: Unpack[NodeOptions]) -> aio.Coordinator:
        """Return a new node; the options are those of `coord.aio.connect`."""
        network: Any = MemoryEndpoint(self.server, self._clock)
        self.networks[name] = network
        self.nodes.append(aio.connect(network, node=name, **options))
        return self.nodes[-1]


class BlockingCluster:
    """Nodes of `coord.blocking` and their server, without a socket, in coord's thread.

    ::

        with coord.testing.BlockingCluster() as cluster:
            alice, bob = cluster.node("alice"), cluster.node("bob")
            waiting = bob.events("mount")["abc"]
            alice.events("mount").fire("abc", 7)
            assert waiting.result() == 7
            cluster.call(cluster.server.stop)

    ``server`` and ``networks`` are as of `Cluster`; they belong to coord's thread, in which `call` calls a function.
    All nodes are closed at the end of the block.
    """

    def __init__(self) -> None:
        self._thread = ReactorThread.acquire(self)
        self._clock: Any = steady(self._thread.reactor)
        self.server = MemoryServer(self._clock)
        self.nodes: list[blocking.Coordinator] = []
        self.networks: dict[str, MemoryEndpoint] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.close()
        self._thread.release(self)

    def node(self, name: str, **options: Unpack[NodeOptions]) -> blocking.Coordinator:
        """Return a new node; the options are those of `coord.blocking.connect`."""
        network: Any = MemoryEndpoint(self.server, self._clock)
        self.networks[name] = network
        self.nodes.append(blocking.connect(network, node=name, **options))
        return self.nodes[-1]

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in coord's thread, and return its result."""
        return self._thread.call(lambda: function(*arguments))

    def begin_close(self) -> Callable[[float], object]:
        """Do nothing at the exit of the process: the nodes are closed by themselves."""
        return lambda _: None
