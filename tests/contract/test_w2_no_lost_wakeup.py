"""W2 no lost wake-up: an armed waiter is woken, whatever connections break, stall or fail over in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from coord import EventFailed, EventMap, LinkState
from support.cluster import Cluster, Seen
from support.waiting import until

Changes = Callable[[EventMap], Awaitable[object]]


async def _fire(events: EventMap) -> None:
    await events.fire("k", 1)


async def _fire_and_reset(events: EventMap) -> None:
    await events.fire("k", 1)
    await events.reset("k")


async def _fire_and_pulse(events: EventMap) -> None:
    await events.fire("k", 0)
    await events.pulse("k", 1)


async def _pulse(events: EventMap) -> None:
    await events.pulse("k", 1)


async def _pulse_twice(events: EventMap) -> None:
    await events.pulse("k", 0)
    await events.pulse("k", 1)


async def _fire_reset_and_fire(events: EventMap) -> None:
    await events.fire("k", 0)
    await events.reset("k")
    await events.fire("k", 1)


async def _fail_reset_pulse_and_fire_and_reset(events: EventMap) -> None:
    await events.fail("k", 0)
    await events.reset("k")
    await events.pulse("k", 0)
    await events.fire("k", 1)
    await events.reset("k")


CHANGES = [
    _fire,
    _fire_and_reset,
    _fire_and_pulse,
    _pulse,
    _pulse_twice,
    _fire_reset_and_fire,
    _fail_reset_pulse_and_fire_and_reset,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_w2_no_lost_wakeup_over_a_cut(cluster: Cluster, change: Changes) -> None:
    """What happened while the waiter's node was cut off wakes it, with the latest wake's value."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    seen = Seen(*(here["k"] for _ in range(3)))
    await here.armed()
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await change(there)
    assert seen.count == 0
    gate.open()
    await until(lambda: seen.count == 3)
    assert seen.values == [1, 1, 1]


async def test_w2_no_lost_wakeup_of_a_failure(cluster: Cluster) -> None:
    """A failure that was reset since reaches the waiter that was away."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    waiting = here["k"]
    await here.armed()
    gate.shut()
    await there.fail("k", "on fire")
    await there.reset("k")
    gate.open()
    with pytest.raises(EventFailed, match="on fire"):
        await waiting


@pytest.mark.parametrize("change", CHANGES)
async def test_w2_no_lost_wakeup_on_a_stalled_connection(cluster: Cluster, change: Changes) -> None:
    """A node that nothing reaches any more finds out by its heartbeat, and its waiters miss nothing."""
    here, gate = await cluster.gated("here", heartbeat=0.1)
    there = await cluster.map("there")
    seen = Seen(here["k"])
    await here.armed()
    gate.stall()
    await change(there)
    await until(lambda: cluster.of(here).link is LinkState.SUSPENDED)
    assert seen.count == 0
    gate.open()
    await until(lambda: seen.count == 1)
    assert seen.values == [1]


async def test_w2_no_lost_wakeup_not_armed_yet(cluster: Cluster) -> None:
    """A waiter that could not be armed is woken if the key is still latched when it is."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    fired, reset = Seen(here["fired"]), Seen(here["reset"])
    await there.fire("fired", 1)
    await there.fire("reset", 0)
    await there.reset("reset")
    gate.open()
    await until(lambda: fired.count == 1)
    await here.armed()
    assert (fired.values, reset.count) == ([1], 0)
    await there.fire("reset", 1)
    await until(lambda: reset.count == 1)
    assert reset.values == [1]


