"""coord.aio: on the loop that runs, whichever it is; futures, blocks, contexts and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

import coord.aio
from coord import (
    Acks,
    CaughtUp,
    Closed,
    EventFailed,
    HoldLost,
    InvalidKey,
    Kind,
    LinkState,
    TimedOut,
    Unacknowledged,
)
from doors.left import nothing_left
from doors.servers import Server

Where = dict[str, Any]
_SECONDS = 20


def run(body: Callable[[], Awaitable[None]], loop_factory: Any = None) -> None:
    """Run it on a loop of its own; nothing may be left, and nothing may be logged by asyncio."""

    async def main() -> None:
        loop, said = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: said.append(context))
        async with asyncio.timeout(_SECONDS):
            await body()
        gc.collect()
        await asyncio.sleep(0)
        assert said == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with nothing_left(), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@asynccontextmanager
async def two(where: Where) -> AsyncIterator[tuple[coord.aio.EventMap, coord.aio.EventMap]]:
    """Give the map "m" of two nodes whose links are up."""
    async with coord.aio.connect(**where, node="a") as a, coord.aio.connect(**where, node="b") as b:
        await asyncio.gather(a.connected(), b.connected())
        yield a.events("m"), b.events("m")


async def until(condition: Callable[[], object]) -> None:
    """Return once it is so."""
    while not condition():
        await asyncio.sleep(0.005)


async def _the_example(where: Where) -> None:
    async with coord.aio.connect(**where) as c:
        on_mount = c.events("mount")
        waiting = on_mount["abc"]
        assert isinstance(waiting, asyncio.Future)
        assert (await on_mount.fire("abc", 7)).first
        assert await waiting == 7
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await on_mount.wait_all(["abc", "other"])
        with pytest.raises(TimedOut):
            await on_mount.wait("other", timeout=0.02)
        assert c.statistics().waiters == 0
        async with on_mount.hold("held", 1) as hold:
            assert hold.valid
            assert hold.first
        async with on_mount.watch(since="start") as changes:
            kinds = [change.kind async for change in _to_the_present(changes)]
        assert kinds == [Kind.FIRED, Kind.FIRED, Kind.WITHDRAWN]
        assert [len(page.records) async for page in on_mount.pages()] == [2]


def test_acknowledgements(where: Where) -> None:
    """L13: a cancelled wait for them leaves nothing, and a deadline says who is missing."""

    async def body() -> None:
        async with two(where) as (a, b):
            record = (await a.fire("k")).record
            assert record is not None
            await b.ack(record)
            assert await a.acked(record, ["b"]) == Acks(("b",), (), ())
            with pytest.raises(Unacknowledged) as raised:
                await a.acked(record, 2, timeout=0.5)
            assert raised.value.names == ("b",)
            waiting = a.acked(record, ["a"])
            await asyncio.sleep(0.02)
            waiting.cancel()

    run(body)


async def _to_the_present(changes: coord.aio.Watch) -> AsyncIterator[coord.Record]:
    async for change in changes:
        if isinstance(change, CaughtUp):
            return
        yield change


def test_several_loops_one_after_the_other(where: Where) -> None:
    """asyncio.run may be called any number of times."""
    for number in range(3):
        run(partial(_the_example, {**where, "namespace": f"{where['namespace']}{number}"}))


def test_uvloop(where: Where) -> None:
    """The same on uvloop's loop."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # Its first loop opens descriptors for the whole process.
        runner.run(asyncio.sleep(0))
    run(lambda: _the_example(where), uvloop.new_event_loop)


