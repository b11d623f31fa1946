"""The old primary: it still accepts, or comes back, and fools nobody; and what was asked of it is settled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import DeferredList, gatherResults

from coord import CaughtUp, LinkState
from failover.group import Group
from failover.losses import FAULTS
from failover.nodes import Witness, run_id, served_by, witnesses
from support.cluster import Seen
from support.waiting import until

pytestmark = pytest.mark.deadline(60)


async def _move(group: Group, nodes: list[Witness], fault: str) -> str:
    """Fail over; return the new primary's run id once all nodes are there."""
    await FAULTS[fault](group)
    await group.promoted()
    process = (await group.primary.fields("INFO", "server"))["run_id"]
    for witness in nodes:
        await served_by(witness, process)
    return process


async def test_one_that_continues_fools_nobody(group: Group) -> None:
    """Stopped, replaced and continued, it still takes itself for the primary; nodes stay, new ones go elsewhere."""
    async with witnesses(group, 2) as nodes:
        old = group.primary
        process = await _move(group, nodes, "hung")
        states = [len(witness.states) for witness in nodes]
        await nodes[0].events.fire("after", 1)
        await old.resume()
        assert await old.role() == "master"
        late = Witness(group.url, "late")
        try:
            await late.node.connected(timeout=5)
            assert await run_id(late.node) == process
            assert await late.events.wait("after", 5) == 1
        finally:
            await late.node.close()
        await group.heal()
        assert [witness.states[start:] for witness, start in zip(nodes, states, strict=True)] == [[], []], group.words()


async def test_one_that_comes_back_as_a_primary_fools_nobody(group: Group) -> None:
    """Killed, replaced and started again with its own data, it says that it is the primary; nobody goes there."""
    async with witnesses(group, 2) as nodes:
        old = group.primary
        process = await _move(group, nodes, "killed")
        await nodes[0].events.fire("told", 2)
        await group.restart(old, as_primary=True)
        late = Witness(group.url, "late")
        try:
            await late.node.connected(timeout=5)
            assert await run_id(late.node) == process
            assert await late.events.wait("told", 5) == 2
        finally:
            await late.node.close()


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_what_was_asked_of_it_is_settled(group: Group, fault: str) -> None:
    """Pulses under way when it goes are answered by the next one, and each is in its history once (F2)."""
    async with witnesses(group, 2) as nodes:
        for witness in nodes:
            await witness.events.pulse("warm")
        calls: list[Any] = []
        seen = Seen()

        def pulse() -> None:
            for witness in nodes:
                calls.append(witness.events.pulse(f"{witness.node.node}-{fault}-{len(calls)}", timeout=60))
                seen.watch(calls[-1])

        async def pulsing() -> None:
            while seen.count < 500:
                pulse()
                await until(lambda: len(calls) - seen.count < 100)

        await pulsing()
        for _ in range(50):
            pulse()
        answered = seen.count
        await _move(group, nodes, fault)
        await until(lambda: seen.count == len(calls), "all are answered", patience=20)
        assert seen.errors == []
        assert len(calls) - answered > 50
        counted: Counter[str] = Counter()
        async with nodes[0].events.watch(since="start") as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    break
                counted[change.key] += 1
        known = {applied.record.key for applied in seen.values}
        twice = [key for key in known if counted[key] > 1]
        assert twice == []
        # What was answered before may have been lost with the old one; what was answered by the new one is there.
        late = {applied.record.key for applied in seen.values[answered:]}
        gone = [key for key in late if not counted[key]]
        assert len(gone) <= 200, gone


async def test_waiters_made_meanwhile_are_armed(group: Group) -> None:
    """Waits made while there is no primary are armed at the next one, and woken there."""
    async with witnesses(group, 2) as nodes:
        await group.primary.kill()
        await until(lambda: all(witness.node.link is LinkState.SUSPENDED for witness in nodes), "all have noticed")
        waiting = Seen(*(witness.events[f"meanwhile-{number}"] for witness in nodes for number in range(100)))
        firing = [nodes[0].events.fire(f"meanwhile-{number}", number, timeout=60) for number in range(100)]
        await group.promoted()
        await gatherResults([witness.events.armed() for witness in nodes])
        results = await DeferredList(firing)
        assert all(applied.first for _, applied in results)
        await until(lambda: waiting.count == 200, "all are woken")
        assert waiting.errors == []
