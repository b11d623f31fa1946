"""coord.blocking: from any thread; interruptions, forks, exits and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

import coord.blocking
from coord import (
    Acks,
    CaughtUp,
    Closed,
    EventFailed,
    HoldLost,
    InvalidInput,
    InvalidKey,
    InvalidValue,
    Kind,
    TimedOut,
    Unacknowledged,
    WrongKind,
)
from doors.left import nothing_left
from doors.servers import Server

Where = dict[str, Any]
_SECONDS = 20


@contextmanager
def two(where: Where) -> Iterator[tuple[coord.blocking.EventMap, coord.blocking.EventMap]]:
    """Give the map "m" of two nodes whose links are up."""
    with (
        nothing_left(),
        coord.blocking.connect(**where, node="a") as a,
        coord.blocking.connect(**where, node="b") as b,
    ):
        a.connected(_SECONDS)
        b.connected(_SECONDS)
        yield a.events("m"), b.events("m")


def until(condition: Callable[[], object]) -> None:
    """Return once it is so."""
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def run(script: str, where: Where, warnings: str = "error") -> None:
    """Run a program, which must say nothing on stderr."""
    program = [sys.executable, "-W", warnings, "-c", script, where["address"], where["namespace"]]
    ended = subprocess.run(program, timeout=_SECONDS, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@contextmanager
def interrupted() -> Iterator[None]:
    """Have the block interrupted, as by Ctrl-C, and end it so."""
    # Tests on a reactor leave its handler behind, which interrupts nothing.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_acknowledgements(where: Where) -> None:
    """L13: who has, and who is missing."""
    with two(where) as (a, b):
        record = a.fire("k").record
        assert record is not None
        b.ack(record)
        assert a.acked(record, 1) == Acks(("b",), (), ())
        with pytest.raises(Unacknowledged) as raised:
            a.acked(record, ["a", "b"], timeout=0.5)
        assert raised.value.missing == ("a",)
        with pytest.raises(InvalidInput, match="nobody"):
            a.acked(record, [])


def test_the_example_several_times(where: Where) -> None:
    """Coordinators one after the other; nothing is left of each."""
    for number in range(3):
        with nothing_left(), coord.blocking.connect(**{**where, "namespace": f"{where['namespace']}{number}"}) as c:
            on_mount = c.events("mount")
            waiting = on_mount["abc"]
            assert on_mount.fire("abc", 7).first
            assert waiting.result(_SECONDS) == 7
            assert on_mount.wait("abc") == 7
            with pytest.raises(TimeoutError):
                on_mount.wait("other", timeout=0.02)
            with pytest.raises(TimedOut):
                on_mount.wait_all(["abc", "other"], timeout=0.02)
            assert c.statistics().waiters == 0
            with on_mount.hold("held", 1) as hold:
                assert hold.valid
            kinds = []
            with on_mount.watch(since="start") as changes:
                for change in changes:
                    if isinstance(change, CaughtUp):
                        break
                    kinds.append(change.kind)
            assert kinds == [Kind.FIRED, Kind.FIRED, Kind.WITHDRAWN]
            assert [len(page.records) for page in on_mount.pages()] == [2]
            assert c.events("mount") is on_mount
            assert c.maps() == ("mount",)


def test_many_threads(where: Where) -> None:
    """What each thread fires is seen by another that waits."""
    with two(where) as (a, b), futures.ThreadPoolExecutor(16) as pool:
        waits = [pool.submit(b.wait, f"k{number}", _SECONDS) for number in range(8)]
        fires = [pool.submit(a.fire, f"k{number}", number) for number in range(8)]
        assert all(fire.result(_SECONDS).first for fire in fires)
        assert [wait.result(_SECONDS) for wait in waits] == list(range(8))


def test_beside_a_running_loop(where: Where) -> None:
    """As in a notebook: a loop runs in the thread that calls."""

    async def main() -> None:
        with coord.blocking.connect(**where) as c:
            assert c.events("m").fire("k").first

    with nothing_left():
        asyncio.run(main())


def test_no_reactor_is_installed(where: Where) -> None:
    """Nor does the thread pass for that of the one which somebody installs."""
    run(
        """
