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
"""The server's wall clock (epoch seconds) when the test's clock shows 0."""


class _Members(dict[object, None]):
    """The subscribers of a channel in order of subscription: fakeredis's weak sets have no order."""

    def add(self, member: object) -> None:
        self[member] = None

    def discard(self, member: object) -> None:
        self.pop(member, None)

    remove = dict.__delitem__


class MemoryServer(Factory):
    """A Redis server without a socket or a thread: the protocol factory for its end of each connection.

    ``replicas`` is how many replicas have every write: set it at any time. ``running`` and ``hung`` are its state.
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
        """Its connections, oldest first."""
        return tuple(self._connections)

    def now(self) -> float:
        """Return the server's wall clock (epoch seconds)."""
        return EPOCH + self.clock.seconds()

    def info(self) -> dict[str, dict[str, str]]:
        """Return INFO: section, field, value."""
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
        """Stop: every connection drops, new ones are refused, the data is kept as on disk."""
        self.running = self.hung = False
        self._received.clear()
        self.drop_connections()

    def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        """Restart as another server process, with the data kept or empty."""
        if self.running:
            self.stop()
        self.running = True
        self.fake.script_cache.clear()
        if data == "empty":
            self.flush()
        self.name_run()

    def hang(self) -> None:
        """Answer nothing, like a stopped process: connections are accepted and input is buffered."""
        self.hung = True

    def resume(self) -> None:
        """Continue after `hang`: process the buffered input, even from clients that have gone."""
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
        """Delete all data, like FLUSHALL."""
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
        """Add it to the connections."""
        self._connections[connection] = None

    def closed(self, connection: ServerConnection) -> None:
        """Remove it from the connections."""
        self._connections.pop(connection, None)

    def received(self, connection: ServerConnection, data: bytes | None) -> None:
        """Let a connection process input (None: its end), now or when the server resumes."""
        if self.hung:
            self._received.append((connection, data))
        elif connection in self._connections:
            connection.feed(data)

    def name_run(self) -> None:
        """Become another process with its own history, like a primary that starts."""
        self.run_id, self.replid = token_hex(20), token_hex(20)
