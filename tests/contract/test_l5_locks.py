"""L5 to L9: a lock has one owner at a time, in the order of the requests, each with a higher token."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from coord import (
    Closed,
    EventMap,
    HoldLost,
    InvalidInput,
    InvalidKey,
    InvalidTime,
    InvalidValue,
    Kind,
    LinkState,
    Lock,
    TimedOut,
    Unreachable,
    WrongKind,
)
from support.cluster import Cluster, Seen, latched
from support.waiting import eventually, turn, until

QUICK = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
"""Times of a map whose dead are soon gone."""


async def _owner(events: EventMap, key: str = "k") -> str | None:
    record = await events.record(key)
    return record.node if record is not None and record.latched else None


async def _resolved(seen: Seen) -> None:
    await until(lambda: seen.count == 1)


def _kill(cluster: Cluster, events: EventMap) -> None:
    """End a node as kill -9 would: nothing is released."""
    cluster.may_leave_waiters()
    for session in cluster.of(events)._sessions.every:
        session.holds._maps.clear()
        session.link.abandon("killed")


async def _begin_recovery(cluster: Cluster, events: EventMap, *lost: bytes, lease: bytes = b"") -> None:
    """Begin a recovery, as after a failover that lost these records and this lease, though the link stays."""
    # In one step: without its record, a lock would be granted anew if anybody asked in between.
    script = """
        redis.call('ZREM', KEYS[2], '\\0lease:' .. ARGV[1])
        for i = 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
        local clock = redis.call('HGET', KEYS[1], '\\0clock')
        redis.call('HSET', KEYS[1], '\\0clock', (string.gsub(clock, '%w+ %w+$', 'otherprocess otherdata')))
    """
    await cluster.server.command("EVAL", script, 2, events._map.names.records, events._map.names.due, lease, *lost)


async def test_l5_one_at_a_time(cluster: Cluster) -> None:
    """L5, L8, L9: in the order of the requests, also of one node; the tokens rise; the value is the owner's."""
    here, there = await cluster.map("here"), await cluster.map("there")
    locks: list[Lock] = []
    first = await here.lock("k", 1)
    asked = []
    for number, events in ((2, there), (3, here), (4, there)):
        asked.append(Seen(events.lock("k", number)))
        await events.fire("another key")
    assert await there["k"] == 1
    locks.append(first)
    for number, seen in enumerate(asked, 2):
        assert [seen.count for seen in asked[number - 2 :]] == [0] * (5 - number)
        owner = locks[-1]
        assert owner.valid
        await owner.release()
        await _resolved(seen)
        locks += seen.values
        assert (locks[-1].valid, await here["k"]) == (True, number)
    assert [lock.valid for lock in locks] == [False, False, False, True]
    tokens = [lock.token for lock in locks]
    assert tokens == sorted(set(tokens))
    assert {len(token) for token in tokens} == {33}
    record = await here.record("k")
    assert record is not None
    assert (record.token, record.held) == (locks[-1].token, True)
    await locks[-1].release()
    assert await locks[-1].release() is None
    record = await here.record("k")
    assert record is not None
    assert (record.kind, record.token) == (Kind.WITHDRAWN, None)


async def test_l5_a_block(cluster: Cluster) -> None:
    """It is released at the end of the block, whatever ends that."""
    here, there = await cluster.map("here"), await cluster.map("there")
    async with here.lock("k") as lock:
        assert lock.valid
        lock.check()
        waiting = Seen(there.lock("k"))
    with pytest.raises(HoldLost):
        lock.check()
    await until(lambda: waiting.count == 1)
    with pytest.raises(ZeroDivisionError):
        async with waiting.values[0]:
            raise ZeroDivisionError
    assert not await latched(there, "k")


async def test_the_time_to_wait(cluster: Cluster) -> None:
    """Without time it tries once; who gives up leaves the queue."""
    here, there = await cluster.map("here"), await cluster.map("there")
    async with await there.lock("k", timeout=0):
        for timeout in (0, 0.05):
            with pytest.raises(TimedOut, match="there has it"):
                await here.lock("k", timeout=timeout)
        assert (await here.holders("k"))[0] == 1
    async with here.lock("k", timeout=0) as lock:
        assert lock.valid
    assert cluster.of(here).statistics().holds == 0