def test_loops_in_threads(where: Where) -> None:
    """Each thread has a loop, and a coordinator."""
    failed: list[BaseException] = []

    def body(number: int) -> None:
        try:
            asyncio.run(_the_example({**where, "namespace": f"{where['namespace']}{number}"}))
        except BaseException as error:  # noqa: BLE001 - it is the main thread that fails
            failed.append(error)

    with nothing_left():
        threads = [threading.Thread(target=body, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_SECONDS)
    assert failed == []


def test_no_reactor_is_installed(where: Where) -> None:
    """Whoever wants Twisted's may still choose one, and so may who uses txredisapi beside coord."""
    script = """
import asyncio, sys, coord.aio

async def main():
    async with coord.aio.connect(sys.argv[1], namespace=sys.argv[2]) as c:
        await c.connected()

asyncio.run(main())
assert "twisted.internet.reactor" not in sys.modules
import txredisapi
from twisted.internet import selectreactor
selectreactor.install()
from twisted.internet import reactor, defer
from twisted.internet.task import react

async def other(reactor):
    redis = await txredisapi.UnixConnection(sys.argv[1].removeprefix("unix://"))
    assert txredisapi.reactor.running and txredisapi.reactor.callLater
    assert await redis.ping() == "PONG"
    await redis.disconnect()

react(lambda reactor: defer.ensureDeferred(other(reactor)))
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, where["address"], where["namespace"]],
        check=True,
        timeout=_SECONDS,
    )


def test_beside_an_installed_reactor_on_the_same_loop(where: Where) -> None:
    """A program that has Twisted's reactor for asyncio uses both doors."""
    script = """
import asyncio, sys
from twisted.internet import asyncioreactor
loop = asyncio.new_event_loop()
asyncioreactor.install(loop)
from twisted.internet import reactor
import coord, coord.aio

async def main():
    reactor.startRunning()
    node = coord.connect(sys.argv[1], namespace=sys.argv[2], node="twisted")
    async with coord.aio.connect(sys.argv[1], namespace=sys.argv[2], node="aio") as c:
        waiting = c.events("m")["k"]
        await c.events("m").armed()
        await node.events("m").fire("k", 3).asFuture(loop)
        assert await waiting == 3
    await node.events("m").fire("l").asFuture(loop)
    await node.close().asFuture(loop)

loop.run_until_complete(main())
"""
    subprocess.run([sys.executable, "-c", script, where["address"], where["namespace"]], check=True, timeout=_SECONDS)


def test_a_name_of_a_host_leaves_no_thread(where: Where) -> None:
    """Names are looked up in threads, which end."""

    async def body() -> None:
        async with coord.aio.connect("redis://localhost:1", timeout=0.2) as c:
            await until(lambda: c.reason)
            assert c.link is LinkState.CONNECTING

    run(body)


def test_what_is_asked_in_one_go_travels_together(where: Where) -> None:
    """Calls and waits are on their way when they are made, in their order, awaited or not (F1)."""

    async def body() -> None:
        async with two(where) as (a, b):
            waits = [b[f"k{number}"] for number in range(100)]
            await b.armed()
            fires = [a.fire(f"k{number}", number) for number in range(100)]
            assert [await wait for wait in waits] == list(range(100))
            revisions = [applied.record.revision for applied in await asyncio.gather(*fires) if applied.record]
            assert revisions == sorted(set(revisions))
            assert b["k1"].done(), "the live cache answers at once"

    run(body)


def test_cancelling_takes_a_wait_back(where: Where) -> None:
    """At once, by the future, by its task, and by gather."""

    async def body() -> None:
        async with coord.aio.connect(**where) as c:
            m = c.events("m")
            future = m["k"]
            assert future.cancel()
            assert c.statistics().waiters == 0
            task = asyncio.create_task(_wait(m))
            both = asyncio.gather(m["x"], m.wait_all(["y", "z"]))
            await asyncio.sleep(0)
            assert c.statistics().waiters == 4
            task.cancel()
            both.cancel()
            for cancelled in (task, both):
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            assert c.statistics().waiters == 0

    run(body)


async def _wait(events: coord.aio.EventMap) -> None:
    await events["k"]


def test_errors_are_the_same(where: Where) -> None:
    """A failed event, bad input at once, and `Closed` for what waits, of which nothing is logged."""

    async def body() -> None:
        async with two(where) as (a, b):
            failing = b["k"]
            await a.fail("k", "no")
            with pytest.raises(EventFailed, match="k failed: no"):
                await failing
            with pytest.raises(InvalidKey):
                a.fire("")
            with pytest.raises(TypeError, match="records"):
                len(a)
            with pytest.raises(TypeError, match=r"fire.*reset"):
                a["k"] = 1
            a["never"]
            waiting = a["neither"]
        with pytest.raises(Closed):
            await waiting
        with pytest.raises(Closed):
            await a["k"]

    run(body)


def test_on_no_loop_and_on_another(where: Where) -> None:
    """The error says what to do."""
    with pytest.raises(RuntimeError, match="lifespan"):
        coord.aio.connect(**where)
    with pytest.raises(coord.InvalidURL):
        asyncio.run(_connect("http://x"))
    loop = asyncio.new_event_loop()
    node = loop.run_until_complete(_connect(**where))
    events = loop.run_until_complete(_events(node))

    async def elsewhere() -> None:
        uses: list[Callable[[], object]] = [
            lambda: events["k"],
            lambda: events.fire("k"),
            lambda: events.watch(),
            node.close,
            node.statistics,
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="made on another loop"):
                use()

    asyncio.run(elsewhere())
    with pytest.raises(RuntimeError, match="made on another loop"):
        events["k"]
    loop.run_until_complete(_close(node))
    loop.close()


async def _connect(address: str, **options: Any) -> coord.aio.Coordinator:
    return coord.aio.connect(address, **options)


async def _events(node: coord.aio.Coordinator) -> coord.aio.EventMap:
    return node.events("m")


async def _close(node: coord.aio.Coordinator) -> None:
    await node.close()


def test_contexts(server: Server, where: Where) -> None:
    """A connection has no request's context; a callback has the one in which it was registered."""
    request: ContextVar[str] = ContextVar("request", default="none")

    async def body() -> None:
        request.set("of the connection")
        seen: list[tuple[str, str]] = []
        async with coord.aio.connect(**where) as c:
            twisted: Any = c._node
            twisted.on_link(lambda state, _: seen.append((f"ours {state}", request.get())))
            request.set("of the callback")
            c.on_link(lambda state, _: seen.append((f"theirs {state}", request.get())))
            request.set("later")
            await c.connected()
            c.events("m")["k"].add_done_callback(lambda _: seen.append(("waiter", request.get())))
            await c.events("m").fire("k")
            server.kill()
            await until(lambda: c.link is LinkState.SUSPENDED)
            server.start()
            await c.connected()
            await asyncio.sleep(0)
        states = ("connected", "suspended", "connected", "closed")
        assert [told for what, told in seen if what.startswith("ours")][:3] == ["none"] * 3
        assert [what for what, told in seen if told == "of the callback"] == [f"theirs {each}" for each in states]
        assert ("waiter", "later") in seen

    run(body)


def test_a_watch_loses_no_change(where: Where) -> None:
    """Each step is cancelled, again and again, also in the round in which its change comes."""

    async def body() -> None:
        async with two(where) as (a, b), b.watch() as changes:
            assert isinstance(await anext(changes), CaughtUp)
            seen: list[Any] = []
            for number in range(60):
                step = asyncio.create_task(_next(changes))
                await asyncio.sleep(0)
                fired = a.pulse("k", number)
                for _ in range(number % 20):
                    await asyncio.sleep(0)
                step.cancel()
                with suppress(asyncio.CancelledError):
                    seen.append(await step)
                await fired
            while len(seen) < 60:
                seen.append(await anext(changes))
            assert [change.value for change in seen] == list(range(60))

    run(body)


async def _next(changes: coord.aio.Watch) -> coord.Record | CaughtUp:
    return await anext(changes)


def test_a_watch_has_to_be_entered(where: Where) -> None:
    """And can be entered once."""

    async def body() -> None:
        async with coord.aio.connect(**where) as c:
            with pytest.raises(TypeError, match="entered"):
                await anext(c.events("m").watch())
            watch = c.events("m").watch(since="start")
            async with watch:
                with pytest.raises(TypeError, match="once"):
                    await watch.__aenter__()
                assert isinstance(await anext(watch), CaughtUp)

    run(body)


def test_a_lost_hold_cancels_its_block(where: Where) -> None:
    """The block ends with `HoldLost`, and the task is not cancelled afterwards."""

    async def body() -> None:
        async with two(where) as (a, b):
            with pytest.raises(HoldLost):  # noqa: PT012
                async with a.hold("k") as hold:
                    await b.reset("k", evict=True)
                    await asyncio.sleep(_SECONDS)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert not hold.valid
            await asyncio.sleep(0)

    run(body)


def test_a_lost_hold_whose_block_goes_on(where: Where) -> None:
    """With ``cancel=False``; `lost()` tells."""

    async def body() -> None:
        async with two(where) as (a, b), a.hold("k", cancel=False) as hold:
            await b.reset("k", evict=True)
            with pytest.raises(HoldLost):
                await hold.lost()
            assert not hold.valid

    run(body)


def test_a_block_that_fails_after_its_hold_was_lost(where: Where) -> None:
    """Its error counts, with a note; a block that ended well raises `HoldLost` all the same."""

    async def body() -> None:
        async with two(where) as (a, b):
            with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012
                async with a.hold("k"):
                    await b.reset("k", evict=True)
                    try:
                        await asyncio.sleep(_SECONDS)
                    except asyncio.CancelledError:
                        raise ZeroDivisionError from None
            assert caught.value.__notes__ == ["meanwhile: HoldLost: k: its holders were evicted"]
            with pytest.raises(HoldLost):  # noqa: PT012
                async with a.hold("k"):
                    await b.reset("k", evict=True)
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(_SECONDS)
            await asyncio.sleep(0)

    run(body)


def test_a_cancellation_from_outside_wins(where: Where) -> None:
    """Whoever cancels the task finds it cancelled, though the hold was lost too."""

    async def body() -> None:
        async with two(where) as (a, b):

            async def work() -> None:
                async with a.hold("k"):
                    try:
                        await asyncio.sleep(_SECONDS)
                    finally:
                        task.cancel()

            task = asyncio.create_task(work())
            await b["k"]
            await b.reset("k", evict=True)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await a.holders("k"))[0] == 0

    run(body)


