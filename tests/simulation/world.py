"""Nodes, servers and networks on one clock, and what it takes to bring them to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

import coord.client.coordinator
import coord.client.watch
import coord.core.calls
import coord.link.backoff
from coord.client.coordinator import Coordinator, connect
from coord.client.events import EventMap
from coord.core.entries import Entry
from coord.core.names import MapNames
from coord.core.subscriptions import Phase
from coord.link.link import LinkState
from coord.testing import Delivery, MemoryEndpoint
from simulation.clock import SimClock, WallClock
from simulation.history import Astray, History, Hold, Key, NodeLife, Request, Wait, Watching
from simulation.servers import Mark, SimServer

__all__ = ["Setup", "SimNode", "World", "deterministic", "own_time"]

_PATIENCE = 90.0
"""Virtual seconds in which a world without faults has to come to rest."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same through one run.

    ``latency`` names how long deliveries take, see `delay_of`; ``cache`` is the size of each live cache, ``batch`` how
    many calls travel together at most, ``padding`` how many bytes longer each value is. ``timed``: events have TTLs,
    and their ends are waited for; such schedules are a family of their own. So are those in which keys are ``held``,
    with this ``lease`` and ``grace`` time. ``counters``: so many keys of each map are counted on, in another family;
    ``locks``: so many are locks, in a third one, which has leases, too.
    """

    seed: int
    nodes: int = 2
    maps: int = 1
    keys: int = 2
    latency: int = 1
    heartbeat: float = 2.0
    cache: int = 100
    batch: int = 256
    padding: int = 0
    timed: bool = False
    counters: int = 0
    locks: int = 0
    held: bool = False
    lease: float = 0.0
    grace: float = 0.0

    @property
    def pad(self) -> dict[str, str]:
        """What each value has in addition."""
        return {"pad": "." * self.padding} if self.padding else {}

    @property
    def slowest(self) -> float:
        """The longest that one delivery takes, in seconds."""
        return (0.0, 0.005, 0.3, 1.5)[self.latency]


def delay_of(latency: int, chance: int) -> float:
    """Return a delivery's delay in seconds, ``chance`` being any whole number."""
    part = (chance & 0xFFFF) / 0x10000
    pick = (chance >> 16) % 100
    match latency:
        case 0:
            return 0.0
        case 1:
            return part * 0.005
        case 2:
            return 0.0 if pick < 50 else part * (0.02 if pick < 90 else 0.3)
        case _:
            return part * (0.3 if pick < 96 else 1.5)


