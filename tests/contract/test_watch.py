"""The promises to a watcher: ordered, unique, gap-free, resumable; HistoryLost, never a silent gap."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from coord import (
    CaughtUp,
    Closed,
    CorruptRecord,
    EventMap,
    HistoryLost,
    InvalidInput,
    InvalidKey,
    Kind,
    LinkState,
    Record,
    Revision,
    ServerRefused,
)
from coord.core.names import HEAD
from coord.link.link import Link
from coord.link.scripts import HEADS, HISTORY
from support.cluster import Cluster, Seen
from support.waiting import eventually, turn, until
from support.warned import Warned
from support.watcher import Watcher

RECORDS, LOG = "coord:{default/m}", "coord:{default/m}:log"


async def _fill(events: EventMap, count: int) -> list[Revision]:
    revisions = []
    for number in range(count):
        applied = await events.pulse(f"k{number % 3}", number)
        assert applied.record is not None
        revisions.append(applied.record.revision)
    return revisions


async def test_watch_since_start(cluster: Cluster) -> None:
    """The whole history, then the marker, then what is new: in order, each once."""
    events = await cluster.map()
    revisions = await _fill(events, 10)
    watcher = Watcher(events, since="start")
    await watcher.ready()
    assert watcher.values == list(range(10))
    assert watcher.changes[-1] == CaughtUp(revisions[-1])
    new = await _fill(events, 5)
    await until(lambda: len(watcher.records) == 15)
    assert [record.revision for record in watcher.records] == revisions + new
    watcher.stop()


async def test_watch_since_now(cluster: Cluster) -> None:
    """Only what is new: from the moment that the block is entered, marker first."""
    events, other = await cluster.map(), await cluster.map("other")
    await _fill(events, 10)
    async with events.watch(since="now") as changes:
        await other.fire("new", 1)
        marker, change = await changes.__anext__(), await changes.__anext__()
    assert isinstance(marker, CaughtUp)
    assert isinstance(change, Record)
    assert (change.key, change.kind, change.value, change.node) == ("new", Kind.FIRED, 1, "other")


async def test_watch_of_an_empty_map(cluster: Cluster) -> None:
    """A map without any data is caught up at once; its first change follows."""
    events = await cluster.map()
    for since in ("start", "now"):
        watcher = Watcher(events, since=since)
        await watcher.ready()
        assert watcher.records == []
        await events.pulse("k", since)
        await until(lambda watcher=watcher: watcher.records)  # type: ignore[misc]
        assert watcher.values == [since]
        watcher.stop()
        await cluster.server.flush()


@pytest.mark.parametrize("as_text", [True, False])
async def test_watch_since_a_revision(cluster: Cluster, as_text: bool) -> None:
    """It resumes right after the revision given."""
    events = await cluster.map()
    revisions = await _fill(events, 10)
    for position in (0, 4, 9):
        since = str(revisions[position]) if as_text else revisions[position]
        watcher = Watcher(events, since=since)
        await watcher.ready()
        assert watcher.values == list(range(position + 1, 10))
        watcher.stop()


async def test_watch_of_a_prefix(cluster: Cluster) -> None:
    """Only keys that begin with the prefix; the marker comes all the same."""
    events = await cluster.map()
    for key in ("tank/a", "tank", "pool/a", "tank/b"):
        await events.fire(key, key)
    watcher = Watcher(events, "tank/", since="start")
    await watcher.ready()
    await events.fire("pool/b")
    await events.fire("tank/c", "tank/c")
    await until(lambda: len(watcher.records) == 3)
    assert watcher.values == ["tank/a", "tank/b", "tank/c"]
    watcher.stop()


async def test_watch_of_every_kind(cluster: Cluster) -> None:
    """Fired, failed, pulsed and reset; what changed nothing is no change."""
    events = await cluster.map()
    watcher = Watcher(events, since="start")
    await events.fire("k", 1)
    await events.fire("k", 2)
    await events.reset("k")
    await events.reset("k")
    await events.fail("k", "no")
    await events.pulse("k", 3)
    await until(lambda: len(watcher.records) == 4)
    assert [(record.kind, record.value) for record in watcher.records] == [
        (Kind.FIRED, 1),
        (Kind.RESET, None),
        (Kind.FAILED, "no"),
        (Kind.PULSED, 3),
    ]
    watcher.stop()


async def test_watch_many_changes_from_many_nodes(cluster: Cluster) -> None:
    """Thousands of changes by several nodes at once arrive in the order of their revisions, without a gap."""
    nodes = [await cluster.map(f"n{number}") for number in range(3)]
    live = Watcher(nodes[0], since="now")
    await live.ready()
    seen = Seen()
    for number in range(700):
        for events in nodes:
            seen.watch(events.pulse(f"k{number % 10}", number))
    await until(lambda: seen.count == 2100 == len(live.records))
    past = Watcher(nodes[1], since="start")
    await past.ready()
    for watcher in (live, past):
        numbers = [record.revision.number for record in watcher.records]
        assert numbers == list(range(numbers[0], numbers[0] + 2100))
        watcher.stop()


async def test_watch_large_values(cluster: Cluster) -> None:
    """The history leaves large values out: they are read from the record while it stands, else said to be omitted."""
    events = await cluster.map()
    large, larger = "x" * 10_000, "é" * 30_000
    await events.fire("gone", large)
    await events.reset("gone")
    await events.pulse("gone", 1)
    await events.fire("reset", large)
    await events.reset("reset")
    await events.fire("stands", larger)
    watcher = Watcher(events, since="start")
    await watcher.ready()
    told = [(record.key, record.kind, record.value, record.value_omitted) for record in watcher.records]
    assert told == [
        ("gone", Kind.FIRED, None, True),
        ("gone", Kind.RESET, None, False),
        ("gone", Kind.PULSED, 1, False),
        ("reset", Kind.FIRED, large, False),
        ("reset", Kind.RESET, None, False),
        ("stands", Kind.FIRED, larger, False),
    ]
    watcher.stop()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_watch_resumes_over_a_server_restart(cluster: Cluster, end: str) -> None:
    """A restart begins a new generation; a live watch and one that resumes both go on without a gap."""
    events = await cluster.map()
    watcher = Watcher(events, since="start")
    revisions = await _fill(events, 5)
    await getattr(cluster.server, end)()
    await cluster.server.start()
    revisions += await _fill(events, 5)
    assert revisions[-1].generation > revisions[0].generation
    await until(lambda: len(watcher.records) == 10)
    assert [record.revision for record in watcher.records] == revisions
    resumed = Watcher(events, since=revisions[2])
    await resumed.ready()
    assert [record.revision for record in resumed.records] == revisions[3:]
    watcher.stop()
    resumed.stop()


async def test_watch_goes_on_over_cuts(cluster: Cluster) -> None:
    """What happened while the watcher was cut off comes when it is back, in order."""
    here, gate = await cluster.gated("here")
    there = await cluster.map("there")
    watcher = Watcher(here, since="now")
    await watcher.ready()
    for round_ in range(4):
        if round_ % 2:
            gate.shut()
            await cluster.state(cluster.of(here), LinkState.SUSPENDED)
        else:
            gate.cut()
        await _fill(there, 5)
        gate.open()
        await until(lambda round_=round_: len(watcher.records) == 5 * (round_ + 1))  # type: ignore[misc]
    numbers = [record.revision.number for record in watcher.records]
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    watcher.stop()


async def test_watch_slow_watcher_holds_back_only_itself(cluster: Cluster) -> None:
    """One that takes its time gets everything in the end; meanwhile others, and calls, go on."""
    events = await cluster.map()
    quick = Watcher(events, since="now")
    await quick.ready()
    async with events.watch(since="now") as slow:
        assert isinstance(await slow.__anext__(), CaughtUp)
        await _fill(events, 200)
        await until(lambda: len(quick.records) == 200)
        taken = [await slow.__anext__() for _ in range(200)]
    assert taken == quick.records
    quick.stop()


async def test_watch_history_lost_by_trimming(cluster: Cluster) -> None:
    """A revision that the bounded history no longer reaches back to ends the watch; start takes what is kept."""
    events = await cluster.map(history=100)
    revisions = [*(await _fill(events, 5))]
    seen = Seen(*(events.pulse("k", number) for number in range(1000)))
    await until(lambda: seen.count == 1000)
    old = Watcher(events, since=revisions[0])
    await until(lambda: old.error)
    assert isinstance(old.error, HistoryLost)
    assert str(revisions[0]) in str(old.error)
    assert old.changes == []
    start = Watcher(events, since="start")
    await start.ready()
    assert 100 <= len(start.records) < 1005
    assert start.values[-1] == 999
    start.stop()


async def test_watch_history_lost_by_a_flush(cluster: Cluster) -> None:
    """Data that went under a live watch ends it, without anything happening afterwards."""
    events = await cluster.map(heartbeat=0.1)
    await _fill(events, 5)
    watcher = Watcher(events, since="start")
    await watcher.ready()
    await cluster.server.flush()
    await until(lambda: watcher.error, "the flush is noticed")
    assert isinstance(watcher.error, HistoryLost)


@pytest.mark.servers("redis", "valkey")
async def test_watch_costs_nothing_while_nothing_happens(cluster: Cluster) -> None:
    """A watch that has seen all reads no history at a heartbeat; one that has not, for what reason ever, does."""
    events = await cluster.map(heartbeat=0.1)
    watchers = [Watcher(each) for each in (events, cluster.of(events).events("empty"))]
    for watcher in watchers:
        await watcher.ready()
    await _fill(events, 3)
    await until(lambda: len(watchers[0].records) == 3)
    with patch.object(Link, "run_script", autospec=True, side_effect=Link.run_script) as run:
        await until(lambda: [each.args[1] for each in run.call_args_list].count(HEADS) >= 3, "three beats have gone by")
        assert HISTORY not in [each.args[1] for each in run.call_args_list]
    stands = await cluster.server.command("HGET", RECORDS, HEAD)
    revision = watchers[0].records[-1].revision
    now, later = (b" %d %d " % (revision.generation, revision.number + more) for more in (0, 1))
    line = f'["fired",[{revision.generation},{revision.number + 1}],1,"n"]\n"unrung"'
    await cluster.server.command("XADD", LOG, f"{revision.generation}-{revision.number + 1}", "k", line)
    await cluster.server.command("HSET", RECORDS, HEAD, (b" " + stands).replace(now, later)[1:])
    await until(lambda: watchers[0].values[-1] == "unrung")
    for watcher in watchers:
        watcher.stop()


async def test_watch_history_lost_by_a_flush_and_new_changes(cluster: Cluster) -> None:
    """Changes after a flush begin a generation that does not follow: no silent gap."""
    events, other = await cluster.map(heartbeat=30), await cluster.map("other", heartbeat=30)
    old = await _fill(events, 5)
    watcher = Watcher(events, since="start")
    await watcher.ready()
    await cluster.server.flush()
    new = await _fill(other, 1)
    await until(lambda: watcher.error)
    assert isinstance(watcher.error, HistoryLost)
    assert watcher.values == list(range(5))
    assert new[0] > old[-1]
    again = Watcher(events, since=new[0])
    await again.ready()
    again.stop()


async def test_watch_history_lost_by_an_empty_restart(cluster: Cluster) -> None:
    """A server that comes back empty ends the watch when the link is back."""
    events = await cluster.map()
    await _fill(events, 5)
    watcher = Watcher(events, since="start")
    await watcher.ready()
    await cluster.server.kill()
    await cluster.server.start("empty")
    await until(lambda: watcher.error)
    assert isinstance(watcher.error, HistoryLost)


async def test_watch_history_lost_in_the_future(cluster: Cluster) -> None:
    """A revision that the map has not reached ends the watch."""
    events = await cluster.map()
    revisions = await _fill(events, 3)
    for future in (
        Revision(revisions[-1].generation, revisions[-1].number + 1),
        Revision(revisions[-1].generation + 1, 0),
        Revision(revisions[-1].generation + 1, 17),
    ):
        watcher = Watcher(events, since=future)
        await until(lambda watcher=watcher: watcher.error)  # type: ignore[misc]
        assert isinstance(watcher.error, HistoryLost)


async def test_watch_history_lost_of_no_such_past(cluster: Cluster) -> None:
    """So does one that never was, and any where the map has no data."""
    events = await cluster.map()
    watcher = Watcher(events, since=Revision(17, 4))
    await until(lambda: watcher.error)
    assert isinstance(watcher.error, HistoryLost)
    revisions = await _fill(events, 3)
    watcher = Watcher(events, since=Revision(revisions[0].generation - 1, 2))
    await until(lambda: watcher.error)
    assert isinstance(watcher.error, HistoryLost)


async def test_watch_history_lost_is_the_end(cluster: Cluster) -> None:
    """After the error the iterator is exhausted, and nothing is left."""
    events = await cluster.map()
    async with events.watch(since=Revision(1, 1)) as changes:
        with pytest.raises(HistoryLost):
            await changes.__anext__()
        with pytest.raises(StopAsyncIteration):
            await changes.__anext__()
    await until(lambda: cluster.of(events).statistics().subscriptions == 0)


async def test_watch_break_leaves_nothing(cluster: Cluster) -> None:
    """Leaving the loop, or the block by an exception, leaves no subscription."""
    events = await cluster.map()
    await _fill(events, 3)
    async with events.watch(since="start") as changes:
        async for change in changes:
            assert isinstance(change, Record)
            break
    with pytest.raises(ZeroDivisionError):
        async with events.watch(since="now") as changes:
            raise ZeroDivisionError
    await until(lambda: cluster.of(events).statistics().subscriptions == 0)
    with pytest.raises(StopAsyncIteration):
        await changes.__anext__()


async def test_watch_closed_under_it(cluster: Cluster) -> None:
    """close() ends a watch that waits, with Closed."""
    events = await cluster.map()
    watcher = Watcher(events, since="now")
    await watcher.ready()
    await cluster.of(events).close()
    await until(lambda: watcher.error is not None, "it ends")
    assert isinstance(watcher.error, Closed)


async def test_watch_closed_before_it_began(cluster: Cluster) -> None:
    """close() also ends one that still waits for the server."""
    await cluster.server.stop()
    node = cluster.node()
    watchers = [Watcher(node.events("m"), since=since) for since in ("now", "start")]
    await node.close()
    assert [type(watcher.error) for watcher in watchers] == [Closed, Closed]


async def test_watch_of_a_broken_history(cluster: Cluster) -> None:
    """Junk in the log's name is CorruptRecord and hurts no other map."""
    events = await cluster.map()
    await _fill(events, 2)
    node = cluster.of(events)
    await cluster.server.command("SET", "coord:{default/other}:log", "junk")
    other = Watcher(node.events("other"), since="start")
    await until(lambda: other.error)
    assert isinstance(other.error, CorruptRecord)
    fine = Watcher(node.events("fine"), since="start")
    await fine.ready()
    fine.stop()


