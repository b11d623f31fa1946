"""What holds cost a server: ``python benchmarks/holds.py [--rounds 3] [--leases 10000] [--json FILE]``.

On Redis and on Valkey it prints what calls cost the server, and that beside a lone fire in the same round. Of lone
calls (a fire, a renewal in a map with so many leases, a withdrawal) it is the time of the script, by the server's own
count (``INFO commandstats``). Of calls in batches (a fire, a hold, a withdrawal, the end of an expired holder with the
search for it) it is a key's share of all the processor time that the server takes (``INFO cpu``): a long script is
interrupted by what else the machine does. Then the bytes that a holder takes, and the share of a core that so many
nodes take which renew their leases and do nothing else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import report
from servers import server
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import coord
from coord.core.names import MapNames
from coord.link.scripts import BEAT
from coord.session.settings import Settings

KINDS = ("redis", "valkey")
CALLS = 3_000
HOLDERS = 10_000
BATCH = 64
PIECES = 20
"""In so many pieces lone calls are measured: the median passes over those in which the machine did something else."""
VALUE = "x" * 98


class Scale:
    """Weighs what a server does, for one round."""

    def __init__(self, node: coord.Coordinator, kind: str, figures: report.Figures) -> None:
        self._node = node
        self._kind = kind
        self._figures = figures
        self._lone = 0.0

    async def scripts(self) -> float:
        """Return the microseconds that scripts have taken so far."""
        info = await self._node.execute("INFO", "commandstats")
        return sum(float(usec) for usec in re.findall(rb"cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)", info))

    async def cpu(self) -> float:
        """Return the microseconds of a core that the server has taken so far, without its threads in the background."""
        info = await self._node.execute("INFO", "cpu")
        return 1e6 * sum(float(part) for part in re.findall(rb"used_cpu_(?:user|sys)_main_thread:([\d.]+)", info))

    async def weigh_lone(self, calls: dict[str, Callable[[int], Any]], numbers: Sequence[int]) -> None:
        """Note the microseconds of each of these calls, made one after the other; the kinds take turns."""
        found: dict[str, list[float]] = {what: [] for what in calls}
        piece = len(numbers) // PIECES
        for start in range(0, piece * PIECES, piece):
            for what, make in calls.items():
                before = await self.scripts()
                for number in numbers[start : start + piece]:
                    await make(number)
                found[what].append((await self.scripts() - before) / piece)
        for what, values in found.items():
            self.note(what, median(values))

    async def weigh_batches(self, what: str, make: Callable[[int], Any], numbers: Sequence[int]) -> None:
        """Note the microseconds of each of these calls, made 64 at a time."""
        before = await self.cpu()
        for start in range(0, len(numbers), BATCH):
            await gatherResults([make(number) for number in numbers[start : start + BATCH]])
        self.note(what, (await self.cpu() - before) / len(numbers))

    def note(self, what: str, microseconds: float) -> None:
        """Note a figure; the first is the lone fire."""
        self._lone = self._lone or microseconds
        report.add(self._figures, f"us on {self._kind}", what, microseconds)
        report.add(self._figures, f"fires on {self._kind}", what, microseconds / self._lone)

    def add(self, figure: str, value: float) -> None:
        """Note a figure that is no script's time."""
        report.add(self._figures, figure, self._kind, value)


def renewing(node: coord.Coordinator, names: MapNames, leases: int, *, makes: bool) -> Callable[[int], Any]:
    """Return what renews one of so many leases, or makes it."""
    words = [20_000, 10_000, int(makes)]
    return lambda number: node.execute(
        "EVALSHA", BEAT.sha, 5, *names.keys, names.name, f"node{number % leases}.1", *words
    )


