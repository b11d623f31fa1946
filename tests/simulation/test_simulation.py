"""Thousands of schedules of users' steps and faults, every promise checked on each.

``pytest tests/simulation --schedules 100000`` goes further. A seed that fails is printed with the shortest schedule
that still does; ``simulation.schedule.play`` runs it again.
"""

from __future__ import annotations

import pytest

from simulation.hunt import SHOWN, Tally, hunt, report
from simulation.schedule import (
    ACKED_SEEDS,
    COUNTED_SEEDS,
    HELD_SEEDS,
    LOCKED_SEEDS,
    SHARDED_ACKED_SEEDS,
    SHARDED_SEEDS,
    TIMED_SEEDS,
    generate,
    play,
    setup_of,
)


def test_no_schedule_breaks_a_promise(schedules: int, capsys: pytest.CaptureFixture[str]) -> None:
    """W1 to W8, F1 to F4, L1 to L13, the watchers' and the link's hold on every schedule of all families.

    And on all schedules that have shown a mistake: so this notices the mistakes that `test_teeth` makes on purpose.
    """
    whole = Tally()
    later = TIMED_SEEDS, HELD_SEEDS, COUNTED_SEEDS, LOCKED_SEEDS
    families = [range(first, first + schedules // 8) for first in later]
    # A wait for acknowledgements asks much.
    families.append(range(ACKED_SEEDS, ACKED_SEEDS + schedules // 32))
    families.append(range(SHARDED_SEEDS, SHARDED_SEEDS + schedules // 16))
    families.append(range(SHARDED_ACKED_SEEDS, SHARDED_ACKED_SEEDS + schedules // 32))
    for part in hunt(sorted({each for each in SHOWN.values() if isinstance(each, int)}), range(schedules), *families):
        whole.add(part)
        if part.broken:
            seed, promises = next(iter(part.broken.items()))
            pytest.fail(f"{part.broken}\n{report(seed, promises[0])}", pytrace=False)
    with capsys.disabled():
        print(f"\nsimulation: {whole}")  # noqa: T201 - the figures are what a hunt is for


def test_a_seed_replays() -> None:
    """The same seed gives the same run, to the last moment."""
    on_a_cluster = (SHARDED_SEEDS + kind for kind in range(4))
    for seed in (
        7,
        TIMED_SEEDS + 7,
        HELD_SEEDS + 7,
        COUNTED_SEEDS + 7,
        LOCKED_SEEDS + 7,
        ACKED_SEEDS + 7,
        SHARDED_ACKED_SEEDS + 7,
        *on_a_cluster,
    ):
        first, second = (play(setup_of(seed), generate(seed)) for _ in range(2))
        assert first == second
