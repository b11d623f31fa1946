"""Some nodes of the soak in one process: told what to do by JSON lines on stdin, they report on stdout.

Each node keeps its number of waiters, and fires, pulses, resets and cancels. What one node can judge alone is judged
here; ``soak.py`` judges the rest, at its checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, eventAsText, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

import coord

reactor: Any = _reactor

MAP: Final = "soak"
BARRIER: Final = "barrier"
CLIENTS: Final = 3
SLICE: Final = 200
"""Waits that are made in one turn at most."""


def tell(event: str, **said: object) -> None:
    """Write one line, at once."""
    line = json.dumps({"e": event, **said}).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def start(steps: Coroutine[Any, Any, object]) -> None:
    """Run ``steps`` on their own."""
    Deferred.fromCoroutine(steps).addErrback(lambda failure: violated(failure.getTraceback()))


def violated(text: str) -> None:
    """Tell of a broken promise."""
    tell("violation", text=text)


class Wait:
    """One wait: for which key, the how-manieth thing of its node, and since when it is known to be armed."""

    __slots__ = ("armed", "deferred", "key", "number")

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.number = number
        self.armed = 0.0
        self.deferred: Deferred[Any] | None = None


class Node:
    """One coordinator under load."""

    def __init__(self, url: str, name: str, waiters: int, keys: int, random: Random) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.waiters = waiters
        self._coordinator = coord.connect(url, node=name, heartbeat=1.0, history=30_000, cache_size=500, timeout=120.0)
        self._events = self._coordinator.events(MAP)
        self._keys = keys
        self._random = random
        self._number = 0
        self._pending: dict[str, dict[int, Wait]] = {}
        self._held = 0
        self._unarmed: list[Wait] = []
        self._arming = False
        self._pulsed: dict[str, tuple[str, int]] = {}
        self._fired: deque[str] = deque()
        self.loading = False
        self._busy = 0

    def key(self) -> str:
        """Return any key."""
        return f"k{self._random.randrange(self._keys)}"

    # Waiting.

    async def fill(self) -> None:
        """Hold as many waiters as are wanted, now and for ever."""
        while True:
            for _ in range(min(SLICE, self.waiters - self._held)):
                self._wait(self.key())
            if self._unarmed and not self._arming:
                self._arming = True
                start(self._arm())
            await deferLater(reactor, 0.02)

    async def _arm(self) -> None:
        new, self._unarmed = self._unarmed, []
        await self._events.armed()
        now = monotonic()
        for wait in new:
            wait.armed = now
        self._arming = False

    def _wait(self, key: str) -> None:
        self._number += 1
        wait = Wait(key, self._number)
        self._pending.setdefault(key, {})[wait.number] = wait
        self._held += 1
        self._unarmed.append(wait)
        self.counts["waits"] += 1
        wait.deferred = self._events[key]
        wait.deferred.addBoth(self._resolved, wait)

    def _resolved(self, result: Any, wait: Wait) -> None:
        of_key = self._pending[wait.key]
        del of_key[wait.number]
        if not of_key:
            del self._pending[wait.key]
        self._held -= 1
        wait.deferred = None
        if isinstance(result, Failure):
            if not result.check(CancelledError, coord.Closed):
                violated(f"W2: {self.name} waited for {wait.key} and got {result.value!r}")
            return
        self.counts["wakes"] += 1
        if result["key"] != wait.key:
            violated(f"W2: {self.name} waited for {wait.key} and got {result}")
        if result["kind"] == "pulsed":
            self._heard(result["id"], wait)

    def _heard(self, pulse: str, wait: Wait) -> None:
        known, number = self._pulsed.get(wait.key, ("", 0))
        if known != pulse:
            self._number += 1
            self._pulsed[wait.key] = pulse, self._number
        elif wait.number > number:
            violated(f"W3: {self.name} waited for {wait.key} after the pulse {pulse}, and got it")

    # Calls.

    def load(self) -> None:
        """Fire, pulse, reset and cancel until told to stop."""
        if not self.loading:
            self.loading = True
            for _ in range(CLIENTS):
                start(self._client())

    async def _client(self) -> None:
        self._busy += 1
        while self.loading:
            await self._step()
            await deferLater(reactor, self._random.uniform(0, 0.08))
        self._busy -= 1

    async def _step(self) -> None:
        chance = self._random.random()
        if chance < 0.1:
            self._cancel()
        elif chance < 0.3:
            await self.change("pulsed", self.key())
        elif chance < 0.65 and len(self._fired) < 8:
            key = self.key()
            await self.change("fired", key)
            self._fired.append(key)
        elif self._fired:
            self.counts["calls"] += 1
            try:
                await self._events.reset(self._fired.popleft())
            except coord.Error as error:
                self.counts[type(error).__name__] += 1

    def _cancel(self) -> None:
        for key in self._random.sample(list(self._pending), min(5, len(self._pending))):
            wait = next(iter(self._pending[key].values()))
            if wait.deferred is not None:
                wait.deferred.cancel()
                self.counts["cancels"] += 1

    async def change(self, kind: str, key: str) -> None:
        """Fire or pulse, and look at what is told."""
        self._number += 1
        number, identity = self._number, f"{self.name}:{self._number}"
        value = {"id": identity, "t": monotonic(), "kind": kind, "key": key}
        self.counts["calls"] += 1
        try:
            applied = await (self._events.fire if kind == "fired" else self._events.pulse)(key, value)
        except coord.Error as error:
            self.counts[type(error).__name__] += 1
            return
        mine = isinstance(applied.record.value, dict) and applied.record.value["id"] == identity  # type: ignore[union-attr]
        if mine is not applied.first:
            violated(f"F2: {identity} was told {applied}")
        if applied.first:
            self.counts["applied"] += 1
            left = [other for other in self._pending.get(key, ()) if other < number]
            if left:
                violated(f"W7: {identity} was answered before {len(left)} waits of its own node were woken")

    # Checkpoints.

    async def hold(self) -> None:
        """Make no calls; return when all are answered."""
        self.loading = False
        while self._busy:
            await deferLater(reactor, 0.01)

    async def barrier(self) -> Deferred[Any]:
        """Return a wait for the barrier, which is armed."""
        waiting = self._events[BARRIER]
        await self._events.armed()
        return waiting

    async def passed(self, waiting: Deferred[Any]) -> dict[str, float]:
        """Return, once all before the barrier was seen, for each key the time from which a wait for it is armed."""
        await waiting
        # Every pulse before this one has been heard.
        self._pulsed.clear()
        for _ in range(2):
            await self._events.record(BARRIER)
            await self._events.armed()
        now = self._coordinator.statistics()
        # A subscription more than keys waited for and cached is a leak; those being left are gone soon.
        self.counts["subscriptions"] = now.subscriptions
        if now.waiters != self._held or now.calls:
            violated(f"W5: {self.name} holds {now.waiters} waiters and {now.calls} calls, of {self._held} and none")
        armed = {key: [wait.armed for wait in waits.values() if wait.armed] for key, waits in self._pending.items()}
        return {key: min(times) for key, times in armed.items() if times}

    async def close(self) -> None:
        """End."""
        self.waiters = 0
        await self._coordinator.close()
        if self._held:
            violated(f"W6: {self._held} waits of {self.name} were left by close()")


class Process(LineOnlyReceiver):
    """Obeys."""

    delimiter = b"\n"

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def lineReceived(self, line: bytes) -> None:  # noqa: D102 - Twisted's
        start(getattr(self, f"do_{json.loads(line)}")())

    def connectionLost(self, _: Failure = connectionDone) -> None:  # noqa: D102 - Twisted's
        if reactor.running:
            reactor.stop()

    async def do_load(self) -> None:
        """Begin."""
        for node in self._nodes:
            node.load()

    async def do_hold(self) -> None:
        """Stop calling."""
        for node in self._nodes:
            await node.hold()
        tell("held")

    async def do_barrier(self) -> None:
        """Come to the barrier, pass it with all others, and report."""
        waiting = [await node.barrier() for node in self._nodes]
        tell("at-barrier")
        armed = [await node.passed(barrier) for node, barrier in zip(self._nodes, waiting, strict=True)]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        tell(
            "report",
            armed={node.name: each for node, each in zip(self._nodes, armed, strict=True)},
            counts={node.name: node.counts for node in self._nodes},
            resident=pages * os.sysconf("SC_PAGESIZE"),
        )

    async def do_pulse(self) -> None:
        """Lift the barrier."""
        await self._nodes[0].change("pulsed", BARRIER)

    async def do_close(self) -> None:
        """End."""
        for node in self._nodes:
            await node.close()
        tell("closed")
        reactor.stop()


def _observe(event: Any) -> None:
    if event["log_level"] > LogLevel.warn:
        violated(f"logged: {eventAsText(event)}")


def main() -> None:
    """Run the nodes until stdin ends."""
    url, first, count, waiters, keys, seed = sys.argv[1:]
    observers: list[Any] = [_observe]
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    nodes = [
        Node(url, f"n{number}", int(waiters), int(keys), Random(f"{seed} {number}"))
        for number in range(int(first), int(first) + int(count))
    ]
    stdio: Any = StandardIO
    stdio(Process(nodes), stdout=os.open(os.devnull, os.O_WRONLY))
    for node in nodes:
        start(node.fill())
    tell("ready")
    reactor.run()


if __name__ == "__main__":
    main()
