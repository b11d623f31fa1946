"""L11 TTL: an event that was fired with one ends by itself, not before its time, and is not seen after it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import gatherResults

from coord import CaughtUp, InvalidTime, Kind, LinkState, NameReused, Record
from support.cluster import Cluster, Seen, latched
from support.waiting import eventually, until

SOON = 0.05
"""Seconds."""


async def _over(cluster: Cluster, events: Any, key: str) -> None:
    """Let the server's clock pass the end of an event, without anybody's sweep."""
    names, commands = events._map.names, events._session.commands

    async def over() -> bool:
        look = await commands.look(names, [key.encode()])
        return bool(look.left == [0])

    await eventually(over, "its end")


async def test_l11_ends_by_itself(cluster: Cluster) -> None:
    """With a revision, a line and a message, under the name of the node that fired; a wait then waits again."""
    here, there = await cluster.map("here", heartbeat=0.2), await cluster.map("there", heartbeat=0.2)
    fired = await there.fire("k", 1, ttl=60)
    assert fired.first
    assert fired.record is not None
    gone = here.gone("k")
    await here.armed()
    await there.expire("k", SOON)
    ended = await gone
    assert ended is not None
    assert (ended.kind, ended.node, ended.value) == (Kind.EXPIRED, "there", None)
    assert ended.revision > fired.record.revision
    assert ended.time - fired.record.time >= SOON
    waiting = Seen(here["k"])
    await here.armed()
    assert waiting.count == 0
    shown: list[Any] = []
    async with here.watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            shown.append(change.kind)
    assert shown == [Kind.FIRED, Kind.EXPIRED]
    assert (await there.fire("k", 2)).first
    await until(lambda: waiting.values == [2], "the next event wakes")


async def test_l11_not_before_its_time(cluster: Cluster) -> None:
    """A late wait is answered as by any event, and everybody is told how long it will stand."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k", 1, ttl=60)
    for events in (here, there):
        assert await events["k"] == 1
        assert await events["k"] == 1, "and again: it is not taken from the live cache"
        record = await events.record("k")
        assert record is not None
        assert record.expires_in is not None
        assert 50 < record.expires_in <= 60
        (listed,) = (await events.records()).records
        assert listed.expires_in is not None
        assert listed.revision == record.revision
    assert cluster.of(here).statistics().cached == 0


async def test_l11_over_before_anybody_has_ended_it(cluster: Cluster) -> None:
    """From its end on it is pending for whoever reads it, though no heartbeat has come yet."""
    here, there = await cluster.map("here", heartbeat=30.0), await cluster.map("there", heartbeat=30.0)
    await there.fire("k", 1, ttl=SOON)
    await _over(cluster, here, "k")
    record = await here.record("k")
    (listed,) = (await here.records()).records
    assert record == listed
    assert record is not None
    assert (record.kind, record.expires_in, record.latched) == (Kind.EXPIRED, None, False)
    waiting = Seen(here["k"])
    await here.armed()
    assert waiting.count == 0
    assert (await there.fire("k", 2)).first
    await until(lambda: waiting.values == [2], "the next event wakes")


async def test_l11_a_waiter_that_was_away_gets_its_wake(cluster: Cluster) -> None:
    """W2 holds for an event that is over by the time the link is back."""
    here, gate = await cluster.gated("here", heartbeat=0.2)
    there = await cluster.map("there", heartbeat=30.0)
    waiting = Seen(here["k"])
    await here.armed()
    gate.stall()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await there.fire("k", 1, ttl=SOON)
    await _over(cluster, there, "k")
    gate.open()
    await until(lambda: waiting.values == [1], "the wake is not lost")
    late = here["k"]
    seen = Seen(late)
    await here.armed()
    assert seen.count == 0
    late.cancel()


async def test_l11_moving_the_end(cluster: Cluster) -> None:
    """To fire again makes it later and never earlier, expire() moves it either way; there is no new revision."""
    events = await cluster.map(heartbeat=0.2)
    fired = await events.fire("k", 1, ttl=60)
    again = await events.fire("k", 2, ttl=5)
    assert (again.first, again.record) == (False, fired.record)
    assert await _left(events) > 50
    await events.fire("k", 2, ttl=600)
    assert await _left(events) > 500
    moved = await events.expire("k", 5)
    assert (moved.first, moved.record) == (True, fired.record)
    assert await _left(events) <= 5
    gone = events.gone("k")
    assert (await events.expire("k", SOON)).first
    ended = await gone
    assert ended is not None
    assert ended.kind is Kind.EXPIRED
    assert not (await events.expire("k", 5)).first, "it is over"


