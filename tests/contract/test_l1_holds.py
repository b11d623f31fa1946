"""L1 to L4: an event is latched while somebody who lives holds it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure

from coord import (
    CaughtUp,
    Closed,
    EventMap,
    Hold,
    HoldLost,
    InvalidInput,
    InvalidKey,
    InvalidTime,
    InvalidValue,
    Kind,
    LinkState,
    Record,
    ServerRefused,
    Unreachable,
)
from coord.core.calls import Call
from support.cluster import Cluster, Seen, latched
from support.waiting import eventually, turn, until

QUICK = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
"""Times of a map whose dead are soon gone."""


async def _history(events: EventMap) -> list[Record]:
    shown: list[Record] = []
    async with events.watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            assert isinstance(change, Record)
            shown.append(change)
    return shown


async def _kinds(events: EventMap) -> list[tuple[str, str]]:
    return [(record.kind.value, record.node) for record in await _history(events)]


def _kill(cluster: Cluster, events: EventMap) -> None:
    """End a node as kill -9 would: nothing is withdrawn."""
    for session in cluster.of(events)._sessions.every:
        session.holds._maps.clear()
        session.link.abandon("killed")


async def test_l1_held_means_latched(cluster: Cluster) -> None:
    """L1: waits are answered while it is held; the end is announced, and the key is pending then."""
    here, there = await cluster.map("here"), await cluster.map("there")
    waiting = Seen(there["k"])
    hold = await here.hold("k", {"at": 1})
    assert hold.first
    assert hold.valid
    assert hold.record is not None
    assert (hold.record.kind, hold.record.value, hold.record.node) == (Kind.FIRED, {"at": 1}, "here")
    await until(lambda: waiting.values == [{"at": 1}], "the waiter is woken")
    assert await there["k"] == {"at": 1}
    gone = there.gone("k")
    await there.armed()
    withdrawn = await hold.withdraw()
    assert withdrawn is not None
    assert withdrawn.first
    await until(lambda: not hold.valid)
    ended = await gone
    assert ended is not None
    assert (ended.kind, ended.node, ended.value) == (Kind.WITHDRAWN, "here", None)
    assert not await latched(there, "k")
    assert await hold.withdraw() is None


async def test_l1_it_passes_and_nobody_notices(cluster: Cluster) -> None:
    """L1: the record changes its owner; who waits for the end goes on waiting."""
    here, there, other = [await cluster.map(name) for name in ("here", "there", "other")]
    first = await here.hold("k", 1)
    second = await there.hold("k", 2)
    assert (second.first, second.valid) == (False, True)
    assert second.record == first.record
    gone = Seen(other.gone("k"))
    await other.armed()
    await first.withdraw()
    record = await other.record("k")
    assert record is not None
    assert first.record is not None
    assert (record.value, record.node, record.latched_at) == (2, "there", first.record.revision)
    await other.armed()
    assert gone.count == 0
    assert await other["k"] == 2
    await second.withdraw()
    await until(lambda: gone.count == 1, "the end")
    assert await _kinds(other) == [("fired", "here"), ("fired", "there"), ("withdrawn", "there")]


async def test_l1_two_holds_of_one_node_are_two(cluster: Cluster) -> None:
    """L1: the first to end does not end the other."""
    here = await cluster.map("here")
    first, second = await gatherResults([here.hold("k", 1), here.hold("k", 2)])
    await first.withdraw()
    assert second.valid
    assert await here["k"] == 2
    await second.withdraw()
    assert not await latched(here, "k")


async def test_l1_as_a_context_manager(cluster: Cluster) -> None:
    """It is held in the block, whatever ends that."""
    here, there = await cluster.map("here"), await cluster.map("there")
    async with here.hold("k", 1) as hold:
        assert await there["k"] == 1
    assert not hold.valid
    assert not await latched(there, "k")
    with pytest.raises(ZeroDivisionError):
        async with await here.hold("k", 1):
            raise ZeroDivisionError
    assert not await latched(there, "k")


async def test_l1_what_is_held_cannot_be_ended(cluster: Cluster) -> None:
    """Fire, fail, pulse, reset and expire change nothing."""
    here, there = await cluster.map("here"), await cluster.map("there")
    async with here.hold("k", 1) as hold:
        calls = [there.fire("k", 2), there.fail("k", "no"), there.pulse("k", 3), there.reset("k"), there.expire("k", 1)]
        for applied in await gatherResults(calls):
            assert (applied.first, applied.record) == (False, hold.record)
        assert await there["k"] == 1


async def test_l1_behind_an_event(cluster: Cluster) -> None:
    """Who holds the key of a fired event takes over when that is reset."""
    here, there = await cluster.map("here"), await cluster.map("there")
    fired = await there.fire("k", 1)
    async with here.hold("k", 2) as hold:
        assert not hold.first
        assert hold.record == fired.record
        await there.reset("k")
        assert fired.record is not None
        record = await there.record("k")
        assert record is not None
        assert (record.value, record.latched_at) == (2, fired.record.revision)
    assert not await latched(there, "k")


async def test_l1_need(cluster: Cluster) -> None:
    """Latched while so many hold it."""
    here, there = await cluster.map("here"), await cluster.map("there")
    waiting = Seen(there["k"])
    first = await here.hold("k", 1, need=2)
    assert (first.record, first.valid) == (None, True)
    with pytest.raises(InvalidInput, match="need=2"):
        await there.hold("k", 2, need=3)
    assert waiting.count == 0
    second = await there.hold("k", 2, need=2)
    assert second.first
    await until(lambda: waiting.values == [1], "two hold it")
    await first.withdraw()
    assert not await latched(there, "k")
    assert second.valid
    await second.withdraw()


async def test_l2_dead_means_gone(cluster: Cluster) -> None:
    """L2: what a dead node held expires, once; what others hold with it passes."""
    dying, living, watcher = [await cluster.map(name, **QUICK) for name in ("dying", "living", "watcher")]
    await dying.hold("k", 1)
    await dying.hold("both", 1)
    await living.hold("both", 2)
    await living.hold("own", 3)
    gone = watcher.gone("k")
    await watcher.armed()
    _kill(cluster, dying)
    ended = await gone
    assert ended is not None
    assert (ended.kind, ended.node) == (Kind.EXPIRED, "dying")

    async def passed() -> bool:
        record = await watcher.record("both")
        return record is not None and record.node == "living"

    await eventually(passed, "it passes to who lives")
    assert await watcher["own"] == 3
    of_k = [record.kind.value for record in await _history(watcher) if record.key == "k"]
    assert of_k == ["fired", "expired"]
    assert [record.kind.value for record in await _history(watcher) if record.key == "own"] == ["fired"]


async def test_l3_alive_means_kept(cluster: Cluster) -> None:
    """L3: for many leases, over broken links, and without another line."""
    cluster.reconnect_quickly()
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    hold = await here.hold("k", 1)
    for _ in range(8):
        here._session.link.abandon("broken by a test")
        await turn(0.15)
    await cluster.of(here).connected(timeout=5)
    await until(lambda: hold.valid, "it is renewed")
    assert await _kinds(there) == [("fired", "here")]
    await hold.withdraw()


async def test_l3_the_first_hold_after_a_while_renews_the_lease(cluster: Cluster) -> None:
    """L3: the heartbeat renews it only while something is held, so it may be nearly over."""
    here = await cluster.map("here", heartbeat=0.1, lease=1.5, grace=1.0)
    clock = here._session.clock
    await (await here.hold("k")).withdraw()
    await turn(0.2)
    before = clock.seconds()
    async with here.hold("k") as hold:
        assert hold._holding.held.deadline >= before + 1.5


async def test_l3_no_hold_renews_a_fresh_lease(cluster: Cluster) -> None:
    """Who takes and gives back a lock, again and again, does not renew the lease each time: heartbeats are enough."""
    here = await cluster.map("here", heartbeat=60.0, lease=180.0, grace=120.0)
    async with here.lock("k") as lock:
        deadline = lock.deadline
    async with here.lock("k") as lock:
        assert lock.deadline == deadline


@pytest.mark.servers("redis", "valkey")
async def test_l3_a_stopped_server_ends_nothing(cluster: Cluster) -> None:
    """L3: though it was stopped for longer than a lease, and others ask first."""
    cluster.reconnect_quickly()
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    hold = await here.hold("k", 1)
    await cluster.server.hang()
    await turn(1.5)
    assert not hold.valid
    await cluster.server.resume()
    await until(lambda: hold.valid, "it is renewed")
    assert await _kinds(there) == [("fired", "here")]
    await hold.withdraw()


async def test_l4_not_valid_before_the_server_lets_go(cluster: Cluster) -> None:
    """L4: who is cut off knows it at T, the others at T + G; the event is held again afterwards."""
    cluster.reconnect_quickly()
    here, gate = await cluster.gated("here", **QUICK)
    there = await cluster.map("there", **QUICK)
    hold = await here.hold("k", 1)
    gone = Seen(there.gone("k"))
    await there.armed()
    gate.stall()
    await until(lambda: not hold.valid, "the lease time is over")
    assert gone.count == 0
    await until(lambda: gone.count == 1, "the lease ends")
    assert await _kinds(there) == [("fired", "here"), ("expired", "here")]
    gate.open()
    await until(lambda: hold.valid, "it is held again")
    assert await there["k"] == 1
    await hold.withdraw()
    assert [kind for kind, _ in await _kinds(there)] == ["fired", "expired", "fired", "withdrawn"]


async def test_lost_data_is_held_again(cluster: Cluster) -> None:
    """L1's limit: after a flush, until the holder notices."""
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    hold = await here.hold("k", 1)
    await cluster.server.flush()

    async def held() -> bool:
        return await latched(there, "k")

    await eventually(held, "it is held again")
    await until(lambda: hold.valid, "and valid")
    await hold.withdraw()
    assert not await latched(there, "k")


