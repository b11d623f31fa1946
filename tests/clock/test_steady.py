"""The steady clock under each kind of reactor, with the kernel's timer and with a thread."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from clock.reactors import KINDS, made, run
from coord.clock import SteadyClock, descriptors, steady

HOURS = 7200.0


def _no_timer(*_: object) -> None:
    raise OSError("a sandbox refuses")


@pytest.fixture(params=KINDS)
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A reactor that does not run yet."""
    with made(request.param) as one:
        yield one


@pytest.fixture(params=["kernel", "thread"], autouse=True)
def timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What wakes the reactor."""
    if request.param == "thread":
        monkeypatch.setattr(descriptors, "TimerFd", _no_timer)
    return str(request.param)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_due_at_once_is_called_in_the_order_asked(reactor: Any) -> None:
    """Earlier times first, then those asked for first; what a call asks for has a turn of its own."""
    called: list[object] = []

    async def body(clock: Any) -> None:
        for number in range(10):
            clock.callLater(0, called.append, number)
        clock.callLater(0, lambda: clock.callLater(0, called.append, "asked for meanwhile"))
        clock.callLater(0.002, called.append, "late")
        clock.callLater(0.001, called.append, "early")
        await deferLater(clock, 0.01)

    run(reactor, body)
    # On a busy machine a millisecond has passed before the first turn, and "early" is in that turn.
    assert called[:10] == list(range(10))
    assert sorted(called[10:], key=str) == ["asked for meanwhile", "early", "late"]
    assert called.index("early") < called.index("late")


@pytest.mark.parametrize("step", [-HOURS, HOURS])
def test_a_step_of_the_wall_clock_moves_nothing(reactor: Any, step: float) -> None:
    """Neither what is due in the next turn nor what is due later, whichever way the clock was set."""

    async def body(clock: Any) -> list[float]:
        began = clock.seconds()

        def after(_: object) -> Any:
            return clock.seconds() - began

        soon: Deferred[None] = Deferred()
        clock.call_soon(lambda: soon.callback(None))
        waits = [soon.addCallback(after), *(deferLater(clock, due).addCallback(after) for due in (0, 0.05, 0.1))]
        reactor.step(step)
        return await gatherResults(waits)

    took = run(reactor, body)
    for due, seconds in zip((0, 0, 0.05, 0.1), took, strict=True):
        assert due <= seconds < due + 5


def test_a_call_can_be_moved_as_twisted_says(reactor: Any) -> None:
    """Reset and delay, to sooner and to later, and from where each counts (IDelayedCall)."""
    called: list[str] = []

    async def body(clock: Any) -> None:
        sooner, later = clock.callLater(100, called.append, "sooner"), clock.callLater(0.001, called.append, "later")
        delayed, hastened = (
            clock.callLater(0.001, called.append, "delayed"),
            clock.callLater(9, called.append, "hastened"),
        )
        now = clock.seconds()
        sooner.reset(0.005)
        later.reset(0.2)
        delayed.delay(0.4)
        hastened.delay(-8.9)
        assert sooner.getTime() == pytest.approx(now + 0.005, abs=0.1)
        assert delayed.getTime() == pytest.approx(now + 0.401, abs=0.1)
        assert set(map(id, clock.getDelayedCalls())) >= {id(each) for each in (sooner, later, delayed, hastened)}
        await deferLater(clock, 0.5)
        assert not any(each.active() for each in (sooner, later, delayed, hastened))

    run(reactor, body)
    assert called == ["sooner", "hastened", "later", "delayed"]


def test_a_call_that_is_over_can_be_neither_cancelled_nor_moved(reactor: Any) -> None:
    """The errors are Twisted's; a cancelled call is never made."""
    called: list[str] = []

    async def body(clock: Any) -> None:
        cancelled, made = clock.callLater(0, called.append, "cancelled"), clock.callLater(0, called.append, "made")
        soon = clock.call_soon(lambda: called.append("soon, cancelled"))
        cancelled.cancel()
        soon.cancel()
        await deferLater(clock, 0.001)
        for verb in (cancelled.cancel, lambda: cancelled.reset(1), lambda: cancelled.delay(1)):
            with pytest.raises(AlreadyCancelled):
                verb()
        for verb in (made.cancel, lambda: made.reset(1), lambda: made.delay(1)):
            with pytest.raises(AlreadyCalled):
                verb()
        with pytest.raises(AssertionError):
            clock.callLater(-1, called.append, "never")

    run(reactor, body)
    assert called == ["made"]


