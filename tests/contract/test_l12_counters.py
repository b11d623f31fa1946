"""L12 counted once: each acknowledged count is in the count once, and the goal fires in the step that reaches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from coord import (
    CaughtUp,
    Closed,
    Counted,
    EventMap,
    Kind,
    LinkState,
    NotReplicated,
    OtherGoal,
    Record,
    TimedOut,
    WrongKind,
)
from support.cluster import Cluster, Seen, failure_of
from support.waiting import eventually, until


async def _count_of(events: EventMap, key: str = "k") -> int:
    record = await events.record(key)
    return 0 if record is None or record.value is None else record.value  # type: ignore[return-value]


async def _history(events: EventMap) -> list[tuple[Kind, Any]]:
    changes = []
    async with events.watch(since="start") as watch:
        async for change in watch:
            if isinstance(change, CaughtUp):
                break
            changes.append((change.kind, change.value))
    return changes


async def test_l12_nobody_declares_a_counter(cluster: Cluster) -> None:
    """The answer has the count after the call, and the record that every node sees."""
    here, there = await cluster.map("here"), await cluster.map("there")
    assert await here.record("k") is None
    counted = await here.count("k")
    assert isinstance(counted, Counted)
    assert (counted.count, counted.goal, counted.first) == (1, None, True)
    again = await there.count("k", 10)
    assert (again.count, again.first) == (11, True)
    record = await here.record("k")
    assert record is not None
    assert record == again.record
    assert (record.kind, record.value, record.goal, record.latched, record.node) == (
        Kind.COUNTED, 11, None, False, "there",
    )  # fmt: skip
    assert (await here.records()).records == (record,)
    assert await _history(there) == [(Kind.COUNTED, 1), (Kind.COUNTED, 11)]


async def test_l12_the_goal_wakes_all(cluster: Cluster) -> None:
    """It is an event as any other: for armed waits, for late ones, with the count as its value."""
    here, there = await cluster.map("here"), await cluster.map("there")
    early = Seen(here["k"], there["k"])
    await here.armed()
    await there.armed()
    assert (await here.count("k", 7, goal=8)).goal == 8
    assert early.count == 0
    reached = await there.count("k")
    assert reached.record is not None
    assert (reached.count, reached.goal, reached.record.kind) == (8, 8, Kind.FIRED)
    await until(lambda: early.values == [8, 8])
    assert await here["k"] == 8
    on = await here.count("k", 4)
    assert on.record is not None
    assert (on.count, on.record.latched_at) == (12, reached.record.revision)
    late = await cluster.map("late")
    assert await late["k"] == 12
    assert cluster.of(late).statistics().cached == 1


async def test_l12_a_goal_wakes_once_and_an_end_ends_it(cluster: Cluster) -> None:
    """To count on is no end, no second wake, and no new event for who waits for the end."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.count("k", 2, goal=2)
    gone = Seen(here.gone("k"))
    await here.armed()
    await there.count("k")
    await there.count("k")
    await until(lambda: cluster.of(here).statistics().waiters == 1)
    assert await _count_of(here) == 4
    assert gone.count == 0
    assert (await there.reset("k")).first
    await until(lambda: gone.count == 1)
    assert gone.values[0].kind is Kind.RESET
    waiting = Seen(here["k"])
    await here.armed()
    assert (await there.count("k", goal=2)).count == 1
    assert waiting.count == 0
    await there.count("k")
    await until(lambda: waiting.values == [2])


async def test_l12_the_first_goal_stands(cluster: Cluster) -> None:
    """Another is an error that names both, and nothing is counted; none, and the same one, are fine."""
    events = await cluster.map()
    await events.count("k", goal=3)
    with pytest.raises(OtherGoal, match=r"k.*: its goal is 3, not 4"):
        await events.count("k", 2, goal=4, who="x")
    assert (await events.count("k", who="x")).count == 2
    assert (await events.count("k", goal=3)).count == 3


async def test_l12_a_name_counts_once(cluster: Cluster) -> None:
    """Whichever node counts under it, until the counter is reset."""
    here, there = await cluster.map("here"), await cluster.map("there")
    assert (await here.count("k", who="shard-3", goal=2)).first
    again = await there.count("k", 5, who="shard-3")
    assert (again.count, again.first) == (1, False)
    assert again.record == await here.record("k")
    assert (await there.count("k", who="shard-4")).count == 2
    await here.reset("k")
    assert await _count_of(here) == 0
    assert ((await here.count("k", who="shard-3")).count, await _count_of(there)) == (1, 1)


