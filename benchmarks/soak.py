"""The soak: many nodes and waiters, continuous fires, pulses, resets and cancels, and fault after fault.

``python benchmarks/soak.py --minutes 5 --nodes 20 --waiters 50000``. The nodes share a few processes and a server of
our own. Every round breaks something under load, mends it, brings everybody to rest and judges: nobody waits who was
armed before a wake, or whose key is latched; the history has no gap; every call that was said to be applied is in it
once, in the order of its node. What one node can judge alone, ``soak_nodes.py`` does. Memory is shown each round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from soak_nodes import MAP
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react

import coord
from coord.core.history import Line, parse_entry
from coord.core.names import MapNames
from coord.core.records import NEVER
from coord.embedded.server import EmbeddedServer

reactor: Any = _reactor

HANG: Final = 3.0
"""Seconds that a server or a process is stopped: longer than two of the nodes' heartbeats."""

PATIENCE: Final = 120.0
LOG: Final = MapNames("default", MAP, 0).log


def pause(seconds: float) -> Deferred[None]:
    """Let time pass: load and faults are made of it."""
    return deferLater(reactor, seconds)


class Nodes(ProcessProtocol):
    """One process of nodes; ``violations`` is what it found."""

    transport: Any

    def __init__(self, violations: list[str]) -> None:
        self.alive = True
        self._violations = violations
        self._rest = b""
        self._said: list[dict[str, Any]] = []
        self._waiting: list[tuple[str, Deferred[dict[str, Any]]]] = []

    @classmethod
    def run(cls, violations: list[str], *arguments: object) -> Nodes:
        """Start the process; it ends with this one."""
        nodes = cls(violations)
        program = str(Path(__file__).with_name("soak_nodes.py"))
        words = [sys.executable, program, *map(str, arguments)]
        reactor.spawnProcess(nodes, sys.executable, words, env=dict(os.environ), childFDs={0: "w", 1: "r", 2: 2})
        return nodes

    def tell(self, command: str) -> None:
        """Give a command."""
        self.transport.write(json.dumps(command).encode() + b"\n")

    def wait_event(self, event: str) -> Deferred[dict[str, Any]]:
        """Return what it says next under that name."""
        waiting: Deferred[dict[str, Any]] = Deferred()
        self._waiting.append((event, waiting))
        return waiting.addTimeout(PATIENCE, reactor)

    def outReceived(self, data: bytes) -> None:
        """Read what was said."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for said in map(json.loads, lines):
            if said["e"] == "violation":
                self._violations.append(said["text"])
                print(f"  VIOLATION {said['text']}", flush=True)
            for waiting in [each for each in self._waiting if each[0] == said["e"]]:
                self._waiting.remove(waiting)
                if not waiting[1].called:
                    waiting[1].callback(said)

    def processEnded(self, _: object) -> None:
        """Take note."""
        self.alive = False


class Judge:
    """Holds the server's history against what the nodes report."""

    def __init__(self, violations: list[str]) -> None:
        self._violations = violations
        self._position = NEVER
        self._latest: dict[str, int] = {}
        self._applied: Counter[str] = Counter()

    def violated(self, text: str) -> None:
        """Take note of a broken promise."""
        self._violations.append(text)
        print(f"  VIOLATION {text}", flush=True)

    async def read(self, conductor: coord.Coordinator) -> dict[str, float]:
        """Read the new part of the history; return for each key when its last wake was asked for."""
        wakes: dict[str, float] = {}
        after = f"({self._position.generation}-{self._position.number}" if self._position != NEVER else "-"
        entries: Any = await conductor.execute("XRANGE", LOG, after, "+")
        for line in (line for name, fields in entries for line in parse_entry(MAP, name, fields, {})):
            self._follow(line)
            value: Any = line.record.value
            if value is not None:
                wakes[value["key"]] = max(value["t"], wakes.get(value["key"], 0.0))
                self._count(value["id"])
        return wakes

    def _follow(self, line: Line) -> None:
        if line.after != self._position and self._position != NEVER:
            self.violated(f"revisions: {line.revision} follows {line.after}, where {self._position} was")
        self._position = line.revision

    def _count(self, identity: str) -> None:
        node, _, number = identity.partition(":")
        if int(number) <= self._latest.get(node, 0):
            self.violated(f"F1, F2: {identity} was applied after {node}:{self._latest[node]}")
        self._latest[node] = int(number)
        self._applied[node] += 1

    async def judge(self, conductor: coord.Coordinator, reports: list[dict[str, Any]]) -> None:
        """Judge one checkpoint."""
        wakes = await self.read(conductor)
        listing = await conductor.events(MAP).records()
        latched = {record.key for record in listing.records if record.latched}
        for report in reports:
            for node, armed in report["armed"].items():
                for key, since in armed.items():
                    if key in latched:
                        self.violated(f"W2: {node} waits for {key}, which is latched")
                    if wakes.get(key, 0.0) > since:
                        self.violated(f"W2: {node}, armed for {key} at {since}, missed a wake of {wakes[key]}")
            for node, counts in report["counts"].items():
                told, done = counts.get("applied", 0), self._applied[node]
                if not told <= done <= told + counts.get("Unconfirmed", 0):
                    self.violated(f"F2: {node} was told of {told} wakes that it made, the history has {done}")