async def test_whom_it_waited_for(cluster: Cluster) -> None:
    """`TimedOut` names who has the lock in the end."""
    first, then, here = [await cluster.map(name) for name in ("first", "then", "here")]
    lock = await first.lock("k")
    next_one = Seen(then.lock("k"))
    await then.fire("another key")
    given_up = here.lock("k", timeout=0.3)
    await here.fire("another key")
    await lock.release()
    with pytest.raises(TimedOut, match="then has it"):
        await given_up
    await next_one.values[0].release()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10])
async def test_who_gives_up_is_skipped(cluster: Cluster, turns: int) -> None:
    """Before the request was sent, while it is under way, and when it has just been granted."""
    here, there = await cluster.map("here"), await cluster.map("there")
    for owner in (here, there):
        async with owner.lock("k"):
            given_up = here.lock("k")
            for _ in range(turns):
                await turn()
            next_one = Seen(there.lock("k"))
            seen = Seen(given_up)
            given_up.cancel()
            assert isinstance(seen.errors[0], CancelledError)
        await _resolved(next_one)
        await next_one.values[0].release()
    assert not await latched(here, "k")
    assert (await here.holders("k"))[0] == 0


async def test_l2_who_died_is_skipped(cluster: Cluster) -> None:
    """L2, L9: an owner that died loses it to the first in the queue that lives."""
    dying, also, living = [await cluster.map(name, **QUICK) for name in ("dying", "also", "living")]
    await dying.lock("k", 1)
    also.lock("k", 2)
    await also.fire("another key")
    waiting = Seen(living.lock("k", 3))
    _kill(cluster, also)
    _kill(cluster, dying)
    await until(lambda: waiting.count == 1, "it passes to who lives")
    assert waiting.values[0].valid
    assert await living["k"] == 3
    await waiting.values[0].release()


async def test_l5_who_is_cut_off_knows_first(cluster: Cluster) -> None:
    """L4, L5: at T its lock is lost, and never comes back; at T + G another one has it, and never both."""
    cluster.reconnect_quickly()
    here, gate = await cluster.gated("here", **QUICK)
    there = await cluster.map("there", **QUICK)
    lock = await here.lock("k", 1)
    lost = Seen(lock.lost())
    waiting = Seen(there.lock("k", 2))
    await there.fire("another key")
    gate.stall()
    await until(lambda: not lock.valid or waiting.count == 1)
    assert not lock.valid
    await until(lambda: lost.count == 1)
    assert isinstance(lost.errors[0], HoldLost)
    assert waiting.count == 0
    await until(lambda: waiting.count == 1, "the other has it")
    assert waiting.values[0].valid
    gate.open()
    await cluster.of(here).connected(timeout=5)
    await here.fire("yet another key")
    assert not lock.valid
    assert await lock.release() is None
    assert await _owner(here) == "there"
    await waiting.values[0].release()


async def test_a_loss_ends_the_block(cluster: Cluster) -> None:
    """`HoldLost`, though the block ended well; an error of its own matters more. `run` cancels what it runs."""
    cluster.reconnect_quickly()
    here, gate = await cluster.gated("here", **QUICK)

    async def lose(lock: Lock) -> None:
        gate.stall()
        await until(lambda: not lock.valid)
        gate.open()

    with pytest.raises(HoldLost, match="before the block ended"):
        async with here.lock("a") as lock:
            await lose(lock)

    async def fail_after(lock: Lock) -> None:
        await lose(lock)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with here.lock("b") as lock:
            await fail_after(lock)
    cancelled: list[bool] = []

    def work(lock: Lock, word: str) -> Deferred[Any]:
        assert (lock.valid, word) == (True, "word")
        gate.stall()
        return Deferred(lambda _: cancelled.append(True))

    with pytest.raises(HoldLost):
        await here.lock("c").run(work, "word")
    assert cancelled == [True]
    gate.open()
    await cluster.of(here).connected(timeout=5)
    await here.fire("another key")


async def test_a_run(cluster: Cluster) -> None:
    """It gives the result of a function, coroutine or Deferred, and releases the lock."""
    here = await cluster.map("here")

    async def slow(lock: Lock, /) -> int:
        await here.fire("another key")
        assert lock.valid
        return 2

    assert await here.lock("k").run(lambda lock: lock.key) == "k"
    assert await here.lock("k").run(slow) == 2
    with pytest.raises(ZeroDivisionError):
        await here.lock("k").run(lambda lock: 1 / 0)
    assert not await latched(here, "k")


