"""What waiting costs: bytes, and the time to make, arm and cancel a wait, at growing numbers in one process.

``python benchmarks/memory.py [--rounds 3] [--quick] [--json FILE] [1 1000 100000 1000000]`` prints a table a figure
and writes JSON:

- bytes a waiter and a cached key: *resident* is what the process has of the system more than before (not for few: it
  comes in pages); *traced* is what Python's objects take (not for very many: the tracing takes more than they do);
- microseconds to make, to arm (until the server has confirmed it and the key was read) and to cancel a wait, and to
  wait for what the live cache has;
- re-arming after the connection was cut: seconds until the last wait is armed again, and for how long the reactor was
  kept from everything else.

"bare" is a Deferred with a callback and an errback in a dict, under a key of the same length: what nobody can do
without. Each size of each figure runs in a process of its own, and the rounds alternate.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import time_ns

import report
from children import Child
from servers import server

COUNTS = [1, 1_000, 100_000, 1_000_000]
PAGES = 1_000
"""From so many on, pages are fine enough to weigh them with."""
TRACES = 100_000
"""Up to so many, tracing is cheap enough."""


class Size:
    """One number of waits, measured against one server."""

    def __init__(self, figures: report.Figures, url: str, count: int) -> None:
        self._figures = figures
        self._url = url
        self._count = count

    def measure(self) -> None:
        """Measure everything once."""
        self._find("bare_times", "us to make a wait: bare", "us to cancel a wait: bare")
        self._find("wait_times", "us to make a wait: coord", "us to arm a wait: coord", "us to cancel a wait: coord")
        fired = self._fire()
        self._find("cached_times", "us to wait for a cached key: coord", name=fired)
        ways = {"resident": self._count >= PAGES, "traced": self._count <= TRACES}
        for way in [way for way, fits in ways.items() if fits]:
            self._find(f"{way}_bare_bytes", f"{way} bytes a waiter: bare")
            self._find(f"{way}_wait_bytes", f"{way} bytes a waiter: coord")
            self._find(f"{way}_cached_bytes", f"{way} bytes a cached key: coord", name=fired)
        self._find("rearm", "s to re-arm all after a cut: coord", "ms of the reactor's longest pause meanwhile: coord")

    def _fire(self) -> str:
        """Fire so many keys of a new map."""
        name = f"fired{time_ns()}"
        self._find("fire", name=name)
        return name

    def _find(self, part: str, *figures: str, name: str = "memory") -> None:
        with Child("memory_node.py", part, self._url, name, self._count) as child:
            for figure, value in zip(figures, child.hear("found"), strict=True):
                report.add(self._figures, figure, self._count, value)
            # An end of its own: coordinators say goodbye.
            child.process.wait()


def measure(rounds: int, counts: list[int]) -> report.Figures:
    """Return every figure of every round."""
    figures: report.Figures = {}
    for number in range(rounds):
        # A server of its own each round: the keys of the last one would be so much more to hold.
        with server("redis") as url:
            for count in counts:
                print(f"round {number + 1} of {rounds}: {count:,}", file=sys.stderr)
                Size(figures, url, count).measure()
    report.add_ratios(figures, "coord", "bare")
    return figures


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1 and 1,000, and one round: only to see that it works")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    figures = measure(1, COUNTS[:2]) if options.quick else measure(options.rounds, options.counts)
    print(report.table(figures))
    if options.json is not None:
        report.write(options.json, figures)


if __name__ == "__main__":
    main()
