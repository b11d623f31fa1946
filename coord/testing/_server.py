"""A Redis in memory: fakeredis behind a Twisted protocol, with faults as verbs."""

from collections import defaultdict
from secrets import token_hex
from typing import Literal

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from coord.testing._connection import ServerConnection
from coord.testing._fakeredis import FakeServer
from coord.testing._shapes import Clock

__all__ = ["EPOCH", "MemoryServer"]

EPOCH = 1_763_820_000.0
"""What a server's wall clock shows (epoch seconds) where the test's clock shows 0."""


class _Members(dict[object, None]):
    """The subscribers of a channel, in the order they came: fakeredis's weak sets have none."""

    def add(self, member: object) -> None:
        self[member] = None

    def discard(self, member: object) -> None:
        self.pop(member, None)

    remove = dict.__delitem__


class MemoryServer(Factory):
    """A Redis server without a socket or a thread: the protocol factory of its own end of each connection.

    ``replicas`` is how many replicas have all that is written: set it at any time. ``running`` and ``hung`` say what
    was done to it.
    """

    noisy = False
    version = "7.0.15"
    replicas = 0

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.running = True
        self.hung = False
        self.fake = FakeServer(version=tuple(map(int, self.version.split("."))))
        for members in ("subscribers", "psubscribers", "ssubscribers"):
            setattr(self.fake, members, defaultdict(_Members))
        self._connections: dict[ServerConnection, None] = {}
        self._received: list[tuple[ServerConnection, bytes | None]] = []
        self.name_run()

    # --- looks -----------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[ServerConnection, ...]:
        """The connections it has, in the order they were made."""
        return tuple(self._connections)

    def now(self) -> float:
        """Return the server's wall clock (epoch seconds)."""
        return EPOCH + self.clock.seconds()

    def info(self) -> dict[str, dict[str, str]]:
        """Return what INFO says: section, field, value."""
        return {
            "server": {"redis_version": self.version, "redis_mode": "standalone", "run_id": self.run_id},
            "clients": {"connected_clients": str(len(self._connections))},
            "persistence": {"loading": "0"},
            "replication": {
                "role": "master",
                "connected_slaves": str(self.replicas),
                "master_replid": self.replid,
                "master_replid2": "0" * 40,
            },
        }

    # --- faults ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Die: every connection drops, new ones are refused, the data stays as on a disk."""
        self.running = self.hung = False
        self._received.clear()
        self.drop_connections()

    def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        """Come back as another server process, with the data it had or without any."""
        if self.running:
            self.stop()
        self.running = True
        self.fake.script_cache.clear()
        if data == "empty":
            self.flush()
        self.name_run()

    def hang(self) -> None:
        """Answer nothing, as a stopped process: connections are accepted, and what comes kept."""
        self.hung = True

    def resume(self) -> None:
        """Go on after `hang`: all that came is processed, also from clients that went since."""
        self.hung = False
        received, self._received = self._received, []
        for connection, data in received:
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

    # --- its connections -------------------------------------------------------------------

    def accept(self) -> ServerConnection:
        """Return the server's end of a new connection."""
        return ServerConnection(self)

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:  # noqa: ARG002
        """Return the server's end of a new connection; None refuses it."""
        return self.accept() if self.running else None

    def opened(self, connection: ServerConnection) -> None:
        """Count it among the connections."""
        self._connections[connection] = None

    def closed(self, connection: ServerConnection) -> None:
        """Count it no more."""
        self._connections.pop(connection, None)

    def received(self, connection: ServerConnection, data: bytes | None) -> None:
        """Let a connection process what came (None: its end), now or when the server goes on."""
        if self.hung:
            self._received.append((connection, data))
        elif connection in self._connections:
            connection.feed(data)

    def name_run(self) -> None:
        """Be another process from now on, with a history of its own, as a primary is that starts."""
        self.run_id, self.replid = token_hex(20), token_hex(20)