class Soak:
    """All of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.random = Random(options.seed)
        self.violations: list[str] = []
        self.faults: Counter[str] = Counter()
        self.judge = Judge(self.violations)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.server = EmbeddedServer(port=port, settings={"appendfsync": "always"})
        self.processes: list[Nodes] = []
        self.conductor: Any = None

    async def run(self) -> int:
        """Run it; return the exit code."""
        options = self.options
        await self.server.start()
        try:
            self.conductor = coord.connect(self.server.url, node="conductor", heartbeat=1.0, timeout=60.0)
            each = options.nodes // options.processes
            waiters = options.waiters // options.nodes
            for number in range(options.processes):
                words = (self.server.url, number * each, each, waiters, options.keys, options.seed)
                self.processes.append(Nodes.run(self.violations, *words))
            for ready in [process.wait_event("ready") for process in self.processes]:
                await ready
            await self._rounds()
            await self._all("close", "closed")
        finally:
            for process in self.processes:
                if process.alive:
                    process.transport.signalProcess("KILL")
            if self.conductor is not None:
                await self.conductor.close()
            await self.server.stop()
        return 1 if self.violations else 0

    async def _rounds(self) -> None:
        options = self.options
        print(
            f"seed {options.seed}; {options.nodes} nodes in {options.processes} processes, {options.waiters} waiters",
            flush=True,
        )
        first: tuple[int, int] | None = None
        start = monotonic()
        last: tuple[Counter[str], tuple[int, int]]
        last = await self._checkpoint()
        while monotonic() - start < 60 * options.minutes:
            for process in self.processes:
                process.tell("load")
            await pause(options.calm)
            name = self.random.choice(sorted(FAULTS))
            self.faults[name] += 1
            await FAULTS[name](self)
            await pause(options.calm / 2)
            last = await self._checkpoint()
            # The first rounds fill the history and the caches.
            if monotonic() - start > 60 * options.minutes / 3 and first is None:
                first = last[1]
            self._show(f"{monotonic() - start:5.0f} s {name}", *last)
        self._conclude(last[0], first or last[1], last[1])

    async def _all(self, command: str, answer: str) -> list[dict[str, Any]]:
        answers = [process.wait_event(answer) for process in self.processes]
        for process in self.processes:
            process.tell(command)
        return [await each for each in answers]

    async def _checkpoint(self) -> tuple[Counter[str], tuple[int, int]]:
        """Bring all to rest, and judge; return what was counted, and the memory of the nodes and of the server."""
        await self._all("hold", "held")
        reports = [process.wait_event("report") for process in self.processes]
        await self._all("barrier", "at-barrier")
        self.processes[0].tell("pulse")
        told = [await report for report in reports]
        await self.judge.judge(self.conductor, told)
        counts: Counter[str] = Counter()
        for report in told:
            for each in report["counts"].values():
                counts.update(each)
        info: bytes = await self.conductor.execute("INFO", "memory")
        used = int(info.split(b"used_memory:")[1].split()[0])
        return counts, (sum(report["resident"] for report in told), used)

    def _show(self, when: str, counts: Counter[str], memory: tuple[int, int]) -> None:
        nodes, server = (each >> 20 for each in memory)
        print(
            f"{when}: {counts['calls']} calls, {counts['waits']} waits, {counts['wakes']} wakes,"
            f" {len(self.violations)} violations; nodes {nodes} MiB, server {server} MiB",
            flush=True,
        )

    def _conclude(self, counts: Counter[str], first: tuple[int, int], last: tuple[int, int]) -> None:
        operations = counts["calls"] + counts["waits"] + counts["cancels"]
        print(f"\n{operations} operations, {counts['wakes']} wake-ups, {sum(self.faults.values())} faults")
        print(f"  {dict(counts)}")
        print(f"  faults: {dict(self.faults)}")
        for what, begin, end in (("nodes", first[0], last[0]), ("server", first[1], last[1])):
            print(f"  memory of the {what}: {begin >> 20} MiB after a third of the time, {end >> 20} MiB at the end")
        print(f"{len(self.violations)} violations")


# Faults, as verbs.


async def server_killed(soak: Soak) -> None:
    """The server is killed, and comes back."""
    await soak.server.kill()
    await pause(soak.random.uniform(0, 1))
    await soak.server.start()


async def server_stopped(soak: Soak) -> None:
    """The server hangs."""
    soak.server.signal("SIGSTOP")
    await pause(HANG)
    soak.server.signal("SIGCONT")


async def nodes_stopped(soak: Soak) -> None:
    """A process with its nodes is stopped."""
    process = soak.random.choice(soak.processes)
    process.transport.signalProcess(signal.SIGSTOP)
    await pause(HANG)
    process.transport.signalProcess(signal.SIGCONT)


async def connections_killed(soak: Soak) -> None:
    """All connections of one type are closed."""
    await soak.conductor.execute("CLIENT", "KILL", "TYPE", soak.random.choice(("normal", "pubsub")))


async def scripts_flushed(soak: Soak) -> None:
    """The server forgets the scripts."""
    await soak.conductor.execute("SCRIPT", "FLUSH")


async def server_paused(soak: Soak) -> None:
    """The server takes commands and carries none out."""
    await soak.conductor.execute("CLIENT", "PAUSE", int(HANG * 1_000))


async def out_of_memory(soak: Soak) -> None:
    """The server has no memory left for a while."""
    await soak.conductor.execute("CONFIG", "SET", "maxmemory", 1)
    await pause(1)
    await soak.conductor.execute("CONFIG", "SET", "maxmemory", 0)


async def subscribers_overrun(soak: Soak) -> None:
    """Subscribers that are a little behind are thrown out."""
    await soak.conductor.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32kb 16kb 1")
    await nodes_stopped(soak)
    await soak.conductor.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")


FAULTS: Final[dict[str, Callable[[Soak], Awaitable[None]]]] = {
    fault.__name__: fault
    for fault in (
        server_killed,
        server_stopped,
        nodes_stopped,
        connections_killed,
        scripts_flushed,
        server_paused,
        out_of_memory,
        subscribers_overrun,
    )
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Many nodes, many waiters, fault after fault.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--nodes", type=int, default=20, help="how many, in all processes")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--waiters", type=int, default=50_000, help="how many at any time, on all nodes")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--calm", type=float, default=2.0, help="seconds of load before each fault")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options = parser.parse_args()
    react(lambda _: Deferred.fromCoroutine(_run(options)))


async def _run(options: argparse.Namespace) -> None:
    code = await Soak(options).run()
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