# What others may have put there: a field and a value a line of an entry, or an entry of their own.
_FOREIGN_KEYS = [b"\x1b[2J\nforged\tfired", b"nul\0", b"latin-\xe9", b"k" * 513]


async def test_watch_passes_foreign_entries_over(cluster: Cluster) -> None:
    """Entries that somebody else wrote end no watch, live or resumed: each is a warning, and the rest is told."""
    events = await cluster.map()
    command = cluster.server.command
    await command("XADD", LOG, "1-1", "what", "ever")
    revisions = await _fill(events, 2)
    live = Watcher(events, since="start")
    await live.ready()
    await command("XADD", LOG, f"{revisions[-1].generation}-{revisions[-1].number + 1}", "\x1b[2J", '["fired",[1,1]')
    with Warned() as warned:
        for number in range(3):
            await eventually(partial(_pulsed, events, number), "the next free number is found")
        await until(lambda: len(live.records) == 5)
        resumed = Watcher(events, since=revisions[-1])
        await resumed.ready()
    assert live.values == [0, 1, 0, 1, 2]
    assert resumed.values == [0, 1, 2]
    assert len(warned.matching("of the history was not written by coord")) == 2
    for number in range(600):
        await command("XADD", LOG, "*", "what", number)
    end = Watcher(events, since=resumed.records[0].revision)
    await end.ready()
    assert end.values == [1, 2]
    for watcher in (live, resumed, end):
        watcher.stop()


