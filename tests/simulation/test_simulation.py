"""Thousands of schedules of users' steps and faults, every promise checked on each.

``pytest tests/simulation --schedules 100000`` goes further. A seed that fails is printed with the shortest schedule
that still does; ``simulation.schedule.play`` runs it again.
"""

from __future__ import annotations

from itertools import chain

import pytest

from simulation.hunt import Tally, hunt, report
from simulation.schedule import COUNTED_SEEDS, HELD_SEEDS, LOCKED_SEEDS, TIMED_SEEDS, generate, play, setup_of


def test_no_schedule_breaks_a_promise(schedules: int, capsys: pytest.CaptureFixture[str]) -> None:
    """W1 to W8, F1 to F4, L1 to L6, L8 to L12, the watchers' and the link's hold on every schedule of all families."""
    whole = Tally()
    later = TIMED_SEEDS, HELD_SEEDS, COUNTED_SEEDS, LOCKED_SEEDS
    families = (hunt(range(first, first + schedules // 8)) for first in later)
    for part in chain(hunt(range(schedules)), *families):
        whole.add(part)
        if part.broken:
            seed, promises = next(iter(part.broken.items()))
            pytest.fail(f"{part.broken}\n{report(seed, promises[0])}", pytrace=False)
    with capsys.disabled():
        print(f"\nsimulation: {whole}")  # noqa: T201 - the figures are what a hunt is for


def test_a_seed_replays() -> None:
    """The same seed gives the same run, to the last moment."""
    for seed in (7, TIMED_SEEDS + 7, HELD_SEEDS + 7, COUNTED_SEEDS + 7, LOCKED_SEEDS + 7):
        first, second = (play(setup_of(seed), generate(seed)) for _ in range(2))
        assert first == second