async def test_l11_without_a_ttl(cluster: Cluster) -> None:
    """What has none is not given one, and does not end."""
    events = await cluster.map()
    await events.fire("k", 1)
    assert not (await events.fire("k", 1, ttl=SOON)).first
    assert not (await events.expire("k", SOON)).first
    assert not (await events.expire("other", SOON)).first
    record = await events.record("k")
    assert record is not None
    assert record.expires_in is None
    assert await events.record("other") is None


async def test_l11_a_reset_removes_the_end(cluster: Cluster) -> None:
    """The event after it stands for itself."""
    events = await cluster.map(heartbeat=0.2)
    await events.fire("k", 1, ttl=SOON)
    await events.reset("k")
    await events.fire("k", 2)
    await events.fire("other", 1, ttl=SOON)
    await events.gone("other")
    assert await latched(events, "k")


async def test_l11_many_ends(cluster: Cluster) -> None:
    """Of many maps and keys, each is told once."""
    here, there = cluster.node("here", heartbeat=0.2), cluster.node("there", heartbeat=0.2)
    maps = [here.events(f"m{number}") for number in range(70)]
    gone = Seen()
    for events in maps:
        other = there.events(events.name)
        for key in "abc":
            await other.fire(key, 1, ttl=0.2)
            gone.watch(events.gone(key))
    await until(lambda: gone.count == 210, "all ends are told", patience=20)
    assert {record.kind for record in gone.values} == {Kind.EXPIRED}
    shown: list[Record] = []
    async with maps[0].watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            shown.append(change)
    assert sorted(change.key for change in shown if change.kind is Kind.EXPIRED) == ["a", "b", "c"]


@pytest.mark.servers("memory", "redis", "valkey")
async def test_l11_all_that_is_over_ends_in_one_heartbeat(cluster: Cluster) -> None:
    """However many events of one map, and maps, are over; nobody reads them meanwhile."""
    quiet = await cluster.linked("quiet", heartbeat=30.0)
    maps = [quiet.events(f"m{number}") for number in range(70)]
    calls = [events.fire("k", 1, ttl=SOON) for events in maps]
    calls += [maps[0].fire(f"k{number}", 1, ttl=SOON) for number in range(700)]
    await gatherResults(calls)
    for number in (0, 699):
        await _over(cluster, maps[0], f"k{number}")
    await cluster.linked("node", heartbeat=30.0)
    # What its first sweep, on its new link, has not ended is not ended for half a minute.
    sampled = [maps[69], maps[0]]
    await eventually(lambda: _all_ended(cluster, sampled), "all has ended")


async def _all_ended(cluster: Cluster, sampled: list[Any]) -> bool:
    for events in sampled:
        records = await cluster.server.command("HVALS", events._map.names.records)
        if any(record.startswith(b'["fired"') for record in records):
            return False
    return True


async def test_l11_named(cluster: Cluster) -> None:
    """F5: a call with a TTL is another call than one without, or with another."""
    here, there = await cluster.map("here"), await cluster.map("there")
    first = await here.fire("k", 1, ttl=60, once="job")
    again = await there.fire("k", 1, ttl=60, once="job")
    assert (again.first, again.record) == (True, first.record)
    for ttl in (None, 61):
        with pytest.raises(NameReused):
            await there.fire("k", 1, ttl=ttl, once="job")


@pytest.mark.parametrize("ttl", [0, -1, 0.0001, float("nan"), float("inf"), 1e12, 10**400, "60", True])
async def test_l11_bad_ttls(cluster: Cluster, ttl: Any) -> None:
    """An error before anything is sent."""
    events = await cluster.map()
    with pytest.raises(InvalidTime, match="ttl"):
        events.fire("k", 1, ttl=ttl)
    with pytest.raises(InvalidTime, match="ttl"):
        events.expire("k", ttl)
    with pytest.raises(InvalidTime, match="ttl"):
        events.expire("k", None)  # type: ignore[arg-type]
    assert await events.record("k") is None


async def _left(events: Any) -> float:
    record = await events.record("k")
    assert record is not None
    assert record.expires_in is not None
    return float(record.expires_in)
