"""W3 once: a waiter is resolved exactly once, in the order they came; waits made in callbacks are for the next wake."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from coord import LinkState
from support.cluster import Cluster, Seen
from support.waiting import until


async def test_w3_once_in_order(cluster: Cluster) -> None:
    """Waiters of one key are called in the order they came."""
    events = await cluster.map()
    order: list[int] = []

    def wait(number: int) -> None:
        events["k"].addCallback(lambda _: order.append(number))

    for number in range(20):
        wait(number)
    await events.fire("k")
    assert order == list(range(20))


async def test_w3_once_in_order_over_a_cut(cluster: Cluster) -> None:
    """Also those that came while the link was down, after those that were armed before."""
    events, gate = await cluster.gated()
    other = await cluster.map("other")
    order: list[int] = []

    def wait(number: int) -> None:
        events["k"].addCallback(lambda _: order.append(number))

    for number in range(5):
        wait(number)
    await events.armed()
    gate.shut()
    await until(lambda: cluster.of(events).link is LinkState.SUSPENDED)
    for number in range(5, 10):
        wait(number)
    gate.open()
    await events.armed()
    await other.pulse("k")
    await until(lambda: len(order) == 10)
    assert order == list(range(10))


async def test_w3_once_a_pulse_does_not_wake_waits_of_its_callbacks(cluster: Cluster) -> None:
    """A wait made inside a pulse's callback belongs to the next pulse."""
    here, there = await cluster.map("here"), await cluster.map("there")
    seen: list[Any] = []

    def again(value: Any = None) -> None:
        if value is not None:
            seen.append(value)
        if len(seen) < 3:
            here["k"].addCallback(again)

    again()
    for value in ("one", "two", "three"):
        await here.armed()
        await there.pulse("k", value)
        await until(lambda value=value: seen[-1:] == [value])  # type: ignore[misc]
    assert seen == ["one", "two", "three"]


async def test_w3_once_own_pulse_does_not_wake_waits_of_its_callbacks(cluster: Cluster) -> None:
    """The same on the pulsing node, armed or not: neither the answer nor the message wakes the later wait."""
    events = await cluster.map()
    later = Seen()
    first: list[Any] = []

    def called(value: Any) -> None:
        first.append(value)
        later.watch(events["k"])

    events["k"].addCallback(called)
    await events.pulse("k", 1)
    assert first == [1]
    await events.armed()
    assert later.count == 0
    await events.pulse("k", 2)
    assert later.values == [2]


async def test_w3_once_a_fire_answers_waits_of_its_callbacks(cluster: Cluster) -> None:
    """A wait made inside a fire's callback finds the key latched, and is answered too."""
    here, there = await cluster.map("here"), await cluster.map("there")
    inner = Seen()
    here["k"].addCallback(lambda _: inner.watch(here["k"]))
    await here.armed()
    await there.fire("k", 5)
    await until(lambda: inner.count == 1)
    assert inner.values == [5]


async def test_w3_once_fire_in_a_wake_callback(cluster: Cluster) -> None:
    """A callback may fire, reset and pulse; its calls are made like any other, and nobody is called twice."""
    here, there = await cluster.map("here"), await cluster.map("there")
    calls: list[Deferred[Any]] = []
    seen = Seen()

    def called(_: object) -> None:
        calls.extend((here.reset("k"), here.fire("k", 2), here.pulse("other", 3)))

    here["k"].addCallback(called)
    seen.watch(here["k"])
    seen.watch(here["other"])
    await here.armed()
    await there.fire("k", 1)
    await until(lambda: len(calls) == 3)
    for call in calls:
        assert (await call).first
    assert seen.values == [1, 3]
    assert await here["k"] == 2


async def test_w3_once_each_over_many_faults(cluster: Cluster) -> None:
    """A latched key that is read again on each new link calls nobody twice."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    seen = Seen(*(here["k"] for _ in range(3)))
    await there.fire("k", 1)
    await until(lambda: seen.count == 3)
    for _ in range(3):
        gate.cut()
        await cluster.state(cluster.of(here), LinkState.SUSPENDED)
        await cluster.of(here).connected()
        assert await here["k"] == 1
    assert seen.values == [1, 1, 1]
