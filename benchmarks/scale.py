"""How coord's costs grow, and where they do not: ``python benchmarks/scale.py [--json FILE]``.

- fan-out: from the call of fire to the last of N waiting nodes (many nodes in two processes, so that it is not the
  scheduler that is measured);
- firing processes: keys fired and woken a second with 1 to 4 of them;
- bystanders: bytes and wake-ups that nodes see which wait for other keys, while a thousand keys are fired;
- history and maps: microseconds a fire, with more and more lines in the map's history, and more and more maps.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter as now
from time import time_ns
from typing import Any

from servers import server
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import react

import coord

WINDOW = 1_000


def say(**words: object) -> None:
    """Tell the parent something."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


# The parts, each a process.


async def many_nodes(url: str, prefix: str, nodes: int, rounds: int) -> None:
    """Wait for the same key on many nodes; tell when the last has it."""
    cluster = [coord.connect(url, node=f"n{number}") for number in range(nodes)]
    maps = [c.events("scale") for c in cluster]
    await gatherResults([c.connected() for c in cluster])
    for number in range(rounds):
        waits = [events[f"{prefix}.{number}"] for events in maps]
        await gatherResults([events.settled() for events in maps])
        say(armed=number)
        await gatherResults(waits)
        say(last=now())
    await gatherResults([c.close() for c in cluster])


async def fire_singles(url: str, prefix: str, _: int, rounds: int) -> None:
    """Fire one key whenever told to."""
    async with coord.connect(url, node="firer") as c:
        events = c.events("scale")
        await c.connected()
        say(ready=True)
        for number in range(rounds):
            sys.stdin.readline()
            started = now()
            await events.fire(f"{prefix}.{number}")
            say(started=started)


async def wait_for_all(url: str, prefix: str, firers: int, keys: int) -> None:
    """Wait for the keys of several firers."""
    async with coord.connect(url, node="waiter") as c:
        events = c.events("scale")
        waits = [events[f"{prefix}.{firer}.{number}"] for firer in range(firers) for number in range(keys)]
        await events.settled()
        say(armed=True)
        await gatherResults(waits)
        say(last=now())


async def fire_share(url: str, prefix: str, firer: int, keys: int) -> None:
    """Fire one's own share, a window of them under way."""
    async with coord.connect(url, node=f"firer{firer}") as c:
        events = c.events("scale")
        await c.connected()
        say(ready=True)
        sys.stdin.readline()
        say(started=now())
        window = DeferredSemaphore(WINDOW)
        await gatherResults([window.run(events.fire, f"{prefix}.{firer}.{number}") for number in range(keys)])


async def bystander(url: str, prefix: str, waits: int, _: int) -> None:
    """Wait for keys that nobody fires, and count what arrives until told to stop."""
    async with coord.connect(url, node="bystander", heartbeat=3_000.0) as c:
        events = c.events("scale")
        for number in range(waits):
            events[f"{prefix}.never.{number}"].addErrback(lambda _: None)
        await events.settled()
        before = int((await c.execute("CLIENT", "LIST")).count(b"\n"))
        say(armed=before)
        received = c._session.link.pair.subscriber.received
        await events["stop." + prefix]
        # One chunk is the word to stop.
        say(chunks=c._session.link.pair.subscriber.received - received - 1)


