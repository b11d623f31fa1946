"""Random schedules of steps, thousands a second, each named by its seed; and the shortest one that still fails."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.cluster_model import Cluster

__all__ = ["Schedule", "explore", "play", "shorten"]

Step = tuple[str, int, int]
Schedule = list[Step]

_SERVE = {
    "send": 12,
    "serve_subscriber": 8,
    "serve_command": 8,
    "hear": 14,
    "answer": 10,
    "serve_calls": 4,
    "answer_calls": 4,
}
_USE = {"wait": 12, "wait_again": 2, "cancel": 3, "own": 8, "other": 10, "watch": 1}
_BREAK = {
    "cut": 2,
    "connect": 6,
    "fail_over": 1,
    "flush": 1,
    "junk": 1,
    "corrupt": 1,
    "double": 3,
    "beat": 1,
    "refuse": 1,
    "forget": 1,
}
WEIGHTS = _SERVE | _USE | _BREAK


def take(cluster: Cluster, step: Step) -> None:
    """Take one step; the numbers are reduced to what there is."""
    name, a, b = step
    match name:
        case "wait":
            cluster.wait(a)
        case "wait_again":
            cluster.wait(a, again=True)
        case "own" | "other" | "double":
            getattr(cluster, name)(a, b)
        case "send":
            cluster.send(1 if a == 0 else 500)
        case "refuse":
            cluster.serve_subscriber(refuse=True)
        case "cancel" | "watch" | "flush" | "junk" | "corrupt" | "forget":
            getattr(cluster, name)(a)
        case "fail_over":
            cluster.fail_over(a % 4)
        case _:
            getattr(cluster, name)()


def schedule(seed: int, length: int) -> Schedule:
    """Return the schedule that a seed stands for."""
    chance = random.Random(seed)
    names = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=length)
    return [(name, chance.randrange(12), chance.randrange(12)) for name in names]


def play(steps: Schedule, make: Callable[[], Cluster]) -> Cluster:
    """Run a schedule from the start to the end; an `AssertionError` is a broken promise."""
    cluster = make()
    cluster.connect()
    for step in steps:
        take(cluster, step)
    cluster.finish()
    return cluster


def fails(steps: Schedule, make: Callable[[], Cluster]) -> str | None:
    """Return what a schedule breaks, if anything."""
    try:
        play(steps, make)
    except (AssertionError, KeyError) as broken:
        return f"{type(broken).__name__}: {broken}"
    return None


def shorten(steps: Schedule, make: Callable[[], Cluster]) -> Schedule:
    """Leave out steps, in ever smaller runs, as long as something still breaks."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if fails(fewer, make):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def explore(seeds: range, make: Callable[[int], Cluster], length: int = 80) -> int:
    """Run every seed's schedule; return how many waiters were woken in all."""
    woken = 0
    for seed in seeds:
        steps = schedule(seed, length)
        broken = fails(steps, lambda seed=seed: make(seed))  # type: ignore[misc]
        if broken:
            shorter = shorten(steps, lambda seed=seed: make(seed))  # type: ignore[misc]
            what = fails(shorter, lambda seed=seed: make(seed))  # type: ignore[misc]
            raise AssertionError(f"seed {seed}: {what}\nafter\n" + "\n".join(map(str, shorter)))
    return woken
