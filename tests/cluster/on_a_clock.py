"""Nodes on a cluster in memory whose time goes on as the test says: what no real reactor shows twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from twisted.internet.task import Clock

import coord
from coord.core.slots import slot_of, tag_of
from memory.shards import Flavour, MemoryCluster, ShardServer
from memory.wires import Wires

__all__ = ["HEARTBEAT", "TimedCluster", "timed_cluster"]

HEARTBEAT: Final = 1.0
_STEP, _DELAY = 0.004, 0.001


class TimedCluster:
    """Two servers, ``source`` and ``target``; each node has a way of its own to both, in ``wires``."""

    def __init__(self, flavour: Flavour, names: tuple[str, ...], options: dict[str, Any]) -> None:
        self.clock = Clock()
        self.memory = MemoryCluster(self.clock, flavour)
        self.source, self.target = self.memory.servers
        self.wires = [Wires(self.clock, self.memory.at, lambda _: _DELAY) for _ in names]
        url = "redis+cluster://127.0.0.1:7001,127.0.0.1:7002/"
        self.nodes: list[Any] = [
            coord.connect(url, node=name, reactor=wires, **{"heartbeat": HEARTBEAT, **options})
            for name, wires in zip(names, self.wires, strict=True)
        ]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([_STEP] * round(seconds / _STEP))

    @staticmethod
    def slot(name: str) -> int:
        """Return the slot of a map."""
        return slot_of(tag_of("default", name))

    def maps_at(self, server: ShardServer) -> Iterator[str]:
        """Return the names of maps whose slots a server has."""
        return (name for name in map("m{}".format, count()) if server.slots.owns(self.slot(name)))

    def begin_move(self, name: str) -> None:
        """Open a map's slot at both servers."""
        self.target.set_slot(self.slot(name), ["IMPORTING", self.source.id])
        self.source.set_slot(self.slot(name), ["MIGRATING", self.target.id])

    def pass_on(self, name: str, *ends: str) -> None:
        """Have the keys of a map that end so at the target; all, if none are named."""
        keys = self.source.keys_in(self.slot(name))
        self.source.pass_on(self.target.port, [key for key in keys if key.decode().endswith(ends or "")], replace=False)

    def call_off(self, name: str) -> None:
        """Give back what has moved, and close the slot."""
        self.target.pass_on(self.source.port, self.target.keys_in(self.slot(name)), replace=True)
        for server in (self.source, self.target):
            server.set_slot(self.slot(name), ["STABLE"])

    def end_move(self, name: str) -> None:
        """Have the target own a slot whose keys it has."""
        for server in (self.target, self.source):
            server.set_slot(self.slot(name), ["NODE", self.target.id])


@contextmanager
def timed_cluster(*names: str, flavour: Flavour = "redis", **options: Any) -> Iterator[TimedCluster]:
    """Give nodes of these names; at the end they are closed, and leave no connection and no timer."""
    cluster = TimedCluster(flavour, names, options)
    try:
        yield cluster
    finally:
        for node in cluster.nodes:
            node.close()
        cluster.advance(3.0)
    assert not any(wires.connections for wires in cluster.wires)
    assert not cluster.clock.getDelayedCalls()
