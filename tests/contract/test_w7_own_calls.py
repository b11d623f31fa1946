"""W7 own calls: what a node's own call did is seen by its own waits as soon as the call's Deferred fires."""

from __future__ import annotations

from typing import Any

import pytest

from coord import EventFailed, LinkState
from support.cluster import Cluster, Seen, failure_of
from support.waiting import turn


async def test_w7_own_calls_waiters_before_the_caller(cluster: Cluster) -> None:
    """Local waiters are called first, then the caller."""
    events = await cluster.map()
    order: list[str] = []
    events["k"].addCallback(lambda _: order.append("waiter"))
    await events.armed()
    await events.fire("k").addCallback(lambda _: order.append("caller"))
    assert order == ["waiter", "caller"]


@pytest.mark.parametrize("settle", [True, False])
async def test_w7_own_calls_of_each_call(cluster: Cluster, settle: bool) -> None:
    """Fire, fail and pulse have woken this node's waiters, armed or not, when their Deferred fires."""
    events = await cluster.map()

    async def wait(key: str) -> Any:
        waiting = events[key]
        if settle:
            await events.armed()
        return [waiting]

    (fired,), (failed,), (pulsed,) = await wait("fired"), await wait("failed"), await wait("pulsed")
    await events.fire("fired", 1)
    assert Seen(fired).values == [1]
    await events.fail("failed", "no")
    assert isinstance(failure_of(failed), EventFailed)
    await events.pulse("pulsed", 2)
    assert Seen(pulsed).values == [2]


async def test_w7_own_calls_a_call_that_changed_nothing(cluster: Cluster) -> None:
    """A fire that finds the key latched by another node still wakes this node's waiters, with what stands."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", "theirs")
    seen = Seen(here["k"])
    applied = await here.fire("k", "ours")
    assert not applied.first
    assert applied.record is not None
    assert applied.record.value == "theirs"
    assert seen.values == ["theirs"]


@pytest.mark.deadline(60)
async def test_w7_own_calls_reset_then_wait(cluster: Cluster) -> None:
    """After reset the same node's wait never sees the old value: two thousand rounds, with another node waiting."""
    here, there = await cluster.map("here"), await cluster.map("there")
    for round_ in range(2_000):
        await here.fire("k", round_)
        if round_ % 3 == 0:
            assert await here["k"] == round_
        if round_ % 7 == 0:
            assert await there["k"] == round_
        await here.reset("k")
        waiting = here["k"]
        seen = Seen(waiting)
        if round_ % 5 == 0:
            await here.armed()
        elif round_ % 2:
            await turn()
        assert seen.count == 0, round_
        waiting.cancel()


async def test_w7_own_calls_pulse_wakes_those_not_armed_yet(cluster: Cluster) -> None:
    """A pulse wakes the calling node's earlier waiters even where there was no link to arm them."""
    events, gate = await cluster.gated()
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    earlier = Seen(events["k"])
    pulsing = events.pulse("k", 1)
    gate.open()
    await pulsing
    assert earlier.values == [1]
