"""Gateways, a server and clients of streams in one process, and what may befall them: a schedule is its seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from random import Random
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

from fakeredis import FakeStrictRedis
from msgspec.json import encode

from coord import Coordinator, connect
from coord.client import coordinator
from coord.core import history
from coord.core.records import Record
from coord.errors import HistoryLost
from coord.link import backoff
from coord.testing import Delivery, MemoryEndpoint
from coord.web import feed, ring
from coord.web.follower import Follower
from coord.web.frames import EVENTS, LINES
from coord.web.hub import Hub, Wanted
from coord.web.positions import START, parse
from coord.web.problems import Problem
from memory.cluster import Cluster
from web.stream_client import Broken, Client
from web.stream_truth import Truth

__all__ = ["World", "play"]

MAPS: Final = ("m", "n")
KEYS: Final = ("a", "b", "hidden/a", "unreadable")

_WEIGHTS: Final = {
    "fire": 30,
    "burst": 4,
    "pass_time": 30,
    "wait_long": 2,
    "hang_up": 8,
    "stop_reading": 6,
    "read_again": 8,
    "kill_gateway": 2,
    "stop_gateway": 1,
    "cut": 3,
    "drop": 2,
    "stall": 2,
    "unstall": 3,
    "restart": 1,
    "flush": 1,
    "remember": 2,
    "go_back": 1,
}


class Gateway:
    """A hub with its two links."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.alive = True
        self.networks = [MemoryEndpoint(world.cluster.server, world.cluster.clock) for _ in range(2)]
        for network in self.networks:
            network.deliver = world.delay
        self.nodes = [world.connect(network, node=name) for network in self.networks]
        live, past = self.nodes
        self.hub = Hub(live.events, past.events, _encoded, world.cluster.clock, random=world.random)


