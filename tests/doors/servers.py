"""A server process for programs that do not run Twisted."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

_READY = b"ready to accept connections"


class Server:
    """A Redis on a unix socket that loses nothing when it is killed; ``url`` is its address."""

    def __init__(self, folder: Path, *options: str) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed")
        self._binary = binary
        self._folder = folder
        self._options = options
        self.url = f"unix://{folder / 's'}"
        self.start()

    def start(self) -> None:
        """Start it; return once it is ready."""
        options = ["--port", "0", "--unixsocket", str(self._folder / "s"), "--dir", str(self._folder)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--logfile", ""]
        self._process = subprocess.Popen([self._binary, *options, *self._options], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if _READY in line.lower():
                return
        raise RuntimeError("the server did not start")

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        """Have it answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self.resume()
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