OTHERS: dict[str, Callable[[EventMap], Deferred[Any]]] = {
    "fire": lambda events: events.fire("k"),
    "fire with a TTL": lambda events: events.fire("k", ttl=5),
    "fail": lambda events: events.fail("k", "no"),
    "pulse": lambda events: events.pulse("k"),
    "expire": lambda events: events.expire("k", 5),
}


@pytest.mark.parametrize("goal", [None, 1])
@pytest.mark.parametrize("call", sorted(OTHERS))
async def test_l12_a_counter_is_no_event(cluster: Cluster, call: str, goal: int | None) -> None:
    """At any count, until it is reset; nothing changes."""
    events = await cluster.map()
    await events.count("k", goal=goal)
    before = await events.record("k")
    with pytest.raises(WrongKind, match=r"k.*it is a counter; reset ends it"):
        await OTHERS[call](events)
    assert await events.record("k") == before
    assert (await events.reset("k")).first
    await OTHERS[call](events)


@pytest.mark.parametrize("call", ["fire", "fire with a TTL", "fail"])
async def test_l12_a_latched_event_is_no_counter(cluster: Cluster, call: str) -> None:
    """Until it is reset; nothing is counted."""
    events = await cluster.map()
    await OTHERS[call](events)
    with pytest.raises(WrongKind, match=r"k.*not a counter"):
        await events.count("k")
    await events.reset("k")
    assert (await events.count("k")).count == 1


async def test_l12_a_reset_ends_it_at_any_count(cluster: Cluster) -> None:
    """With a revision only if nobody has counted since."""
    events = await cluster.map()
    first = await events.count("k")
    await events.count("k")
    assert first.record is not None
    assert not (await events.reset("k", first.record.revision)).first
    last = await events.record("k")
    assert last is not None
    assert (await events.reset("k", last.revision)).first
    assert (await events.record("k")).kind is Kind.RESET  # type: ignore[union-attr]
    assert not (await events.reset("k")).first


async def test_l12_counts_of_a_moment_share_a_change(cluster: Cluster) -> None:
    """Each is told its own count; the map's other events stay in the history."""
    events = await cluster.map()
    waiting = Seen(events["k"])
    answers: Any = await gatherResults([events.count("k", goal=50) for _ in range(100)])
    assert [answer.count for answer in answers] == list(range(1, 101))
    assert all(answer.first for answer in answers)
    assert waiting.values == [100]
    assert [value for _, value in await _history(events)] == [100]


async def test_l12_a_lost_answer(cluster: Cluster) -> None:
    """The count is sent again and not counted again, while others count; the answer is its own."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    await here.reset("warm")
    gate.stall()
    counting = gatherResults([here.count("k", 2, goal=5), here.count("k", 3, who="x"), here.count("k")])

    async def counted() -> bool:
        return await _count_of(there) == 6

    await eventually(counted, "it is applied")
    await there.count("k", 10)
    gate.open()
    gate.cut()
    answers: Any = await counting
    assert [(answer.count, answer.first) for answer in answers] == [(2, True), (5, True), (6, True)]
    assert {answer.record.kind for answer in answers} == {Kind.FIRED}
    assert [answer.goal for answer in answers] == [5, 5, 5]
    assert await _count_of(there) == 16


async def test_l12_a_lost_answer_after_a_reset(cluster: Cluster) -> None:
    """A name that was forgotten meanwhile does not count by the repetition, and the new counter is not touched."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    await here.reset("warm")
    gate.stall()
    counting = here.count("k", 2, who="x")

    async def counted() -> bool:
        return await _count_of(there) == 2

    await eventually(counted, "it is applied")
    await there.reset("k")
    await there.count("k", who="y")
    gate.open()
    gate.cut()
    answer = await counting
    assert (answer.count, answer.first) == (2, True)
    assert answer.record is not None
    assert (answer.record.value, answer.record.value_omitted) == (2, False)
    assert await _count_of(there) == 1
    assert (await there.count("k", who="x")).count == 2


