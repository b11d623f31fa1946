"""Python processes that are talked to line by line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Talker"]


class Talker(ProcessProtocol):
    """One process running a script of this folder; ``lines`` is what it said."""

    transport: Any

    def __init__(self, script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.ended: Deferred[None] = Deferred()
        self._rest = b""
        spawn: Any = reactor
        path = str(Path(__file__).with_name(script))
        # Its stderr is the test's own: what goes wrong there is to be read.
        spawn.spawnProcess(
            self, sys.executable, [sys.executable, path, *arguments], env=environment, childFDs={0: "w", 1: "r", 2: 2}
        )

    def outReceived(self, data: bytes) -> None:
        """Keep the lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += (line.decode() for line in lines)

    def say(self, line: str) -> None:
        """Tell it something."""
        self.transport.write(line.encode() + b"\n")

    def hang_up(self) -> Deferred[None]:
        """End it by the end of its stdin."""
        self.transport.closeStdin()
        return self.ended

    def processEnded(self, reason: Failure) -> None:
        """Note the end."""
        self.ended.callback(None)
