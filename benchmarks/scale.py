"""How coord's costs grow, and where they do not.

``python benchmarks/scale.py [--rounds 5] [--quick] [--json FILE]`` prints a table a figure and writes JSON:

- fan-out: from the call of fire to the last of N waiting nodes (many nodes in two processes, so that it is not the
  scheduler that is measured); beside it redis-py;
- firing processes: keys fired and woken a second with 1 to 4 of them; beside it redis-py;
- bystanders: what a node receives and spends while a thousand keys are fired that it does not wait for;
- history and maps: microseconds a fire, with more and more lines in the map's history, and more and more maps.

The rounds alternate: each does everything once, so that a machine whose speed drifts is the same for all.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import time_ns

import report
from children import Child
from servers import server

FIRES = 1_000
"""How many keys are fired beside a bystander."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    nodes: tuple[int, ...] = (1, 10, 50)
    singles: int = 100
    firers: tuple[int, ...] = (1, 2, 3, 4)
    keys: int = 20_000
    lines: tuple[int, ...] = (0, 1_000, 10_000, 50_000, 100_000)
    maps: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    calls: int = 2_000


QUICK = Sizes(nodes=(1, 4), singles=5, firers=(1, 2), keys=1_000, lines=(0, 1_000), maps=(1, 10), calls=500)


class Crowd:
    """The processes of one peer, against one server."""

    def __init__(self, peer: str, url: str, sizes: Sizes) -> None:
        self.name = peer.replace("_", "-") if peer != "coord" else peer
        self.sizes = sizes
        self._program = f"scale_{peer}.py"
        self._url = url

    def child(self, part: str, prefix: str, first: int, second: int = 0) -> Child:
        """Start one part."""
        return Child(self._program, part, self._url, prefix, first, second)

    def fan_out(self, nodes: int) -> float:
        """Return the median microseconds from fire to the last of so many nodes."""
        prefix, singles = f"f{time_ns()}", self.sizes.singles
        shares = [nodes] if nodes == 1 else [nodes // 2, nodes - nodes // 2]
        with ExitStack() as stack:
            waiters = [stack.enter_context(self.child("nodes_that_wait", prefix, share, singles)) for share in shares]
            firer = stack.enter_context(self.child("fire_one_by_one", prefix, 0, singles))
            firer.hear("ready")
            return median(_to_the_last(firer, waiters) for _ in range(singles)) * 1e6

    def throughput(self, firers: int) -> float:
        """Return keys woken a second with so many firing processes."""
        prefix, share = f"p{time_ns()}", self.sizes.keys // firers
        with ExitStack() as stack:
            waiter = stack.enter_context(self.child("wait_for_all", prefix, firers, share))
            parts = [stack.enter_context(self.child("fire_share", prefix, n, share)) for n in range(firers)]
            for part in parts:
                part.hear("ready")
            waiter.hear("armed")
            for part in parts:
                part.go()
            started = min(part.hear("started") for part in parts)
            seconds: float = waiter.hear("woken") - started
        return share * firers / seconds

    def costs(self, part: str, size: int) -> list[float]:
        """Return what a process that works on its own tells of its fires."""
        with self.child(part, f"c{time_ns()}", size, self.sizes.calls) as child:
            told: list[float] = child.hear("costs")
        return told

    def bystander(self) -> list[list[float]]:
        """Return (bytes, pieces, microseconds) that a node pays while nothing, others' and its own keys are fired."""
        prefix = f"b{time_ns()}"
        with self.child("bystander", prefix, FIRES) as waiter:
            waiter.hear("armed")
            with self.child("fire_beside", prefix, FIRES) as firer:
                firer.hear("done")
            told: list[list[float]] = waiter.hear("costs")
        return told


def _to_the_last(firer: Child, waiters: list[Child]) -> float:
    for waiter in waiters:
        waiter.hear("armed")
    firer.go()
    started = firer.hear("started")
    seconds: float = max(waiter.hear("last") for waiter in waiters) - started
    return seconds


def crowds(url: str, sizes: Sizes) -> list[Crowd]:
    """Return coord, and redis-py where it is installed."""
    peers = ["coord", "redis_py"]
    if find_spec("redis") is None:
        print("left out: redis-py is not installed", file=sys.stderr)
        peers.remove("redis_py")
    return [Crowd(peer, url, sizes) for peer in peers]


def with_peers(figures: report.Figures, every: list[Crowd]) -> None:
    """Measure what peers do too."""
    sizes = every[0].sizes
    for nodes in sizes.nodes:
        for crowd in every:
            report.add(figures, f"fan-out, us to the last of N nodes: {crowd.name}", nodes, crowd.fan_out(nodes))
    for firers in sizes.firers:
        for crowd in every:
            figure = f"keys woken a second by N firing processes: {crowd.name}"
            report.add(figures, figure, firers, crowd.throughput(firers))


def alone(figures: report.Figures, coord: Crowd) -> None:
    """Measure what only coord has."""
    for lines in coord.sizes.lines:
        fire, script = coord.costs("fire_with_history", lines)
        report.add(figures, "us a fire, by lines of history", lines, fire)
        report.add(figures, "us of it in the server, by lines of history", lines, script)
    for maps in coord.sizes.maps:
        one, one_script, spread, spread_script = coord.costs("fire_among_maps", maps)
        report.add(figures, "us a fire into one of N maps", maps, one)
        report.add(figures, "us of it in the server, into one of N maps", maps, one_script)
        report.add(figures, "us a fire spread over N maps", maps, spread)
        report.add(figures, "us of it in the server, spread over N maps", maps, spread_script)
    what = ("nothing", f"{FIRES:,} keys it does not wait for", f"{FIRES:,} keys it waits for")
    for fired, (size, pieces, spent) in zip(what, coord.bystander(), strict=True):
        # Each ends with one more key, which tells the node to read its meter.
        report.add(figures, "bytes a node receives, by what is fired", fired, size)
        report.add(figures, "reads from its sockets, by what is fired", fired, pieces)
        report.add(figures, "us of processor time it spends, by what is fired", fired, spent)


def measure(rounds: int, sizes: Sizes) -> report.Figures:
    """Return every figure of every round."""
    figures: report.Figures = {}
    with server("redis") as url:
        every = crowds(url, sizes)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            with_peers(figures, every)
            alone(figures, every[0])
    report.add_ratios(figures, "coord", "redis-py")
    return figures


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one round: only to see that it works")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    figures = measure(1, QUICK) if options.quick else measure(options.rounds, Sizes())
    print(report.table(figures))
    if options.json is not None:
        report.write(options.json, figures)


if __name__ == "__main__":
    main()
