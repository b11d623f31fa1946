"""The world of a cluster of two shards, whose slots move key by key. Each map is looked at by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import coord
from coord.core.names import MEMBERS, MapNames, acks_of
from coord.link.link import LinkState
from coord.session.session import Session
from memory.shards import MemoryCluster, ShardServer
from memory.slots import Asked, slot_of
from memory.wires import Wires
from simulation.books import Books
from simulation.clock import NodeClock, SimClock
from simulation.evidence import Evidence
from simulation.history import Fault, Trouble
from simulation.moving import Moving
from simulation.node import SimNode
from simulation.setup import Setup
from simulation.world import World

__all__ = ["ShardedNode", "ShardedWorld"]

_URL = "redis+cluster://127.0.0.1:7001,127.0.0.1:7002/"

_SKEWS = (0.000_37, 0.000_37, 0.5, -0.5, 30.0, -30.0)
"""Seconds by which the clock of the second server is off. Never 0: two processes begin no generation at one time."""


class _Server(ShardServer):
    """A server of a cluster that says when it has worked."""

    _cluster: _Cluster
    _seen = 0

    @property
    def written(self) -> int:
        """Where its stream to its replica is."""
        return self._written

    @property
    def offset(self) -> float:
        """How far its clock is ahead of the virtual time."""
        return self._offset

    def worked(self) -> None:
        """Look what was changed, if anything may have been; also where a command stood behind a WAIT."""
        written, self._seen = self.writes > self._seen, self.writes
        self._cluster.worked(written)

    def acknowledged(self, offset: int) -> int:
        """Note what was changed before."""
        self._cluster.worked(True)
        return super().acknowledged(offset)

    def _acknowledge(self, offset: int) -> None:
        super()._acknowledge(offset)
        self._cluster.acknowledged(self.run_id, self._acknowledged)


class _Cluster(MemoryCluster):
    def __init__(
        self, clock: SimClock, setup: Setup, worked: Callable[[bool], None], acknowledged: Callable[[str, int], None]
    ) -> None:
        self.worked, self.acknowledged = worked, acknowledged
        super().__init__(clock, "valkey" if setup.sharded == "valkey" else "redis")

    def new_server(self, port: int) -> ShardServer:
        return _Server(self.clock, self, port)


class _Place:
    """Where a map is now."""

    def __init__(self, world: ShardedWorld, names: MapNames) -> None:
        self._world = world
        self._names = names

    @property
    def server(self) -> _Server:
        """The server that has its records, or would get them."""
        having = (each for each in self._world.primaries if self._names.records in each.fake.dbs[0])
        return next(having, None) or self._world.serving(self._names.name)

    @property
    def process(self) -> str:
        """The name of that server's process."""
        return self.server.run_id

    @property
    def written(self) -> int:
        """Where that server's stream is."""
        return self.server.written

    def item(self, key: bytes) -> Any:
        """Return what a key has, wherever it is."""
        for server in self._world.primaries:
            found = server.fake.dbs[0]._dict.get(key)
            if found is not None:
                return found
        return None

    def now(self) -> float:
        """Return what the server's clock shows."""
        return self.server.now()

    def linked(self) -> frozenset[int]:
        """Return the lives whose link of the map leads there."""
        server, name = self.server, self._names.name
        return frozenset(node.life.number for node in self._world.nodes if node.asks(server, name))


