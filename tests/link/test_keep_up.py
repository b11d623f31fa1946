"""The loop that keeps a connection up, with scripted attempts, in many orders of what can happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from coord.link.keep_up import KeepUp


class Connection:
    """A connection that closes at once, or a while after it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ending = False
        self.closed: Deferred[None] = Deferred()

    def abort(self) -> None:
        """Close, at once or when `World.step` says so."""
        self.ending = True
        if self.world.random.random() < 0.5:
            self.close()

    def close(self) -> None:
        """Be closed now."""
        if self.world.open is self:
            self.world.ended()
            self.closed.callback(None)

    def wait_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is closed."""
        return self.closed


class Attempt:
    """An attempt to connect. Once cancelled it fails at once, or later, or succeeds although it was cancelled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ending = False
        self.outcome: Deferred[Connection] = Deferred()

    async def run(self) -> Connection:
        """Wait for the outcome, and say that it failed."""
        while True:
            try:
                return await self.outcome
            except CancelledError:
                self.ending = True
                if self.world.random.random() < 0.5:
                    self.world.ended()
                    raise
                self.outcome = Deferred()

    def fail(self) -> None:
        """Fail."""
        self.world.ended()
        self.outcome.errback(OSError())

    def succeed(self) -> None:
        """Succeed."""
        self.world.open = connection = Connection(self.world)
        self.outcome.callback(connection)


class World:
    """Takes random steps, and compares what the loop does with what it should do."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.open: Attempt | Connection | None = None
        self.attempts = 0
        self.failures = 0
        self.stopped = self.hurried = self.wrong = False
        self.done: list[None] = []
        self.due: float | None = 0.0
        self.kept = KeepUp(self.connect, self.pause, self.clock)

    def connect(self) -> Deferred[Connection]:
        """Begin an attempt: it is due now, and there is no other."""
        # Noted, not raised: what an attempt raises is its failure.
        self.wrong |= self.open is not None or self.stopped or self.due != self.clock.seconds()
        self.due, self.hurried = None, False
        self.attempts += 1
        attempt = self.open = Attempt(self)
        ways: list[Callable[[], object]] = [_nothing, _nothing, attempt.succeed, attempt.fail, self.meddle]
        self.random.choice(ways)()
        return Deferred.fromCoroutine(attempt.run()).addBoth(self.meddle)

    def meddle(self, result: object = None) -> object:
        """Stop or retry in the middle of something, sometimes, as a user's callback may."""
        self.random.choice([_nothing] * 20 + [self.stop, self.retry])()
        return result

    def ended(self) -> None:
        """Note that an attempt has failed, or a connection is gone."""
        self.failures = 1 if isinstance(self.open, Connection) else self.failures + 1
        self.open = None
        self.due = self.clock.seconds() if self.hurried else None

    def pause(self, failures: int) -> float:
        """Return a pause, which only follows an end that nobody is in a hurry after."""
        self.wrong |= self.open is not None or self.stopped or self.hurried or failures != self.failures
        pause = self.random.choice([1.0, 2.0])
        self.due = self.clock.seconds() + pause
        return pause

    def stop(self) -> None:
        """Stop, once or twice; nobody is told before everything has ended."""
        self.stopped = True
        self.kept.stop().addCallback(self.ended_for_good)

    def ended_for_good(self, _: None) -> None:
        """Note that a stop is complete."""
        self.wrong |= self.open is not None
        self.done.append(None)

    def retry(self) -> None:
        """Ask for an attempt at once."""
        if not self.stopped:
            self.hurried = True
            if self.open is None:
                self.due = self.clock.seconds()
        self.kept.retry_now()

    def lose(self) -> None:
        """Let the attempt fail, or the connection be lost."""
        match self.open:
            case Attempt() as attempt:
                attempt.fail()
            case Connection() as connection:
                connection.close()

    def succeed(self) -> None:
        """Let the attempt succeed."""
        if isinstance(self.open, Attempt):
            self.open.succeed()

    def step(self) -> None:
        """Let one thing happen, and check what the loop does now."""
        ways: list[Callable[[], None]] = [self.lose, self.succeed, self.retry, lambda: self.clock.advance(1.0)]
        self.random.choice([*ways * 6, self.stop])()
        self.check()

    def check(self) -> None:
        """Check that exactly one thing goes on: an attempt, a connection, a pause, or nothing after a stop."""
        assert not self.wrong
        calls: Sequence[Any] = self.clock.getDelayedCalls()
        if self.stopped:
            assert calls == []
            assert bool(self.done) == (self.open is None)
        elif self.open is None:
            assert [call.time for call in calls] == [self.due]
        else:
            assert calls == []
        if self.stopped or self.hurried:
            assert self.open is None or self.open.ending


def _nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("seed", range(10))
def test_any_order(seed: int) -> None:
    """One attempt or connection at a time, each pause once, none in a hurry, and nothing after a stop."""
    attempts = stops = 0
    for number in range(200):
        world = World(1000 * seed + number)
        world.kept.start()
        world.check()
        for _ in range(20):
            world.step()
        world.stop()
        world.lose()
        world.check()
        attempts += world.attempts
        stops += len(world.done)
    assert attempts > 600
    assert stops > 200


def test_stop_before_start() -> None:
    """What was never started is stopped at once."""
    world = World(0)
    world.stop()
    assert world.done == [None]


def test_a_cancelled_stop_stops_all_the_same() -> None:
    """Whoever no longer waits for the end does not prevent it."""
    world = World(0)
    closed: Deferred[None] = Deferred()
    connection = Connection(world)
    connection.abort = lambda: None  # type: ignore[method-assign]
    connection.closed = closed
    kept = KeepUp(lambda: succeed(connection), lambda _: 1.0, world.clock)
    kept.start()
    kept.stop().addErrback(lambda failure: failure.trap(CancelledError)).cancel()
    kept.stop().addCallback(world.done.append)
    assert world.done == []
    closed.callback(None)
    assert world.done == [None]


def test_an_attempt_that_raises_is_one_that_fails() -> None:
    """The next one follows after the pause."""
    begun: list[float] = []

    def connect() -> Deferred[Connection]:
        begun.append(clock.seconds())
        if len(begun) == 1:
            raise ValueError
        return fail(OSError())

    clock = Clock()
    kept = KeepUp(connect, float, clock)
    kept.start()
    clock.advance(1)
    clock.advance(2)
    assert begun == [0, 1, 3]
    kept.stop()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_an_attempt_may_end_with_anything(kind: type[BaseException]) -> None:
    """Some errors are no ``Exception``: a user's function that returns the password may raise them."""
    clock = Clock()
    attempts: list[Deferred[Any]] = []

    def connect() -> Deferred[Any]:
        attempts.append(Deferred())
        return attempts[-1]

    keeping = KeepUp(connect, lambda _: 1.0, clock)
    keeping.start()
    attempts[-1].errback(Failure(kind()))
    clock.advance(1.0)
    assert len(attempts) == 2
    stopped: list[None] = []
    keeping.stop().addCallback(stopped.append)
    assert stopped == [None]
