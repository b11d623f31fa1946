"""What holds cost a server: ``python benchmarks/holds.py [redis|valkey] [LEASES]``.

It prints the server's time for each script, by its own count (``INFO commandstats``), beside a lone fire's in the same
run: a renewal in a map with so many leases, holds and withdrawals (alone, and in batches), and an expired holder's end;
and the bytes that a holder takes.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from servers import server
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import coord
from coord.core.names import MapNames
from coord.link.scripts import BEAT

CALLS = 3_000
HOLDERS = 20_000
VALUE = "x" * 98


class Scale:
    """Weighs the scripts that run between two calls."""

    def __init__(self, node: coord.Coordinator) -> None:
        self._node = node
        self._before = 0.0

    async def _now(self) -> float:
        info = await self._node.execute("INFO", "commandstats")
        return sum(float(usec) for usec in re.findall(rb"cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)", info))

    async def empty(self) -> None:
        """Begin."""
        self._before = await self._now()

    async def weigh(self, calls: int) -> float:
        """Return the microseconds of each of so many calls since the beginning."""
        return (await self._now() - self._before) / calls


async def renew(node: coord.Coordinator, names: MapNames, lease: int, *, makes: bool) -> None:
    """Renew one of many leases, or make it."""
    words = [names.name, f"node{lease}.1", 20_000, 10_000, int(makes)]
    await node.execute("EVALSHA", BEAT.sha, 5, *names.keys, *words)


async def measure(url: str, leases: int) -> None:
    """Print a line for each figure."""
    async with coord.connect(url) as node:
        scale, events = Scale(node), node.events("m")
        names = MapNames("default", "m", 0)
        async with events.hold("warm"):
            await events.fire("up")
        await scale.empty()
        for number in range(CALLS):
            await events.fire(f"fired{number}", VALUE)
        lone = await scale.weigh(CALLS)
        show("lone fire", lone, lone)
        await scale.empty()
        await gatherResults([events.fire(f"batch{number}", VALUE) for number in range(HOLDERS)])
        batched = await scale.weigh(HOLDERS)
        show("fire in a batch", batched, lone)

        for number in range(leases):
            await renew(node, names, number, makes=True)
        await scale.empty()
        for number in range(CALLS):
            await renew(node, names, number % leases, makes=False)
        show(f"renewal, {leases:,} leases", await scale.weigh(CALLS), lone)

        before = await size(node, names)
        await scale.empty()
        holds = await gatherResults([events.hold(f"held{number}", VALUE) for number in range(HOLDERS)])
        show("hold in a batch", await scale.weigh(HOLDERS), lone)
        print(f"{'bytes a holder, record and line':34}{(await size(node, names) - before) / HOLDERS:8.0f}")
        await scale.empty()
        for hold in holds[:CALLS]:
            await hold.withdraw()
        show("lone withdrawal", await scale.weigh(CALLS), lone)
        await scale.empty()
        await gatherResults([hold.withdraw() for hold in holds[CALLS:]])
        show("withdrawal in a batch", await scale.weigh(HOLDERS - CALLS), lone)
        await measure_expiry(url, node, scale, lone)


async def measure_expiry(url: str, node: coord.Coordinator, scale: Scale, lone: float) -> None:
    """Have a node die that holds many keys, and weigh what it takes to end them, the search included."""
    times: Any = {"heartbeat": 0.5, "lease": 1.5, "grace": 1.0}
    dying, events = coord.connect(url, **times), node.events("short")
    await gatherResults([dying.events("short").hold(f"held{number}", VALUE) for number in range(HOLDERS)])
    gone = [events.gone(f"held{number}") for number in range(HOLDERS)]
    await events.armed()
    await dying.close(withdraw=False)
    await scale.empty()
    await gatherResults(gone)
    show("end of an expired holder", await scale.weigh(HOLDERS), lone)


async def size(node: coord.Coordinator, names: MapNames) -> int:
    """Return the bytes of a map."""
    return sum([await node.execute("MEMORY", "USAGE", name, "SAMPLES", 0) or 0 for name in names.keys])


def show(what: str, microseconds: float, peer: float) -> None:
    """Print a line."""
    print(f"{what:34}{microseconds:8.1f} us{microseconds / peer:8.2f} of a fire")


if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else "redis"
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with server(kind) as url:
        react(lambda _: Deferred.fromCoroutine(measure(url, number)))
