# ruff: noqa: D102 - Twisted's own methods
"""A node's process, as the conductor sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from faults.server import stopped
from support.waiting import until

__all__ = ["NodeProcess"]

reactor: Any = _reactor

_WORKER: Final = str(Path(__file__).with_name("worker.py"))
PATIENCE: Final = 30.0
"""Seconds within which a healthy cluster is all quiet again: a denied link tries again after five."""


class NodeProcess(ProcessProtocol):
    """One process and all that it told.

    ``link`` is the state of its link, ``answers`` counts answered calls, ``paused`` says that we have stopped it.
    """

    transport: Any

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.events: list[dict[str, Any]] = []
        self.link = ""
        self.answers = 0
        self.alive = True
        self.paused = False
        self.said = b""
        self._rest = b""
        self._latest: dict[str, int] = {}

    @classmethod
    def run(
        cls,
        name: str,
        host: str,
        there: list[str],
        url: str,
        seed: int,
        options: dict[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        """Start the process of a node, with ``environment`` on top of ours."""
        process = cls(name, host)
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        words = [*tied, *there, sys.executable, _WORKER, name, url, str(seed), json.dumps(options)]
        variables = {**os.environ, **(environment or {})}
        reactor.spawnProcess(process, shutil.which(words[0]) or words[0], words, env=variables)
        return process

    def tell(self, verb: str, **arguments: Any) -> None:
        """Give a command."""
        if self.alive:
            self.transport.write(json.dumps({"do": verb, **arguments}).encode() + b"\n")

    async def wait_event(self, event: str, count: int = 1, since: int = 0, **values: Any) -> dict[str, Any]:
        """Return the event, once it was told ``count`` times with these values, counted from the event ``since``."""
        seen = since
        found: list[dict[str, Any]] = []

        def there() -> bool:
            nonlocal seen
            for told in self.events[seen:]:
                if told["e"] == event and all(told.get(name) == value for name, value in values.items()):
                    found.append(told)
            seen = len(self.events)
            return len(found) >= count or not self.alive

        await until(there, f"{self.name} says {event} {values}; it ended with {self.events[-3:]}", patience=PATIENCE)
        assert len(found) >= count, f"{self.name} ended without saying {event}: {self.said.decode()}"
        return found[count - 1]

    @property
    def now(self) -> int:
        """How many events were told so far."""
        return len(self.events)

    # Faults.

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.alive:
            os.kill(self.transport.pid, number)

    async def stop(self) -> None:
        """Stop the process where it stands."""
        self.paused = True
        self.signal(signal.SIGSTOP)
        await until(lambda: not self.alive or stopped(self.transport.pid), f"{self.name} stops")

    def resume(self) -> None:
        """Let it go on."""
        self.paused = False
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        """Return when the process is gone, and all it told is read."""
        await until(lambda: not self.alive, f"{self.name} ends", patience=PATIENCE)

    # Twisted calls these.

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            self.events.append(event)
            if event["e"] == "link":
                self.link = event["state"]
            elif event["e"] == "answer":
                self.answers += 1

    def errReceived(self, data: bytes) -> None:
        self.said += data

    def processEnded(self, reason: Failure) -> None:
        self.alive = False
        if self.said and reason.check(ProcessDone) is None:
            self.events.append({"e": "problem", "t": 0.0, "text": self.said.decode(errors="replace")})
