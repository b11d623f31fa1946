"""The server of `coord.testing` with nearly all that Redis has: users, replicas, troubles, and the data of a moment."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from time import time

from coord.clock import SteadyClock, steady
from coord.testing._server import EPOCH
from coord.testing._shapes import Clock
from memory.access import AccessList
from memory.connection import Connection
from memory.replication import Replication

__all__ = ["MemoryServer", "Snapshot"]

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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A server's data at one moment."""

    _data: bytes


class MemoryServer(Replication):
    """A Redis server without a socket or a thread, on any clock, also a reactor's: `reactor.listenTCP` may serve it.

    `loading`, `out_of_memory` and `trouble` (a name of `memory.troubles`, or nothing) make it refuse as Redis
    does; a client that is owed more than `reply_limit` bytes is closed; `config` is what CONFIG GET answers. See
    `Replication` for `role`, `replicas` and `lag`. All of these may be set at any time. Nothing is random: the same
    commands at the same times get the same answers, to the byte and in the same order.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(steady(clock))
        self.loading = False
        self.out_of_memory = False
        self.trouble = ""
        self.reply_limit: int | None = None
        # How many commands that may write were run.
        self.writes = 0
        self.config: dict[bytes, bytes] = self.fake.config
        self.config.update(_CONFIG)
        self.fake.acl = AccessList(self.config)
        # A reactor's clock shows the epoch by itself, a task.Clock the seconds since its making.
        shown = time() if isinstance(clock, SteadyClock) else clock.seconds()
        self._offset = EPOCH if shown < EPOCH / 2 else shown - self.clock.seconds()
        # Seconds by which the clock was set back in all: what is due is due so much later.
        self.set_back = 0.0

    # --- looks -----------------------------------------------------------------------------

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
                "maxmemory": self.config[b"maxmemory"].decode(),
                "maxmemory_policy": self.config[b"maxmemory-policy"].decode(),
            },
            "persistence": {
                "loading": str(int(self.loading)),
                "aof_enabled": str(int(self.config[b"appendonly"] == b"yes")),
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

    def script_flush(self) -> None:
        """Forget all scripts, as SCRIPT FLUSH."""
        self.fake.script_cache.clear()

    def step_clock(self, seconds: float) -> None:
        """Set the server's wall clock forward, or back where negative."""
        self._offset += seconds
        self.set_back += max(0.0, -seconds)

    def set_password(self, password: str | None) -> None:
        """Ask a password of the connections to come, or no more; those that are in stay in."""
        self.config[b"requirepass"] = (password or "").encode()

    def snapshot(self) -> Snapshot:
        """Return the data as it is now."""
        databases = {number: db._dict for number, db in self.fake.dbs.items()}
        return Snapshot(pickle.dumps(databases, protocol=pickle.HIGHEST_PROTOCOL))

    def restore(self, snapshot: Snapshot) -> None:
        """Have exactly the data of `snapshot`, which may be another server's."""
        databases = pickle.loads(snapshot._data)  # our own, from snapshot()
        self.flush()
        for number, items in databases.items():
            self.fake.dbs[number].update(items)

    # --- its connections -------------------------------------------------------------------

    def accept(self) -> Connection:
        return Connection(self)

    def worked(self) -> None:
        """Hear that a connection has carried out what it was asked: for subclasses that look on."""
