"""The servers that the scripts are tried on, and a plain blocking client for all of them."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import hiredis
import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from memory import MemoryServer

Word = bytes | str | int

# A server without a port says it in lower case ("The server is now ready ...").
READY = b"ready to accept connections"
PATIENCE = 20.0


class ServerError(Exception):
    """The server answered with an error; the text is its own."""


class Wire(Protocol):
    """A way to a server and back."""

    def send(self, data: bytes) -> None:
        """Write to the server."""

    def receive(self) -> bytes:
        """Return what came from it."""

    def close(self) -> None:
        """Hang up."""


class SocketWire:
    """A unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))

    def send(self, data: bytes) -> None:
        """Write to the server."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return what came from it."""
        return self._socket.recv(65536)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class MemoryWire:
    """A connection to a server in this process."""

    def __init__(self, server: MemoryServer, clock: Clock) -> None:
        self._clock = clock
        self._transport = StringTransport()
        protocol = server.buildProtocol(None)
        if protocol is None:
            raise ConnectionRefusedError
        self._protocol = protocol
        self._protocol.makeConnection(self._transport)  # type: ignore[no-untyped-call]

    def send(self, data: bytes) -> None:
        """Write to the server."""
        self._protocol.dataReceived(data)

    def receive(self) -> bytes:
        """Return what came from it."""
        self._clock.advance(0)
        data: bytes = self._transport.value()
        self._transport.clear()
        return data

    def close(self) -> None:
        """Hang up."""
        self._protocol.connectionLost()


class Client:
    """One connection that waits for each answer."""

    def __init__(self, wire: Wire, server: Server) -> None:
        self._wire = wire
        self._server = server
        self._reader = hiredis.Reader(replyError=ServerError)

    def command(self, *words: Word) -> Any:
        """Return the reply to one command; raise `ServerError`."""
        self._wire.send(hiredis.pack_command(words))
        return self._next()

    def subscribe(self, *channels: bytes) -> None:
        """Listen to channels, from now on."""
        self._wire.send(hiredis.pack_command((b"SUBSCRIBE", *channels)))
        for _ in channels:
            self._next()

    def messages(self) -> list[tuple[bytes, bytes]]:
        """Return the (channel, payload)s that came since the last look."""
        self._wire.send(hiredis.pack_command((b"PING",)))
        messages = []
        while (push := self._next())[0] == b"message":
            messages.append((push[1], push[2]))
        return messages

    def process(self) -> str:
        """Return the name of the server process."""
        info: bytes = self.command("INFO", "server")
        return info.split(b"run_id:")[1][:40].decode()

    def history_id(self) -> str:
        """Return the name of the history that the server's data belong to."""
        info: bytes = self.command("INFO", "replication")
        return info.split(b"master_replid:")[1][:40].decode()

    def changes(self) -> int:
        """Return how many changes the server has made to its data."""
        found = re.search(rb"rdb_changes_since_last_save:(\d+)", self.command("INFO", "persistence"))
        if found is None:
            pytest.skip("the server in memory does not count changes")
        return int(found[1])

    def bytes_of(self, key: bytes) -> int:
        """Return how many bytes of memory a key takes; 0 where the server does not count them."""
        try:
            counted: int = self.command("MEMORY", "USAGE", key)
        except ServerError:
            return 0
        return counted

    def dump(self, key: bytes) -> bytes:
        """Return what a key holds, whatever its type, in one comparable text."""
        kind = self.command("TYPE", key)
        look: dict[bytes, tuple[Word, ...]] = {
            b"string": ("GET", key),
            b"hash": ("HGETALL", key),
            b"stream": ("XRANGE", key, "-", "+"),
            b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            b"list": ("LRANGE", key, 0, -1),
        }
        return repr((kind, self.command(*look[kind]))).encode()

    def beside(self) -> Client:
        """Return another connection to the same server."""
        return self._server.connect()

    def pass_time(self, seconds: float) -> None:
        """Let a clock that stands go on; others go by themselves."""
        self._server.pass_time(seconds)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def _next(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self._wire.receive()
            if not data:
                raise ConnectionError("the server said no more")
            self._reader.feed(data)
        if isinstance(reply, ServerError):
            raise reply
        return reply


class Server:
    """A server of one kind, with faults as verbs."""

    kind: str

    def __init__(self) -> None:
        self._clients: list[Client] = []

    def connect(self) -> Client:
        """Return a new connection."""
        self._clients.append(Client(self._wire(), self))
        return self._clients[-1]

    def hang_up(self) -> None:
        """Close every connection that was made."""
        while self._clients:
            self._clients.pop().close()

    def _wire(self) -> Wire:
        raise NotImplementedError

    def clear(self) -> None:
        """Forget data, scripts and users."""
        client = self.connect()
        client.command("FLUSHALL")
        client.command("SCRIPT", "FLUSH")
        for user in client.command("ACL", "USERS"):
            if user != b"default":
                client.command("ACL", "DELUSER", user)

    def restart(self) -> None:
        """Become another server process with the same data; connections end."""
        raise NotImplementedError

    def out_of_memory(self) -> AbstractContextManager[None]:
        """Refuse what needs memory, for a while."""
        raise NotImplementedError

    def read_only(self) -> AbstractContextManager[None]:
        """Be a replica, for a while."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let a clock that stands go on; others go by themselves."""

    def stop(self) -> None:
        """End."""


class RealServer(Server):
    """A server process of its own, on a unix socket."""

    def __init__(self, kind: str, binary: Path, folder: Path) -> None:
        super().__init__()
        self.kind = kind
        self._binary = binary
        self._folder = folder
        self._socket = folder / "s"
        self._start()

    def _start(self) -> None:
        options = ("--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder))
        self._process = subprocess.Popen(
            [self._binary, *options, "--save", "", "--logfile", ""],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if READY in line.lower():
                break
        else:
            raise RuntimeError(f"{self._binary} did not start")
        # Nobody reads on; what it says from here on must not fill the pipe.
        client = self.connect()
        client.command("CONFIG", "SET", "loglevel", "warning")

    def _wire(self) -> Wire:
        return SocketWire(self._socket)

    def restart(self) -> None:
        """Save, stop and start with what was saved."""
        client = self.connect()
        client.command("SAVE")
        self.stop()
        self._start()

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """Refuse what needs memory, for a while."""
        client = self.connect()
        client.command("CONFIG", "SET", "maxmemory", "1")
        try:
            yield
        finally:
            client.command("CONFIG", "SET", "maxmemory", "0")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Be a replica, for a while."""
        client = self.connect()
        client.command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.command("REPLICAOF", "NO", "ONE")

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()


class FakeServer(Server):
    """The server in memory."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.memory = MemoryServer(self.clock)

    def _wire(self) -> Wire:
        return MemoryWire(self.memory, self.clock)

    def restart(self) -> None:
        """Save, stop and start with what was saved."""
        self.memory.start()

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on."""
        self.clock.advance(seconds)

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """Refuse what needs memory, for a while."""
        self.memory.out_of_memory = True
        try:
            yield
        finally:
            self.memory.out_of_memory = False

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Be a replica, for a while."""
        self.memory.role = "slave"
        try:
            yield
        finally:
            self.memory.role = "master"