class Outlet:
    """What one stream is written to: a client whose connection takes some hundred bytes, while it does not read."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.open = True
        self.reads = True
        self.follower: Follower | None = None
        self._held = b""

    def write(self, data: bytes) -> None:
        """Receive it, now or when the client reads on."""
        assert self.open, "written after the end"
        self._held += data
        if self.reads:
            self.flush()
        elif len(self._held) > 600 and self.follower is not None:
            self.follower.pause()

    def flush(self) -> None:
        """Receive what is held."""
        held, self._held = self._held, b""
        # It keeps what it has found; the hub has nothing to do with that.
        with suppress(Broken):
            self.client.receive(held)

    def read_again(self) -> None:
        """Read on."""
        self.reads = True
        if self.open:
            self.flush()
            assert self.follower is not None
            self.follower.resume()

    def finish(self) -> None:
        """End: what was written still arrives."""
        self.flush()
        self.open = False

    def abort(self) -> None:
        """End: it does not."""
        self.open = False


class World:
    """A server, two gateways and some clients; each step is one of its methods."""

    def __init__(self, chance: Random) -> None:
        self.random = chance
        self.cluster = Cluster()
        self.connect: Callable[..., Coordinator] = partial(connect, reactor=self.cluster.clock, heartbeat=5.0)
        self.writer = self.cluster.node("writer", heartbeat=5.0)
        self.cluster.settle()
        self.truth = Truth(FakeStrictRedis(server=self.cluster.server.fake), MAPS)
        self._snapshot: Any = None
        self.gateways = [Gateway(self, f"gateway{number}") for number in range(2)]
        self.outlets = {client: Outlet(self, client) for client in map(self._client, range(5))}
        for outlet in self.outlets.values():
            outlet.open = False

    def _client(self, number: int) -> Client:
        maps = self.random.choice((("m",), ("n",), MAPS, MAPS))
        hides = self.random.random() < 0.3
        client = Client(
            f"client{number}", self.truth, maps, (lambda key: not key.startswith("hidden")) if hides else bool
        )
        if self.random.random() < 0.4:
            client.positions = dict.fromkeys(maps, START)
        return client

    def delay(self, _: Delivery) -> float:
        """Return the time that a delivery takes."""
        return self.random.choice((0.0, 0.0, 0.001, 0.003, 0.02))

    # Steps of users.

    def fire(self) -> None:
        """Change something."""
        events = self.writer.events(self.random.choice(MAPS))
        call = self.random.choice((events.fire, events.pulse, events.reset))
        call(self.random.choice(KEYS)).addErrback(lambda _: None)

    def burst(self) -> None:
        """Change many things at once."""
        for _ in range(12):
            self.fire()

    def hang_up(self) -> None:
        """A client hangs up; who is not connected connects."""
        outlet = self.random.choice(list(self.outlets.values()))
        if outlet.open:
            outlet.open = False
            assert outlet.follower is not None
            outlet.follower.gone()

    def stop_reading(self) -> None:
        """A client reads no more."""
        self.random.choice(list(self.outlets.values())).reads = False

    def read_again(self) -> None:
        """A client reads on."""
        self.random.choice(list(self.outlets.values())).read_again()

    # Faults.

    def kill_gateway(self) -> None:
        """A gateway dies, and another one takes its place."""
        at = self.random.randrange(2)
        old = self.gateways[at]
        for outlet in self.outlets.values():
            if outlet.follower is not None and outlet.follower._hub is old.hub and outlet.open:
                outlet.open = False
                outlet.follower.gone()
        self._end(old)
        self.gateways[at] = Gateway(self, old.name)

    def stop_gateway(self) -> None:
        """A gateway is stopped, and another one takes its place."""
        at = self.random.randrange(2)
        old = self.gateways[at]
        self.gateways[at] = Gateway(self, old.name)
        self.cluster.result(old.hub.close())
        self._end(old)

    def _end(self, gateway: Gateway) -> None:
        gateway.hub.close()
        for node, network in zip(gateway.nodes, gateway.networks, strict=True):
            node.close()
            network.unstall()
            network.cut()

    def cut(self) -> None:
        """A link is cut."""
        self.random.choice(self.random.choice(self.gateways).networks).cut()

    def drop(self) -> None:
        """The server closes connections."""
        self.cluster.server.drop_connections(self.random.choice(("all", "subscribers", "commands")))

    def stall(self) -> None:
        """A link stands still."""
        self.random.choice(self.random.choice(self.gateways).networks).stall(
            self.random.choice((None, "to server", "to client"))
        )

    def unstall(self) -> None:
        """The links go on."""
        for gateway in self.gateways:
            for network in gateway.networks:
                network.unstall()

    def restart(self) -> None:
        """The server restarts with its data."""
        self.cluster.server.start()

    def flush(self) -> None:
        """The server loses its data."""
        self.truth.look()
        self.cluster.server.flush()
        self._snapshot = None

    def remember(self) -> None:
        """The server writes its data to the disk."""
        self._snapshot = self.cluster.server.snapshot()

    def go_back(self) -> None:
        """The server dies, and comes back with what was on the disk."""
        if self._snapshot is not None:
            self.truth.look()
            self.cluster.server.stop()
            self.cluster.server.restore(self._snapshot)
            self.cluster.server.start()
            self._snapshot = None

    # Time.

    def pass_time(self) -> None:
        """Some time passes."""
        self.cluster.advance(self.random.choice((0.001, 0.005, 0.02, 0.1, 1.0)))

    def wait_long(self) -> None:
        """Much time passes."""
        self.cluster.advance(self.random.choice((16.0, 40.0)))

    def connect_all(self) -> None:
        """Have clients connect that are not connected, at any gateway."""
        for client, outlet in list(self.outlets.items()):
            if not outlet.open and self.random.random() < 0.5:
                self._connect(client)

    def _connect(self, client: Client) -> None:
        if client.ended not in (None, "stopping"):
            raise Broken(f"{client.name} was told to end: {client.ended}")
        outlet = self.outlets[client] = Outlet(self, client)
        lines = self.random.random() < 0.3
        positions = parse(client.begin(lines=lines), client.maps)
        wanted = [
            Wanted(name, position, None if client.sees is _everything else client.sees)
            for name, position in zip(client.maps, positions, strict=True)
        ]
        hub = self.random.choice(self.gateways).hub
        outlet.follower = hub.follow(client.name, wanted, LINES if lines else EVENTS)
        if lines:
            outlet.follower.ready().addCallbacks(lambda _: _begin(outlet), partial(_refused, outlet))
        else:
            _begin(outlet)

    # The end.

    def heal(self) -> None:
        """Undo all faults, and let everybody catch up."""
        self.unstall()
        for outlet in self.outlets.values():
            outlet.read_again()
        for _ in range(20):
            self.connect_all()
            self.cluster.advance(2)
        # Now all are told at once, without a keep-alive in between that would have them look.
        self.burst()
        self.cluster.advance(2)

    def check_so_far(self) -> None:
        """Raise what a client has found: it was called by code that catches errors."""
        for client in self.outlets:
            if client.broken:
                raise Broken(f"{client.name}: {client.broken[0]}")

    def check(self) -> None:
        """Check that each client has all there is."""
        self.check_so_far()
        self.truth.look()
        for client in self.outlets:
            client.check_end()

    def close(self) -> None:
        """End all; nothing may be left."""
        for gateway in self.gateways:
            gateway.hub.close()
        self.cluster.advance(3)
        for gateway in self.gateways:
            for node in gateway.nodes:
                self.cluster.result(node.close())
        self.cluster.advance(60)
        self.cluster.close()


def _everything(_: str) -> bool:
    return True


def _unhidden(key: str) -> bool:
    return not key.startswith("hidden")


def _begin(outlet: Outlet) -> None:
    if outlet.open and outlet.follower is not None:
        outlet.follower.begin(outlet)


def _refused(outlet: Outlet, failure: Any) -> None:
    outlet.open = False
    if failure.check(HistoryLost):
        outlet.client.refused(str(failure.value))
    elif not failure.check(Problem):
        failure.raiseException()


def _encoded(record: Record) -> bytes:
    return encode({"map": record.map, "key": record.key, "kind": record.kind, "revision": str(record.revision)})


def _prepare(stack: ExitStack, chance: Random) -> None:
    """Make rings, bites and pages small, so that their ends are met; one key unreadable; and all chance the seed's."""
    shown = history._shown
    stack.enter_context(patch.object(backoff, "uniform", chance.uniform))
    stack.enter_context(patch.object(coordinator, "uuid4", lambda: UUID(int=chance.getrandbits(128), version=4)))
    stack.enter_context(patch.object(feed, "Ring", partial(ring.Ring, 6, 1 << 20)))
    stack.enter_context(patch.object(ring, "BITE", 1_200))
    stack.enter_context(patch("coord.client.watch._LINES", 4))
    stack.enter_context(
        patch.object(history, "_shown", lambda *given: None if given[1] == b"unreadable" else shown(*given))
    )


def play(seed: int, steps: int = 120) -> tuple[int, int]:
    """Play a schedule; return how many changes were shown, and how often history was lost. Raises `Broken`."""
    with ExitStack() as stack:
        chance = Random(seed)
        _prepare(stack, chance)
        world = World(chance)
        try:
            for name in world.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=steps):
                getattr(world, name)()
                world.check_so_far()
                world.connect_all()
            world.heal()
            world.check()
        except Broken:
            # What is left of it ends here, and not when the interpreter does.
            with suppress(AssertionError):
                world.close()
            raise
        world.close()
        return sum(each.shown for each in world.outlets), sum(each.lost for each in world.outlets)
