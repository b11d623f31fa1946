"""The node processes of ``coord demo``, and what is expected of them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from coord.link.one_shot import OneShot

__all__ = ["DemoFailed", "Node", "Wait"]

T = TypeVar("T")

# Seconds for any step; a step that works takes far less.
PATIENCE = 10.0


class DemoFailed(Exception):
    """A step of the demo did not happen."""


@dataclass(slots=True)
class Wait:
    """One wait of a node. ``answers`` holds every answer, to check that there is exactly one."""

    node: str
    key: str
    armed: Deferred[None] = field(default_factory=Deferred)
    answered: Deferred[None] = field(default_factory=Deferred)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, report: dict[str, Any]) -> None:
        """Record a report of it."""
        if "armed" in report:
            self.armed.callback(None)
            return
        self.answers.append(report)
        if not self.answered.called:
            self.answered.callback(None)


class Node(ProcessProtocol):
    """A node process, and its side of the conversation.

    Its Deferreds errback `DemoFailed` if a report does not arrive in time, or the process ends.
    """

    def __init__(self, reactor: Any, name: str, url: str) -> None:
        self.name = name
        self.pid = 0
        self.link = "connecting"
        self.end = ""
        self._ended: OneShot[None] = OneShot()
        self._hopes: list[Deferred[Any]] = []
        self._reactor = reactor
        self._rest = b""
        self._complaints = b""
        self._asked: dict[int, Wait | Deferred[dict[str, Any]]] = {}
        self._link_changes: list[tuple[str, Deferred[None]]] = []
        # -P: do not import a module named coord from the current directory.
        words = [sys.executable, "-P", "-m", "coord.cli.demo.node", url, name]
        self._process = reactor.spawnProcess(self, sys.executable, words, env=None)
        self.pid = self._process.pid

    def wait(self, key: str) -> Wait:
        """Make it wait for ``key``."""
        wait = Wait(self.name, key)
        self._send(wait, do="wait", key=key)
        return wait

    def call(self, operation: str, key: str, value: object) -> Deferred[dict[str, Any]]:
        """Make it fire, pulse or fail; called back with its report."""
        outcome: Deferred[dict[str, Any]] = Deferred()
        self._send(outcome, do=operation, key=key, value=value)
        return outcome

    async def until_link(self, state: str) -> None:
        """Wait until its link is in that state."""
        if self.link != state:
            change: Deferred[None] = Deferred()
            self._link_changes.append((state, change))
            await self.expect(change, f"its link to become {state}")

    def expect(self, what: Deferred[T], words: str) -> Deferred[T]:
        """Wait for ``what``, for a while; ``words`` complete "node1: waited in vain for"."""
        told: Deferred[T] = Deferred()

        def too_late(_result: object, seconds: float) -> NoReturn:
            raise DemoFailed(f"{self.name}: waited {seconds:g} s in vain for {words}")

        if self.end:
            told.errback(DemoFailed(self.end))
        else:
            self._hopes.append(told)
            what.addCallback(lambda result: None if told.called else told.callback(result))
        return told.addTimeout(PATIENCE, self._reactor, onTimeoutCancel=too_late)

    def gone(self) -> Deferred[None]:
        """Return a Deferred for the end of its process."""
        return self._ended.wait()

    def dismiss(self) -> None:
        """Ask it to end."""
        self._process.loseConnection()

    def kill(self) -> None:
        """Kill it."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def _send(self, who: Wait | Deferred[dict[str, Any]], **order: object) -> None:
        number = len(self._asked)
        self._asked[number] = who
        self._process.write(json.dumps({"id": number, **order}).encode() + b"\n")

    # What Twisted calls.

    def outReceived(self, data: bytes) -> None:
        """Pass on its reports."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        """Keep its stderr, for the message if it fails."""
        self._complaints = (self._complaints + data)[-2000:]

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's
        """Errback everything that waits for it."""
        last = self._complaints.decode(errors="replace").strip().rpartition("\n")[2]
        self.end = f"{self.name} ended: {last or 'it did not say why'}"
        for told in self._hopes:
            if not told.called:
                told.errback(DemoFailed(self.end))
        self._ended.fire(None)

    def _hear(self, report: dict[str, Any]) -> None:
        if "link" in report:
            self._linked(report["link"])
            return
        who = self._asked[report["id"]]
        if isinstance(who, Wait):
            who.hear(report)
        elif not who.called:
            who.callback(report)

    def _linked(self, state: str) -> None:
        self.link = state
        due = [change for wanted, change in self._link_changes if wanted == state]
        self._link_changes = [pair for pair in self._link_changes if pair[0] != state]
        for change in due:
            if not change.called:
                change.callback(None)