async def fires(url: str, maps: int, lines: int) -> list[float]:
    """Return microseconds a fire on maps with so many lines of history."""
    async with coord.connect(url, node="firer") as c:
        await c.connected()
        tag = time_ns()
        every = [c.events(f"m{tag}.{number}") for number in range(maps)]
        window = DeferredSemaphore(WINDOW)
        filled = [window.run(events.pulse, "filler") for events in every for _ in range(lines // maps)]
        await gatherResults(filled)
        times = []
        for turn in range(5):
            started = now()
            calls = [window.run(every[n % maps].fire, f"k{turn}.{n}") for n in range(4_000)]
            await gatherResults(calls)
            times.append((now() - started) / 4_000 * 1e6)
        return times


# The parent.


class Child:
    """A process that plays one of the parts."""

    def __init__(self, part: str, url: str, prefix: str, *numbers: int) -> None:
        words = [sys.executable, __file__, "--part", part, url, prefix, *map(str, numbers)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self, word: str) -> Any:
        """Return what it says of ``word``, passing over what else it says."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if word in said:
                return said[word]
        raise RuntimeError(f"a part ended before it said {word!r}")

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def fan_out(url: str, nodes: int, rounds: int = 50) -> float:
    """Return the median microseconds from fire to the last of so many nodes."""
    prefix = f"f{time_ns()}"
    shares = [nodes] if nodes == 1 else [nodes // 2, nodes - nodes // 2]
    waiters = [Child("many_nodes", url, prefix, share, rounds) for share in shares]
    firer = Child("fire_singles", url, prefix, 0, rounds)
    firer.hear("ready")
    times = []
    for _ in range(rounds):
        for waiter in waiters:
            waiter.hear("armed")
        firer.go()
        started = firer.hear("started")
        times.append(max(waiter.hear("last") for waiter in waiters) - started)
    return median(times) * 1e6


def firing_processes(url: str, firers: int, keys: int = 20_000) -> float:
    """Return keys woken a second with so many firing processes."""
    prefix, share = f"p{time_ns()}", keys // firers
    waiter = Child("wait_for_all", url, prefix, firers, share)
    parts = [Child("fire_share", url, prefix, number, share) for number in range(firers)]
    waiter.hear("armed")
    for part in parts:
        part.hear("ready")
    for part in parts:
        part.go()
    started = min(part.hear("started") for part in parts)
    return share * firers / (waiter.hear("last") - started)


def bystanders(url: str) -> int:
    """Return how often a node that waits for 1,000 other keys is disturbed by 1,000 fires."""
    prefix = f"b{time_ns()}"
    child = Child("bystander", url, prefix, 1_000, 0)
    child.hear("armed")

    async def fire(_: object) -> None:
        async with coord.connect(url, node="firer") as c:
            events = c.events("scale")
            await gatherResults([events.fire(f"{prefix}.{number}") for number in range(1_000)])
            await events.fire("stop." + prefix)

    run_reactor(fire)
    return int(child.hear("chunks"))


def run_reactor(main: Any) -> None:
    """Run a coroutine under the reactor, and come back."""
    try:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
    except SystemExit as end:
        if end.code:
            raise


def fire_cost(url: str, maps: int, lines: int) -> float:
    """Return the median microseconds a fire, measured in a process of its own."""
    child = Child("fires", url, "-", maps, lines)
    return median(child.hear("times"))


def part(name: str, url: str, prefix: str, first: int, second: int) -> None:
    """Play one part."""

    async def main(_: object) -> None:
        if name == "fires":
            say(times=await fires(url, first, second))
        else:
            await globals()[name](url, prefix, first, second)

    run_reactor(main)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with server("redis") as url:
        found["fan-out: us from fire to the last of N nodes"] = {str(n): fan_out(url, n) for n in (1, 10, 50)}
        found["keys woken a second, by firing processes"] = {str(n): firing_processes(url, n) for n in (1, 2, 3, 4)}
        found["us a fire, by lines of history"] = {
            str(n): fire_cost(url, 1, n) for n in (0, 1_000, 10_000, 50_000, 100_000)
        }
        found["us a fire, by number of maps"] = {str(n): fire_cost(url, n, 0) for n in (1, 10, 100, 1_000)}
        found["what 1,000 fires send to a node that waits for other keys"] = {"chunks": bystanders(url)}
    for name, figures in found.items():
        print(name)
        for number, value in figures.items():
            print(f"  {number:>8} {value:12,.1f}")
    if options.json is not None:
        about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "system": platform.platform()}
        options.json.write_text(json.dumps({"about": about, "figures": found}, indent=1))


if __name__ == "__main__":
    if "--part" in sys.argv:
        part(*sys.argv[2:4], sys.argv[4], *map(int, sys.argv[5:]))  # type: ignore[arg-type]
    else:
        main()