class ShardedNode(SimNode):
    """A node that uses a cluster."""

    world: ShardedWorld
    network: Wires

    def connect(self) -> None:
        """Make its clock, its network, and the coordinator."""
        world, setup = self.world, self.world.setup
        self.clock = NodeClock(world.clock)
        self.network = Wires(self.clock, world.cluster.at, world.deliver_to(self.life.number), world.clock)
        reactor: Any = self.network
        self.coordinator = coord.connect(
            _URL,
            node=self.life.node,
            reactor=reactor,
            heartbeat=setup.heartbeat,
            cache_size=setup.cache,
            lease=setup.lease,
            grace=setup.grace,
        )
        sessions: Any = self.coordinator._sessions
        of, noted = sessions.of, WeakSet[Session]()

        def of_map(name: str) -> Session:
            session: Session = of(name)
            if session not in noted and not self.life.over:
                noted.add(session)
                self._note(session, name.partition("/")[0])
            return session

        sessions.of = of_map

    def _note(self, session: Session, name: str) -> None:
        links, reached = self.life.by_map[name] = [], []
        status = session.link_status
        self.note_links(links, status.state, status.on_link)

        def linked(state: LinkState, _: str) -> None:
            if state is LinkState.CONNECTED and name in self.world.groups:
                self.world.linked(self, session, name)

        def has_reached() -> None:
            if self.life.crashed is None:
                reached.append((self.world.history.now(), 0))

        status.on_link(linked)
        if self.world.setup.held:
            self.note_renewals(session, has_reached)

    def _link(self, name: str) -> Any:
        """Return the link of a map, if it has one: to look must not make one."""
        sessions: Any = self.coordinator._sessions
        session = sessions._sessions.get(name)
        return None if session is None else session.link

    def asks(self, server: ShardServer, name: str) -> bool:
        """Whether the link of a map is up, and a connection that is no subscriber leads to this server."""
        link = self._link(name)
        up = link is not None and link.up and link.shard is not None
        return up and self.far_end(link.shard.connections) is server

    def is_guest(self, name: str) -> bool:
        """Whether it is a guest of the server that is about to get a map."""
        link = self._link(name)
        return link is not None and bool(link.guest)


