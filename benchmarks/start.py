"""How long a command takes, beside the import of Twisted's reactor alone.

``python benchmarks/start.py [ROUNDS]`` runs everything once in each round, so that what else the machine does falls on
all alike, and prints medians: seconds, and seconds of CPU.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from servers import server

COORD = str(Path(sys.executable).with_name("coord"))
REACTOR = "import twisted.internet.reactor"
MANY = "".join(f"key{number}\n" for number in range(1000))
COMMANDS: dict[str, tuple[str, ...]] = {
    f"python -c '{REACTOR}'": (sys.executable, "-c", REACTOR),
    "coord fire m k": (COORD, "fire", "m", "k"),
    "coord get m k": (COORD, "get", "m", "k"),
    "coord fire m --from - (1,000 lines)": (COORD, "fire", "m", "--from", "-"),
    "coord --help": (COORD, "--help"),
    "coord --version": (COORD, "--version"),
}


def run(argv: tuple[str, ...], url: str) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU, that a command takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(argv, env={**os.environ, "COORD_URL": url}, input=MANY, text=True, capture_output=True, check=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int = 20) -> None:
    """Print the figures."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with server("redis") as url:
        for _ in range(rounds):
            for name, argv in COMMANDS.items():
                taken[name].append(run(argv, url))
    reactor = [median(column) for column in zip(*next(iter(taken.values())), strict=True)]
    for name, runs in taken.items():
        seconds, cpu = (median(column) for column in zip(*runs, strict=True))
        print(f"{name:45} {seconds:.3f} s ({seconds / reactor[0]:.2f})   {cpu:.3f} s of CPU ({cpu / reactor[1]:.2f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
