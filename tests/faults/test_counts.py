"""L12 on processes: counts through cuts and kills of the server are counted once."""

from __future__ import annotations

from time import monotonic

import pytest
from twisted.internet.defer import gatherResults

from support.cluster import Cluster
from support.figures import figure
from support.processes import Talker
from support.waiting import eventually, turn

pytestmark = [pytest.mark.deadline(600), pytest.mark.servers("valkey")]

PROCESSES = 10
WIDTH = 400
"""Counts that each process has under way."""


async def test_counts_through_cuts_and_kills(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """Ten processes count, while connections are cut and the server is killed: the count is what was acknowledged.

    20 cuts and 5 kills; ``--fault-rounds`` makes it ten times as many rounds of two cuts, every other one with a kill.
    """
    cluster.reconnect_quickly()
    watcher = await cluster.map("watcher", heartbeat=0.3, timeout=60.0)
    names = [f"n{number}" for number in range(PROCESSES)]
    processes = [Talker("counting.py", cluster.server.address(), name, str(WIDTH)) for name in names]

    async def counts() -> bool:
        record = await watcher.record("done")
        return record is not None and isinstance(record.value, int) and record.value > PROCESSES * WIDTH

    await eventually(counts, "they count", patience=60)
    began = monotonic()
    for number in range(int(request.config.getoption("--fault-rounds"))):
        for _ in range(2):
            await turn(0.1)
            await cluster.server.drop_connections()
        if number % 2:
            await cluster.server.kill()
            await cluster.server.start("kept")
            await cluster.of(watcher).connected(timeout=20)
    took = monotonic() - began
    await gatherResults([process.hang_up() for process in processes])
    told = [process.lines[-1].split() for process in processes]
    acknowledged, repeated = (sum(int(words[at]) for words in told) for at in (0, 1))
    record = await watcher.record("done")
    assert record is not None
    assert record.value == acknowledged
    figure(
        f"{cluster.server.kind}: {acknowledged:,} counts by {PROCESSES} processes through cuts and kills, each once"
        f" ({repeated} made again under their name); {acknowledged / took:,.0f} a second"
    )