def test_a_block_is_left_in_the_task_that_entered_it(where: Where) -> None:
    """As some fixtures do; the hold ends all the same."""

    async def body() -> None:
        async with coord.aio.connect(**where) as c:
            m = c.events("m")
            holding = m.hold("k")
            await asyncio.create_task(_enter(holding))
            with pytest.raises(RuntimeError, match="cancel=False"):
                await holding.__aexit__(None, None, None)
            assert (await m.holders("k"))[0] == 0
            calm = m.hold("k", cancel=False)
            await asyncio.create_task(_enter(calm))
            await calm.__aexit__(None, None, None)

    run(body)


async def _enter(holding: coord.aio.Holding[coord.aio.Hold]) -> None:
    await holding.__aenter__()


def test_a_cancelled_hold_is_withdrawn(where: Where) -> None:
    """Wherever it is: not sent, sent, answered, or answered to a task that was cancelled in the same round."""

    async def body() -> None:
        async with coord.aio.connect(**where) as c:
            m = c.events("m")
            for rounds in range(12):
                for wait in (_hold(m), _barrier(m)):
                    task = asyncio.create_task(wait)
                    for _ in range(rounds):
                        await asyncio.sleep(0)
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await (await task).withdraw()
            holding = m.hold("k")
            task = asyncio.create_task(_take(holding))
            holding.add_done_callback(lambda _: task.cancel())
            with pytest.raises(asyncio.CancelledError):
                await task
            assert holding.result().key == "k"
            await m.fire("all is sent")
            await until(lambda: c.statistics().holds == 0)
            await m.fire("all is answered")
            assert (await m.holders("k"))[0] == 0

    run(body)


