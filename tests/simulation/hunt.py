"""Many schedules, on two processes: what each run of seeds found, and how much happened."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from simulation.schedule import describe, generate, play, setup_of, shorten
from simulation.steps import ACKED, COUNTED, HELD, LOCKED, MOVED, TIMED, Step
from simulation.users import CALLS

__all__ = ["SHOWN", "Tally", "hunt", "needed", "try_seeds"]

PROCESSES = 2
SHOWN: dict[str, int | str] = json.loads(Path(__file__).with_name("teeth.json").read_text())
"""For each of the mistakes in `VARIANTS` a seed that has shown it, or the name of a nasty schedule of a cluster."""

_CHUNK = 50

FAMILIES: dict[str, Callable[[Step], bool]] = {
    "demotions": lambda step: step[0] == "demote",
    "troubles": lambda step: step[0] == "refuse",
    "forgeries": lambda step: step[0] == "forge",
    "node's clocks": lambda step: step[0] == "jump",
    "limits": lambda step: step[0] == "limit",
    "ends": lambda step: step[0] in TIMED,
    "counters": lambda step: step[0] in COUNTED,
    "holds": lambda step: step[0] in HELD,
    "locks": lambda step: step[0] in LOCKED,
    "acknowledgements": lambda step: step[0] in ACKED,
    "moves of slots": lambda step: step[0] in MOVED,
    "replicated calls": lambda step: step[0] in CALLS and step[3] % 10 == 9,
}
"""Kinds of steps that may be behind a broken promise; see `needed`."""


@dataclass(slots=True)
class Tally:
    """What happened in a number of schedules. ``broken`` maps a seed to the promises it breaks."""

    schedules: int = 0
    steps: int = 0
    waits: int = 0
    calls: int = 0
    changes: int = 0
    grants: int = 0
    moves: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    broken: dict[int, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Count another's in."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.waits += other.waits
        self.calls += other.calls
        self.changes += other.changes
        self.grants += other.grants
        self.moves += other.moves
        self.seconds += other.seconds
        self.broken.update(other.broken)
        for verb, count in other.faults.items():
            self.faults[verb] = self.faults.get(verb, 0) + count

    def __str__(self) -> str:
        faults = sum(self.faults.values())
        return (
            f"{self.schedules} schedules: {self.steps} steps, {self.waits} waits, {self.calls} calls, "
            f"{self.changes} changes, {self.grants} grants, {self.moves} moves, "
            f"{faults} faults of {len(self.faults)} kinds, "
            f"{len(self.broken)} with a broken promise; {self.seconds:.0f} s of processor time"
        )


def try_seeds(seeds: Sequence[int]) -> Tally:
    """Run the schedules of some seeds, in this process."""
    tally = Tally()
    begin = time.process_time()
    for seed in seeds:
        outcome = play(setup_of(seed), generate(seed))
        tally.schedules += 1
        tally.steps += outcome.steps
        tally.waits += outcome.waits
        tally.calls += outcome.calls
        tally.changes += outcome.changes
        tally.grants += outcome.grants
        tally.moves += outcome.moves
        for verb in outcome.faults:
            tally.faults[verb] = tally.faults.get(verb, 0) + 1
        if outcome.broken:
            tally.broken[seed] = sorted({name for name, _ in outcome.broken})
    tally.seconds = time.process_time() - begin
    return tally


def _begin() -> None:
    # What is there now stays; collecting it again and again would cost more than the schedules.
    gc.collect()
    gc.freeze()


def hunt(*families: Sequence[int], processes: int = PROCESSES) -> Iterator[Tally]:
    """Run the schedules of the seeds of all families on several processes; yield what each part of them came to."""
    parts = [seeds[at : at + _CHUNK] for seeds in families for at in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin) as pool:
        yield from pool.map(try_seeds, parts)


def report(seed: int, promise: str) -> str:
    """Return the shortest schedule found that breaks what a seed's breaks."""
    setup = setup_of(seed)
    shortest = shorten(setup, generate(seed), promise)
    return f"seed {seed}\n{describe(setup, shortest)}"


def needed(seed: int) -> dict[str, list[str]]:
    """Return, for each promise that a seed's schedule breaks, the families of steps without which it does not."""
    setup, steps = setup_of(seed), generate(seed)
    broken = {name for name, _ in play(setup, steps).broken}
    found: dict[str, list[str]] = {name: [] for name in sorted(broken)}
    for family, belongs in FAMILIES.items():
        fewer = [step for step in steps if not belongs(step)]
        if len(fewer) < len(steps):
            for name in broken - {name for name, _ in play(setup, fewer).broken}:
                found[name].append(family)
    return found
