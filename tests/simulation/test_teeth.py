"""The simulation notices: coord is broken on purpose, in each of many ways, and some schedule shows it."""

from __future__ import annotations

import pytest

from simulation.schedule import generate, play, setup_of
from simulation.variants import VARIANTS, Variant

SCHEDULES = 1_000
"""In how many schedules, at most, a mistake has to show."""


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.mistake)
def test_a_mistake_is_noticed(variant: Variant, capfd: pytest.CaptureFixture[str]) -> None:
    """One of the promises that the mistake breaks is seen broken, within a bounded number of schedules."""
    found: list[str] = []
    with variant.made():
        for seed in range(SCHEDULES):
            broken = {name for name, _ in play(setup_of(seed), generate(seed)).broken}
            found = sorted(broken & set(variant.promises))
            if found:
                break
    capfd.readouterr()
    assert found, f"not noticed in {SCHEDULES} schedules: {variant.mistake}"
    with capfd.disabled():
        print(f"\n{', '.join(found)} in {seed + 1} schedules: {variant.mistake}", end="")  # noqa: T201 - how sharp