async def test_l12_under_one_name_of_a_call(cluster: Cluster) -> None:
    """F5: `once=` is of the call, `who=` of the counter: the repeat gets the first answer, also after a reset."""
    here, there = await cluster.map("here"), await cluster.map("there")
    first = await here.count("k", 3, once="job")
    await there.count("k")
    assert await there.count("k", 3, once="job") == first
    await there.reset("k")
    again = await there.count("k", 3, once="job")
    assert (again.count, again.first) == (3, True)
    assert await _count_of(there) == 0


@pytest.mark.servers("memory", "redis", "valkey")
async def test_l12_not_replicated_is_counted(cluster: Cluster) -> None:
    """F4: the error has the outcome."""
    events = await cluster.map()
    with pytest.raises(NotReplicated) as raised:
        await events.count("k", replicas=1, within=0.05)
    assert isinstance(raised.value.applied, Counted)
    assert raised.value.applied.count == await _count_of(events) == 1


async def test_l12_a_wake_is_not_lost_behind_a_count(cluster: Cluster) -> None:
    """W2: who was armed and cut off gets the pulse that came before the counter began."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    waiting = Seen(here["k"])
    await here.armed()
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await there.pulse("k", "hello")
    await there.count("k", 3)
    gate.open()
    await until(lambda: waiting.values == ["hello"])
    assert await _count_of(here) == 3


async def test_l12_a_goal_is_not_lost_behind_a_reset(cluster: Cluster) -> None:
    """W2: who was armed and cut off gets the goal that was reached meanwhile, though the counter is another by now."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    waiting = Seen(here["k"])
    await here.armed()
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await there.count("k", 2, goal=2)
    await there.count("k")
    await there.reset("k")
    await there.count("k")
    gate.open()
    await until(lambda: waiting.values == [3])


# reaches


async def test_l12_reaches_when_the_count_is_there(cluster: Cluster) -> None:
    """With the record; at once if it is there already, whether there is a goal or not."""
    here, there = await cluster.map("here"), await cluster.map("there")
    four, two = Seen(here.reaches("k", 4)), Seen(here.reaches("k", 2))
    await here.armed()
    await there.count("k", 3)
    await until(lambda: two.count == 1)
    (record,) = two.values
    assert isinstance(record, Record)
    assert (record.value, record.kind, four.count) == (3, Kind.COUNTED, 0)
    await there.count("k", 2, goal=5)
    await until(lambda: four.count == 1)
    assert (four.values[0].value, four.values[0].kind) == (5, Kind.FIRED)
    assert (await here.reaches("k", 5)).value == 5
    assert (await there.reaches("k", 1)).value == 5


async def test_l12_reaches_by_own_counts(cluster: Cluster) -> None:
    """W7: it is called back before the call that reaches it."""
    events = await cluster.map()
    seen = Seen(events.reaches("k", 2))
    await events.count("k")
    assert seen.count == 0
    await events.count("k")
    assert seen.count == 1


async def test_l12_reaches_through_a_cut(cluster: Cluster) -> None:
    """It goes by the count that stands when it is armed again; what was before a reset is not seen."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    two, three = Seen(here.reaches("k", 2)), Seen(here.reaches("k", 3))
    await here.armed()
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    await there.count("k", 3)
    await there.reset("k")
    await there.count("k", 2)
    gate.open()
    await until(lambda: two.count == 1)
    assert three.count == 0
    await there.count("k")
    await until(lambda: three.count == 1)


async def test_l12_reaches_is_a_wait_as_any_other(cluster: Cluster) -> None:
    """A deadline, a cancellation and a close leave nothing; an event that is fired with a number has no count."""
    events = await cluster.map()
    waiting = events.reaches("k", 5)
    assert "a count of 5 of m/k" in repr(waiting)
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    with pytest.raises(TimedOut, match="a count of 5 of m/k"):
        await events.reaches("k", 5, timeout=0.01)
    await until(lambda: cluster.of(events).statistics().subscriptions == 0)
    no_counter = events.reaches("k", 5)
    await events.fire("k", 9)
    await events.armed()
    assert not no_counter.called
    closing = Seen(no_counter)
    await cluster.of(events).close()
    assert [type(error) for error in closing.errors] == [Closed]
    assert isinstance(failure_of(events.reaches("k", 5)), Closed)
    assert isinstance(failure_of(events.count("k")), Closed)
