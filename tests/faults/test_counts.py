"""L12 on processes: counts through cuts and kills of the server are counted once."""

from __future__ import annotations

from time import monotonic

import pytest
from twisted.internet.defer import gatherResults

from support.cluster import Cluster
from support.figures import figure
from support.processes import Talker
from support.waiting import eventually

pytestmark = [pytest.mark.deadline(600), pytest.mark.servers("valkey")]

PROCESSES = 10
WIDTH = 400
"""Counts that each process has under way."""

STEP = 2_000
"""Counts between two faults."""


async def test_counts_through_cuts_and_kills(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """Ten processes count, while connections are cut and the server is killed: the count is what was acknowledged.

    20 cuts and 5 kills; ``--fault-rounds`` gives the rounds, each of two cuts and 4,000 counts at least.
    """
    cluster.reconnect_quickly()
    watcher = await cluster.map("watcher", heartbeat=0.3, timeout=60.0)
    names = [f"n{number}" for number in range(PROCESSES)]
    processes = [Talker("counting.py", cluster.server.address(), name, str(WIDTH)) for name in names]

    async def counted() -> int:
        record = await watcher.record("done")
        return record.value if record is not None and isinstance(record.value, int) else 0

    async def go_on() -> None:
        enough = await counted() + STEP

        async def reached() -> bool:
            return await counted() >= enough

        await eventually(reached, "they count", patience=60)

    await go_on()
    began = monotonic()
    rounds = int(request.config.getoption("--fault-rounds"))
    for number in range(rounds):
        for _ in range(2):
            await go_on()
            await cluster.server.drop_connections()
        if number % max(2, rounds // 20) == 1:
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
