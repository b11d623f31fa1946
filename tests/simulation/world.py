"""Nodes and servers on one clock, and what it takes to bring them to rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from random import Random
from typing import Any
from uuid import UUID

from twisted.logger import LogLevel, globalLogPublisher

import coord.client.coordinator
import coord.client.listings
import coord.client.watch
import coord.core.calls
import coord.link.backoff
from coord.core.names import MEMBERS, MapNames, acks_of
from coord.testing import Delivery
from simulation.books import Books
from simulation.breaking import replace
from simulation.clock import SimClock, WallClock
from simulation.evidence import Evidence
from simulation.history import History, Key
from simulation.node import SimNode
from simulation.setup import Setup, delay_of

__all__ = ["World", "deterministic", "own_time"]

_PATIENCE = 90.0
"""Virtual seconds in which a world without faults has to come to rest."""


class World(ABC):
    """All of one run; see `Setup`. Which servers there are is for its subclasses to say."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clock = SimClock()
        self.history = History(self.clock)
        alone = bool(setup.sharded)
        maps = [f"m{number}" for number in range(setup.maps)]
        self.names = {name: MapNames("default", name, 0, alone=alone) for name in maps}
        # What coord keeps in maps of its own.
        beside = (MEMBERS, *map(acks_of, self.names)) if setup.acks else ()
        self.beside = {name: MapNames("default", name, 0, alone=alone) for name in beside}
        # Those that crashed or were closed.
        self.gone: list[SimNode] = []
        self.nodes: list[SimNode] = []

    # Its servers.

    @abstractmethod
    def books(self, name: str) -> Books:
        """Return the books of a map, where the data are that count."""

    @abstractmethod
    def evidence(self) -> list[Evidence]:
        """Return what the checkers look at, each by itself, as of now."""

    @abstractmethod
    def subscribed(self) -> dict[str, int]:
        """Return how many connections are subscribed to each channel, where that counts."""

    def left_behind(self, channel: str) -> int:
        """Return how many subscriptions to a channel may be left that nobody needs."""
        return 0

    @abstractmethod
    def set_clocks_ahead(self) -> None:
        """Set no clock of a server back: to where the furthest has ever been."""

    @abstractmethod
    def new_node(self, index: int) -> SimNode:
        """Start a node."""

    @property
    def every_books(self) -> list[Books]:
        """The books of all maps."""
        return list({id(books): books for books in map(self.books, (*self.names, *self.beside))}.values())

    @property
    def set_back(self) -> float:
        """Seconds by which clocks of servers were set back in all."""
        return sum(books.set_back for books in self.every_books)

    @property
    def serials(self) -> list[int]:
        """All holders that there are now, of events and of locks, by their serials."""
        return sorted(held.serial for books in self.every_books for held in books.holders.values())

    @abstractmethod
    def look(self) -> None:
        """Take note of what can be seen between two steps."""

    # What numbers stand for.

    def deliver_to(self, number: int) -> Callable[[Delivery], float]:
        """Return what decides how long deliveries of one node take: the same for the same seed, each by itself."""
        seed, latency = self.setup.seed, self.setup.latency
        counts: dict[tuple[int, bool], int] = {}

        def deliver(delivery: Delivery) -> float:
            way = delivery.connection, delivery.direction == "to server"
            count = counts[way] = counts.get(way, 0) + 1
            return delay_of(latency, hash((seed, number, *way, count)))

        return deliver

    def node_name(self, index: int, number: int) -> str:
        """Return the name of a node's next process: those of one place share it if they acknowledge."""
        acks = self.setup.acks
        return f"n{index % acks}" if acks else f"n{index}-{number}"

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
        self.nodes[node.index] = self.new_node(node.index)

    # Coming to rest.

    def busy(self) -> str:
        """Return what is still going on, in words; or nothing."""
        for node in self.nodes:
            reason = node.busy()
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


def own_time(reactor: WallClock) -> Any:
    """Return the time that does not step, beside a node's reactor that goes by the time of day."""
    return reactor.steady


@contextmanager
def deterministic(setup: Setup, world_history: Callable[[], History | None]) -> Iterator[None]:
    """Take chance out of coord, and note what it logs as an error."""
    chance = Random(setup.seed)
    topology: Any = import_module("coord.link.topology")
    coordinator: Any = coord.client.coordinator
    position: Any = coord.client.listings._Position.__new__
    defaults = position.__defaults__
    if setup.acks:
        # fakeredis has one cursor for all listings of a map: where many wait for acknowledgements, each is one request.
        first, most = coord.client.listings._FIRST, coord.client.listings._MOST
        defaults = tuple(most if default == first else default for default in defaults)
    changes: list[tuple[Any, str, Any]] = [
        (position, "__defaults__", defaults),
        # A watch asks for a 64th of this at least: one line, as records here are large beside the limit of replies.
        (coord.client.watch, "_LINES", 64),
        (coord.link.backoff, "uniform", chance.uniform),
        # Nobody runs a server of its own here.
        (import_module("coord.link.discovery"), "password_of", lambda port: None),
        (topology, "uniform", chance.uniform),
        (topology, "shuffle", chance.shuffle),
        (coord.core.calls, "MAX_BATCH_CALLS", setup.batch),
        (coordinator, "steady", lambda reactor: own_time(reactor)),
        (coordinator, "uuid4", lambda: UUID(int=chance.getrandbits(128), version=4)),
    ]

    def observe(event: Any) -> None:
        history = world_history()
        if event.get("log_level") is LogLevel.critical and history is not None:
            failure = event.get("log_failure")
            history.wrong.append(("noise", failure.getTraceback() if failure else str(event.get("log_format"))))

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    with ExitStack() as stack:
        stack.callback(publisher.removeObserver, observe)
        for owner, name, new in changes:
            replace(stack, owner, name, new)
        yield
