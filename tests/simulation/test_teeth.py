"""The simulation notices: coord is broken on purpose, in each of many ways, and some schedule shows it."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import pytest

from simulation.schedule import COUNTED_SEEDS, HELD_SEEDS, LOCKED_SEEDS, TIMED_SEEDS, generate, play, setup_of
from simulation.variants import VARIANTS, Variant

SCHEDULES = 1_000
"""In how many schedules, at most, a mistake has to show."""

_SHOWN = Path(__file__).with_name("teeth.json")
"""For each mistake a seed that has shown it. It is tried first, and saves the others if it still does."""


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.mistake)
def test_a_mistake_is_noticed(variant: Variant, capfd: pytest.CaptureFixture[str]) -> None:
    """One of the promises that the mistake breaks is seen broken, within a bounded number of schedules."""
    found: list[str] = []
    families = (
        (variant.timed, TIMED_SEEDS),
        (variant.held, HELD_SEEDS),
        (variant.counted, COUNTED_SEEDS),
        (variant.locked, LOCKED_SEEDS),
    )
    first = next((seed for of_family, seed in families if of_family), 0)
    tried = json.loads(_SHOWN.read_text()).get(variant.mistake, first)
    with variant.made():
        for seed in chain([tried], range(first, first + SCHEDULES)):
            broken = {name for name, _ in play(setup_of(seed), generate(seed)).broken}
            found = sorted(broken & set(variant.promises))
            if found:
                break
    capfd.readouterr()
    assert found, f"not noticed in {SCHEDULES} schedules: {variant.mistake}"
    with capfd.disabled():
        print(f"\n{', '.join(found)} by seed {seed}: {variant.mistake}", end="")  # noqa: T201 - how sharp