async def test_an_eviction_is_noticed(cluster: Cluster) -> None:
    """Within a heartbeat, by each holder of the key, and by no other; a later hold is a new one."""
    here, there = await cluster.map("here", heartbeat=0.2), await cluster.map("there", heartbeat=0.2)
    evicted = [await here.hold("k", 1), await there.hold("k", 2)]
    other = await here.hold("other", 3)
    lost = Seen(*(hold.lost() for hold in (*evicted, other)))
    gone = there.gone("k")
    await there.armed()
    assert (await there.reset("k", evict=True)).first
    ended = await gone
    assert ended is not None
    assert ended.kind is Kind.RESET
    await until(lambda: lost.count == 2, "both notice")
    assert all(isinstance(error, HoldLost) for error in lost.errors)
    assert [hold.valid for hold in (*evicted, other)] == [False, False, True]
    assert [await hold.withdraw() for hold in evicted] == [None, None]
    assert not await latched(here, "k")
    async with here.hold("k", 4):
        assert await there["k"] == 4
    await other.withdraw()
    await until(lambda: lost.count == 3, "the end of a hold of our own")
    assert isinstance(lost.errors[2], Closed)


async def test_close_withdraws(cluster: Cluster) -> None:
    """A node that is closed leaves at once; no lease has to end."""
    here, there = await cluster.map("here"), await cluster.map("there")
    hold = await here.hold("k", 1)
    gone = there.gone("k")
    await there.armed()
    await cluster.of(here).close()
    ended = await gone
    assert ended is not None
    assert ended.kind is Kind.WITHDRAWN
    assert not hold.valid
    with pytest.raises(Closed):
        await here.hold("k", 1)


