"""The simulation notices: coord is broken on purpose, in each of many ways, and some schedule shows it."""

from __future__ import annotations

from itertools import chain

import pytest

from simulation.hunt import SHOWN
from simulation.nasty_shards import NASTY, nasty_setup
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
from simulation.setup import Setup
from simulation.steps import Step
from simulation.variants import VARIANTS, Variant

SCHEDULES = 1_000
"""In how many schedules, at most, a mistake has to show."""


def _schedule(seed: int | str) -> tuple[Setup, list[Step]]:
    if isinstance(seed, str):
        return nasty_setup(seed, latency=1, sharded="redis"), NASTY[seed]
    return setup_of(seed), generate(seed)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.mistake)
def test_a_mistake_is_noticed(variant: Variant, capfd: pytest.CaptureFixture[str]) -> None:
    """One of the promises that the mistake breaks is seen broken, within a bounded number of schedules."""
    found: list[str] = []
    families = (
        (variant.sharded and variant.acked, SHARDED_ACKED_SEEDS),
        (variant.timed, TIMED_SEEDS),
        (variant.held, HELD_SEEDS),
        (variant.counted, COUNTED_SEEDS),
        (variant.locked, LOCKED_SEEDS),
        (variant.acked, ACKED_SEEDS),
        (variant.sharded, SHARDED_SEEDS),
    )
    first = next((seed for of_family, seed in families if of_family), 0)
    # It saves the others if it still shows the mistake.
    tried = SHOWN.get(variant.mistake, first)
    with variant.made():
        for seed in chain([tried], range(first, first + SCHEDULES)):
            setup, steps = _schedule(seed)
            broken = {name for name, _ in play(setup, steps).broken}
            found = sorted(broken & set(variant.promises))
            if found:
                break
    capfd.readouterr()
    assert found, f"not noticed in {SCHEDULES} schedules: {variant.mistake}"
    with capfd.disabled():
        print(f"\n{', '.join(found)} by seed {seed}: {variant.mistake}", end="")  # noqa: T201 - how sharp
