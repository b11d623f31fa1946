"""Waits and calls while slots move and primaries fail over: nothing is lost, doubled or wrong, and little is late."""

from __future__ import annotations

import pytest

from cluster.chaos import Chaos
from cluster.real import RealCluster
from support.figures import figure

_FAULTS = [("move",), ("move", "failover"), ("stop",), ("atomic", "failover")]


@pytest.mark.deadline(900)
@pytest.mark.parametrize("faults", _FAULTS, ids=" ".join)
async def test_nothing_is_lost(real: RealCluster, faults: tuple[str, ...], cluster_seconds: float) -> None:
    """Every wait is woken, by its own call; 99.9 % within a second of the caller's answer, and none after two."""
    if not cluster_seconds:
        pytest.skip("a rate needs time: --cluster-seconds 60")
    if "atomic" in faults and real.kind != "valkey":
        pytest.skip("this server moves slots key by key only")
    await real.heal()
    outcome = await Chaos(real, 1).run(cluster_seconds, *faults)
    figure(f"{real.kind} cluster, {', '.join(faults)}: {outcome}")
    assert [outcome.lost, outcome.wrong, outcome.failed, outcome.doubled] == [[], [], [], []]
    late = sorted(outcome.late)
    assert late[int(len(late) * 0.999)] <= 1.0, outcome
    assert late[-1] <= 2.0, outcome