import sys, coord.blocking
with coord.blocking.connect(sys.argv[1]) as c:
    c.connected()
    assert "twisted.internet.reactor" not in sys.modules
    from twisted.internet import selectreactor
    selectreactor.install()
    from twisted.internet import reactor
    from twisted.python import threadable

    def main():
        c.events("m").fire("k")
        assert threadable.isInIOThread()
        reactor.stop()

    reactor.callWhenRunning(main)
    reactor.run()
""",
        where,
    )


def test_futures(where: Where) -> None:
    """They can be cancelled until they are resolved, and waited for together."""
    with two(where) as (a, b):
        dropped, first, second = b["dropped"], b["first"], b["second"]
        assert dropped.cancel()
        assert dropped.cancel()
        assert futures.wait([dropped], _SECONDS).done == {dropped}
        until(lambda: _statistics(b).waiters == 2)
        a.fire_all({"dropped": 0, "first": 1, "second": 2})
        assert futures.wait([first, second], _SECONDS).not_done == set()
        assert (first.result(), second.result()) == (1, 2)
        assert not first.cancel()
        with pytest.raises(futures.CancelledError):
            dropped.result()


def _statistics(events: coord.blocking.EventMap) -> coord.Statistics:
    return events._bridge().call(lambda: events._bridge().node.statistics())


def test_errors_are_the_same(where: Where) -> None:
    """Bad input at once, a failed event, and `Closed` for what waits in another thread and for what comes later."""
    with two(where) as (a, b), futures.ThreadPoolExecutor() as pool:
        failing = b["k"]
        a.fail("k", ValueError("no"))
        with pytest.raises(EventFailed, match="k failed: ValueError: no"):
            failing.result(_SECONDS)
        for use in (lambda: a[""], lambda: a.fire(""), lambda: a.wait("\n")):
            with pytest.raises(InvalidKey):
                use()
        with pytest.raises(TypeError, match="records"):
            len(a)
        with pytest.raises(coord.InvalidURL):
            coord.blocking.connect("http://x")
        waiting, future = pool.submit(b.wait, "never"), b["neither"]
        until(lambda: _statistics(b).waiters == 2)
        b._bridge().close()
        for ended in (waiting, future, b["later"]):
            with pytest.raises(Closed):
                ended.result(_SECONDS)
        with pytest.raises(Closed):
            b.fire("k")


def test_fire_all(where: Where) -> None:
    """All are answered before the first error is raised; bad input raises before anything is sent."""
    with two(where) as (a, b):
        outcomes = a.fire_all({f"k{number}": number for number in range(1000)})
        assert list(outcomes) == [f"k{number}" for number in range(1000)]
        assert all(applied.first for applied in outcomes.values())
        assert a.fire_all({}) == {}
        assert not a.fire_all({"k1": 5})["k1"].first
        for bad, error in (({"x": 1, "": 2}, InvalidKey), ({"x": 1, "y": object()}, InvalidValue)):
            with pytest.raises(error):
                a.fire_all(bad)
        assert b.record("x") is None
        a.count("counter")
        with pytest.raises(WrongKind) as caught:
            a.fire_all({"counter": 1, "x": 1})
        assert caught.value.__notes__ == ["1 of 2 calls failed"]
        assert b.wait("x") == 1


def test_an_interruption_takes_the_wait_back(where: Where) -> None:
    """Ctrl-C in a wait, a call and a hold leaves nothing behind."""
    with two(where) as (a, b):
        with interrupted():
            a.wait("k")
        until(lambda: _statistics(a).waiters == 0)
        with interrupted():
            a["k"].result()
        assert a.fire("other").first
        assert _statistics(a).waiters == 1, "a future is its owner's"
        with interrupted():
            a.hold("held", need=2)
            b.wait("held")
        b.fire("k")
        passed = []
        with interrupted(), a.barrier("start", 2):
            passed.append("alone")
        assert passed == []
        until(lambda: a.holders("start")[0] == 0)


def test_a_hold_that_came_too_late_is_withdrawn(where: Where) -> None:
    """Though it was answered before the interruption was known."""
    with two(where) as (a, b):
        bridge = a._bridge()
        hold = a.hold("k")
        bridge.submit(hold._give_up)
        assert b.gone("k", _SECONDS) is not None


def test_a_watch_loses_no_change(where: Where) -> None:
    """A step that is interrupted leaves its change to the next one."""
    with two(where) as (a, b), b.watch() as changes:
        assert isinstance(next(changes), CaughtUp)
        with interrupted():
            next(changes)
        for number in range(20):
            a.pulse("k", number)
        values = [change.value for change in (next(changes) for _ in range(20)) if isinstance(change, coord.Record)]
        assert values == list(range(20))


def test_a_watch_ends_with_its_coordinator(where: Where) -> None:
    """Which is closed in another thread."""
    with nothing_left(), coord.blocking.connect(**where) as c:
        with pytest.raises(TypeError, match="entered"):
            next(c.events("m").watch())
        with pytest.raises(Closed), futures.ThreadPoolExecutor() as pool:  # noqa: PT012
            watched = pool.submit(_watch, c.events("m"))
            c.events("m").pulse("k")
            c.close()
            watched.result(_SECONDS)


def _watch(events: coord.blocking.EventMap) -> None:
    with events.watch(since="start") as changes:
        for _ in changes:
            pass


def test_in_the_reactors_thread_it_raises(where: Where) -> None:
    """It would wait for itself: callbacks of futures and of the link run there."""
    request: ContextVar[str] = ContextVar("request")
    said: list[str] = []
    with nothing_left(), coord.blocking.connect(**where) as c:
        m = c.events("m")
        pending = m["never"]

        def callback(*_: object) -> None:
            for use in (lambda: m.fire("x"), pending.result, c.close, c.statistics):
                with pytest.raises(RuntimeError, match="own thread"):
                    use()
            said.append(request.get())

        c.connected(_SECONDS)
        request.set("of the registration")
        stop = c.on_link(callback)
        request.set("later")
        c._bridge.call(lambda: c._bridge.node._session.link.abandon("broken by a test"))
        until(lambda: said)
        stop()
        said[1:] = []
        m["k"].add_done_callback(lambda future: said.append(str(future.result())))
        m.fire("k", 5)
        until(lambda: len(said) == 2)
        assert said == ["of the registration", "5"]
        pending.cancel()


def test_a_lost_hold(where: Where) -> None:
    """`check` tells the block, which nothing can interrupt, and its end raises."""
    with two(where) as (a, b):
        with pytest.raises(HoldLost), a.hold("k") as hold:  # noqa: PT012
            hold.check()
            b.reset("k", evict=True)
            with pytest.raises(HoldLost):
                hold.lost().result(_SECONDS)
            assert not hold.valid
            with pytest.raises(HoldLost):
                hold.check()
        with pytest.raises(ZeroDivisionError) as caught, a.hold("k") as hold:  # noqa: PT012
            b.reset("k", evict=True)
            futures.wait([hold.lost()], _SECONDS)
            raise ZeroDivisionError
        assert caught.value.__notes__ == ["meanwhile: HoldLost: k: its holders were evicted"]


def test_locks(where: Where) -> None:
    """One owner at a time; an interrupted request is given up."""
    owners: list[str] = []

    def work(events: coord.blocking.EventMap) -> str:
        with events.lock("k", "busy") as lock:
            owners.append(lock.node)
            assert len(owners) == 1
            lock.check()
            time.sleep(0.01)
            owners.pop()
            return lock.token

    with two(where) as (a, b), futures.ThreadPoolExecutor() as pool:
        tokens = list(pool.map(work, (a, b, a, b)))
        assert len({*tokens}) == 4
        with a.lock("k"):
            with interrupted():
                b.lock("k")
            with pytest.raises(TimedOut):
                b.lock("k", timeout=0)
        with b.lock("k", timeout=5), a.semaphore("s", 2) as one, b.semaphore("s", 2) as other:
            assert one.key != other.key
        with a.elect("leader", "me"):
            assert b.wait("leader") == "me"


def test_a_lost_lock(server: Server, where: Where) -> None:
    """The block is told by `check`, and its end does not wait for the server."""
    where = {**where, "heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
    with nothing_left(), coord.blocking.connect(**where) as c:
        with pytest.raises(HoldLost), c.events("m").lock("k") as lock:  # noqa: PT012
            server.hang()
            until(lambda: not lock.valid)
            with pytest.raises(HoldLost):
                lock.check()
        server.resume()


def test_a_barrier(where: Where) -> None:
    """Nobody passes before both are there."""
    passed: list[str] = []

    def enter(events: coord.blocking.EventMap, name: str) -> None:
        with events.barrier("start", 2, timeout=_SECONDS):
            passed.append(name)

    with two(where) as (a, b), futures.ThreadPoolExecutor() as pool:
        first = pool.submit(enter, a, "a")
        time.sleep(0.05)
        assert passed == []
        enter(b, "b")
        first.result(_SECONDS)
        assert sorted(passed) == ["a", "b"]


def test_members(where: Where) -> None:
    """A node joins, and is gone at its end."""
    with two(where), coord.blocking.connect(**where, node="c") as c, c.join({"role": "web"}) as member:
        assert member.key == "c"
        assert c.members.wait("c") == {"role": "web"}
        assert [record.key for record in c.members.records().records] == ["c"]


def test_a_restart_of_the_server(server: Server, where: Where) -> None:
    """Waits last, and calls that were made meanwhile are applied."""
    with two(where) as (a, b), futures.ThreadPoolExecutor() as pool:
        waiting = b["k"]
        b.armed()
        server.kill()
        fired = pool.submit(a.fire, "k", "late")
        server.start()
        assert fired.result(_SECONDS).first
        assert waiting.result(_SECONDS) == "late"


_FORK = """
import os, sys, threading, coord, coord.blocking