class SimNode:
    """One node: what runs (``coordinator``), and what its user holds of it."""

    def __init__(self, world: World, index: int) -> None:
        history = world.history
        setup = world.setup
        self.index = index
        self.wall = WallClock(world.clock)
        self.clock = self.wall.steady
        self.life = NodeLife(len(history.lives), f"n{index}", history.now(), setup.heartbeat)
        history.lives.append(self.life)
        self.network = MemoryEndpoint(world.primary, world.clock, world.deliver_to(self.life.number))
        address: Any = self.network
        self.coordinator: Coordinator = connect(
            address,
            node=f"n{index}-{self.life.number}",
            reactor=self.wall,
            heartbeat=setup.heartbeat,
            cache_size=setup.cache,
            lease=setup.lease,
            grace=setup.grace,
        )
        self.session = self.coordinator._session
        self.maps: dict[str, EventMap] = {name: self.coordinator.events(name) for name in world.names}
        # Why nothing that it asks is answered.
        self.silent: set[str] = set()
        self.pending: list[Wait] = []
        # Those that wait for the end of an event.
        self.ending: list[Wait] = []
        # Those that wait for a count.
        self.reaching: list[Wait] = []
        self.calling: list[Any] = []
        # Holds that are not over for their user.
        self.holding: list[Hold] = []
        # Requests for locks that are not over for their user.
        self.locking: list[Request] = []
        # Each watch with the gate that a slow watcher stands at, if it is one.
        self.watches: list[tuple[Watching, Deferred[None], list[Deferred[None] | None]]] = []
        self.life.links.append((self.life.born, str(self.coordinator.link), ""))
        self.coordinator.on_link(self._linked(history))
        if setup.held:
            for tasks in (self.session.heartbeat_tasks, self.session.link_made_tasks):
                tasks.append(lambda: self._reached(world))
            commands: Any = self.session.commands
            commands.renew = self._renewing(commands.renew)

    def _reached(self, world: World) -> None:
        if self.life.crashed is None:
            self.life.reached += ((world.history.now(), each.number) for each in world.servers if self.asks(each))

    def _renewing(self, renew: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
        def noted(names: MapNames, *arguments: Any, **options: Any) -> Deferred[Any]:
            self.life.renewed[names.name] = self.clock.seconds()
            return renew(names, *arguments, **options)

        return noted

    def _linked(self, history: History) -> Callable[[LinkState, str], None]:
        def linked(state: LinkState, reason: str) -> None:
            if self.life.crashed is None:
                self.life.links.append((history.now(), str(state), reason))

        return linked

    @property
    def awake(self) -> bool:
        """Whether its user can do something with it."""
        return not self.clock.frozen and not self.life.over

    def asks(self, server: SimServer) -> bool:
        """Whether its link is up, and a connection that is no subscriber leads to this server."""
        pair = self.session.link.connections
        if self.coordinator.link is not LinkState.CONNECTED or pair is None:
            return False
        for connection in self.network.connections:
            if connection.client.protocol is pair.command:
                far: Any = connection.server.protocol
                return far is not None and far.server is server
        return False

    def astray(self, server: SimServer) -> bool:
        """Whether its link leads to this server, which is a replica."""
        return server.demoted is not None and server.running and self.asks(server)

    @property
    def channels(self) -> list[str]:
        """What it should be subscribed to when nothing is under way."""
        own = f"coord:0:node:{self.coordinator.incarnation}"
        return [own, *(channel.decode() for channel in self.session.table.subscriptions)]

    def busy(self, world: World) -> str:
        """Return what is still going on, in words; or nothing."""
        session = self.session
        table = session.table
        if self.coordinator.link is not LinkState.CONNECTED:
            return f"its link is {self.coordinator.link}: {self.coordinator.reason}"
        if len(session.call_sender) or self.calling:
            return "a call is not answered"
        if not session.idle:
            return "something is to be sent or answered"
        for subscription in table.subscriptions.values():
            if subscription.phase is not Phase.ARMED:
                return f"{subscription.channel!r} is {subscription.phase.name}"
        for hold in self.holding:
            if hold.held is None or not hold.held.valid:
                return f"hold {hold.serial} is {'not valid' if hold.held else 'not answered'}"
        for watching, _, _ in self.watches:
            if watching.ended is None and not self._caught_up(watching, world):
                return f"the watch of {watching.map} from {watching.since} is not at the end"
        return ""

    def _caught_up(self, watching: Watching, world: World) -> bool:
        if not watching.items:
            return False
        head = world.primary.head(watching.map)
        return head is None or watching.items[-1][1].revision == head


class World:
    """All of one run; see `Setup`.

    ``other`` is a second server that can be reached: one that was replaced and takes itself for the primary still, or
    the primary's replica.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clock = SimClock()
        self.history = History(self.clock)
        self.names = {f"m{number}": MapNames("default", f"m{number}", 0) for number in range(setup.maps)}
        self.servers: list[SimServer] = []
        self.primary = self.new_server()
        self.primary.replicate(setup.seed % 2)
        self.other: SimServer | None = None
        self.saved: Mark | None = None
        # Those that crashed or were closed.
        self.gone: list[SimNode] = []
        self.nodes: list[SimNode] = []
        self.nodes += (SimNode(self, index) for index in range(setup.nodes))

    def new_server(self) -> SimServer:
        """Start another server, without data."""
        number = len(self.servers)
        server = SimServer(self.history, self.clock, number, self.names.values(), self._linked_to, self.servers)
        server.timed = self.setup.timed
        server.keeps_holders, server.lease = self.setup.held, self.setup.lease
        self.servers.append(server)
        return server

    def _linked_to(self, server: SimServer) -> frozenset[int]:
        return frozenset(node.life.number for node in self.nodes if node.asks(server))

    def deliver_to(self, number: int) -> Callable[[Delivery], float]:
        """Return what decides how long deliveries of one node take: the same for the same seed, each by itself."""
        seed, latency = self.setup.seed, self.setup.latency
        counts: dict[tuple[int, bool], int] = {}

        def deliver(delivery: Delivery) -> float:
            way = delivery.connection, delivery.direction == "to server"
            count = counts[way] = counts.get(way, 0) + 1
            return delay_of(latency, hash((seed, number, *way, count)))

        return deliver

    def where(self, number: int) -> Key:
        """Return the map and key that a number stands for."""
        setup = self.setup
        number %= setup.maps * setup.keys
        return f"m{number % setup.maps}", f"k{number // setup.maps}"

    def counter(self, number: int) -> Key:
        """Return the map and key of the counter that a number stands for."""
        setup = self.setup
        number %= setup.maps * setup.counters
        return f"m{number % setup.maps}", f"c{number // setup.maps}"

    def lock(self, number: int) -> Key:
        """Return the map and key of the lock that a number stands for."""
        setup = self.setup
        number %= setup.maps * setup.locks
        return f"m{number % setup.maps}", f"l{number // setup.maps}"

    @property
    def locks(self) -> list[Key]:
        """All locks that there are."""
        return [self.lock(number) for number in range(self.setup.maps * self.setup.locks)]

    def need(self, where: Key) -> int:
        """Return how many have to hold a key."""
        return 2 if (self.setup.seed + self.keys.index(where)) % 4 == 3 else 1

    @property
    def keys(self) -> list[Key]:
        """All keys that there are."""
        return [self.where(number) for number in range(self.setup.maps * self.setup.keys)]

    def channel(self, where: Key) -> bytes:
        """Return the channel of a key."""
        return self.names[where[0]].prefix + where[1].encode()

    def node(self, number: int) -> SimNode | None:
        """Return the node that a number stands for, if it is awake."""
        node = self.nodes[number % len(self.nodes)]
        return node if node.awake else None

    def replace(self, node: SimNode) -> None:
        """Start a new incarnation in a node's place."""
        self.gone.append(node)
        self.nodes[node.index] = SimNode(self, node.index)

    def look(self) -> None:
        """Take note of what can be seen between two steps: what replicas have, and whose link leads to one."""
        other = self.other
        if other is None or other.demoted is None:
            return
        other.catch_up()
        now = self.clock.seconds()
        for node in self.nodes:
            if node.astray(other):
                begin = max(other.demoted, node.life.links[-1][0])
                self.history.astray.append(Astray(node.life, begin, now))

    # Coming to rest.

    def busy(self) -> str:
        """Return what is still going on, in words; or nothing."""
        for node in self.nodes:
            reason = node.busy(self)
            if reason:
                return f"{node.life.name}: {reason}"
        wanted = [request for node in self.nodes for request in node.locking]
        owned = {request.where for request in wanted if request.lock is not None and request.lock.valid}
        return next((f"nobody owns {request.where}" for request in wanted if request.where not in owned), "")

    def rest(self) -> None:
        """Let time pass until nothing goes on any more; a world that does not come to rest is noted as wrong."""
        # A recovery, and the lease of somebody who died in it.
        patience = _PATIENCE + (4 * (self.setup.lease + self.setup.grace) if self.setup.locks else 0.0)
        end = self.clock.seconds() + patience
        pause = 0.002
        # What is under way, messages above all, arrives meanwhile.
        self.clock.advance(0.001 + 3 * self.setup.slowest)
        while self.busy():
            if self.clock.seconds() >= end:
                self.history.wrong.append(("recovers", f"no rest within {patience:g} s: {self.busy()}"))
                return
            self.clock.advance(pause)
            pause = min(2 * pause, 1.0)
            self.look()

    def entries(self, node: SimNode) -> Iterator[tuple[Key, Entry]]:
        """Yield the keys that a node's table holds."""
        for subscription in node.session.table.subscriptions.values():
            if isinstance(subscription, Entry):
                names = subscription.map.names
                yield (names.name, names.key_of(subscription.channel)), subscription


def own_time(reactor: WallClock) -> Any:
    """Return the time that does not step, beside a node's reactor that goes by the time of day."""
    return reactor.steady


@contextmanager
def deterministic(setup: Setup, world_history: Callable[[], History | None]) -> Iterator[None]:
    """Take chance out of coord, and note what it logs as an error."""
    chance = Random(setup.seed)
    backoff: Any = coord.link.backoff
    coordinator: Any = coord.client.coordinator
    calls: Any = coord.core.calls
    watch: Any = coord.client.watch
    before = backoff.uniform, coordinator.uuid4, calls.MAX_BATCH_CALLS, coordinator.steady, watch._LINES
    # A watch asks for a 64th of this at least: one line, as records here are large beside the limit of replies.
    watch._LINES = 64
    backoff.uniform = chance.uniform
    calls.MAX_BATCH_CALLS = setup.batch
    coordinator.steady = lambda reactor: own_time(reactor)
    coordinator.uuid4 = lambda: UUID(int=chance.getrandbits(128), version=4)

    def observe(event: Any) -> None:
        history = world_history()
        if event.get("log_level") is LogLevel.critical and history is not None:
            failure = event.get("log_failure")
            history.wrong.append(("noise", failure.getTraceback() if failure else str(event.get("log_format"))))

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    try:
        yield
    finally:
        publisher.removeObserver(observe)
        backoff.uniform, coordinator.uuid4, calls.MAX_BATCH_CALLS, coordinator.steady, watch._LINES = before