async def _hold(events: coord.aio.EventMap) -> coord.aio.Hold:
    return await events.hold("k")


async def _barrier(events: coord.aio.EventMap) -> coord.aio.Hold:
    async with events.barrier("b", 1) as hold:
        return hold


async def _take(holding: coord.aio.Holding[coord.aio.Hold]) -> coord.aio.Hold:
    return await holding


def test_a_barrier(where: Where) -> None:
    """Nobody passes before both are there."""

    async def body() -> None:
        passed: list[str] = []

        async def enter(events: coord.aio.EventMap, name: str) -> None:
            async with events.barrier("start", 2, timeout=_SECONDS):
                passed.append(name)

        async with two(where) as (a, b):
            first = asyncio.create_task(enter(a, "a"))
            await asyncio.sleep(0.05)
            assert passed == []
            await enter(b, "b")
            await first
            assert sorted(passed) == ["a", "b"]

    run(body)


def test_locks(where: Where) -> None:
    """One owner at a time, with rising tokens; to cancel a request gives it up; two slots of a semaphore."""

    async def body() -> None:
        async with two(where) as (a, b):
            owners: list[str] = []

            async def work(events: coord.aio.EventMap) -> str:
                async with events.lock("k", "busy") as lock:
                    owners.append(lock.node)
                    assert len(owners) == 1
                    assert lock.valid
                    await asyncio.sleep(0.01)
                    owners.pop()
                    return lock.token

            tokens = await asyncio.gather(*(work(events) for events in (a, b, a, b)))
            assert len({*tokens}) == 4
            lock = await a.lock("k")
            waiting = asyncio.create_task(_lock(b))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(TimedOut):
                await b.lock("k", timeout=0)
            await lock.release()
            async with b.lock("k", timeout=5), a.semaphore("s", 2) as one, b.semaphore("s", 2) as other:
                assert one.key != other.key
            async with a.elect("leader", "me"):
                assert await b["leader"] == "me"

    run(body)


