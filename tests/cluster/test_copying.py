"""A map is copied from one server to a cluster, and goes on there."""

from __future__ import annotations

from pathlib import Path

import coord
from cluster.moving import slot_of
from cluster.nodes import nodes_of
from cluster.real import RealCluster
from failover.processes import HOST, ServerProcess


def _revision(applied: coord.Applied) -> coord.Revision:
    assert applied.record is not None
    return applied.record.revision


async def test_a_map_moves_from_one_server_to_a_cluster(real: RealCluster, tmp_path: Path) -> None:
    """What stood stands, who resumes a watch misses nothing, and revisions go on."""
    old = ServerProcess(tmp_path, "old", kind=real.kind)
    old.spawn("save ''\n")
    await old.ready()
    try:
        async with coord.connect(f"redis://{HOST}:{old.port}", node="before") as node:
            events = node.events("m")
            await events.fire("stands", 1)
            first = _revision(await events.pulse("seen", 2))
            await events.count("n", 5)
        async with nodes_of(real, "after") as (node,):
            owner = await real.owner(slot_of("coord:{default/m}"))
            for key in await old.command("KEYS", "coord:{default/m}*"):
                await old.command("MIGRATE", HOST, owner.port, key, 0, 5_000)
            events = node.events("m")
            assert await events.wait("stands") == 1
            assert (await events.count("n")).count == 6
            assert _revision(await events.pulse("more", 3)) > first
            seen = []
            async with events.watch(since=first) as changes:
                async for change in changes:
                    if isinstance(change, coord.Record):
                        seen.append(change.key)
                    if len(seen) == 3:
                        break
            assert seen == ["n", "n", "more"]
    finally:
        await old.kill()
