"""W6 closed: close() errbacks every pending waiter with Closed, without noise, and leaves no Deferred hanging."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.defer import Deferred

from coord import Closed, Coordinator, LinkState, Unconfirmed
from support.cluster import Cluster, Seen, failure_of, latched
from support.waiting import eventually, turn, until


async def test_w6_closed_every_waiter(cluster: Cluster) -> None:
    """Armed, not armed, waiting with a deadline, for all and for any: each ends with Closed."""
    events = await cluster.map()
    seen = Seen(events["armed"])
    await events.armed()
    for waiting in (
        events["new"],
        events.wait("deadline", timeout=100),
        events.wait_all(["a", "b"]),
        events.wait_any(["a", "b"]),
        events.armed(),
    ):
        seen.watch(waiting)
    await cluster.of(events).close()
    assert [type(error) for error in seen.errors] == [Closed] * 6


async def test_w6_closed_before_it_was_ever_connected(cluster: Cluster) -> None:
    """Without a server, waiters, callers and whoever waits for the link get Closed: nothing was applied."""
    await cluster.server.stop()
    node = cluster.node()
    events = node.events("m")
    seen = Seen(events["k"], events.fire("k"), events.record("k"), node.connected(), events.armed())
    await node.close()
    assert [type(error) for error in seen.errors] == [Closed] * 5


async def test_w6_closed_calls(cluster: Cluster) -> None:
    """A call that was sent ends with Unconfirmed; one that was not, with Closed."""
    events, gate = await cluster.gated()
    other = await cluster.map("other")
    await other.fire("k", 0)
    await other.reset("k")
    gate.stall()
    sent = events.fire("k", 1)
    await eventually(lambda: latched(other, "k"), "the call is applied")
    unsent = events.fire("k", 2)
    await cluster.of(events).close()
    assert isinstance(failure_of(sent), Unconfirmed)
    assert isinstance(failure_of(unsent), Closed)


async def test_w6_closed_makes_no_noise(cluster: Cluster) -> None:
    """Waiters that had only callbacks leave no line in the log; who awaits one later still gets Closed."""
    events = await cluster.map()
    called: list[Any] = []
    waiters: list[Deferred[Any]] = []
    for number in range(50):
        waiters.append(events[f"k{number}"].addCallback(called.append))
        waiters.append(events.wait(f"k{number}", timeout=100).addCallback(called.append))
    waiters.append(events.wait_all(["a", "b"]).addCallback(called.append))
    waiters.append(events.wait_any(["a", "b"], timeout=100).addCallback(called.append))
    kept = waiters[0]
    await events.armed()
    await cluster.of(events).close()
    waiters.clear()
    assert cluster.logged() == []
    assert called == []
    with pytest.raises(Closed):
        await kept


async def test_w6_closed_waits_and_calls_afterwards(cluster: Cluster) -> None:
    """After close() every wait, call and question ends with Closed at once."""
    node = await cluster.linked()
    events = node.events("m")
    await node.close()
    assert node.link is LinkState.CLOSED
    for made in (
        events["k"],
        events.wait("k", timeout=5),
        events.wait_all(["a"]),
        events.wait_any(["a"]),
        events.fire("k"),
        events.fail("k", "no"),
        events.pulse("k"),
        events.reset("k"),
        events.record("k"),
        events.records(),
        events.subscribers(["k"]),
        node.connected(),
    ):
        assert isinstance(failure_of(made), Closed), made
    with pytest.raises(Closed):
        async with events.watch() as changes:
            await changes.__anext__()


async def test_w6_closed_twice(cluster: Cluster) -> None:
    """close() may be called again, at any time; each call's Deferred is called back."""
    node = await cluster.linked()
    seen = Seen(node.close(), node.close())
    await node.close()
    seen.watch(node.close())
    await until(lambda: seen.count == 3)
    assert seen.values == [None] * 3


