"""What servers keep of holders: when all has been well for long, and when all nodes have gone."""

from __future__ import annotations

from simulation.history import Key
from simulation.users import Users
from simulation.world import World

__all__ = ["Holders"]


class Holders:
    """The looks at the end of a run in which keys are held."""

    def __init__(self, world: World, users: Users) -> None:
        self.world = world
        self.users = users

    @property
    def _long(self) -> float:
        """Seconds in which a recovery and a lease are over, though the lease clock may be slow."""
        setup = self.world.setup
        return 1.5 * (setup.lease + setup.grace) + 2 * setup.grace + 4 * setup.heartbeat

    def let_leases_end(self) -> None:
        """Let pass what dead nodes left, and what a failover brought back.

        A clock that was set back would delay that.
        """
        self.world.set_clocks_ahead()
        self.world.clock.advance(self._long)
        self.world.rest()

    def look(self) -> None:
        """A server has the holders that somebody wants, and nobody else; their keys are latched, if they are enough."""
        world = self.world
        wanted = sorted(hold.serial for node in world.nodes for hold in node.holding)
        there = [serial for serial in world.serials if serial in world.history.holds]
        if wanted != there:
            self._wrong("L2", f"at rest, {wanted} hold something, and the server has {there}")
        for where in world.keys:
            serials = [hold.serial for node in world.nodes for hold in node.holding if hold.where == where]
            self._check_key(where, serials)

    def _check_key(self, where: Key, serials: list[int]) -> None:
        books = self.world.books(where[0])
        stands, latched = books.stands(where), books.latched(where)
        by_holder = latched and stands is not None and stands.serial in self.world.history.holds
        enough = len(serials) >= self.world.need(where)
        if enough and not latched:
            self._wrong("L1", f"at rest, {where} is held by {serials}, and not latched")
        if by_holder and not enough:
            self._wrong("L2", f"at rest, {where} is latched by {stands and stands.serial}, and {serials} hold it")
        if by_holder and stands is not None and stands.serial not in serials:
            self._wrong("L1", f"at rest, {where} has the value of {stands.serial}, and {serials} hold it")

    def free_all(self) -> None:
        """Withdraw all holds."""
        for node in self.world.nodes:
            for hold in list(node.holding):
                self.users.free(node, hold)
        self.world.rest()

    def hold_again(self) -> None:
        """Have some nodes hold something when they close; every third time, one dies instead."""
        world = self.world
        for node in world.nodes[world.setup.seed % 2 :]:
            self.users.make_hold(node, world.where(node.index))
        world.rest()
        if world.setup.seed % 3 == 0:
            node = world.nodes[0]
            node.life.crashed = world.history.now()
            node.clock.dead = True
            node.network.cut()
            world.gone.append(node)
            world.nodes.remove(node)

    def end(self) -> None:
        """Let a node come that uses another map, and look at what is left when every lease is over."""
        world = self.world
        world.nodes = [node := world.new_node(0)]
        world.clock.advance(self._long + 2.0)
        for name, names in world.names.items():
            records, due, entries = map(world.books(name).place.item, (names.records, names.due, names.entries))
            left = [field for field in (records.value if records else ()) if field.startswith(b"\0holder:")]
            left += [member for member in (due.value if due else ()) if member.startswith(b"\0lease:")]
            left += [member for member in (entries.value if entries else ()) if member]
            if left:
                self._wrong("L2", f"{name}: {left} are left, and nobody is there any more")
        self.users.shut(node)
        world.clock.advance(0.1 + 4 * world.setup.slowest)

    def _wrong(self, promise: str, words: str) -> None:
        self.world.history.wrong.append((promise, words))
