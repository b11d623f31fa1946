"""W5 no leak: the last waiter of a pending key leaves nothing behind, and latched keys only the bounded live cache."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from coord import CaughtUp, Coordinator, EventMap, LinkState, TimedOut
from coord.clock import steady
from coord.core.calls import Batch, CallQueue
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
            await events.armed()
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
    await events.armed()
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


async def _use(node: Coordinator, name: str) -> None:
    events = node.events(name)
    waiting = events["k"].addErrback(lambda _: None)
    await events.armed()
    waiting.cancel()
    await events.pulse("k")
    await events.record("k")
    async with events.watch(since="start") as changes:
        await changes.__anext__()


@pytest.mark.servers("redis", "valkey")
@pytest.mark.deadline(90)
async def test_w5_maps_are_forgotten(cluster: Cluster) -> None:
    """Maps that were used, and that nothing holds any more, leave no memory behind; each use may be the first."""
    node = await cluster.linked(heartbeat=0.2)

    async def use(names: list[str]) -> None:
        seen = Seen(*(Deferred.fromCoroutine(_use(node, name)) for name in names))
        await until(lambda: seen.count == len(names), patience=30)
        assert seen.errors == []
        table, sender = node._session.table, node._session.call_sender
        await until(
            lambda: not (table.subscriptions or sender._queues),
            "the table and the call sender forget",
            patience=30,
        )
        # Whatever else has gone wrong in this process may have left some in a cycle.
        gc.collect()
        await until(lambda: not (table.maps or node._maps), "and so the rest is forgotten")

    tracemalloc.start()
    try:
        # The first ones make the tables as large as they get. Not many: to trace takes long on a machine that is busy.
        await use([f"first{number}" for number in range(100)])
        sizes = [tracemalloc.get_traced_memory()[0]]
        for part in range(4):
            await use([f"m{part}-{number}" for number in range(100)])
            sizes.append(tracemalloc.get_traced_memory()[0])
        # What leaks does so each time; a link that was lost, for the machine is busy, leaves new buffers once.
        assert min(after - before for before, after in pairwise(sizes)) < 100 * 50, sizes
    finally:
        tracemalloc.stop()


@pytest.mark.servers("memory", "redis", "valkey")
async def test_w5_a_map_is_known_as_long_as_it_is_of_use(cluster: Cluster) -> None:
    """What the user holds, waits in, watches or caches is not forgotten, whoever else holds the map's object or not."""
    node, other = await cluster.linked(heartbeat=0.1), await cluster.linked("other")
    held = node.events("held")
    waiting = Seen(node.events("waiting")["k"])
    await other.events("cached").fire("k", 1)
    assert await node.events("cached")["k"] == 1
    watch = node.events("watched").watch()
    async with watch as changes:
        assert isinstance(await changes.__anext__(), CaughtUp)
        gc.collect()
        await until(lambda: not node._session.call_sender._queues)
        assert sorted(node._session.table.maps) == ["cached", "held", "waiting", "watched"]
        assert node.events("held") is held
        await other.events("watched").pulse("k", 2)
        assert (await changes.__anext__()).value == 2  # type: ignore[union-attr]
    await other.events("waiting").fire("k", 3)
    await until(lambda: waiting.values == [3])


async def test_w5_numbers_go_on_in_a_map_that_was_forgotten(cluster: Cluster) -> None:
    """No call has a number below one that its node has used in its map: the server would refuse it as too late."""
    node = await cluster.linked(heartbeat=0.1)
    following, numbers = CallQueue.next, []

    def noted(queue: CallQueue) -> Batch | None:
        batch = following(queue)
        numbers.extend([batch.number] if batch else [])
        return batch

    with patch.object(CallQueue, "next", noted):
        for round_ in range(5):
            for _ in range(3):
                await node.events("m").pulse("k", round_)
            await until(lambda: not node._session.call_sender._queues, "the queue is forgotten")
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 15
    assert (await node.events("m").record("k")).value == 4  # type: ignore[union-attr]