async def _pulsed(events: EventMap, value: object) -> bool:
    try:
        await events.pulse("k", value)
    except ServerRefused:
        return False
    return True


async def test_watch_passes_foreign_keys_over(cluster: Cluster) -> None:
    """A change of what can be no key, or with a value that is no JSON, is a warning without its bytes, and no gap."""
    events = await cluster.map()
    head = (await _fill(events, 1))[0]
    line, number = '["fired",[%d,%d],1,"n"]\n%s', head.number
    lines: list[bytes | str] = []
    for key, value in [*((key, "1") for key in _FOREIGN_KEYS), (b"junk", "{not json"), (b"good", "1")]:
        number += 1
        lines += [key, line % (head.generation, number, value)]
    await cluster.server.command("XADD", LOG, f"{head.generation}-{number}", *lines)
    stands = await cluster.server.command("HGET", RECORDS, HEAD)
    old, new = (b" %d %d " % (head.generation, each) for each in (head.number, number))
    await cluster.server.command("HSET", RECORDS, HEAD, (b" " + stands).replace(old, new)[1:])
    with Warned() as warned:
        watcher, good = Watcher(events, since="start"), Watcher(events, "good", since=head)
        await watcher.ready()
        await good.ready()
        await events.pulse("k", "after")
        await until(lambda: watcher.values[-1] == "after")
    assert watcher.values == [0, 1, "after"]
    assert [record.key for record in good.records] == ["good"]
    said = warned.matching("was not written by coord")
    assert len(said) == len(_FOREIGN_KEYS) + 1
    assert all(each.isprintable() for each in said)
    watcher.stop()
    good.stop()


