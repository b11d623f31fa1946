"""Barriers: nobody passes before all are there, and everybody does then."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, gatherResults

from coord import EventMap, InvalidInput, InvalidKey, LinkState, TimedOut
from support.cluster import Cluster, Seen, latched
from support.waiting import turn, until


async def _pass(events: EventMap, parties: int, passed: list[str], name: str) -> None:
    async with events.barrier("start", parties, timeout=20):
        passed.append(name)


async def test_all_pass_once_all_are_there(cluster: Cluster) -> None:
    """Though the first ones leave at once; two of one node are two."""
    maps = [await cluster.map(f"n{number}") for number in range(3)]
    passed: list[str] = []
    early = [Deferred.fromCoroutine(_pass(events, 4, passed, "early")) for events in maps]
    for events in maps:
        await until(lambda events=events: cluster.of(events).statistics().holds == 1)  # type: ignore[misc]
    await turn(0.1)
    assert passed == []
    await gatherResults([*early, Deferred.fromCoroutine(_pass(maps[0], 4, passed, "last"))])
    assert sorted(passed) == ["early"] * 3 + ["last"]
    assert not await latched(maps[0], "start")
    assert all(cluster.of(events).statistics().holds == 0 for events in maps)


async def test_who_waits_in_vain_holds_nothing(cluster: Cluster) -> None:
    """`TimedOut`; those who come later need others."""
    here = await cluster.map("here")
    with pytest.raises(TimedOut):
        async with here.barrier("start", 2, timeout=0.2):
            raise AssertionError("it passed alone")
    passed: list[str] = []
    waiting = Seen(Deferred.fromCoroutine(_pass(here, 2, passed, "later")))
    await until(lambda: cluster.of(here).statistics().holds == 1)
    assert (await here.holders("start"))[0] == 1
    assert waiting.count == 0
    await _pass(here, 2, passed, "second")
    await until(lambda: waiting.count == 1)
    assert len(passed) == 2


async def test_without_a_server_it_ends_in_time(cluster: Cluster) -> None:
    """`TimedOut`: whether the link was lost before it was held, or afterwards."""
    here, gate = await cluster.gated("here")
    entering = Seen(Deferred.fromCoroutine(_pass_within(here, 1.0)))
    await until(lambda: cluster.of(here).statistics().holds == 1)
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await _times_out(here)
    await until(lambda: entering.count == 1, patience=4)
    assert isinstance(entering.errors[0], TimedOut)
    gate.open()
    await until(lambda: cluster.of(here).statistics().holds == 0)
    await cluster.of(here).connected()
    await here.fire("all is sent")
    assert (await here.holders("start"))[0] == 0


async def _times_out(events: EventMap) -> None:
    with pytest.raises(TimedOut):
        await _pass_within(events, 0.2)


async def _pass_within(events: EventMap, seconds: float) -> None:
    async with events.barrier("start", 2, timeout=seconds):
        raise AssertionError("it passed alone")


async def test_who_is_dead_is_not_counted(cluster: Cluster) -> None:
    """Its hold ends with its lease, and another one has to come."""
    times = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
    dying, here = await cluster.map("dying", **times), await cluster.map("here", **times)
    lost = Seen(Deferred.fromCoroutine(_pass(dying, 3, [], "dying")))
    passed: list[str] = []
    waiting = Seen(Deferred.fromCoroutine(_pass(here, 3, passed, "here")))
    await until(lambda: cluster.of(dying).statistics().holds == 1)
    await cluster.of(dying).close(withdraw=False)
    await until(lambda: lost.count == 1)
    await turn(1.2)
    another = Seen(Deferred.fromCoroutine(_pass(here, 3, passed, "another")))
    await turn(0.2)
    assert passed == []
    await _pass(here, 3, passed, "third")
    await until(lambda: waiting.count + another.count == 2)
    assert len(passed) == 3


async def test_cancelled_it_holds_nothing(cluster: Cluster) -> None:
    """Wherever it is."""
    here = await cluster.map("here")
    for turns in range(8):
        entering = Deferred.fromCoroutine(_pass(here, 2, [], "never"))
        seen = Seen(entering)
        for _ in range(turns):
            await turn()
        entering.cancel()
        await until(lambda seen=seen: seen.count == 1)  # type: ignore[misc]
    await here.fire("all is sent")
    await until(lambda: cluster.of(here).statistics().holds == 0)
    await here.fire("all is answered")
    assert (await here.holders("start"))[0] == 0


async def test_bad_input_raises_at_once(cluster: Cluster) -> None:
    """Nothing is held."""
    here = await cluster.map("here")
    with pytest.raises(InvalidKey):
        here.barrier("", 2)
    for parties in (0, True, 1.5):
        with pytest.raises(InvalidInput, match="parties"):
            here.barrier("k", parties)  # type: ignore[arg-type]
