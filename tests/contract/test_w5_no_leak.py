"""W5 no leak: the last waiter of a pending key leaves nothing behind, and latched keys only the bounded live cache."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from coord import EventMap, LinkState, TimedOut
from coord.clock import steady
from support.cluster import Cluster, Seen
from support.waiting import eventually, turn, until


def _deadlines(longest: float) -> int:
    """Count the timers that are due about as many seconds from now."""
    clock: Any = steady(reactor)
    return sum(longest / 2 < call.getTime() - clock.seconds() <= longest for call in clock.getDelayedCalls())


async def _nothing_left(cluster: Cluster, events: EventMap) -> None:
    """Wait until neither the node nor the server keeps anything but the heartbeat's channel."""
    node = cluster.of(events)
    await until(lambda: node.statistics().subscriptions == 0, "the node keeps no subscription")
    assert node.statistics().waiters == 0

    async def alone() -> bool:
        return len(await cluster.server.channels()) == 1

    await eventually(alone, "the server knows no subscription but the heartbeat's")


async def test_w5_no_leak_after_cancel(cluster: Cluster) -> None:
    """Cancelled waiters, armed or not, leave no entry and no subscription."""
    events = await cluster.map()
    for armed in (False, True):
        waiters = [events[f"k{i}"] for i in range(20)]
        seen = Seen(*waiters)
        if armed:
            await events.settled()
        for waiter in waiters:
            waiter.cancel()
        assert {type(error) for error in seen.errors} == {CancelledError}
        await _nothing_left(cluster, events)


async def test_w5_no_leak_cancel_in_the_same_turn_sends_nothing(cluster: Cluster) -> None:
    """A wait that is cancelled before the turn ends never reaches the server."""
    events = await cluster.map()
    waiter = events["k"]
    seen = Seen(waiter)
    waiter.cancel()
    assert seen.count == 1
    assert cluster.of(events).statistics().subscriptions == 0


async def test_w5_no_leak_after_a_timeout(cluster: Cluster) -> None:
    """A deadline ends the wait with TimedOut and leaves nothing."""
    events = await cluster.map()
    with pytest.raises(TimedOut, match="m/k"):
        await events.wait("k", timeout=0.02)
    await _nothing_left(cluster, events)


async def test_w5_no_leak_a_resolved_wait_leaves_no_timer(cluster: Cluster) -> None:
    """The deadline of a wait goes with the wait."""
    events = await cluster.map()
    waiting = events.wait("k", timeout=1000)
    assert _deadlines(1000) == 1
    await events.fire("k", 1)
    assert await waiting == 1
    assert _deadlines(1000) == 0


async def test_w5_no_leak_while_disconnected(cluster: Cluster) -> None:
    """Cancelling while there is no link leaves nothing to subscribe to."""
    events, gate = await cluster.gated()
    node = cluster.of(events)
    waiters = [events["armed"]]
    await events.settled()
    gate.shut()
    await cluster.state(node, LinkState.SUSPENDED)
    waiters.append(events["new"])
    seen = Seen(*waiters)
    for waiter in waiters:
        waiter.cancel()
    assert seen.count == 2
    assert node.statistics().subscriptions == 0
    gate.open()
    await node.connected()
    await _nothing_left(cluster, events)


async def test_w5_no_leak_of_wait_all_and_wait_any(cluster: Cluster) -> None:
    """Whatever ends them (a value, a failure, a deadline, a cancel), the other waits go too."""
    events = await cluster.map()
    any_ = events.wait_any(["a", "b", "c"])
    await events.pulse("b", 2)
    assert await any_ == ("b", 2)
    all_ = events.wait_all(["a", "b", "c"])
    failed = Seen(all_)
    await events.fail("b", "no")
    assert failed.count == 1
    await events.reset("b")
    for waiting in (events.wait_all(["a", "b"], timeout=0.02), events.wait_any(["a", "b"], timeout=0.02)):
        with pytest.raises(TimedOut):
            await waiting
    for waiting in (events.wait_all(["a", "b"]), events.wait_any(["a", "b"])):
        seen = Seen(waiting)
        waiting.cancel()
        assert isinstance(seen.errors[0], CancelledError)
    await _nothing_left(cluster, events)


async def test_w5_no_leak_the_cache_is_bounded(cluster: Cluster) -> None:
    """Of many latched keys only as many stay subscribed as the cache may hold; the least recently used go."""
    events = await cluster.map(cache_size=5)
    node = cluster.of(events)
    for number in range(30):
        await events.fire(f"k{number}", number)
        assert await events[f"k{number}"] == number
    await until(lambda: node.statistics().subscriptions <= 5, "evicted keys are left")
    assert node.statistics().cached == 5
    assert len(await cluster.server.channels()) <= 6
    assert Seen(events["k29"]).values == [29]
    assert await events["k0"] == 0


async def test_w5_no_leak_a_reset_key_leaves_the_cache(cluster: Cluster) -> None:
    """A cached key that is reset by another node, and that nobody waits for, is left."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1)
    assert await here["k"] == 1
    await there.reset("k")
    await until(lambda: cluster.of(here).statistics().subscriptions == 0)


async def test_w5_no_leak_a_look_creates_nothing(cluster: Cluster) -> None:
    """Asking about a key leaves no waiter and no subscription."""
    events = await cluster.map()
    assert await events.record("k") is None
    assert (await events.records()).records == ()
    assert await events.subscribers(["k"]) == {"k": 0}
    await _nothing_left(cluster, events)


async def test_w5_no_leak_of_thousands(cluster: Cluster) -> None:
    """Thousands of waits cancelled at every stage of their arming leave nothing."""
    events = await cluster.map()
    seen = Seen()
    for stage in range(6):
        waiters = [events[f"k{number}"] for number in range(1_000)]
        for waiter in waiters:
            seen.watch(waiter)
        for _ in range(stage):
            await turn()
        for waiter in waiters[:: 2 if stage % 2 else 1]:
            waiter.cancel()
        for waiter in waiters:
            waiter.cancel()
    assert seen.count == 6_000
    await _nothing_left(cluster, events)