@pytest.mark.servers("redis", "valkey")
async def test_watch_asks_for_less_after_a_cut(cluster: Cluster) -> None:
    """An answer that is over the server's limit of output is not asked for again in the same size for ever."""
    limit = "client-output-buffer-limit"
    (_, default) = await cluster.server.command("CONFIG", "GET", limit)
    writer, reader = await cluster.map("writer"), await cluster.map("reader")
    for number in range(60):
        await writer.fire(f"k{number}", [number, "x" * 60_000])
    await cluster.server.command("CONFIG", "SET", limit, "normal 300kb 0 0")
    try:
        watcher = Watcher(reader, since="start")
        await watcher.ready()
        assert [value[0] for value in watcher.values] == list(range(60))
        watcher.stop()
    finally:
        await cluster.server.command("CONFIG", "SET", limit, default)


async def test_watch_resumes_from_a_listing(cluster: Cluster) -> None:
    """A listing and a watch from its revision miss nothing."""
    events, other = await cluster.map(), await cluster.map("other")
    for number in range(20):
        await events.fire(f"k{number}", number)
    listing = await events.records()
    assert [record.value for record in listing.records] == [
        record.value for record in sorted(listing.records, key=lambda record: record.key)
    ]
    assert {record.key: record.value for record in listing.records} == {f"k{n}": n for n in range(20)}
    new = (await other.fire("new")).record
    watcher = Watcher(events, since=listing.revision)
    await until(lambda: watcher.records)
    assert watcher.records == [new]
    assert (await events.records("k1")).records == tuple(r for r in listing.records if r.key.startswith("k1"))
    assert (await events.records("no*[such]?")).records == ()
    watcher.stop()


