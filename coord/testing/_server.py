"""A Redis in memory: fakeredis behind a Twisted protocol, with faults as verbs."""

import pickle
from collections import defaultdict
from dataclasses import dataclass
from time import time
from typing import Literal
from weakref import WeakKeyDictionary

from fakeredis._core import FakeServer
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from coord.clock import SteadyClock, steady
from coord.testing._access import AccessList
from coord.testing._connection import ServerConnection
from coord.testing._replication import Replication, digits
from coord.testing._shapes import Clock

EPOCH = 1_763_820_000.0
"""What a server's clock shows (epoch seconds) where the test's clock shows 0."""

_CONFIG = {
    b"requirepass": b"",
    b"databases": b"16",
    b"maxmemory": b"0",
    b"maxmemory-policy": b"noeviction",
    b"appendonly": b"yes",
    b"appendfsync": b"everysec",
    b"save": b"",
    b"client-output-buffer-limit": (b"normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    b"min-replicas-to-write": b"0",
    b"notify-keyspace-events": b"",
}


class _Members(dict[object, None]):
    """The subscribers of a channel, in the order they came: fakeredis's weak sets have none."""

    def add(self, member: object) -> None:
        self[member] = None

    def discard(self, member: object) -> None:
        self.pop(member, None)

    def remove(self, member: object) -> None:
        del self[member]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A server's data at one moment."""

    _data: bytes


class MemoryServer(Replication, Factory):
    """A Redis server without a socket or a thread, on any clock.

    It is the protocol factory of its own end of a connection: `MemoryEndpoint` joins clients to it,
    and `reactor.listenTCP(0, server)` serves it to anybody.

    `loading`, `out_of_memory` and `trouble` (a name of `coord.testing._troubles`, or nothing) make it refuse as Redis
    does; a client that is owed more than `reply_limit` bytes is closed; `config` is what CONFIG GET answers. See
    `Replication` for `role`, `replicas` and `lag`. All of these may be set at any time. Nothing is random: the same
    commands at the same times get the same answers, to the byte and in the same order.
    """

    noisy = False
    protocol = ServerConnection

    def __init__(self, clock: Clock, *, version: str = "7.0.15") -> None:
        super().__init__()
        self.clock: Clock = steady(clock)
        self.version = version
        self.loading = False
        self.out_of_memory = False
        self.trouble = ""
        self.reply_limit: int | None = None
        self.hung = False
        self.running = True
        self.fake = FakeServer(version=tuple(map(int, version.split("."))), config=dict(_CONFIG))
        self.fake.acl = AccessList(self.fake.config)
        self.fake.subscribers = defaultdict(_Members)
        self.fake.psubscribers = defaultdict(_Members)
        self.fake.ssubscribers = defaultdict(_Members)
        self.config: dict[bytes, bytes] = self.fake.config
        # A reactor's clock shows the epoch by itself, a task.Clock the seconds since its making.
        shown = time() if isinstance(clock, SteadyClock) else clock.seconds()
        self._offset = EPOCH if shown < EPOCH / 2 else shown - self.clock.seconds()
        self._number = _number_on(clock)
        self._starts = 0
        self._connections: dict[ServerConnection, None] = {}
        self._held: list[tuple[ServerConnection, bytes | None]] = []
        self._name_run()

    # --- looks -----------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[ServerConnection, ...]:
        """The connections it has, in the order they were made."""
        return tuple(self._connections)

    @property
    def channels(self) -> dict[str, int]:
        """How many connections are subscribed to each channel that has any."""
        subscribers = self.fake.subscribers
        return {name.decode(): len(members) for name, members in subscribers.items() if members}

    @property
    def troubled(self) -> tuple[str, ...]:
        """The troubles it is in, in the order in which Redis looks."""
        if not (self.loading or self.out_of_memory or self.trouble or self.role != "master"):
            return ()
        named = ("loading", self.loading), ("readonly", self.role != "master"), ("oom", self.out_of_memory)
        return (*([self.trouble] if self.trouble else ()), *(name for name, there in named if there))

    def now(self) -> float:
        """Return the server's wall clock (epoch seconds)."""
        return self.clock.seconds() + self._offset

    def info(self) -> dict[str, dict[str, str]]:
        """Return what INFO says: section, field, value."""
        config = {name.decode(): value.decode() for name, value in self.config.items()}
        return {
            "server": {
                "redis_version": self.version,
                "redis_mode": "standalone",
                "run_id": self.run_id,
                "tcp_port": "6379",
                "server_time_usec": str(int(self.now() * 1e6)),
            },
            "clients": {"connected_clients": str(len(self._connections))},
            "memory": {
                "used_memory": "1000000",
                "maxmemory": config["maxmemory"],
                "maxmemory_policy": config["maxmemory-policy"],
            },
            "persistence": {
                "loading": str(int(self.loading)),
                "aof_enabled": str(int(config["appendonly"] == "yes")),
            },
            "stats": {"pubsub_channels": str(len(self.channels))},
            "replication": {
                "role": self.role,
                "connected_slaves": str(self.replicas),
                "master_replid": self.replid,
                "master_replid2": self.replid2,
                **self.progress(),
            },
            "keyspace": {
                f"db{number}": f"keys={len(db)},expires=0,avg_ttl=0" for number, db in self.fake.dbs.items() if len(db)
            },
        }

    # --- faults ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Die: every connection drops, new ones are refused, the data stays as on a disk."""
        self.running = self.hung = False
        self._held.clear()
        self.drop_connections()

    def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        """Come back as another server process, with the data it had or without any."""
        if self.running:
            self.stop()
        self.running = True
        self.script_flush()
        if data == "empty":
            self.flush()
        self._name_run()

    def hang(self) -> None:
        """Answer nothing, as a stopped process: connections are accepted, and what comes kept."""
        self.hung = True

    def resume(self) -> None:
        """Go on after `hang`: all that came is processed, also from clients that went since."""
        self.hung = False
        held, self._held = self._held, []
        for connection, data in held:
            self.received(connection, data)
        for connection in self.connections:
            connection.flush_later()

    def drop_connections(self, kind: Literal["all", "subscribers", "commands"] = "all") -> None:
        """Close connections from this side; those with a subscription are `subscribers`."""
        for connection in self.connections:
            if kind in ("all", connection.kind):
                connection.drop()

    def flush(self) -> None:
        """Forget all data, as FLUSHALL."""
        with self.fake.lock:
            for db in self.fake.dbs.values():
                db.clear()

    def script_flush(self) -> None:
        """Forget all scripts, as SCRIPT FLUSH."""
        self.fake.script_cache.clear()

    def step_clock(self, seconds: float) -> None:
        """Set the server's wall clock forward, or back where negative."""
        self._offset += seconds

    def set_password(self, password: str | None) -> None:
        """Ask a password of the connections to come, or no more; those that are in stay in."""
        self.config[b"requirepass"] = (password or "").encode()

    def snapshot(self) -> Snapshot:
        """Return the data as it is now."""
        databases = {number: db._dict for number, db in self.fake.dbs.items()}
        return Snapshot(pickle.dumps(databases, protocol=pickle.HIGHEST_PROTOCOL))

    def restore(self, snapshot: Snapshot) -> None:
        """Have exactly the data of `snapshot`, which may be another server's."""
        databases = pickle.loads(snapshot._data)  # noqa: S301  # our own, from snapshot()
        self.flush()
        for number, items in databases.items():
            self.fake.dbs[number].update(items)

    # --- what its connections report -------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:  # noqa: ARG002
        """Return the server's end of a new connection; None refuses it."""
        return ServerConnection(self) if self.running else None

    def opened(self, connection: ServerConnection) -> None:
        """Count it among the connections."""
        self._connections[connection] = None

    def closed(self, connection: ServerConnection) -> None:
        """Count it no more."""
        self._connections.pop(connection, None)

    def received(self, connection: ServerConnection, data: bytes | None) -> None:
        """Let a connection process what came (None: its end), now or when the server goes on."""
        if self.hung:
            self._held.append((connection, data))
        elif connection in self._connections:
            connection.feed(data)

    def worked(self) -> None:
        """Hear that a connection has carried out what it was asked: for subclasses that look on."""

    def _name_run(self) -> None:
        # Counted, not random: a simulation's schedule must replay to the byte.
        self._starts += 1
        self.run_id = digits(f"server {self._number}, start {self._starts}")
        self.name_data()


_servers: WeakKeyDictionary[object, int] = WeakKeyDictionary()


def _number_on(clock: Clock) -> int:
    """Count the servers of a clock: those that may meet differ, and do so each time alike."""
    number = _servers[clock] = _servers.get(clock, 0) + 1
    return number
