"""F1 acknowledged: a call is called back only after the server applied it; a map's calls apply in their order."""

from __future__ import annotations

from typing import Any

import pytest

from coord import Applied, Kind, LinkState, Revision
from coord.core.calls import MAX_BATCH_CALLS
from coord.link.scripts import Script
from support.cluster import Cluster, Seen
from support.waiting import until


async def test_f1_acknowledged_by_the_server(cluster: Cluster) -> None:
    """When the Deferred fires, another node finds the record."""
    here, there = await cluster.map("here"), await cluster.map("there")
    for number in range(20):
        applied = await here.fire(f"k{number}", number)
        record = await there.record(f"k{number}")
        assert record == applied.record
        assert record is not None
        assert (record.kind, record.value, record.node, record.map, record.key) == (
            Kind.FIRED,
            number,
            "here",
            "m",
            f"k{number}",
        )


async def test_f1_acknowledged_not_before_the_server_is_there(cluster: Cluster) -> None:
    """Calls that are made without a link wait for it."""
    events, gate = await cluster.gated()
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    seen = Seen(events.fire("k", 1), events.pulse("k", 2))
    await until(lambda: gate.attempts > 4)
    assert seen.count == 0
    gate.open()
    await until(lambda: seen.count == 2)
    assert [applied.first for applied in seen.values] == [True, True]


async def test_f1_acknowledged_in_order(cluster: Cluster) -> None:
    """A thousand calls of one node, made without waiting, apply in the order they were made."""
    events = await cluster.map()
    seen = Seen()
    for number in range(250):
        seen.watch(events.fire("k", number))
        seen.watch(events.reset("k"))
        seen.watch(events.pulse("k", number))
        seen.watch(events.fail(f"f{number}", number))
    await until(lambda: seen.count == 1000)
    revisions = [applied.record.revision for applied in seen.values]
    assert revisions == sorted(set(revisions))
    assert all(applied.first for applied in seen.values)


async def test_f1_acknowledged_in_order_where_the_server_forgot_the_script(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is sent behind another does not overtake it, whatever becomes of that one."""
    events = await cluster.map()
    await events.fire("first")
    link = events._session.link
    run, forgotten = link.run_script, [b"0" * 40]

    def run_once_forgotten(script: Any, *given: Any, **options: Any) -> Any:
        unknown = Script("due.lua")
        unknown.text = script.text
        unknown.sha = forgotten.pop() if forgotten else script.sha
        return run(unknown, *given, **options)

    monkeypatch.setattr(link, "run_script", run_once_forgotten)
    seen = Seen(*(events.fire(f"k{number}", number) for number in range(3 * MAX_BATCH_CALLS)))
    await until(lambda: seen.count == 3 * MAX_BATCH_CALLS)
    assert [applied.record.value for applied in sorted(seen.values, key=lambda applied: applied.record.revision)] == [
        *range(3 * MAX_BATCH_CALLS)
    ]
    assert all(applied.first for applied in seen.values)


async def test_f1_acknowledged_in_order_over_cuts(cluster: Cluster) -> None:
    """Also while the connections are cut again and again."""
    events, gate = await cluster.gated()
    seen = Seen()
    for round_ in range(10):
        for number in range(20):
            seen.watch(events.pulse("k", [round_, number]))
        # In turns: before it is sent, after it is sent, after the next batch gathered.
        if round_ % 2:
            await until(lambda: seen.count % 20 or cluster.of(events).statistics().pending_calls > 20)
        gate.cut()
    await until(lambda: seen.count == 200)
    values = [applied.record.value for applied in seen.values]
    assert values == [[round_, number] for round_ in range(10) for number in range(20)]
    revisions = [applied.record.revision.number for applied in seen.values]
    assert revisions == list(range(revisions[0], revisions[0] + 200))


async def test_f1_acknowledged_what_each_call_answers(cluster: Cluster) -> None:
    """The table of docs/semantics.md, "What happens to a key": each operation on a pending and on a latched key."""
    events = await cluster.map()

    def told(applied: Applied) -> tuple[bool, Kind | None, object]:
        record = applied.record
        return applied.first, record.kind if record else None, record.value if record else None

    assert told(await events.reset("k")) == (False, None, None)
    assert told(await events.pulse("k", 1)) == (True, Kind.PULSED, 1)
    assert told(await events.reset("k")) == (False, Kind.PULSED, 1)
    assert told(await events.fire("k", 2)) == (True, Kind.FIRED, 2)
    assert told(await events.fire("k", 3)) == (False, Kind.FIRED, 2)
    assert told(await events.fail("k", 4)) == (False, Kind.FIRED, 2)
    assert told(await events.pulse("k", 5)) == (True, Kind.PULSED, 5)
    assert told(await events.fail("k", 6)) == (True, Kind.FAILED, 6)
    assert told(await events.fire("k", 7)) == (False, Kind.FAILED, 6)
    assert told(await events.reset("k")) == (True, Kind.RESET, None)
    assert told(await events.reset("k")) == (False, Kind.RESET, None)


@pytest.mark.parametrize("as_text", [True, False])
async def test_f1_acknowledged_reset_of_a_revision(cluster: Cluster, as_text: bool) -> None:
    """With a revision only that record is reset, and no later one."""
    events = await cluster.map()
    old = (await events.fire("k", 1)).record
    await events.reset("k")
    new = (await events.fire("k", 2)).record
    assert old is not None
    assert new is not None

    def given(revision: Revision) -> Revision | str:
        return str(revision) if as_text else revision

    assert not (await events.reset("k", given(old.revision))).first
    assert await events["k"] == 2
    assert (await events.reset("k", given(new.revision))).first
