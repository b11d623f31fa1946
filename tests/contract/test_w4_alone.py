"""W4 alone: each waiter is a Deferred of its own; nothing that one does reaches another."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from support.cluster import Cluster, Seen
from support.waiting import until


async def test_w4_alone_a_handler_that_raises_stops_nobody(cluster: Cluster) -> None:
    """Its exception is logged as Twisted does; the others are called."""
    events = await cluster.map()
    seen = Seen(events["k"])

    def raises(_: object) -> None:
        raise ZeroDivisionError("the handler's own")

    events["k"].addCallback(raises)
    seen.watch(events["k"])
    await events.fire("k", 1)
    assert seen.values == [1, 1]
    await until(lambda: cluster.logged(ZeroDivisionError))


async def test_w4_alone_return_values_and_values_are_not_shared(cluster: Cluster) -> None:
    """What a handler returns, or does to its value, is not what the next one sees."""
    events = await cluster.map()
    seen = Seen()

    def spoils(value: Any) -> str:
        value["at"] = "spoilt"
        return "replaced"

    events["k"].addCallback(spoils)
    seen.watch(events["k"])
    await events.fire("k", {"at": "/mnt"})
    seen.watch(events["k"])
    await until(lambda: seen.count == 2)
    assert seen.values == [{"at": "/mnt"}] * 2


async def test_w4_alone_waiters_of_one_wake_get_values_of_their_own(cluster: Cluster) -> None:
    """Equal, and not the same; whether one message woke them, or the live cache did."""
    events = await cluster.map()
    waiting = [events["k"], events["k"]]
    await events.fire("k", {"at": []})
    values: list[Any] = [await each for each in (*waiting, events["k"], events["k"])]
    assert values == [{"at": []}] * 4
    assert len({id(value) for value in values}) == len({id(value["at"]) for value in values}) == 4


async def test_w4_alone_cancelling_a_sibling_in_a_callback(cluster: Cluster) -> None:
    """The sibling gets its CancelledError, once; everybody behind it is called."""
    here, there = await cluster.map("here"), await cluster.map("there")
    order: list[str] = []
    waiters: dict[str, Deferred[Any]] = {}

    def first(_: object) -> None:
        order.append("first")
        waiters["second"].cancel()

    waiters["first"] = here["k"].addCallback(first)
    waiters["second"] = here["k"]
    waiters["third"] = here["k"]
    seen, second = Seen(waiters["third"]), Seen(waiters["second"])
    await here.armed()
    await there.fire("k")
    await until(lambda: seen.count == 1)
    assert order == ["first"]
    assert [type(error) for error in second.errors] == [CancelledError]


async def test_w4_alone_cancelling_one_leaves_the_others(cluster: Cluster) -> None:
    """A cancelled waiter takes nobody with it."""
    events = await cluster.map()
    kept, dropped = events["k"], events["k"]
    seen = Seen(dropped)
    dropped.cancel()
    assert isinstance(seen.errors[0], CancelledError)
    await events.fire("k", 3)
    assert await kept == 3


async def test_w4_alone_a_slow_chain_holds_back_nobody(cluster: Cluster) -> None:
    """A handler that returns a Deferred of its own waits alone."""
    events = await cluster.map()
    slow: Deferred[Any] = Deferred()
    chain = events["k"].addCallback(lambda _: slow)
    seen = Seen(events["k"])
    await events.fire("k", 3)
    assert seen.values == [3]
    slow.callback("done")
    assert await chain == "done"


async def test_w4_alone_cancelling_waiters_of_other_keys_in_a_callback(cluster: Cluster) -> None:
    """Of keys that are woken by the same answer, the first one's callback cancels the rest: one value, no noise."""
    here, there = await cluster.map("here"), await cluster.map("there")
    keys = ["a", "b", "c"]
    for key in keys:
        await there.fire(key, key)
    waiters: dict[str, Deferred[Any]] = {}

    def cancel_all(value: Any) -> Any:
        for waiter in waiters.values():
            waiter.cancel()
        return value

    for key in keys:
        waiters[key] = here[key].addCallback(cancel_all)
    seen = Seen(*waiters.values())
    await until(lambda: seen.count == 3)
    assert len(seen.values) == 1
    assert [type(error) for error in seen.errors] == [CancelledError] * 2