async def test_close_can_leave_holds_to_their_lease(cluster: Cluster) -> None:
    """What a node of the same name holds again in time has no end; the rest expires."""
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    hold = await here.hold("kept", 1)
    await here.hold("left", 1)
    gone = there.gone("left")
    await there.armed()
    await cluster.of(here).close(withdraw=False)
    again = await cluster.map("here", **QUICK)
    async with again.hold("kept", 2) as taken:
        assert taken.first
        assert await there["kept"] == 2
        ended = await gone
        assert ended is not None
        assert (ended.kind, ended.node) == (Kind.EXPIRED, "here")
        record = await there.record("kept")
        assert record is not None
        assert hold.record is not None
        assert record.latched_at == hold.record.revision
    assert [record.kind.value for record in await _history(there) if record.key == "kept"] == [
        "fired",
        "fired",
        "withdrawn",
    ]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10])
async def test_a_cancelled_hold_is_withdrawn(cluster: Cluster, turns: int) -> None:
    """Before it was sent, while it is under way, and when it was just answered: nothing is held."""
    here = await cluster.map("here")
    async with here.hold("other"):
        holding = here.hold("k", 1)
        for _ in range(turns):
            await turn()
        seen = Seen(holding)
        holding.cancel()
        if seen.errors:
            assert isinstance(seen.errors[0], CancelledError)
        else:
            await seen.values[0].withdraw()
        await here.fire("barrier")
        assert not await latched(here, "k")
        assert cluster.of(here).statistics().holds == 1


