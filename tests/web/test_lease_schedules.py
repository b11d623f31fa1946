"""Random schedules of clients, gateways and servers that die: at most one client takes the lock for its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from web.broken_leases import VARIANTS
from web.lease_world import Broken, play


def test_l5_no_schedule_has_two_owners(request: pytest.FixtureRequest) -> None:
    """L5, L6, L8: nor does a resource that checks tokens refuse an owner; and the lock is granted on and on."""
    seeds = int(request.config.getoption("--lease-schedules"))
    grants = 0
    for seed in range(seeds):
        try:
            grants += play(seed)
        except Broken as broken:
            pytest.fail(f"web.lease_world.play({seed}): {broken}", pytrace=False)
    assert grants > 3 * seeds


@pytest.mark.parametrize(("variant", "seed"), VARIANTS, ids=lambda each: getattr(each, "__name__", None))
def test_the_schedules_notice(variant: Callable[[], AbstractContextManager[None]], seed: int) -> None:
    """A mistake in a gateway or a client breaks a promise on some schedule."""
    with variant():
        assert any(_breaks(each) for each in (seed, *range(40)))


def _breaks(seed: int) -> bool:
    try:
        play(seed)
    except Broken:
        return True
    return False
