"""L10 the end is an event: gone() resolves when the key is pending, however it became that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from coord import Closed, CorruptRecord, EventMap, Kind, LinkState, TimedOut
from support.cluster import Cluster, Seen
from support.waiting import until

ENDS: dict[str, Callable[[EventMap], Deferred[Any]]] = {
    "reset": lambda events: events.reset("k"),
    "pulsed": lambda events: events.pulse("k", 2),
    "expired": lambda events: events.expire("k", 0.001),
}


async def test_l10_a_pending_key(cluster: Cluster) -> None:
    """Nobody fired it, or that is over: at once, with the record, if there is one."""
    events = await cluster.map(heartbeat=0.2)
    assert await events.gone("never") is None
    await events.pulse("k", 1)
    record = await events.gone("k")
    assert record is not None
    assert record == await events.record("k")


@pytest.mark.parametrize("how", ENDS)
async def test_l10_every_end_of_an_armed_key(cluster: Cluster, how: str) -> None:
    """By another node; nobody is woken, and nothing stays."""
    here, there = await cluster.map("here", heartbeat=0.2), await cluster.map("there", heartbeat=0.2)
    await there.fire("k", 1, ttl=60)
    gone = Seen(here.gone("k"), here.gone("k"))
    await here.armed()
    assert gone.count == 0
    await ENDS[how](there)
    await until(lambda: gone.count == 2, "the end is told")
    record = await here.record("k")
    assert gone.values == [record, record]
    assert record is not None
    assert record.kind == how
    assert record.node == "there"


async def test_l10_a_later_fire_is_no_end(cluster: Cluster) -> None:
    """An event that stands is the same one, however often it is fired."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1)
    gone = Seen(here.gone("k"))
    await here.armed()
    await there.fire("k", 2)
    await here.fire("k", 3)
    await there.fail("k", 4)
    assert gone.count == 0
    await here.reset("k")
    assert [record.kind for record in gone.values] == [Kind.RESET], "before the caller has its answer"


async def test_l10_an_event_that_was_fired_anew_meanwhile(cluster: Cluster) -> None:
    """An armed one sees across a lost link that its event is over, and gets the record that stands now."""
    here, gate = await cluster.gated("here", heartbeat=0.2)
    there = await cluster.map("there")
    await there.fire("k", 1)
    gone = Seen(here.gone("k"))
    await here.armed()
    gate.stall()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await there.reset("k")
    anew = await there.fire("k", 2)
    gate.open()
    await until(lambda: gone.count == 1, "the end is told")
    assert gone.values == [anew.record]


async def test_l10_an_event_that_stands_after_a_lost_link(cluster: Cluster) -> None:
    """Nothing has ended."""
    here = await cluster.map("here")
    await here.fire("k", 1)
    gone = Seen(here.gone("k"))
    await here.armed()
    await cluster.server.drop_connections()
    await cluster.state(cluster.of(here), LinkState.CONNECTED)
    await here.armed()
    assert gone.count == 0
    await here.reset("k")
    assert gone.count == 1


async def test_l10_beside_waits(cluster: Cluster) -> None:
    """A wait and gone() on one key: each gets its own, and a pulse is both."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1)
    gone, woken = Seen(here.gone("k")), Seen(here["k"])
    await here.armed()
    assert (gone.count, woken.values) == (0, [1])
    await there.pulse("k", 2)
    await until(lambda: gone.count == 1, "the end is told")
    again, next_one = Seen(here.gone("k")), Seen(here["k"])
    await until(lambda: again.count == 1, "the key is pending")
    await there.fire("k", 3)
    await until(lambda: next_one.count == 1, "the wait is woken")


async def test_l10_leaves_nothing(cluster: Cluster) -> None:
    """Cancelled, or too late: nothing is left behind; closed: `Closed`."""
    events = await cluster.map()
    await events.fire("k", 1)
    gone = events.gone("k")
    failures = Seen(gone)
    gone.cancel()
    with pytest.raises(TimedOut, match=r"the end of .*/k: not within 0\.01 s"):
        await events.gone("k", timeout=0.01)
    await events.reset("k")
    await until(lambda: not events._session.table.subscriptions, "nothing is left")
    await events.fire("k", 1)
    last = Seen(events.gone("k"))
    await cluster.of(events).close()
    assert [type(error).__name__ for error in failures.errors] == ["CancelledError"]
    assert [type(error) for error in last.errors] == [Closed]
    assert [type(error) for error in Seen(events.gone("k")).errors] == [Closed]


async def test_l10_a_record_that_cannot_be_read(cluster: Cluster) -> None:
    """Is an error, as for a wait; nothing else suffers."""
    events = await cluster.map()
    await events.fire("other", 1)
    await cluster.server.command("HSET", events._map.names.records, "k", "junk")
    with pytest.raises(CorruptRecord):
        await events.gone("k")
    assert await events["other"] == 1