@pytest.mark.parametrize("which", ["all", "subscribers", "commands"])
async def test_w2_no_lost_wakeup_connections_dropped(cluster: Cluster, which: str) -> None:
    """The server drops either connection, or both, while events are fired."""
    here, there = await cluster.map("here"), await cluster.map("there")
    keys = [f"k{i}" for i in range(50)]
    seen = Seen(*(here[key] for key in keys))
    await here.armed()
    fired = Seen()
    for number, key in enumerate(keys):
        fired.watch(there.fire(key, number))
        if number % 10 == 5:
            await until(lambda: fired.count)
            await cluster.server.drop_connections(which)  # type: ignore[arg-type]
    await until(lambda: fired.count == seen.count == 50)
    assert all(applied.first for applied in fired.values)
    assert sorted(seen.values) == list(range(50))


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_w2_no_lost_wakeup_over_a_restart(cluster: Cluster, end: str) -> None:
    """The server ends with an event that the waiter has not heard of, and comes back with its data."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    fired, pulsed, later = Seen(here["fired"]), Seen(here["pulsed"]), Seen(here["later"])
    await here.armed()
    gate.shut()
    await there.fire("fired", 1)
    await there.reset("fired")
    await there.pulse("pulsed", 2)
    await getattr(cluster.server, end)()
    gate.open()
    await cluster.state(cluster.of(there), LinkState.SUSPENDED)
    firing = there.fire("later", 3)
    await cluster.server.start()
    assert (await firing).first
    await until(lambda: fired.count == pulsed.count == later.count == 1)
    assert (fired.values, pulsed.values, later.values) == ([1], [2], [3])


async def test_w2_no_lost_wakeup_server_hangs(cluster: Cluster) -> None:
    """A server that hangs is left; what it was asked before, and what it was asked after, wakes everybody."""
    here, there = await cluster.map("here", heartbeat=0.2), await cluster.map("there", heartbeat=0.2)
    seen = Seen(*(here[key] for key in "abc"))
    await here.armed()
    await there.fire("a", 1)
    await cluster.server.hang()
    firing = there.fire("b", 2)
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await cluster.state(cluster.of(there), LinkState.SUSPENDED)
    pulsing = there.pulse("c", 3)
    await cluster.server.resume()
    assert (await firing).first
    await pulsing
    await until(lambda: seen.count == 3)
    assert sorted(seen.values) == [1, 2, 3]


async def test_w2_no_lost_wakeup_right_after_cancelling(cluster: Cluster) -> None:
    """Wait, cancel and wait again in quick succession: the last wait is armed by a confirmation of its own."""
    here, there = await cluster.map("here"), await cluster.map("there")
    for round_ in range(100):
        seen, dropped = Seen(), Seen()
        for turns in range(round_ % 4 + 1):
            waiting = here["k"]
            dropped.watch(waiting)
            if turns % 2:
                await here.armed()
            waiting.cancel()
        seen.watch(here["k"])
        await here.armed()
        await there.pulse("k", round_)
        await until(lambda seen=seen: seen.count == 1)  # type: ignore[misc]
        assert seen.values == [round_]


@pytest.mark.servers("memory")
async def test_w2_no_lost_wakeup_within_the_retention(cluster: Cluster) -> None:
    """An outage of almost an hour loses nothing; after a longer one the wait goes on."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    for outage, woken in ((3_590, True), (3_610, False)):
        seen = Seen(here["k"])
        await here.armed()
        gate.shut()
        await cluster.state(cluster.of(here), LinkState.SUSPENDED)
        await there.fire("k", outage)
        await there.reset("k")
        cluster.memory.step_clock(outage)
        await there.pulse("another")
        gate.open()
        await cluster.of(here).connected()
        await here.armed()
        assert (seen.count == 1) is woken
        await there.pulse("k", "later")
        await until(lambda seen=seen: seen.count == 1)  # type: ignore[misc]
        assert seen.values == [outage if woken else "later"]


async def test_w2_no_lost_wakeup_where_the_data_has_gone(cluster: Cluster) -> None:
    """A server that came back empty has nothing to wake anybody with; whoever waits, waits on, and is woken next."""
    events = await cluster.map()
    await events.fire("latched", 0)
    seen = Seen(events["k"])
    await events.armed()
    await cluster.server.kill()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    new = Seen(events["latched"])
    await cluster.server.start("empty")
    await events.armed()
    assert seen.count == new.count == 0
    assert (await events.fire("k", 1)).first
    assert (await events.fire("latched", 2)).first
    assert (seen.values, new.values) == ([1], [2])
