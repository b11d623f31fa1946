"""Holds in processes that are killed, on a server that is killed, restarted and hung meanwhile (L1, L2, L3)."""

from __future__ import annotations

from collections import defaultdict

import pytest
from twisted.internet.defer import gatherResults

from coord import CaughtUp, EventMap, Record
from support.cluster import Cluster
from support.figures import figure
from support.processes import Talker
from support.waiting import eventually, turn, until

pytestmark = [pytest.mark.deadline(120), pytest.mark.servers("valkey")]

HEARTBEAT, LEASE, GRACE = 0.5, 4.0, 2.5
KEYS = 10
DYING = [f"dying{number}" for number in range(5)]
LIVING = [f"living{number}" for number in range(15)]


def _start(address: str, *names: str) -> Talker:
    return Talker("holding.py", address, str(HEARTBEAT), str(LEASE), str(GRACE), str(KEYS), *names)


async def _history(events: EventMap) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    async with events.watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            assert isinstance(change, Record)
            found[change.key].append(change)
    return found


async def test_200_holds_of_20_nodes_of_which_5_are_killed(cluster: Cluster) -> None:
    """Every key of a dead node expires once, in time; none of a living one ever, nor the one that all hold."""
    cluster.reconnect_quickly()
    watcher = await cluster.map("watcher", heartbeat=HEARTBEAT)
    address = cluster.server.address()
    dying = [_start(address, name) for name in DYING]
    living = _start(address, *LIVING)
    await until(lambda: all("held" in each.lines for each in (*dying, living)), "all are held", patience=60)
    try:
        # Two die before the server does, two while it is away, and one while it hangs.
        for process in dying[:2]:
            process.transport.signalProcess("KILL")
        await turn(LEASE / 2)
        await cluster.server.kill()
        for process in dying[2:4]:
            process.transport.signalProcess("KILL")
        await turn(LEASE)
        await cluster.server.start("kept")
        await until(lambda: living.lines[-1] != "not valid", "the living are back", patience=20)
        await cluster.server.hang()
        dying[4].transport.signalProcess("KILL")
        await turn(LEASE + GRACE)
        await cluster.server.resume()
        await cluster.of(watcher).connected(timeout=20)
        began = (await watcher.fire("resumed")).record
        assert began is not None

        async def gone() -> bool:
            records = (await watcher.records("dying")).records
            return not any(record.latched for record in records)

        await eventually(gone, "all keys of the dead are gone", patience=30)
        await turn(LEASE + GRACE)
        history = await _history(watcher)
    finally:
        await living.hang_up()
        await gatherResults([process.ended for process in dying])
    for name in DYING:
        for key in range(KEYS):
            records = history[f"{name}/{key}"]
            assert [(record.kind.value, record.passed) for record in records] == [("fired", False), ("expired", False)]
    for name in LIVING:
        for key in range(KEYS):
            assert [record.kind.value for record in history[f"{name}/{key}"]] == ["fired"]
    shared = history["shared"]
    assert {record.latched_at for record in shared} == {shared[0].revision}
    assert shared[-1].node in LIVING
    # The recovery began with the restart; since then the clock has gone on by 0.75 G at most while the server hung.
    late = max(history[f"{name}/{key}"][-1].time for name in DYING for key in range(KEYS)) - began.time
    figure(f"{cluster.server.kind}: the last of 50 keys of killed holders expired {late:.2f} s after the last fault")
    assert late < 2 * (LEASE + GRACE) + 1.5 * HEARTBEAT + 1