def test_a_call_that_raises_is_logged_and_hurts_no_other(reactor: Any) -> None:
    """As in Twisted, and whatever it raises."""
    logged: Any = []
    called: list[str] = []

    def fail(error: BaseException) -> None:
        raise error

    async def body(clock: Any) -> None:
        clock.callLater(0, fail, ZeroDivisionError())
        clock.callLater(0, fail, SystemExit(3))
        clock.callLater(0, called.append, "the next")
        await deferLater(clock, 0.001)

    globalLogPublisher.addObserver(logged.append)
    try:
        run(reactor, body)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert called == ["the next"]
    failures = [event["log_failure"].type for event in logged if "log_failure" in event]
    assert failures == [ZeroDivisionError, SystemExit]


def test_thousands_of_timers(reactor: Any) -> None:
    """Each is called once, in the order of their times, and those that were cancelled leave nothing."""
    random = Random(7)
    called: list[int] = []
    due: list[float] = []

    async def body(clock: Any) -> None:
        calls = [clock.callLater(random.uniform(0, 0.2), called.append, number) for number in range(3_000)]
        for call in calls[::3]:
            call.cancel()
        far = [clock.callLater(1_000, called.append, number) for number in range(3_000)]
        for call in far:
            call.cancel()
        assert len(clock._heap) < 2 * len(clock.getDelayedCalls()) + 100
        await deferLater(clock, 0.5)
        due.extend(calls[number].getTime() for number in called)

    run(reactor, body)
    assert len(called) == 2_000
    assert due == sorted(due)


def test_descriptors_are_there_only_while_something_is_pending(reactor: Any, timer: str) -> None:
    """However often a clock was used, and after the reactor has let go of everything."""

    async def body(clock: Any) -> list[int]:
        counts = []
        for _ in range(3):
            await deferLater(clock, 0.001)
            pending = clock.callLater(100, print)
            pending.cancel()
            await deferLater(reactor, 0.001)
            counts.append(_descriptors())
        return counts

    before = _descriptors()
    clock = steady(reactor)
    assert _descriptors() == before
    counts = run(reactor, body)
    assert len(set(counts)) == 1
    clock.callLater(100, print)
    assert _descriptors() > before
    for reader in reactor.removeAll():
        if isinstance(reader, descriptors.Pipe | descriptors._Reader):
            reader.connectionLost(None)  # type: ignore[arg-type]
    assert clock.getDelayedCalls()


def test_a_reactor_that_was_emptied_is_used_again(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial empties the reactor after a test that left something behind; the next test's timers must not be lost."""
    called: list[object] = []
    monkeypatch.setattr("coord.clock.timers._LOST", 0.05)

    async def body(clock: Any) -> None:
        clock.callLater(0.02, called.append, "left behind")
        clock.reactor.removeAll()
        woken: Deferred[None] = Deferred()
        reactor.callLater(0.1, woken.callback, None)
        await woken
        assert called == []
        await deferLater(clock, 0.02)

    run(reactor, body)
    assert called == ["left behind"]


def test_without_a_descriptor_the_reactors_own_timer_must_do(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has too many files open goes on, and the clock has its own timer once there is room."""
    opened: list[object] = []
    timer_of = descriptors.timer_of

    def full(*arguments: Any) -> Any:
        opened.append(arguments)
        if len(opened) < 3:
            raise OSError(24, "Too many open files")
        return timer_of(*arguments)

    monkeypatch.setattr("coord.clock.timers.timer_of", full)

    async def body(clock: Any) -> None:
        await deferLater(clock, 0.01)
        await deferLater(clock, 0.01)

    run(reactor, body)
    assert len(opened) >= 3


def test_a_reactor_has_one_clock() -> None:
    """All that use a reactor share it; another has another; and a clock for tests is used as it is."""
    with made("select") as one, made("select") as other:
        clock = steady(one)
        assert steady(one) is clock
        assert steady(clock) is clock
        assert steady(other) is not clock
        assert clock.addReader == one.addReader
        kept = id(clock)
        del clock
        gc.collect()
        assert isinstance(steady(one), SteadyClock), kept
    for moved in (Clock(), MemoryReactorClock()):
        assert steady(moved) is moved


def test_what_twisted_makes_goes_by_the_steady_clock() -> None:
    """A connection's time-out too; but where the user has a method of their own, that one is called."""
    with made("select") as reactor:
        clock = steady(reactor)
        for name in ("connectTCP", "connectUNIX", "spawnProcess"):
            assert getattr(clock, name).__self__ is clock
        reactor.connectTCP = lambda *_: "the user's"
        assert clock.connectTCP("localhost", 1, None) == "the user's"