async def test_without_a_server_it_is_not_held(cluster: Cluster) -> None:
    """`Unreachable`: nothing was sent. A hold that was made lasts through that."""
    here, gate = await cluster.gated("here")
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    with pytest.raises(Unreachable, match="not held"):
        await here.hold("k", 1, timeout=0.1)
    assert cluster.of(here).statistics().holds == 0
    gate.open()


async def test_a_refusal_says_why(cluster: Cluster) -> None:
    """In the words of the server, without those for who wrote the script."""
    here = await cluster.map("here")
    await cluster.server.set_out_of_memory(on=True)
    with pytest.raises(ServerRefused, match="OOM command not allowed when used memory > 'maxmemory'") as caught:
        await here.hold("k")
    assert "script" not in str(caught.value)
    await cluster.server.set_out_of_memory(on=False)


async def test_a_map_has_one_lease_time(cluster: Cluster) -> None:
    """Another is told which, at once."""
    here, there = await cluster.map("here", **QUICK), await cluster.map("there")
    async with here.hold("k", 1):
        with pytest.raises(InvalidTime, match=r"lease=0.4 and grace=0.3, this node has lease=20 and grace=10"):
            await there.hold("k", 1)
        assert cluster.of(there).statistics().holds == 0


async def test_a_close_answers_what_was_not_sent(cluster: Cluster) -> None:
    """`Closed`: at once, and no timer stays."""
    here = await cluster.map("here")
    holding = Seen(here.hold("k", 1))
    await cluster.of(here).close()
    assert [type(error) for error in holding.errors] == [Closed]


async def test_what_is_held_while_a_node_is_closed(cluster: Cluster) -> None:
    """It is refused, as it would be after the close: nothing is left to a lease."""
    here, there = await cluster.map("here"), await cluster.map("there")
    hold, late = await here.hold("k"), Seen()
    hold.lost().addErrback(lambda _: late.watch(here.hold("again")))
    closed = cluster.of(here).close()
    late.watch(here.hold("late"))
    await closed
    assert [type(error) for error in late.errors] == [Closed, Closed]
    assert [record.key for record in (await there.records()).records] == ["k"]


@pytest.mark.parametrize("withdraw", [True, False])
async def test_a_close_answers_what_was_sent(cluster: Cluster, withdraw: bool) -> None:
    """`Closed`, though the server does not answer; nothing is called once the node is closed."""
    here, gate = await cluster.gated("here", heartbeat=5.0)
    async with here.hold("other"):
        gate.stall()
        holdings = [Seen(here.hold("a")), Seen(here.hold("b"))]
        await turn(0.05)
        holdings.append(Seen(here.hold("c")))
        await cluster.of(here).close(withdraw=withdraw)
        assert [[type(error) for error in each.errors] for each in holdings] == [[Closed]] * 3
        assert cluster.of(here).statistics().pending_calls == 0


async def test_what_is_lost_may_withdraw_the_rest(cluster: Cluster) -> None:
    """A callback of one hold ends the others: at an eviction, and at a close."""
    here, there = await cluster.map("here", heartbeat=0.2), await cluster.map("there", heartbeat=0.2)
    for error in (HoldLost, Closed):
        holds = await gatherResults([here.hold(key) for key in "abc"])
        withdrawn = Seen()

        def end(failure: Failure, holds: list[Hold] = holds, withdrawn: Seen = withdrawn) -> None:
            failure.trap(HoldLost, Closed)
            for hold in holds:
                withdrawn.watch(hold.withdraw())

        for hold in holds:
            hold.lost().addErrback(end)
        if error is HoldLost:
            await gatherResults([there.reset(key, evict=True) for key in "abc"])
        else:
            await cluster.of(here).close(withdraw=False)
        await until(lambda seen=withdrawn: seen.count == 9, "all are over")  # type: ignore[misc]
        assert cluster.of(here).statistics().holds == 0
        assert not any(hold.valid for hold in holds)


