"""W1 late: a wait on a latched key is answered as soon as it is armed; from the live cache before it returns."""

from __future__ import annotations

import pytest

import coord
from support.cluster import Cluster, Seen, failure_of
from support.waiting import until


async def test_w1_late_on_another_node(cluster: Cluster) -> None:
    """A node that comes after the fire is answered once it is armed."""
    first = await cluster.map("a")
    await first.fire("k", {"at": "/mnt/abc"})
    second = await cluster.map("b")
    assert await second["k"] == {"at": "/mnt/abc"}


async def test_w1_late_on_a_failed_key(cluster: Cluster) -> None:
    """A failed key is latched too: late waiters get the errback."""
    first = await cluster.map("a")
    await first.fail("k", "disk on fire")
    second = await cluster.map("b")
    with pytest.raises(coord.EventFailed) as caught:
        await second["k"]
    assert (caught.value.key, caught.value.reason) == ("k", "disk on fire")


async def test_w1_late_in_the_cache_is_synchronous(cluster: Cluster) -> None:
    """A key in this node's live cache is answered before the subscript returns."""
    events = await cluster.map()
    await events.fire("k", 7)
    assert await events["k"] == 7
    seen = Seen(events["k"])
    assert seen.values == [7]


async def test_w1_late_in_the_cache_after_another_nodes_fire(cluster: Cluster) -> None:
    """A waiter that was woken leaves the key in the cache: the next wait is answered synchronously."""
    here, there = await cluster.map("a"), await cluster.map("b")
    waiting = here["k"]
    await here.armed()
    await there.fire("k", [1, 2])
    assert await waiting == [1, 2]
    assert Seen(here["k"]).values == [[1, 2]]


async def test_w1_late_failure_in_the_cache_is_synchronous(cluster: Cluster) -> None:
    """A cached failure errbacks before the subscript returns."""
    events = await cluster.map()
    await events.fail("k", "no")
    with pytest.raises(coord.EventFailed):
        await events["k"]
    assert isinstance(failure_of(events["k"]), coord.EventFailed)


async def test_w1_late_settled_means_all_of_a_wake(cluster: Cluster) -> None:
    """A handler that cancels a sibling, or asks itself, has nobody told of ``armed()`` before the rest is called."""
    here, there = await cluster.map("a"), await cluster.map("b")
    await there.fire("k", 7)
    order: list[str] = []

    def first(_: object) -> None:
        second.cancel()
        here.armed().addCallback(lambda _: order.append("settled"))

    here["k"].addCallback(first)
    second = here["k"].addErrback(lambda _: order.append("cancelled"))
    here["k"].addCallback(lambda _: order.append("woken"))
    here.armed().addCallback(lambda _: order.append("settled"))
    await until(lambda: len(order) == 4)
    assert order == ["cancelled", "woken", "settled", "settled"]