async def test_w6_closed_in_a_wake_callback(cluster: Cluster) -> None:
    """A callback may close the node; its siblings, taken out by the same wake, still get the value."""
    here, there = await cluster.map("here"), await cluster.map("there")
    closing: list[Deferred[None]] = []
    here["k"].addCallback(lambda _: closing.append(cluster.of(here).close()))
    sibling, other = Seen(here["k"]), Seen(here["other"])
    await here.armed()
    await there.fire("k", 1)
    await until(lambda: closing)
    await closing[0]
    assert sibling.values == [1]
    assert isinstance(other.errors[0], Closed)


async def test_w6_closed_in_a_wake_callback_sends_nothing_more(cluster: Cluster) -> None:
    """What was asked for in the same turn, before or after, does not reach the server."""
    here, there = await cluster.map("here"), await cluster.map("there")
    link, seen = here._session.link, Seen()

    def close(_: object) -> None:
        seen.watch(here["before"])
        seen.watch(here.fire("before"))
        seen.watch(cluster.of(here).close())
        seen.watch(here["after"])
        seen.watch(here.fire("after"))

    here["k"].addCallback(close)
    await here.armed()
    with patch.object(link, "subscribe") as subscribed, patch.object(link, "run_script") as ran:
        await there.fire("k", 1)
        await until(lambda: seen.count == 5)
        await turn()
    assert not subscribed.called
    assert not ran.called
    assert not await latched(there, "before")
    assert [type(error) for error in seen.errors] == [Closed] * 4


async def test_w6_closed_in_a_callback_of_its_own_call(cluster: Cluster) -> None:
    """A caller's callback may close the node; the other calls of the batch keep their outcome."""
    events = await cluster.map()
    closing: list[Deferred[None]] = []
    events.fire("a").addCallback(lambda _: closing.append(cluster.of(events).close()))
    seen = Seen(events.fire("b"), events.fire("c"))
    await until(lambda: closing)
    await closing[0]
    assert [applied.first for applied in seen.values] == [True, True]


@pytest.mark.parametrize("state", list(LinkState))
async def test_w6_closed_in_a_callback_of_on_link(cluster: Cluster, state: LinkState) -> None:
    """Whoever hears of any state of the link may close the node there and then."""
    node = cluster.node()
    closing: list[Deferred[None]] = []
    heard: list[LinkState] = []

    def on_link(new: LinkState, _: str) -> None:
        heard.append(new)
        if new is state:
            closing.append(node.close())

    node.on_link(on_link)
    waiting = Seen(node.events("m")["k"])
    if state is not LinkState.CONNECTING:
        await node.connected() if state is not LinkState.CONNECTED else await until(lambda: closing)
        if state is LinkState.SUSPENDED:
            await node.events("m").armed()
            await cluster.server.drop_connections()
            await until(lambda: closing)
    await node.close()
    assert heard[-1] is LinkState.CLOSED
    assert heard.count(LinkState.CLOSED) == 1
    assert isinstance(waiting.errors[0], Closed)


async def test_w6_closed_when_connected(cluster: Cluster) -> None:
    """A callback of connected() may close the node."""
    node = cluster.node()
    closed = node.connected().addCallback(lambda _: node.close())
    waiting = Seen(node.events("m")["k"])
    await closed
    assert isinstance(waiting.errors[0], Closed)


async def test_w6_closed_at_each_step_of_connecting(cluster: Cluster) -> None:
    """However far the connecting has come, close() ends it and leaves no connection."""
    for turns in range(40):
        node = cluster.node()
        seen = Seen(node.events("m")["k"])
        for _ in range(turns):
            await turn()
        await node.close()
        assert isinstance(seen.errors[0], Closed)


async def test_w6_closed_waiters_callbacks_may_call_in(cluster: Cluster) -> None:
    """An errback of a closed waiter may wait, fire and close again: all of it ends with Closed."""
    node: Coordinator = await cluster.linked()
    events = node.events("m")
    seen = Seen()

    def again(_: object) -> None:
        seen.watch(events["again"])
        seen.watch(events.fire("again"))
        seen.watch(node.close())

    events["k"].addErrback(again)
    await node.close()
    await until(lambda: seen.count == 3)
    assert [type(error) for error in seen.errors] == [Closed, Closed]
