"""F5 named: a call made again under its name (`once=`) is applied no second time, whichever node makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from coord import Applied, EventMap, InvalidKey, Kind, NameReused
from support.cluster import Cluster, Seen
from support.waiting import until

CALLS: dict[str, Callable[[EventMap], Deferred[Applied]]] = {
    "fire": lambda events: events.fire("k", {"n": 1}, once="job-17"),
    "fail": lambda events: events.fail("k", "bad", once="job-17"),
    "pulse": lambda events: events.pulse("k", 7, once="job-17"),
    "reset": lambda events: events.reset("k", once="job-17"),
}


@pytest.mark.parametrize("call", sorted(CALLS))
async def test_f5_named_once_whichever_node_calls(cluster: Cluster, call: str) -> None:
    """The same call under the same name, by another node, is answered as the first was."""
    here, there = await cluster.map("here"), await cluster.map("there")
    if call == "reset":
        await here.fire("k", 1)
    first = await CALLS[call](here)
    again = await CALLS[call](there)
    assert first.first
    assert again == first
    assert again.record is not None
    assert again.record.node == "here"


async def test_f5_named_a_job_that_is_run_again(cluster: Cluster) -> None:
    """All calls of a job are named: run again elsewhere, it gets the same answers, and nothing has changed."""

    async def job(events: EventMap) -> list[Any]:
        return [
            await events.fire("built", {"n": 1}, once="job-17 built"),
            await events.fail("tested", "red", once="job-17 tested"),
            await events.count("runs", once="job-17 runs"),
            await events.pulse("done", once="job-17 done"),
            await events.reset("wanted", once="job-17 wanted"),
        ]

    here, there = await cluster.map("here"), await cluster.map("there")
    await here.fire("wanted")
    answers = await job(here)
    keys = ("built", "tested", "runs", "done", "wanted")
    records = [await there.record(key) for key in keys]
    assert [answer.record for answer in answers] == records
    assert {record.node for record in records if record is not None} == {"here"}
    assert await job(there) == answers
    assert [await here.record(key) for key in keys] == records
    with pytest.raises(NameReused):
        await there.pulse("built", once="job-17 built")


async def test_f5_named_pulse_wakes_once(cluster: Cluster) -> None:
    """A pulse made by five nodes under one name is one pulse."""
    maps = [await cluster.map(f"n{number}") for number in range(5)]
    waiting = await cluster.map("waiting")
    woken = Seen(waiting["k"])
    waiting["k"].addCallback(lambda _: woken.watch(waiting["k"]))
    await waiting.armed()
    outcomes: Any = gatherResults([events.pulse("k", once="noon") for events in maps])
    revisions = {applied.record.revision for applied in await outcomes}
    assert len(revisions) == 1
    await until(lambda: woken.count == 1)
    await waiting.armed()
    assert woken.count == 1
    await waiting.pulse("k")


async def test_f5_named_answers_after_a_change(cluster: Cluster) -> None:
    """The answer is that of the first call also after the key has changed; its own value is in it."""
    here, there = await cluster.map("here"), await cluster.map("there")
    first = await here.fire("k", [1, 2], once="x")
    await there.reset("k")
    await there.fire("k", "other")
    again = await there.fire("k", [1, 2], once="x")
    assert again == first
    assert (await there.record("k")).value == "other"  # type: ignore[union-attr]


async def test_f5_named_leaves_out_a_value_that_is_gone(cluster: Cluster) -> None:
    """A call that was not first tells the record that stood then, and its value as long as that stands."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await here.fire("k", "stands")
    first = await here.fire("k", "late", once="x")
    assert await there.fire("k", "late", once="x") == first
    await here.reset("k")
    again = await there.fire("k", "late", once="x")
    assert not again.first
    assert again.record is not None
    assert first.record is not None
    assert again.record.revision == first.record.revision
    assert (again.record.value, again.record.value_omitted) == (None, True)


async def test_f5_named_wakes_nobody_by_what_is_over(cluster: Cluster) -> None:
    """A repetition answered from memory wakes no wait that was made after the first call."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await here.pulse("k", 1, once="x")
    waiting = Seen(there["k"])
    again = there.pulse("k", 1, once="x")
    assert (await again).first
    await there.armed()
    assert waiting.count == 0
    await there.pulse("k", 2)
    assert waiting.values == [2]


async def test_f5_named_another_call_is_refused(cluster: Cluster) -> None:
    """Another key, value or operation under the name is refused by name, and not applied."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await here.fire("k", 1, once="x")
    for other in (
        there.fire("k", 2, once="x"),
        there.fire("other", 1, once="x"),
        there.pulse("k", 1, once="x"),
        there.reset("k", once="x"),
    ):
        with pytest.raises(NameReused, match="m: the name was given to another call"):
            await other
    assert (await there.records()).revision.number == 1


async def test_f5_named_keeps_the_order(cluster: Cluster) -> None:
    """Named calls apply in the order in which they were made among the others of the node and map (F1)."""
    events = await cluster.map()
    seen = Seen()
    for number in range(300):
        name = f"c{number}" if number % 7 == 0 else None
        seen.watch(events.pulse("k", number, once=name))
    await until(lambda: seen.count == 300)
    assert [applied.record.value for applied in seen.values] == list(range(300))
    revisions = [applied.record.revision.number for applied in seen.values]
    assert revisions == list(range(revisions[0], revisions[0] + 300))


async def test_f5_named_over_a_cut(cluster: Cluster) -> None:
    """A named call whose answer was lost is answered on the next link, and applied once."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    await here.reset("warm")
    woken = Seen(there["k"])
    await there.armed()
    gate.stall()
    pulsing = here.pulse("k", 1, once="x")
    await until(lambda: woken.count == 1)
    gate.open()
    gate.cut()
    applied = await pulsing
    assert applied.first
    assert applied.record is not None
    assert applied.record.kind is Kind.PULSED
    assert applied.record.revision == (await there.records()).revision


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 513, b"x", 7])
async def test_f5_named_by_what_can_be_a_name(cluster: Cluster, name: Any) -> None:
    """A name keeps the rules of a key, and a bad one raises before anything is sent."""
    events = await cluster.map()
    with pytest.raises(InvalidKey, match=r"^once "):
        events.fire("k", once=name)
    assert (await events.record("k")) is None
