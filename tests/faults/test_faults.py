"""The run: nodes under load, fault after fault, and no promise broken."""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from time import monotonic

import pytest

from faults.checks import owed, violations
from faults.faults import CLOCK_FAULTS, FAULTS, LASTING, NETWORK_FAULTS, QUICK
from faults.history import History
from faults.network import Network
from faults.server import binary_of
from faults.stage import Stage
from support.figures import figure
from support.wall_clock import WallClock

ROUNDS_A_STAGE = 24


def _schedule(random: Random, known: list[str], rounds: int) -> list[list[list[str]]]:
    """Return the faults of each round, in order, and what happens at the same time.

    Every kind comes once before any comes twice; now and then there are two in a row, or one within another.
    """
    names: list[str] = []
    while len(names) < 2 * rounds:
        names += random.sample(known, len(known))
    schedule = [[[names.pop(0)] for _ in range(random.choice((1, 1, 2)))] for _ in range(rounds)]
    for together in (together for of_round in schedule for together in of_round):
        if together[0] in LASTING and random.random() < 0.4:
            together.append(random.choice(QUICK))
    return schedule


async def _run(kind: str, seed: int, rounds: int) -> tuple[History, Counter[str]]:
    stage = Stage(kind, seed, clocks=True)
    try:
        await stage.open()
        verbs = FAULTS | (NETWORK_FAULTS if stage.network else {}) | (CLOCK_FAULTS if stage.clocks else {})
        for names in _schedule(stage.random, list(verbs), rounds):
            start = monotonic()
            await stage.round(*([(name, verbs[name]) for name in together] for together in names))
            shown = ", then ".join(" within ".join(reversed(together)) for together in names)
            sys.stdout.write(f"{shown}: {monotonic() - start:.1f} s\n")
        return await stage.finish(), stage.faults
    except BaseException:
        sys.stdout.write(f"What the nodes told is in {stage.dump()}\n")
        raise
    finally:
        await stage.close()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@pytest.mark.deadline(100_000)
async def test_no_promise_is_broken(kind: str, fault_rounds: int, seed: int) -> None:
    """Under every kind of fault, each promise holds for whatever the processes recorded."""
    if binary_of(kind) is None:
        pytest.skip(f"there is no {kind} here")
    random = Random(f"{seed} {kind}")
    figures: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    found: list[str] = []
    while fault_rounds > 0 and not found:
        history, happened = await _run(kind, random.getrandbits(32), min(fault_rounds, ROUNDS_A_STAGE))
        fault_rounds -= ROUNDS_A_STAGE
        faults += happened
        found = violations(history)
        figures += _figures(history)
    shown = ", ".join(f"{count} {what}" for what, count in figures.items())
    figure(f"{kind}, seed {seed}: {shown}; {len(found)} violations of a promise")
    figure(f"{kind}: {sum(faults.values())} faults of {len(faults)} kinds: {dict(faults.most_common())}")
    if (missing := Network.missing()) is not None:
        figure(f"{kind}: no network was cut: {missing}")
    if (missing := WallClock.missing()) is not None:
        figure(f"{kind}: no clock was stepped: {missing}")
    assert not found, "\n".join(found[:50])


def _figures(history: History) -> Counter[str]:
    operations = len(history.calls) + len(history.waits) + len(history.looks)
    return Counter(
        {
            "operations": operations,
            "calls": len(history.calls),
            "waits": len(history.waits),
            "wakes": sum(wait.value is not None for wait in history.waits),
            "wakes owed to armed waiters": sum(wait.error is None for wait, _, _ in owed(history)),
            "changes watched": sum(len(watched.seen) for watched in history.watches),
        }
    )