class ShardedWorld(World):
    """All of one run on two shards with a replica each; ``moves`` are the maps whose slots are on their way.

    The slots of the first two maps are the first server's; those of the third one and of the members are the second's.
    """

    nodes: list[ShardedNode]  # type: ignore[assignment]  # each is one

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.moves: dict[str, Moving] = {}
        self.leftovers: dict[str, int] = {}
        self._books: dict[str, Books] = {}
        self.groups = self._maps()
        self.cluster = _Cluster(self.clock, setup, self._worked, self._acknowledged)
        for number, server in enumerate(self.cluster.servers[:]):
            server.step_clock(number * _SKEWS[setup.seed % len(_SKEWS)])
            replica = self.cluster.add_replica(server, 7003 + number)
            replica.step_clock(number * _SKEWS[setup.seed // 2 % len(_SKEWS)] + 0.000_11)
        for name, names in self.groups.items():
            self._open(name, names)
        self.nodes += (self.new_node(index) for index in range(setup.nodes))

    def _maps(self) -> dict[str, tuple[MapNames, ...]]:
        """Return which maps belong together."""
        if not self.setup.acks:
            return {name: (names,) for name, names in self.names.items()}
        found = {name: (names, self.beside[acks_of(name)]) for name, names in self.names.items()}
        return {**found, MEMBERS: (self.beside[MEMBERS],)}

    def _open(self, name: str, maps: tuple[MapNames, ...]) -> None:
        place = _Place(self, maps[0])
        books = self._books[name] = Books(self.history, 0, maps, place)
        books.timed = self.setup.timed
        books.keeps_holders, books.lease = self.setup.lease > 0, self.setup.lease
        books.step(place.server.offset)
        self.history.replicas.append((books.born, 0, 1))

    def new_node(self, index: int) -> ShardedNode:
        """Start a node."""
        return ShardedNode(self, index)

    # Its servers.

    @property
    def primaries(self) -> list[_Server]:
        """The servers that have slots."""
        servers: list[Any] = self.cluster.servers
        return [server for server in servers if server.slots.primary is None]

    def slot(self, name: str) -> int:
        """Return the slot of a map."""
        return slot_of(MapNames("default", name, 0).records)

    def owner(self, name: str) -> _Server:
        """Return the server that has a map's slot."""
        server: Any = self.cluster.owner(self.slot(name))
        return server  # type: ignore[no-any-return]

    def serving(self, name: str) -> _Server:
        """Return the server to which those go who want a map."""
        moving = self.moves.get(name)
        if moving is None or not moving.serves_at_target:
            return self.owner(name)
        server: Any = moving.target
        return server  # type: ignore[no-any-return]

    def _worked(self, written: bool) -> None:
        for books in self._books.values() if written else ():
            books.look()
            if books.keeps_holders:
                books.look_at_holders(None)
        if self.setup.lease:
            self.history.check_deadlines(self.setup.lease)

    def _acknowledged(self, process: str, place: int) -> None:
        self.history.acknowledged.append((self.history.now(), process, place))

    def came(self, name: str) -> None:
        """Have the books of a map go by the clock of its server."""
        place: Any = self._books[name].place
        if place.server.offset != self._books[name].steps[-1][1]:
            self._books[name].step(place.server.offset)

    def books(self, name: str) -> Books:
        """Return the books of a map."""
        return self._books[name.partition("/")[0]]

    def evidence(self) -> list[Evidence]:
        """Return that of each map."""
        rest = self.history.now()
        every = self._books.items()
        return [Evidence(self.history, self.setup, [books], books, rest, name) for name, books in every]

    def subscribed(self) -> dict[str, int]:
        """Return how many connections are subscribed to each channel of a map, at the server that serves it."""
        ports = {self.slot(name): self.serving(name).port for name in self._books}
        found: dict[str, int] = {}
        for server in self.cluster.servers:
            for channel, members in server.fake.ssubscribers.items():
                if members and ports.get(slot_of(channel)) == server.port:
                    found[channel.decode()] = len(members)
        return found

    def left_behind(self, channel: str) -> int:
        """Return how many may be left: where a move was called off, the server refuses to end one (MOVED)."""
        return self.leftovers.get(channel, 0)

    def called_off(self, moving: Moving) -> None:
        """Note who is subscribed where a map does not come."""
        for channel, members in moving.target.fake.ssubscribers.items():
            if slot_of(channel) == moving.slot:
                name = channel.decode()
                self.leftovers[name] = self.leftovers.get(name, 0) + len(members)

    def set_clocks_ahead(self) -> None:
        """Set all clocks to that of the server whose is the furthest."""
        highest = max(server.offset for server in self.primaries)
        for server in self.primaries:
            server.step_clock(highest - server.offset)
        for name in self._books:
            self.came(name)

    def look(self) -> None:
        """There is nothing to be seen."""

    # What was broken.

    def note(self, verb: str, name: str = "") -> None:
        """Write down what was broken, perhaps for one map only."""
        self.history.faults.append(Fault(self.history.now(), verb, name))

    def trouble(self, kind: str, since: Any, name: str = "") -> None:
        """Write down a trouble that is over."""
        self.history.troubles.append(Trouble(kind, 0, since, self.history.now(), name))

    def linked(self, node: ShardedNode, session: Session, name: str) -> None:
        """Check that the link of a map is made only where it is served."""
        link: Any = session.link
        server = self.cluster.at(link.shard.address.port)
        names = MapNames("default", name, 0)
        refusal = server.slots.refusal(Asked([names.records], asking=link.guest), server.fake.dbs[0].__contains__)
        # What was read there is as old as its way back.
        since = self.clock.seconds() - 2 * self.setup.slowest - 0.01
        if refusal is not None and not self._broken(name, since):
            words = f"n{node.index} is linked to {server.port} for {name}, which says {refusal}"
            self.history.wrong.append(("link", words))

    def _broken(self, name: str, since: float) -> bool:
        """Whether anything was broken for a map since a time, or is."""
        now = any(server.hung or server.slots.down for server in self.cluster.servers)
        return now or any(fault.moment[1] >= since for fault in self.history.faults if fault.map in ("", name))