async def test_a_later_lease_does_not_keep_what_was_withdrawn(cluster: Cluster) -> None:
    """It was withdrawn without a link, for longer than the lease, and then refused: it is made up for."""
    times = {"heartbeat": 0.1, "lease": 0.4, "grace": 30.0}
    here, gate = await cluster.gated("here", **times)
    there = await cluster.map("there", **times)
    hold = await here.hold("k")
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    withdrawn = Seen(hold.withdraw())
    await turn(0.5)
    await cluster.server.set_out_of_memory(on=True)
    gate.open()
    await until(lambda: withdrawn.count == 1, "it is refused")
    assert isinstance(withdrawn.errors[0], ServerRefused)
    await cluster.server.set_out_of_memory(on=False)
    async with here.hold("other"):

        async def over() -> bool:
            return not await latched(there, "k")

        await eventually(over, "it is withdrawn")


@pytest.mark.servers("memory")
async def test_an_old_lease_has_nobody_evicted(cluster: Cluster) -> None:
    """Who the holders of a lease are is asked, and answered only when the node holds everything under the next one."""
    here = await cluster.map("here")
    hold = await here.hold("k")
    holds, held = here._session.holds, hold._holding.held
    answer: Deferred[list[bytes]] = Deferred()
    holds._commands.held_under = lambda *_: answer  # type: ignore[method-assign]
    lost = Seen(hold.lost())
    holds._find_evicted(held)
    holds._next_lease(held, recovers=True)
    answer.callback([])
    holds._reconcile(held)
    await until(lambda: hold.valid, "it is held again")
    assert lost.count == 0
    await hold.withdraw()


@pytest.mark.servers("memory")
async def test_a_hold_is_sent_once_under_a_lease(cluster: Cluster) -> None:
    """Also if the answer to an earlier call comes late: another call would undo an eviction in between."""
    here = await cluster.map("here")
    holding = (await here.hold("k"))._holding
    holds, held = here._session.holds, holding.held
    sent: list[Call] = []
    holds._call = lambda _, call: sent.append(call)
    for _ in range(2):
        holds._next_lease(held, recovers=True)
        held.checked = True
        holds._reconcile(held)
    early, late = sent
    early.result.callback(None)
    # It is not there under the present lease, and so it is not evicted from there.
    assert (sent, held.there) == ([early, late], set())
    late.result.callback(None)
    assert (sent, holding.lease, held.there) == ([early, late], held.lease, {holding.number})


async def test_the_order_is_that_of_the_calls(cluster: Cluster) -> None:
    """Also of those of one turn."""
    here = await cluster.map("here")
    await gatherResults([here.hold("k", number) for number in range(12)])
    _, holders = await here.holders("k")
    assert [holder.value for holder in holders] == list(range(12))
    assert len({holder.time for holder in holders}) == 12


async def test_bad_input_raises_at_once(cluster: Cluster) -> None:
    """Nothing is sent."""
    here = await cluster.map("here")
    bad: list[tuple[type[Exception], Any]] = [
        (InvalidKey, lambda: here.hold("")),
        (InvalidKey, lambda: here.hold("a\nb")),
        (InvalidValue, lambda: here.hold("k", object())),
        (InvalidInput, lambda: here.hold("k", need=0)),
        (InvalidInput, lambda: here.hold("k", need=True)),
        (InvalidInput, lambda: here.hold("k", need=1.5)),  # type: ignore[arg-type]
        (InvalidInput, lambda: here.reset("k", "1.1", evict=True)),
        (InvalidTime, lambda: here.hold("k", timeout=-1)),
        (InvalidTime, lambda: here.hold("k", timeout=1e9)),
        (InvalidTime, lambda: cluster.node(lease=1.0, heartbeat=0.5)),
        (InvalidTime, lambda: cluster.node(grace=0.9, heartbeat=0.5)),
        (InvalidTime, lambda: cluster.node(lease=1e6)),
        (InvalidTime, lambda: cluster.node(lease="20")),
        (InvalidTime, lambda: cluster.node(lease=False)),
    ]
    async with here.hold("held") as hold:
        bad += [(InvalidTime, lambda time=time: hold.withdraw(time)) for time in (-1, 1e9, float("nan"), "2")]
        for error, call in bad:
            with pytest.raises(error):
                call()
        assert hold.valid
    assert await here.record("k") is None
    assert not await latched(here, "held")
