"""Nodes follow the primary: within two seconds of the promotion, with everything that they wait for."""

from __future__ import annotations

import pytest
from twisted.internet.defer import gatherResults

from coord import LinkState
from failover.group import Group
from failover.losses import FAULTS
from failover.nodes import Witness, served_by, witnesses
from support.cluster import Seen
from support.figures import figure

pytestmark = pytest.mark.deadline(60)

FOLLOW_WITHIN = 2.0
"""Seconds from the promotion to the last node's link."""


async def _new_run_id(group: Group) -> str:
    return (await group.primary.fields("INFO", "server"))["run_id"]


async def _follow(group: Group, nodes: list[Witness]) -> float:
    """Wait for the promotion and for all nodes; return how long they took."""
    promoted = await group.promoted()
    process = await _new_run_id(group)
    return max([await served_by(witness, process) for witness in nodes]) - promoted


@pytest.mark.parametrize("fault", FAULTS)
async def test_nodes_follow_with_all_their_waiters(group: Group, fault: str) -> None:
    """Armed waiters are woken by a fire after the failover, on nodes that were linked again within two seconds."""
    async with witnesses(group, 5) as nodes:
        keys = [f"{fault}-{number}" for number in range(50)]
        waiting = Seen(*(witness.events[key] for witness in nodes for key in keys))
        await gatherResults([witness.events.armed() for witness in nodes])
        assert waiting.count == 0
        starts = [len(witness.states) for witness in nodes]
        await FAULTS[fault](group)
        took = await _follow(group, nodes)
        figure(f"primary {fault}: all 5 nodes were at the new one {took:.2f} s after its promotion")
        for key in keys:
            await nodes[0].events.fire(key, key)
        await gatherResults([witness.events.wait(key, 10) for witness in nodes for key in keys])
        assert sorted(waiting.values) == sorted(keys * len(nodes))
        assert took < FOLLOW_WITHIN
        for witness, start in zip(nodes, starts, strict=True):
            states = [state for _, state, _ in witness.states[start:]]
            assert states == [LinkState.SUSPENDED, LinkState.CONNECTED], witness.states[start:]
