"""What breaks, and what mends it: networks and nodes."""

from __future__ import annotations

from typing import Literal

from coord.testing import MemoryConnection
from simulation.history import Fault
from simulation.node import SimNode
from simulation.users import hurry
from simulation.world import World

__all__ = ["Faults"]

Direction = Literal["to server", "to client"]
_WAYS: tuple[Direction | None, ...] = (None, "to server", "to client")


class Faults:
    """The faults' verbs. Numbers stand for what there is: they are reduced to it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def note(self, verb: str) -> None:
        """Write it down."""
        self.world.history.faults.append(Fault(self.world.history.now(), verb))

    # The network.

    def _connection(self, a: int, b: int) -> MemoryConnection | None:
        node = self.world.node(a)
        connections = node.network.connections if node else ()
        return connections[b % len(connections)] if connections else None

    def cut(self, a: int) -> None:
        """Cut all connections of a node."""
        node = self.world.node(a)
        if node is not None:
            self.note("cut")
            node.network.cut()

    def cut_one(self, a: int, b: int) -> None:
        """Cut one connection."""
        connection = self._connection(a, b)
        if connection is not None:
            self.note("cut one connection")
            connection.cut()

    def stall(self, a: int, b: int) -> None:
        """Let nothing through to or from a node, in one direction or both, without an error."""
        node = self.world.node(a)
        if node is not None:
            self.note("stall")
            node.network.stall(_WAYS[b % 3])
            self._silence(node, "stall")

    def stall_one(self, a: int, b: int, c: int) -> None:
        """Let nothing through on one connection."""
        connection = self._connection(a, b)
        if connection is not None:
            self.note("stall one connection")
            connection.stall(_WAYS[c % 3])

    def unstall(self, a: int) -> None:
        """Let everything through again."""
        node = self.world.nodes[a % len(self.world.nodes)]
        node.network.unstall()
        self._speak(node, "stall")

    def _silence(self, node: SimNode, why: str) -> None:
        if not node.silent:
            node.life.silences.append([self.world.clock.seconds()])
        node.silent.add(why)

    def _speak(self, node: SimNode, why: str) -> None:
        if why in node.silent:
            node.silent.discard(why)
            if not node.silent:
                node.life.silences[-1].append(self.world.clock.seconds())

    # Nodes.

    def crash(self, a: int) -> None:
        """End a node's process without a word, and start another in its place."""
        node = self.world.nodes[a % len(self.world.nodes)]
        self.note("node crashed")
        self._continue(node)
        node.life.crashed = self.world.history.now()
        node.clock.dead = True
        self._deafen(node)
        self.world.replace(node)

    def freeze(self, a: int) -> None:
        """Stop a node's process."""
        node = self.world.node(a)
        if node is not None:
            self.note("node stopped")
            node.life.frozen.append([self.world.clock.seconds()])
            node.clock.frozen = True
            self._deafen(node)

    def thaw(self, a: int) -> None:
        """Continue a node's process."""
        node = self.world.nodes[a % len(self.world.nodes)]
        if self._continue(node):
            for connection in node.network.connections:
                connection.client.resumeProducing()

    def _continue(self, node: SimNode) -> bool:
        frozen = node.clock.frozen
        if frozen:
            node.life.frozen[-1].append(self.world.clock.seconds())
            node.clock.thaw(reads_first=(self.world.setup.seed + len(node.life.frozen)) % 2 == 1)
        return frozen

    @staticmethod
    def _deafen(node: SimNode) -> None:
        for connection in node.network.connections:
            connection.client.pauseProducing()

    # The end of all faults.

    def heal(self) -> None:
        """Mend everything."""
        for node in self.world.nodes:
            self.thaw(node.index)
            self.unstall(node.index)
            hurry(node)
        for gone in self.world.gone:
            gone.network.cut()

    def finish(self) -> bool:
        """Mend also what may be left as it is at rest; return whether there was something."""
        return False
