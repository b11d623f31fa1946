"""Gateways, a server and clients that want one lock, in one process, and their faults: a schedule is its seed."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

from coord.client import coordinator
from coord.link import backoff
from memory.cluster import Cluster
from web.client import Web
from web.lease_client import Contender

__all__ = ["Broken", "play"]

_WEIGHTS: Final = {
    "pass_time": 80,
    "wait_long": 4,
    "kill_client": 2,
    "hang_up": 4,
    "kill_gateway": 2,
    "cut": 3,
    "drop": 2,
    "stall": 4,
    "unstall": 6,
    "restart": 1,
    "remember": 2,
    "go_back": 1,
    "evict": 1,
}


class Broken(AssertionError):
    """A promise was broken."""


class World:
    """A server, two gateways, four clients, and a resource that refuses lower tokens than it has seen."""

    def __init__(self, chance: Random) -> None:
        self.random = chance
        self.cluster = Cluster()
        self.writer = self.cluster.node("writer")
        self.gateways = [self._gateway(number) for number in range(2)]
        self.clients = [self._client(number) for number in range(4)]
        self.dead: list[Contender] = []
        self._snapshot: Any = None
        self._highest = ""
        # A map that is made in the lost second is beyond L6.
        self.cluster.result(self.writer.events("m").hold("in use"))

    def _gateway(self, number: int) -> Web:
        return Web(self.cluster, name=f"gateway{number}")

    def _client(self, number: int) -> Contender:
        return Contender(f"client{number}", self.random)

    # Steps.

    def pass_time(self) -> None:
        """Some time passes."""
        self.cluster.advance(self.random.choice((0.001, 0.1, 0.5, 1.0, 2.0)))

    def wait_long(self) -> None:
        """Much time passes: clients that are not asked what they do sleep."""
        self.cluster.advance(self.random.choice((8.0, 19.0, 31.0)))

    def kill_client(self) -> None:
        """A client dies, and another one takes its place."""
        at = self.random.randrange(len(self.clients))
        self.clients[at].hang_up()
        self.dead.append(self.clients[at])
        self.clients[at] = self._client(at)

    def hang_up(self) -> None:
        """A client waits for an answer no longer."""
        self.random.choice(self.clients).hang_up()

    def kill_gateway(self) -> None:
        """A gateway dies, and another one takes its place."""
        at = self.random.randrange(len(self.gateways))
        old = self.gateways[at]
        network = self.cluster.networks[old.node.node]
        # Nothing that it has not sent yet is sent any more.
        network.cut()
        for client in self.clients:
            client.lose_connection(old)
        old.node.close(withdraw=False)
        network.unstall()
        self.gateways[at] = self._gateway(at)

    def cut(self) -> None:
        """A link is cut."""
        self._network().cut()

    def drop(self) -> None:
        """The server closes connections."""
        self.cluster.server.drop_connections(self.random.choice(("all", "subscribers", "commands")))

    def stall(self) -> None:
        """A link stands still."""
        self._network().stall(self.random.choice((None, "to server", "to client")))

    def unstall(self) -> None:
        """The links go on."""
        for web in self.gateways:
            self.cluster.networks[web.node.node].unstall()

    def _network(self) -> Any:
        return self.cluster.networks[self.random.choice(self.gateways).node.node]

    def restart(self) -> None:
        """The server restarts with its data."""
        self.cluster.server.start()

    def remember(self) -> None:
        """The server writes its data to the disk."""
        self._snapshot = self.cluster.server.snapshot()

    def go_back(self) -> None:
        """The server dies, and comes back with what was on the disk."""
        if self._snapshot is not None:
            self.cluster.server.stop()
            self.cluster.server.restore(self._snapshot)
            self.cluster.server.start()
            self._snapshot = None

    def evict(self) -> None:
        """An operator takes the lock from whoever has it."""
        self.writer.events("m").reset("job", evict=True).addErrback(lambda _: None)

    # The clients.

    def act(self) -> None:
        """Let some of the clients do something, and check what they believe."""
        for _ in range(3):
            now = self.cluster.clock.seconds()
            for client in self.clients:
                if self.random.random() < 0.8:
                    client.act(now, self.gateways)
                    self.check()
            self.cluster.advance(0.01)

    def check(self) -> None:
        """Raise `Broken` if two clients take the lock for their own, or the resource refuses one that does."""
        now = self.cluster.clock.seconds()
        owners = [client for client in self.clients if client.valid(now)]
        if len(owners) > 1:
            raise Broken(f"{now:.3f}: " + " and ".join(f"{each.name} with {each.token}" for each in owners))
        for owner in owners:
            if owner.token < self._highest:
                raise Broken(f"{now:.3f}: the token {owner.token} of {owner.name} is below {self._highest}")
            self._highest = owner.token

    def close(self) -> int:
        """Undo all faults, and return how many grants there were.

        :raises Broken: nobody is granted the lock any more.
        """
        self.unstall()
        before = self._highest
        for _ in range(400):
            self.cluster.advance(0.5)
            self.act()
            if self._highest > before:
                break
        else:
            raise Broken("nobody is granted the lock any more")
        for client in self.clients:
            client.hang_up()
        self.cluster.advance(30)
        for web in self.gateways:
            web.close()
        self.cluster.close()
        return sum(len(client.grants) for client in (*self.clients, *self.dead))


def play(seed: int, steps: int = 150) -> int:
    """Play a schedule; return how many grants there were. Raises `Broken`."""
    with ExitStack() as stack:
        chance = Random(seed)
        stack.enter_context(patch.object(backoff, "uniform", chance.uniform))
        stack.enter_context(patch.object(coordinator, "uuid4", lambda: UUID(int=chance.getrandbits(128), version=4)))
        world = World(chance)
        for name in chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=steps):
            getattr(world, name)()
            world.act()
        return world.close()
