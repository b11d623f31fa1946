"""F3 the one doubt: Unconfirmed means that a call may have been applied; every other error, that it was not."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from coord import Applied, Closed, LinkState, ServerRefused, Unconfirmed, Unreachable
from support.cluster import Cluster, Seen, failure_of, latched
from support.waiting import eventually, until


async def test_f3_the_one_doubt_sent_and_unanswered(cluster: Cluster) -> None:
    """A call that was sent and not answered in time ends with Unconfirmed; it may yet be applied."""
    events = await cluster.map(heartbeat=30)
    other = await cluster.map("other", heartbeat=30)
    await events.reset("warm")
    await cluster.server.hang()
    with pytest.raises(Unconfirmed, match="may"):
        await events.fire("k", 1, timeout=0.1)
    await cluster.server.resume()
    await eventually(lambda: latched(other, "k"), "it was applied after all")


async def test_f3_the_one_doubt_sent_and_answered_later(cluster: Cluster) -> None:
    """After an Unconfirmed the next call of the map is made, and is answered truthfully."""
    events = await cluster.map(heartbeat=30)
    await events.reset("warm")
    await cluster.server.hang()
    doubt = Seen(events.pulse("k", 1, timeout=0.05))
    await until(lambda: doubt.count)
    later = events.fire("k", 2)
    await cluster.server.resume()
    applied = await later
    assert applied.first
    assert await events["k"] == 2
    assert isinstance(doubt.errors[0], Unconfirmed)


async def test_f3_the_one_doubt_never_sent(cluster: Cluster) -> None:
    """A call that was never sent ends with Unreachable, and is not applied when the server is back."""
    events, gate = await cluster.gated()
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    with pytest.raises(Unreachable, match="not applied"):
        await events.fire("k", 1, timeout=0.05)
    gate.open()
    await cluster.of(events).connected()
    await events.pulse("other")
    assert await events.record("k") is None


async def test_f3_the_one_doubt_never_sent_behind_one_that_was(cluster: Cluster) -> None:
    """A call that gathered behind an unanswered one was never sent either: Unreachable, and not applied."""
    events, gate = await cluster.gated(heartbeat=30)
    await events.reset("warm")
    gate.stall()
    sent = events.pulse("k", 1, timeout=20)
    other = await cluster.map("other")

    async def pulsed() -> bool:
        return await other.record("k") is not None

    await eventually(pulsed, "the first is applied")
    with pytest.raises(Unreachable):
        await events.fire("k", 2, timeout=0.05)
    gate.open()
    gate.cut()
    assert (await sent).first
    assert not await latched(other, "k")


async def test_f3_the_one_doubt_without_any_server(cluster: Cluster) -> None:
    """Without a server at all the default deadline holds, for questions too."""
    await cluster.server.stop()
    node = cluster.node(timeout=0.05)
    events = node.events("m")
    for asked in (events.fire("k"), events.record("k"), events.records(), events.subscribers(["k"])):
        with pytest.raises(Unreachable):
            await asked


async def test_f3_the_one_doubt_too_many_are_held(cluster: Cluster) -> None:
    """While there is no server, calls beyond max_pending_calls end at once, unsent; those that were held are made."""
    events, gate = await cluster.gated(max_pending_calls=3)
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    held = [events.fire(key) for key in ("a", "b")] + [cluster.of(events).events("other").fire("c")]
    refused = failure_of(events.fire("k", timeout=60))
    assert isinstance(refused, Unreachable)
    assert "3 calls wait for it already (max_pending_calls): not applied" in str(refused)
    assert isinstance(failure_of(_cancelled(held.pop())), CancelledError)
    gate.open()
    assert [(await each).first for each in held] == [True, True]
    # The server takes them: as many as are asked for in one turn.
    fired = [events.fire(f"more{number}") for number in range(10)]
    assert [(await each).first for each in fired] == [True] * 10
    assert await events.record("k") is None


async def test_f3_the_one_doubt_cancelled_calls_are_not_held(cluster: Cluster) -> None:
    """Calls that were cancelled count no longer, in whichever map and behind whichever call, and others are held."""
    events, gate = await cluster.gated(max_pending_calls=3)
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    first = events.fire("first", timeout=60)
    for made in (events.fire("a"), cluster.of(events).events("other").fire("b")):
        assert isinstance(failure_of(_cancelled(made)), CancelledError)
    held = [events.fire(key) for key in ("c", "d")]
    assert isinstance(failure_of(events.fire("e")), Unreachable)
    gate.open()
    assert [(await each).first for each in (first, *held)] == [True] * 3


async def test_f3_the_one_doubt_in_a_map_that_was_forgotten(cluster: Cluster) -> None:
    """A deadline of a call that was answered long ago holds up none that was made after its map was forgotten."""
    events, gate = await cluster.gated(heartbeat=0.1)
    node = cluster.of(events)
    await events.fire("a", timeout=1.0)
    await until(lambda: not node._session.call_sender._queues, "the map is forgotten")
    gate.shut()
    await cluster.state(node, LinkState.SUSPENDED)
    held = events.fire("b")
    with pytest.raises(Unreachable):
        await node.events("other").fire("c", timeout=1.0)
    assert len(node._session.call_sender._queues) == 1, "nothing waits in the other one"
    gate.open()
    assert (await held).first


async def test_f3_the_one_doubt_closing_in_an_errback(cluster: Cluster) -> None:
    """Who is told of one deadline may close the coordinator: the others end, and no timer is left behind."""
    events, gate = await cluster.gated()
    node = cluster.of(events)
    gate.shut()
    await cluster.state(node, LinkState.SUSPENDED)
    other = Seen(node.events("other").fire("b", timeout=30))
    closing: list[Deferred[None]] = []

    def close(_: object) -> None:
        closing.append(node.close())

    await events.fire("a", timeout=0.2).addBoth(close)
    await closing[0]
    assert [type(error) for error in other.errors] == [Closed]
    timer = node._session.call_sender._timer
    assert timer is None or not timer.active()


async def test_f3_the_one_doubt_refused_is_not_applied(cluster: Cluster) -> None:
    """What the server refused was not applied, and leaves no message and no line behind."""
    here, there = await cluster.map("here"), await cluster.map("there")
    seen = Seen(there["k"])
    await there.armed()
    await here.reset("warm")
    await cluster.server.set_out_of_memory(True)
    with pytest.raises(ServerRefused, match="OOM"):
        await here.fire("k", 1)
    await cluster.server.set_out_of_memory(False)
    assert await here.record("k") is None
    assert seen.count == 0
    await here.fire("k", 2)
    await until(lambda: seen.count)
    assert seen.values == [2]


async def test_f3_the_one_doubt_a_cancelled_call(cluster: Cluster) -> None:
    """A call that is cancelled before it is sent never is; the others of its turn are."""
    events = await cluster.map()
    dropped, kept = events.fire("dropped"), events.fire("kept")
    seen = Seen(dropped)
    dropped.cancel()
    assert isinstance(seen.errors[0], CancelledError)
    assert (await kept).first
    assert await events.record("dropped") is None


async def test_f3_the_one_doubt_cancelling_siblings_in_an_errback(cluster: Cluster) -> None:
    """An errback that cancels the other calls of its deadline, or makes new ones, stops nobody."""
    events, gate = await cluster.gated()
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    calls = [events.fire(f"k{number}", timeout=0.05) for number in range(4)]
    made = Seen()

    def cancel_some(failure: object) -> object:
        calls[2].cancel()
        made.watch(cluster.of(events).events("another").fire("k", timeout=0.05))
        return failure

    calls[0].addErrback(cancel_some)
    seen = Seen(*calls)
    await until(lambda: seen.count == 4 and made.count == 1)
    assert sorted(type(error).__name__ for error in seen.errors) == ["CancelledError"] + ["Unreachable"] * 3


def _cancelled(call: Deferred[Applied]) -> Deferred[Applied]:
    call.cancel()
    return call
