"""What breaks in a cluster, or moves, and what mends it."""

from __future__ import annotations

from typing import Literal

from memory.shards import ShardServer
from simulation.faults import Faults
from simulation.history import Moment, Move
from simulation.moving import Moving
from simulation.sharded import ShardedWorld
from simulation.single_faults import LAGS

__all__ = ["ShardedFaults"]

_BUS = (0.0, 0.001, 0.05, 1.0, 6.0, None)
"""Seconds until the others hear of what a server has learnt; None: never."""


class ShardedFaults(Faults):
    """The verbs of a cluster. Numbers stand for what there is: they are reduced to it."""

    world: ShardedWorld

    def __init__(self, world: ShardedWorld) -> None:
        super().__init__(world)
        # Since when a server hangs, or takes the cluster for failed; since when a map is on two servers.
        self._hung: dict[ShardServer, Moment] = {}
        self._down: dict[ShardServer, Moment] = {}
        self._halves: dict[str, Moment] = {}

    # Slots.

    def _name(self, a: int) -> str:
        names = list(self.world.groups)
        return names[a % len(names)]

    def migrate(self, a: int, b: int) -> None:
        """Take the next step of a map's move; begin one if there is none."""
        world, name = self.world, self._name(a)
        if name not in world.moves:
            source = world.owner(name)
            targets = [each for each in world.primaries if each is not source]
            keys = [key for names in world.groups[name] for key in names.keys]
            world.moves[name] = Moving(world.slot(name), keys, source, targets[b % len(targets)])
            world.history.moves.append(Move(name, world.history.now()))
        self._stepped(name, over=world.moves[name].advance(b))

    def migrate_all(self, a: int) -> None:
        """Move all keys of a map, and leave it at that, as where the operator's program ends."""
        self.migrate(a, 0)
        self._gather(self._name(a))

    def _gather(self, name: str) -> None:
        while name in self.world.moves and self.world.moves[name].gather():
            self._stepped(name, over=False)

    def call_off(self, a: int) -> None:
        """Call a move off, and give back what has moved."""
        name = self._name(a)
        moving = self.world.moves.get(name)
        if moving is not None and moving.call_off():
            self.world.called_off(moving)
            self._stepped(name, over=True)

    def _stepped(self, name: str, *, over: bool) -> None:
        world = self.world
        world.note("slot moves", name)
        if over:
            world.moves.pop(name)
            next(
                move for move in world.history.moves if move.map == name and move.end is None
            ).end = world.history.now()
        world.came(name)
        if over or world.moves[name].together:
            since = self._halves.pop(name, None)
            if since is not None and world.clock.seconds() > since[1] + world.setup.heartbeat:
                world.trouble("half a map", since, name)
        else:
            self._halves.setdefault(name, world.history.now())

    def hand_over(self, a: int) -> None:
        """Have a replica take over in order, where no slot of the primary is on the move."""
        world = self.world
        primary = world.primaries[a % len(world.primaries)]
        if primary.hung or any(primary in (each.source, each.target) for each in world.moves.values()):
            return
        names = [name for name in world.groups if world.owner(name) is primary]
        world.cluster.fail_over(primary)
        world.note("handed over")
        for name in names:
            world.came(name)

    def bus(self, a: int) -> None:
        """Have what a server has learnt reach the others so much later."""
        self.world.cluster.bus_delay = _BUS[a % len(_BUS)]

    # Servers.

    def _server(self, a: int) -> ShardServer:
        return self.world.cluster.servers[a % len(self.world.cluster.servers)]

    def down(self, a: int) -> None:
        """Have a server take the cluster for failed."""
        server = self._server(a)
        if not server.slots.down:
            self.note("cluster down")
            self._down[server] = self.world.history.now()
            server.slots.down = True

    def up(self, a: int) -> None:
        """Have a server take the cluster for whole."""
        server = self._server(a)
        if server.slots.down:
            server.slots.down = False
            self.world.trouble("cluster down", self._down.pop(server))

    def hang(self, a: int) -> None:
        """Stop a server's process: it accepts, and answers nothing."""
        server = self._server(a)
        if not server.hung:
            self.note("server hangs")
            self._hung[server] = self.world.history.now()
            server.hang()

    def resume(self, a: int) -> None:
        """Continue a server's process."""
        server = self._server(a)
        if server.hung:
            self.note("server goes on")
            self.world.trouble("server hangs", self._hung.pop(server))
            server.resume()

    def drop(self, a: int, b: int) -> None:
        """Have a server close connections, by kind."""
        kinds: tuple[Literal["all", "subscribers", "commands"], ...] = ("all", "subscribers", "commands")
        self.note("server dropped connections")
        self._server(a).drop_connections(kinds[b % len(kinds)])

    def lag(self, a: int, b: int) -> None:
        """Have a server's replica acknowledge late, or never, or at once again."""
        self.note("replicas lag")
        self._server(a).lag = LAGS[b % len(LAGS)]

    def scripts(self) -> None:
        """Forget all scripts."""
        self.note("scripts flushed")
        for server in self.world.cluster.servers:
            server.script_flush()

    # The end of all faults.

    def heal(self) -> None:
        """Mend everything; but every second time slots are left open, where nothing but a read tells of it."""
        super().heal()
        world = self.world
        world.cluster.bus_delay = 0.0
        for number in range(len(world.cluster.servers)):
            self.up(number)
            self.resume(number)
            self._server(number).lag = 0
        for name in list(world.moves):
            if world.setup.seed % 2 and not world.moves[name].together:
                self._gather(name)
            if world.setup.seed % 2 == 0 or not world.moves[name].together:
                self._finish(name)
        self._gossip()

    def _finish(self, name: str) -> None:
        number = list(self.world.groups).index(name)
        while name in self.world.moves:
            self.migrate(number, 0)

    def finish(self) -> bool:
        """End all moves, and have all servers know it."""
        moves = list(self.world.moves)
        for name in moves:
            self._finish(name)
        self._gossip()
        return bool(moves)

    def _gossip(self) -> None:
        for server in self.world.cluster.servers:
            self.world.cluster.gossip(server, now=True)