def child():
    assert not held.valid
    try:
        waiting.result(1)
    except coord.Closed as error:
        assert "made before a fork" in str(error)
    else:
        raise AssertionError
    # In another thread than that which has forked.
    thread = threading.Thread(target=events.pulse, args=("of a thread",))
    thread.start()
    thread.join()
    assert events.record("of a thread") is not None
    assert c.incarnation != incarnation
    try:
        waiting.result(1)
    except coord.Closed:
        pass
    assert events.fire("k", "of the child").first
    assert events.holders("held") == (1, events.holders("held")[1])
    c.close()

c = coord.blocking.connect(sys.argv[1], namespace=sys.argv[2])
events = c.events("m")
held = events.hold("held")
waiting, incarnation = events["k"], c.incarnation
busy = [threading.Thread(target=lambda: [events.pulse("p") for _ in range(300)]) for _ in range(4)]
for thread in busy:
    thread.start()
events.armed()
for number in range(8):
    pid = os.fork()
    if not pid:
        try:
            child() if number == 7 else events.pulse("other")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for thread in busy:
    thread.join()
assert waiting.result(15) == "of the child"
assert held.valid
assert not events.fire("k").first
c.close()
"""


def test_forks(where: Where) -> None:
    """Each child's next call makes a node of its own; the parent's waits, calls and holds go on."""
    # Python 3.12 warns of a fork beside threads.
    run(_FORK, where, "ignore")


def test_at_exit_it_is_closed(where: Where) -> None:
    """Holds end at once, and nothing has to be closed."""
    script = "import sys, coord.blocking; c = coord.blocking.connect(sys.argv[1], namespace=sys.argv[2]); "
    run(script + "hold = c.events('m').hold('k'); waiting = c.events('m')['x']", where)
    with coord.blocking.connect(**where) as c:
        record = c.events("m").record("k")
        assert record is not None
        assert record.kind is Kind.WITHDRAWN


def test_at_exit_a_server_that_hangs_costs_two_seconds(server: Server, where: Where) -> None:
    """And what was not answered is said."""
    script = """
import os, signal, sys, threading, time, coord.blocking
c = coord.blocking.connect(sys.argv[1], namespace=sys.argv[2])
hold = c.events("m").hold("k")
print("held", flush=True)
sys.stdin.read()
threading.Thread(target=lambda: c.events("m").fire("k"), daemon=True).start()
time.sleep(0.1)
"""
    program = [sys.executable, "-c", script, where["address"], where["namespace"]]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        server.hang()
        began = time.monotonic()
        process.communicate(timeout=_SECONDS)
        assert time.monotonic() - began < 10.0
        server.resume()


@pytest.mark.parametrize(
    ("module", "patcher"),
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: name == "threading")),
        ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: name == "thread")),
    ],
)
def test_replaced_threads_are_refused(monkeypatch: pytest.MonkeyPatch, where: Where, module: str, patcher: Any) -> None:
    """By name, when one connects."""
    monkeypatch.setitem(sys.modules, module, patcher)
    with pytest.raises(RuntimeError, match=rf"{module.partition('.')[0]} has replaced them"):
        coord.blocking.connect(**where)
