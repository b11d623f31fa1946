"""The schedules that a design for clusters has to survive, each by its name, with quick and with slow deliveries."""

from __future__ import annotations

import pytest

from simulation.nasty_shards import ACKED, NASTY, TOO_LONG, nasty_setup
from simulation.schedule import play


@pytest.mark.parametrize(("sharded", "latency"), [("valkey", 2), ("redis", 1)])
@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_schedule(name: str, sharded: str, latency: int) -> None:
    """Every promise holds, and what was waited for has come."""
    outcome = play(nasty_setup(name, latency=latency, sharded=sharded), NASTY[name])
    assert outcome.broken == []
    assert outcome.waits or name in ACKED


@pytest.mark.parametrize("sharded", ["valkey", "redis"])
def test_f3_half_a_map_for_too_long(sharded: str) -> None:
    """F3: a call that the servers only put off is not in doubt when its time is over."""
    outcome = play(nasty_setup("half a map", latency=1, sharded=sharded), TOO_LONG)
    assert outcome.broken == []
    assert not outcome.doubts