async def _lock(events: coord.aio.EventMap) -> coord.aio.Lock:
    return await events.lock("k")


def test_a_lost_lock_cancels_its_block(server: Server, where: Where) -> None:
    """At its deadline, when the server does not answer; the end of the block does not wait for it."""

    async def body() -> None:
        async with coord.aio.connect(**{**where, "heartbeat": 0.1, "lease": 0.4, "grace": 0.3}) as c:
            seen: list[float] = []
            with pytest.raises(HoldLost):  # noqa: PT012
                async with c.events("m").lock("k") as lock:
                    lock.on_renewed(seen.append)
                    await until(lambda: len(seen) > 1)
                    server.hang()
                    await asyncio.sleep(_SECONDS)
            with pytest.raises(HoldLost):
                lock.check()
            server.resume()
            with pytest.raises(HoldLost):  # noqa: PT012
                async with c.events("m").lock("k", cancel=False) as lock:
                    server.hang()
                    await until(lambda: not lock.valid)
            server.resume()

    run(body)


def test_a_restart_of_the_server(server: Server, where: Where) -> None:
    """Waits last, and calls that were made meanwhile are applied."""

    async def body() -> None:
        async with two(where) as (a, b):
            waiting = b["k"]
            await b.armed()
            server.kill()
            fired = a.fire("k", "late")
            server.start()
            assert (await fired).first
            assert await waiting == "late"

    run(body)


def test_a_fork(where: Where) -> None:
    """The child's copies are closed, a new coordinator of the child is a node of its own, and the parent goes on."""
    script = """
import asyncio, os, sys, coord, coord.aio

async def child(inherited):
    try:
        inherited["k"]
    except coord.Closed as error:
        assert "made before a fork" in str(error)
    else:
        raise AssertionError
    async with coord.aio.connect(sys.argv[1], namespace=sys.argv[2], node="child") as c:
        await c.events("m").fire("k", "of the child")

async def main():
    async with coord.aio.connect(sys.argv[1], namespace=sys.argv[2], node="parent") as c:
        events = c.events("m")
        waiting = events["k"]
        await events.armed()
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(child(events))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert await asyncio.wait_for(waiting, 15) == "of the child"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        await events.fire("parent")
        assert c.link == "connected"

asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, where["address"], where["namespace"]],
        timeout=_SECONDS,
        stderr=subprocess.PIPE,
    )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")


def test_a_loop_that_was_closed_first(where: Where) -> None:
    """A coordinator that nobody closed does not stand in the way of later ones, nor of the end of the process."""
    script = """
import asyncio, gc, sys, coord.aio

async def forget():
    c = coord.aio.connect(sys.argv[1], namespace=sys.argv[2])
    if len(kept) % 2:
        await c.connected()
        c.events("m")["k"]
    kept.append(c)

async def main():
    async with coord.aio.connect(sys.argv[1], namespace=sys.argv[2]) as c:
        assert await c.events("m").fire("k", 3)

kept = []
for _ in range(4):
    asyncio.run(forget())
gc.collect()
asyncio.run(main())
kept.clear()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, where["address"], where["namespace"]], timeout=_SECONDS, stderr=subprocess.PIPE
    )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
