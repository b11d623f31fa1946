"""What a waiter costs: bytes, and the time to make, arm and cancel it, at growing numbers in one process.

``python benchmarks/memory.py [1000 100000 1000000]``. Each number runs in a process of its own. "bare" is a Deferred
with one callback in a dict, under a key of the same length: what nobody can do without.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from servers import server
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import coord


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def handler(_: object) -> None:
    """Do what the user does with the event."""


def bare(count: int) -> dict[str, float]:
    """Measure Deferreds in a dict."""
    before, started = resident(), perf_counter()
    waiting: dict[str, Deferred[object]] = {}
    for number in range(count):
        waiting[f"some/key/{number}"] = Deferred()
        waiting[f"some/key/{number}"].addCallback(handler)
    made = perf_counter() - started
    return {"bare bytes": (resident() - before) / count, "bare make us": made / count * 1e6}


async def waits(url: str, count: int) -> dict[str, float]:
    """Measure waits of coord."""
    async with coord.connect(url, node="memory") as c:
        events = c.events("memory")
        await events.wait_all([])
        await c.connected()
        before, started = resident(), perf_counter()
        waiting = [events[f"some/key/{number}"].addCallback(handler) for number in range(count)]
        made = perf_counter() - started
        await events.settled()
        armed = perf_counter() - started
        held = resident() - before
        started = perf_counter()
        for waiter in waiting:
            waiter.addErrback(lambda _: None)
            waiter.cancel()
        cancelled = perf_counter() - started
        return {
            "bytes": held / count,
            "make us": made / count * 1e6,
            "arm us": (armed - made) / count * 1e6,
            "cancel us": cancelled / count * 1e6,
        }


def child(url: str, count: int) -> None:
    """Measure one number, and print it."""
    found = bare(count)

    async def run(_: object) -> None:
        print(json.dumps({**found, **await waits(url, count)}))

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


def main() -> None:
    """Print a row a number."""
    print(f"{'waiters':>10}{'bytes':>8}{'bare':>8}{'make us':>9}{'bare us':>9}{'arm us':>8}{'cancel us':>10}")
    with server("redis") as url:
        for count in map(int, sys.argv[1:] or ("1000", "100000", "1000000")):
            said = subprocess.run(
                [sys.executable, __file__, "--child", url, str(count)], capture_output=True, check=True
            )
            f = json.loads(said.stdout)
            row = f"{count:>10,}{f['bytes']:8.0f}{f['bare bytes']:8.0f}{f['make us']:9.2f}{f['bare make us']:9.2f}"
            print(f"{row}{f['arm us']:8.2f}{f['cancel us']:10.2f}")


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