async def test_l6_the_owner_goes_on_over_a_restart(cluster: Cluster) -> None:
    """L6: with its token; nobody is granted anything for T + G, and then who has waited."""
    cluster.reconnect_quickly()
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    lock = await here.lock("k", 1)
    waiting = Seen(there.lock("k", 2))
    await there.fire("another key")
    await cluster.server.kill()
    await cluster.server.start()
    await gatherResults([cluster.of(events).connected(timeout=5) for events in (here, there)])
    free = Seen(there.lock("free", timeout=5))
    with pytest.raises(TimedOut, match="grants nothing yet"):
        await here.lock("other", timeout=0)
    if not lock.valid:
        pytest.skip("the restart took longer than the lease")
    record = await there.record("k")
    assert record is not None
    assert (record.node, record.token) == ("here", lock.token)
    await until(lambda: free.count == 1, "the recovery is over")
    await free.values[0].release()
    assert (lock.valid, waiting.count) == (True, 0)
    await lock.release()
    await until(lambda: waiting.count == 1, "the next has it")
    assert waiting.values[0].token > lock.token
    await waiting.values[0].release()


async def test_l6_a_grant_that_was_lost(cluster: Cluster) -> None:
    """L6, L8: after a flush the owner owns it again, with its token: nobody else can have been granted it."""
    here = await cluster.map("here", heartbeat=0.1, lease=0.8, grace=0.3)
    there = await cluster.map("there", heartbeat=0.1, lease=0.8, grace=0.3)
    lock = await here.lock("k", 1)
    waiting = Seen(there.lock("k", 2))
    await there.fire("another key")
    lost = Seen(lock.lost())
    await _begin_recovery(cluster, here, b"k")

    async def again() -> bool:
        return await _owner(there) == "here"

    await eventually(again, "it is owned again")
    record = await there.record("k")
    assert record is not None
    assert record.token == lock.token
    assert record.revision > lock.record.revision
    assert (lock.valid, lost.count, waiting.count) == (True, 0, 0)
    await lock.release()
    await until(lambda: waiting.count == 1, "the recovery is over")
    await waiting.values[0].release()


async def test_l6_a_lease_that_was_lost(cluster: Cluster) -> None:
    """L6: its owner goes on, though it hears first that the server has no such lease: a recovery may be why."""
    here = await cluster.map("here", heartbeat=2.0, lease=6.0, grace=4.0)
    lock = await here.lock("k")
    lost = Seen(lock.lost())
    (held,) = here._session.holds._maps.values()
    await _begin_recovery(cluster, here, b"k", lease=here._session.holds._name(held.lease))
    hold = await here.hold("event")
    assert (await _owner(here), lock.valid, lost.count) == ("here", True, 0)
    record = await here.record("k")
    assert record is not None
    assert record.token == lock.token
    await hold.withdraw()
    await lock.release()


@pytest.mark.servers("memory")
async def test_l5_what_is_not_valid_stays_so(cluster: Cluster) -> None:
    """L5: also if the answer that confirms it in a recovery is read before the timer of its deadline runs."""
    here = await cluster.map("here", heartbeat=0.1, lease=0.4, grace=0.3)
    lock = await here.lock("k", 1)
    holds = here._session.holds
    seen: list[bool] = []

    def held(outcome: Any, *context: Any) -> None:
        while lock.valid:
            time.sleep(0.001)
        answered(outcome, *context)
        seen.append(lock.valid)

    answered = holds._held
    holds._held = held  # type: ignore[method-assign,assignment]
    await _begin_recovery(cluster, here)
    lost = Seen(lock.lost())
    await _resolved(lost)
    assert isinstance(lost.errors[0], HoldLost)
    assert seen == [False]
    await lock.release()


@pytest.mark.servers("memory")
async def test_l5_a_late_answer_revives_no_lock(cluster: Cluster) -> None:
    """L5: a renewal that is read after the deadline, but before the deadline's timer runs, loses the lock."""
    here = await cluster.map("here", heartbeat=0.1, lease=0.4, grace=0.3)
    lock = await here.lock("k", 1)
    holds = here._session.holds
    seen: list[bool] = []

    def renewed(*answer: Any) -> None:
        # What a process that is stopped meanwhile does next: it reads.
        while lock.valid:
            time.sleep(0.001)
        old(*answer)
        seen.append(lock.valid)

    old = holds._renewed
    holds._renewed = renewed  # type: ignore[method-assign,assignment]
    lost = Seen(lock.lost())
    await _resolved(lost)
    assert isinstance(lost.errors[0], HoldLost)
    assert seen == [False]
    await lock.release()