async def measure(url: str, map_name: str, leases: int, scale_for: Callable[[coord.Coordinator], Scale]) -> None:
    """Measure one round on one server, in maps of these names."""
    async with coord.connect(url) as node:
        scale, events, names = scale_for(node), node.events(map_name), MapNames("default", map_name, 0)
        async with events.hold("warm"):
            await events.fire("up")
        await measure_lone(node, names, scale, leases)
        await scale.weigh_batches("a fire of 64", lambda number: events.fire(f"batch{number}", VALUE), range(HOLDERS))
        await measure_holds(events, scale, lambda: size(node, names))
        await measure_expiry(url, node, f"{map_name}.short", scale)


async def measure_lone(node: coord.Coordinator, names: MapNames, scale: Scale, leases: int) -> None:
    """Fire, and renew so many leases."""
    events = node.events(names.name)
    makes, renew = (renewing(node, names, leases, makes=makes) for makes in (True, False))
    for number in range(leases):
        await makes(number)
    renewal = f"a renewal, {leases:,} leases"
    await scale.weigh_lone(
        {"a lone fire": lambda number: events.fire(f"fired{number}", VALUE), renewal: renew}, range(CALLS)
    )
    before = await scale.cpu()
    for number in range(CALLS):
        await renew(number)
    seconds = (await scale.cpu() - before) / CALLS / 1e6
    scale.add(f"% of a core, {leases:,} nodes", 100 * seconds * leases / Settings().heartbeat)


async def measure_holds(events: coord.EventMap, scale: Scale, weight: Callable[[], Any]) -> None:
    """Hold keys, and withdraw them."""
    holds: list[Any] = []

    def hold(number: int) -> Any:
        return events.hold(f"held{number}", VALUE).addCallback(holds.append)

    before = await weight()
    await scale.weigh_batches("a hold of 64", hold, range(HOLDERS))
    scale.add("bytes a holder", (await weight() - before) / len(holds))
    lone = len(holds) // 4
    await scale.weigh_lone({"a lone withdrawal": lambda number: holds[number].withdraw()}, range(lone))
    await scale.weigh_batches("a withdrawal of 64", lambda number: holds[number].withdraw(), range(lone, len(holds)))


async def measure_expiry(url: str, node: coord.Coordinator, map_name: str, scale: Scale) -> None:
    """Have a node die that holds many keys."""
    times: Any = {"heartbeat": 0.5, "lease": 1.5, "grace": 1.0}
    dying, events = coord.connect(url, **times), node.events(map_name)
    await gatherResults([dying.events(map_name).hold(f"held{number}", VALUE) for number in range(HOLDERS)])
    gone = [events.gone(f"held{number}") for number in range(HOLDERS)]
    await events.armed()
    await dying.close(withdraw=False)
    before = await scale.cpu()
    await gatherResults(gone)
    scale.note("the end of an expired holder", (await scale.cpu() - before) / HOLDERS)


async def size(node: coord.Coordinator, names: MapNames) -> int:
    """Return the bytes of a map."""
    return sum([await node.execute("MEMORY", "USAGE", name, "SAMPLES", 0) or 0 for name in names.keys])


async def measure_all(urls: dict[str, str], rounds: int, leases: int) -> report.Figures:
    """Return the figures of every round."""
    figures: report.Figures = {}
    for number in range(rounds):
        for kind, url in urls.items():
            print(f"round {number + 1}: {kind}", file=sys.stderr)
            await measure(url, f"m{number}", leases, lambda node, kind=kind: Scale(node, kind, figures))  # type: ignore[misc]
    return figures


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leases", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()

    async def run() -> None:
        figures = await measure_all(urls, options.rounds, options.leases)
        print(report.table(figures))
        if options.json is not None:
            report.write(options.json, figures)

    with ExitStack() as stack:
        urls = {}
        for kind in KINDS:
            try:
                urls[kind] = stack.enter_context(server(kind))
            except (FileNotFoundError, ImportError) as error:
                print(f"left out: {kind}: {error}", file=sys.stderr)
        react(lambda _: Deferred.fromCoroutine(run()))


if __name__ == "__main__":
    main()
