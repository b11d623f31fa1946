"""W8 staleness: the live cache may show another node's reset late, by a message, or a heartbeat at most."""

from __future__ import annotations

from coord import LinkState
from support.cluster import Cluster, Seen, latched
from support.waiting import until


async def test_w8_staleness_ends_with_the_message(cluster: Cluster) -> None:
    """Another node's reset takes the key out of the cache as soon as its message is there."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1)
    assert await here["k"] == 1
    await there.reset("k")
    await until(lambda: cluster.of(here).statistics().cached == 0)
    waiting = here["k"]
    seen = Seen(waiting)
    await here.armed()
    assert seen.count == 0
    waiting.cancel()


async def test_w8_staleness_ends_with_the_heartbeat(cluster: Cluster) -> None:
    """Where the connection died silently, the cache is dropped within a heartbeat and its answer."""
    here, gate = await cluster.gated("here", heartbeat=0.2)
    there = await cluster.map("there")
    await there.fire("k", 1)
    assert await here["k"] == 1
    gate.stall()
    await there.reset("k")
    assert Seen(here["k"]).values == [1], "stale until the heartbeat finds out"
    assert not await latched(there, "k")
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    assert cluster.of(here).statistics().cached == 0
    gate.open()
    waiting = here["k"]
    seen = Seen(waiting)
    await here.armed()
    assert seen.count == 0
    waiting.cancel()


async def test_w8_staleness_record_asks_the_server(cluster: Cluster) -> None:
    """record() tells what the server has, whatever the cache says."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1)
    assert await here["k"] == 1
    await there.reset("k")
    assert not await latched(here, "k")