async def test_l5_an_eviction_asks_the_owner(cluster: Cluster) -> None:
    """L5: its node notices within a heartbeat; the next has it when it is released, or after the grace time."""
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    for releases in (True, False):
        lock = await here.lock("k", 1)
        lost = Seen(lock.lost())
        waiting = Seen(there.lock("k", 2))
        evicted = await there.reset("k", evict=True)
        assert (evicted.first, evicted.record) == (False, await here.record("k"))
        await _resolved(lost)
        assert isinstance(lost.errors[0], HoldLost)
        assert not lock.valid
        assert waiting.count == 0
        assert await _owner(there) == "here"
        if releases:
            await lock.release()
        await _resolved(waiting)
        await waiting.values[0].release()


async def test_l5_a_child_owns_nothing(cluster: Cluster) -> None:
    """L5: of the two copies of a `Lock` that there are after a fork, the parent's is valid."""
    here = await cluster.map("here")
    async with here.lock("k") as lock:
        child = os.fork()
        if not child:
            os._exit(lock.valid)
        assert os.waitpid(child, 0)[1] == 0
        assert lock.valid


async def test_an_eviction_repairs_a_lock(cluster: Cluster) -> None:
    """Another program has removed its owner: then nobody else would ever be granted it."""
    here, there = await cluster.map("here"), await cluster.map("there")
    lock = await here.lock("k")
    waiting = Seen(there.lock("k"))
    await there.fire("another key")
    await cluster.server.command("HDEL", here._map.names.records, b"\0holder:" + lock._holding.name)
    await lock.release()
    assert await _owner(there) == "here"
    assert (await there.reset("k", evict=True)).first
    await _resolved(waiting)
    await waiting.values[0].release()


async def test_l5_an_eviction_at_a_busy_node(cluster: Cluster) -> None:
    """L5: it notices though it asks for other locks, and releases them, all the time."""
    here, there = await cluster.map("here", **QUICK), await cluster.map("there", **QUICK)
    lock = await here.lock("k")
    lost = Seen(lock.lost())

    async def work(key: str) -> None:
        while not lost.count:
            async with here.lock(key):
                pass

    working = Seen(*[Deferred.fromCoroutine(work(key)) for key in "abc"])
    await there.reset("k", evict=True)
    await until(lambda: working.count == 3)
    assert isinstance(lost.errors[0], HoldLost)
    assert not working.errors
    await lock.release()


async def test_an_eviction_of_a_queue(cluster: Cluster) -> None:
    """In a recovery nobody may own a lock that some wait for: who is evicted queues again."""
    (here, gate), there = await cluster.gated("here", **QUICK), await cluster.map("there", **QUICK)
    await (await here.lock("other")).release()
    await _begin_recovery(cluster, here)
    waiting = Seen(here.lock("k"))
    await turn(0.15)
    assert (await there.holders("k"))[0] == 1
    gate.stall()
    await there.reset("k", evict=True)
    assert (waiting.count, (await there.holders("k"))[0]) == (0, 0)
    gate.resume()
    await _resolved(waiting)
    await waiting.values[0].release()