async def test_watch_bad_arguments(cluster: Cluster) -> None:
    """What is no prefix and no point to start from is refused at the call."""
    events = await cluster.map()
    since: Any
    for since in ("", "yesterday", "1", "1.2.3", "1.-2", 5, None, (1, 2), b"now"):
        with pytest.raises(InvalidInput, match=r"now|revision"):
            events.watch(since=since)
    for prefix in (b"tank", 5, "a\nb", "x" * 513):
        with pytest.raises(InvalidKey):
            events.watch(prefix)  # type: ignore[arg-type]


async def test_watch_that_was_not_entered(cluster: Cluster) -> None:
    """Iterating it, or entering it a second time, raises and shows the spelling; it does not end as if all was told."""
    events = await cluster.map()
    await _fill(events, 3)
    with pytest.raises(TypeError, match=r"async with events\.watch\(\.\.\.\) as changes"):
        async for _ in events.watch(since="start"):
            pass
    with pytest.raises(TypeError, match="async with"):
        await events.watch().__anext__()
    async with events.watch(since="start") as changes:
        assert isinstance(await changes.__anext__(), Record)
        with pytest.raises(TypeError, match="entered once"):
            await changes.__aenter__()
    with pytest.raises(TypeError, match="entered once"):
        async with changes:
            pass


async def test_watch_two_of_one_map(cluster: Cluster) -> None:
    """Watchers of one map share its doorbell; that one ends, or begins, is nothing to the other."""
    events = await cluster.map()
    first, second = Watcher(events), Watcher(events)
    await first.ready()
    await second.ready()
    await events.pulse("k", 1)
    await until(lambda: first.values == second.values == [1])
    first.stop()
    await events.pulse("k", 2)
    third = Watcher(events)
    await third.ready()
    await events.pulse("k", 3)
    await until(lambda: second.values == [1, 2, 3] and third.values == [3])
    second.stop()
    third.stop()


async def test_watch_cancelled_at_every_step(cluster: Cluster) -> None:
    """Cancelling whoever watches, however far it has come, leaves no subscription."""
    events = await cluster.map()
    await _fill(events, 3)
    node = cluster.of(events)
    for since in ("now", "start"):
        for turns in range(12):
            watcher = Watcher(events, since=since)
            for _ in range(turns):
                await turn()
            watcher.stop()
            assert node.statistics().waiters == 0
    await until(lambda: node.statistics().subscriptions == 0)
