"""Random schedules of steps, thousands a second, each named by its seed; and the shortest one that still fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from core.cluster_model import Cluster

__all__ = ["Schedule", "explore", "play", "shorten"]

# What a promise that is not kept looks like; the table's own bookkeeping may notice first.
BROKEN = (AssertionError, KeyError)

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
    "rest": 3,
    "rest_subscriber": 4,
    "rest_command": 4,
}
_USE = {"wait": 12, "wait_again": 2, "cancel": 4, "own": 8, "other": 10, "watch": 1}
_BREAK = {
    "cut": 2,
    "connect": 6,
    "fail_over": 1,
    "flush": 1,
    "junk": 1,
    "corrupt": 1,
    "double": 3,
    "beat": 1,
    "refuse": 2,
    "busy": 2,
    "resume": 3,
    "forget": 1,
}
_WEIGHTS = _SERVE | _USE | _BREAK
# Fire, fail, pulse, reset: were they alike, most keys would be latched most of the time.
_KINDS = (0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3)
_KEYED = {"wait", "wait_again", "junk", "corrupt", "forget"}


def take(cluster: Cluster, step: Step) -> None:
    """Take one step; the numbers are reduced to what there is."""
    name, a, b = step
    match name:
        case "wait":
            cluster.wait(a)
        case "wait_again":
            cluster.wait(a, again=True)
        case "own" | "other":
            getattr(cluster, name)(_KINDS[a], b)
        case "double":
            cluster.double(a, b)
        case "send":
            cluster.send(1 if a == 0 else 500)
        case "refuse":
            cluster.serve_subscriber("withdrawn" if a % 2 else "refused")
        case "busy" | "cancel" | "watch" | "flush" | "junk" | "corrupt" | "forget":
            getattr(cluster, name)(a)
        case "fail_over":
            cluster.fail_over(a % 4)
        case _:
            getattr(cluster, name)()


def schedule(seed: int, length: int) -> Schedule:
    """Return the schedule that a seed stands for.

    Each has a temper of its own: some keys and some kinds of steps are rare in it, or missing, others frequent. So
    that what needs many steps of a few kinds comes about as well as what needs one of each.
    """
    chance = random.Random(seed)
    names = list(_WEIGHTS)
    weights = [
        weight * chance.choice((0.25, 1, 1, 3) if name in _SERVE else (0, 0.5, 1, 3))
        for name, weight in _WEIGHTS.items()
    ]
    keys = chance.sample(range(3), chance.choice((1, 1, 2, 3)))
    return [
        (name, chance.choice(keys) if name in _KEYED else chance.randrange(12), chance.choice(keys))
        for name in chance.choices(names, weights, k=length)
    ]


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
    except BROKEN as broken:
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
    return sum(_try(seed, schedule(seed, length), lambda seed=seed: make(seed)) for seed in seeds)  # type: ignore[misc]


def _try(seed: int, steps: Schedule, make: Callable[[], Cluster]) -> int:
    try:
        return play(steps, make).woken
    except BROKEN:
        shorter = shorten(steps, make)
        lines = "\n".join(map(str, shorter))
        raise AssertionError(f"seed {seed}: {fails(shorter, make)}\nafter\n{lines}") from None


def first_failure(seeds: Iterable[int], make: Callable[[int], Cluster], length: int = 80) -> str | None:
    """Return what the first failing seed's schedule breaks, if any does."""
    for seed in seeds:
        broken = fails(schedule(seed, length), lambda seed=seed: make(seed))  # type: ignore[misc]
        if broken:
            return f"seed {seed}: {broken}"
    return None