async def test_a_key_is_of_one_kind(cluster: Cluster) -> None:
    """`WrongKind`: an event or a counter is no lock, and a lock neither."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await here.fire("fired")
    await here.count("counted")
    async with here.hold("held"):
        for key in ("fired", "counted", "held"):
            with pytest.raises(WrongKind):
                await there.lock(key)
    async with here.lock("k", 1) as lock:
        calls = (there.fire, there.pulse, there.hold, there.count)
        for call in calls:
            with pytest.raises(WrongKind):
                await call("k")
        with pytest.raises(WrongKind):
            await there.fail("k", "no")
        assert not (await there.reset("k")).first
        assert lock.valid
        assert await there["k"] == 1


async def test_bad_input(cluster: Cluster) -> None:
    """It raises at once; nothing is sent."""
    here = await cluster.map("here")
    with pytest.raises(InvalidKey):
        here.lock("")
    with pytest.raises(InvalidValue):
        here.lock("k", {1, 2})
    for timeout in (-1, float("nan"), "1"):
        with pytest.raises(InvalidTime):
            here.lock("k", timeout=timeout)  # type: ignore[arg-type]
    for slots in (0, -1, 1.5, True, 1_001):
        with pytest.raises(InvalidInput):
            here.semaphore("k", slots)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey):
        here.semaphore("k" * 511, 2)
    lock = await here.lock("k")
    with pytest.raises(InvalidTime):
        lock.release(-1)
    assert lock.valid
    await lock.release()


async def test_an_election(cluster: Cluster) -> None:
    """Everybody learns who leads; when that leaves, who stood next does."""
    here, there = await cluster.map("here"), await cluster.map("there")
    leading = await here.elect("leader", {"at": "here"})
    next_one = Seen(there.elect("leader", {"at": "there"}))
    assert await there["leader"] == {"at": "here"}
    await there.fire("another key")
    await leading.release()
    await until(lambda: next_one.count == 1)
    assert await here["leader"] == {"at": "there"}
    await next_one.values[0].release()


async def test_a_semaphore(cluster: Cluster) -> None:
    """As many own a slot as there are; another one comes when one of them leaves."""
    here, there = await cluster.map("here"), await cluster.map("there")
    owned = [await events.semaphore("gpu", 3) for events in (here, there, here)]
    assert sorted(lock.key for lock in owned) == ["gpu/0", "gpu/1", "gpu/2"]
    with pytest.raises(TimedOut):
        await there.semaphore("gpu", 3, timeout=0)
    with pytest.raises(TimedOut):
        await there.semaphore("gpu", 3, timeout=0.05)
    waiting = Seen(there.semaphore("gpu", 3))
    given_up = here.semaphore("gpu", 3)
    await turn(0.05)
    seen = Seen(given_up)
    given_up.cancel()
    assert isinstance(seen.errors[0], CancelledError)
    assert waiting.count == 0
    await owned.pop(1).release()
    await until(lambda: waiting.count == 1)
    owned += waiting.values
    assert len({lock.key for lock in owned}) == 3
    await gatherResults([lock.release() for lock in owned])
    await cluster.of(there).close()
    async with here.semaphore("gpu", 1):
        pass
    assert cluster.of(here).statistics().holds == 0


async def test_a_close_releases(cluster: Cluster) -> None:
    """At once; who waits at a node that is closed gets `Closed`."""
    here, there = await cluster.map("here"), await cluster.map("there")
    lock = await here.lock("k")
    lost = Seen(lock.lost())
    behind = Seen(here.lock("k"))
    waiting = Seen(there.lock("k"))
    await there.fire("another key")
    await cluster.of(here).close()
    assert [type(seen.errors[0]) for seen in (lost, behind)] == [Closed, Closed]
    assert not lock.valid
    await until(lambda: waiting.count == 1)
    with pytest.raises(Closed):
        await here.lock("k")
    await waiting.values[0].release()


async def test_a_close_takes_along_who_gave_up(cluster: Cluster) -> None:
    """A request that was cancelled, or was over, just before the close does not stay in the queue."""
    here, there = await cluster.map("here"), await cluster.map("there")
    async with there.lock("k"):
        cancelled = here.lock("k")
        with pytest.raises(TimedOut):
            await here.lock("k", timeout=0.05)
        cancelled.cancel()
        with pytest.raises(CancelledError):
            await cancelled
        await cluster.of(here).close()
        assert (await there.holders("k"))[0] == 1


async def test_without_a_server(cluster: Cluster) -> None:
    """`Unreachable`: nothing was sent."""
    here, gate = await cluster.gated("here")
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    for asked in (here.lock("k", timeout=0.1), here.semaphore("k", 2, timeout=0.1)):
        asked.addTimeout(2, here._session.clock)
        with pytest.raises(Unreachable):
            await asked
    assert cluster.of(here).statistics().holds == 0
    gate.open()


async def test_renewals_are_told(cluster: Cluster) -> None:
    """Each moves the deadline; a callback that raises is logged, and disturbs nobody."""
    here = await cluster.map("here", **QUICK)
    async with here.lock("raises") as raises, here.lock("k") as lock:
        raises.on_renewed(lambda _: 1 / 0)
        deadlines = [lock.deadline]
        lock.on_renewed(deadlines.append)
        await until(lambda: len(deadlines) > 3)
        assert deadlines == sorted(set(deadlines))
        assert lock.deadline == deadlines[-1]
    # Under asyncio its loop logs it.
    cluster.logged(ZeroDivisionError)
