"""What breaks, and what mends it."""

from __future__ import annotations

from typing import Literal

from coord.testing import MemoryConnection
from simulation.history import Fault
from simulation.servers import SimServer
from simulation.users import hurry
from simulation.world import SimNode, World

__all__ = ["Faults"]

Direction = Literal["to server", "to client"]
_WAYS: tuple[Direction | None, ...] = (None, "to server", "to client")
# Seconds. What clocks go forward, steps and promotions together, stays well under the hour for which a server remembers
# outcomes and pending keys' records: it forgets them by its clock, and then nobody can tell a repetition.
_CLOCK_STEPS = (0.001, 1.0, 60.0, 600.0, -1.0, -60.0, -3600.0)
_FORWARD = 1_500.0
_SKEWS = (0.0, 0.0, 0.5, -0.5, 30.0, -30.0)


class Faults:
    """The faults' verbs. Numbers stand for what there is: they are reduced to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._forward = 0.0

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
        self._deafen(node, "crashed")
        self.world.replace(node)

    def freeze(self, a: int) -> None:
        """Stop a node's process."""
        node = self.world.node(a)
        if node is not None:
            self.note("node stopped")
            node.life.frozen.append([self.world.clock.seconds()])
            node.clock.frozen = True
            self._deafen(node, "frozen")

    def thaw(self, a: int) -> None:
        """Continue a node's process."""
        node = self.world.nodes[a % len(self.world.nodes)]
        if self._continue(node):
            for connection in node.network.connections:
                connection.inward("to server").go("frozen")

    def _continue(self, node: SimNode) -> bool:
        frozen = node.clock.frozen
        if frozen:
            node.life.frozen[-1].append(self.world.clock.seconds())
            node.clock.thaw()
        return frozen

    @staticmethod
    def _deafen(node: SimNode, why: str) -> None:
        for connection in node.network.connections:
            connection.inward("to server").stop(why)

    # Servers. An odd number means the old one, where there is one.

    def _server(self, number: int) -> SimServer:
        old = self.world.old
        return old if old is not None and number % 2 else self.world.primary

    def stop(self, a: int) -> None:
        """Kill a server; it keeps its data."""
        server = self._server(a)
        if server.running:
            self.note("server stopped")
            self._answer_again()
            server.stop()

    def start(self, a: int) -> None:
        """Start the primary again: with its data, or (rarely) without."""
        primary = self.world.primary
        if primary.running:
            return
        if a % 4 == 3:
            self.note("server started empty")
            primary.take(None)
        self._start(primary)

    def _start(self, server: SimServer) -> None:
        # Another process comes later than the last one, if only by a little.
        server.step_clock(0.001)
        server.start()

    def restart(self, a: int) -> None:
        """Kill the primary and start it at once."""
        self.stop(0)
        self.start(a)

    def hang(self, a: int) -> None:
        """Stop a server's process: it accepts, and answers nothing."""
        server = self._server(a)
        if server.running and not server.hung:
            self.note("server hangs")
            server.hang()
            for node in self.world.nodes if self.world.old is None else ():
                self._silence(node, "hang")

    def resume(self, a: int) -> None:
        """Continue a server's process."""
        server = self._server(a)
        if server.hung:
            self._answer_again()
            server.resume()

    def _answer_again(self) -> None:
        for node in self.world.nodes:
            self._speak(node, "hang")

    def drop(self, a: int, b: int) -> None:
        """Have a server close connections, by kind."""
        server = self._server(a)
        kinds: tuple[Literal["all", "subscribers", "commands"], ...] = ("all", "subscribers", "commands")
        self.note("server dropped connections")
        server.drop_connections(kinds[b % 3])

    def flush(self) -> None:
        """Forget all data, under everybody's feet."""
        self.note("data flushed")
        self.world.primary.take(None)
        self.world.primary.step_clock(0.001)

    def scripts(self) -> None:
        """Forget all scripts."""
        self.note("scripts flushed")
        self.world.primary.script_flush()

    def trim(self, a: int) -> None:
        """Forget all but the last lines of the history."""
        self.note("history trimmed")
        self.world.primary.trim(a % 4)

    def step(self, a: int, b: int) -> None:
        """Set a server's clock."""
        seconds = _CLOCK_STEPS[b % len(_CLOCK_STEPS)]
        if self._may_gain(seconds):
            self.note("clock stepped")
            self._server(a).step_clock(seconds)

    def _may_gain(self, seconds: float) -> bool:
        """Whether the data may find their clock so much further, all of a sudden; if so, it is counted."""
        gained = self._forward + max(0.0, seconds)
        allowed = gained <= _FORWARD
        if allowed:
            self._forward = gained
        return allowed

    def memory(self, a: int) -> None:
        """Be out of memory, or no longer."""
        self.note("out of memory")
        self.world.primary.out_of_memory = bool(a % 2)

    def load(self, a: int) -> None:
        """Be loading data, or no longer."""
        self.note("loading")
        self.world.primary.loading = bool(a % 2)

    def replicas(self, a: int) -> None:
        """Have replicas that have everything, or none any more."""
        self._server(a).replicate(a % 3)

    # Failover.

    def save(self) -> None:
        """Let a disk, or a replica, have the data as they are now."""
        self.world.saved = self.world.primary.mark()

    def fail_over(self, a: int) -> None:
        """Kill the primary; another process takes over, with what was saved last (or, half of the time, everything)."""
        primary = self.world.primary
        self.note("failed over")
        mark = primary.mark() if a % 2 else self.world.saved
        self._answer_again()
        primary.stop()
        if mark is not None:
            primary.take(mark)
        self._start(primary)

    def split(self, a: int, b: int, c: int) -> None:
        """Promote another server, while the old one goes on answering those that are connected to it.

        ``b`` says which nodes find the new one when they connect again; ``c`` how far its clock is off, from the true
        time: the old one's may have been set back before, so that this one's is far ahead of it.
        """
        world = self.world
        if world.old is not None or not world.primary.running:
            return
        self.note("another server promoted")
        self._answer_again()
        old, mark = world.primary, (world.saved if a % 2 else None) or world.primary.mark()
        new = world.new_server()
        new.step_clock(_SKEWS[c % len(_SKEWS)])
        ahead = new.now() - old.now()
        if not self._may_gain(ahead):
            new.step_clock(0.001 - ahead)
        new.take(mark)
        world.old, world.primary = old, new
        for node in world.nodes:
            if not b >> node.index & 1:
                self._move(node)

    def move(self, a: int) -> None:
        """Let a node find the new server when it connects again."""
        self._move(self.world.nodes[a % len(self.world.nodes)])

    def _move(self, node: SimNode) -> None:
        node.network.server = self.world.primary

    def demote(self) -> None:
        """Tell the old primary that it is one no more: it refuses to write."""
        if self.world.old is not None:
            self.note("old server demoted")
            self.world.old.role = "slave"

    def retire(self) -> None:
        """Take the old primary away."""
        old, self.world.old = self.world.old, None
        if old is not None:
            self.note("old server retired")
            old.retire()
            for node in self.world.nodes:
                self._move(node)

    # The end of all faults.

    def heal(self) -> None:
        """Mend everything."""
        world = self.world
        for node in world.nodes:
            self.thaw(node.index)
            self.unstall(node.index)
            hurry(node)
        for gone in world.gone:
            gone.network.cut()
        self.retire()
        primary = world.primary
        primary.out_of_memory = primary.loading = False
        self.resume(0)
        if not primary.running:
            self._start(primary)
