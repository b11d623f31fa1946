"""Virtual time on a heap: as `task.Clock`, but quick with many timers, and with a share of it for each node."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

__all__ = ["NodeClock", "Runaway", "SimClock", "Timer", "WallClock"]


_MOST = 20_000
"""Calls in one advance that are still credible."""

_POLL = 0.001
"""How long a node that was stopped may read before it runs what is due, seconds."""


class Runaway(Exception):
    """Something calls itself again and again, and no time passes."""


@implementer(IDelayedCall)
class Timer:
    """A call to come (IDelayedCall)."""

    __slots__ = ("_clock", "call", "cancelled", "done", "number", "owner", "time", "wall")

    def __init__(
        self, clock: SimClock, time: float, number: int, call: Callable[[], object], owner: NodeClock | None
    ) -> None:
        self._clock = clock
        self.time = time
        self.number = number
        self.call = call
        self.owner = owner
        # The clock that steps, where it goes by one.
        self.wall: WallClock | None = None
        self.cancelled = False
        self.done = False

    def active(self) -> bool:
        """Whether it is still to come."""
        return not (self.cancelled or self.done)

    def getTime(self) -> float:
        """When it is due."""
        return self.time

    def cancel(self) -> None:
        """Take it back; raises as Twisted's does where it is too late."""
        if self.cancelled:
            raise AlreadyCancelled
        if self.done:
            raise AlreadyCalled
        self.cancelled = True
        if self.owner is not None:
            self.owner.timers -= 1

    def reset(self, seconds: float) -> None:
        """Have it come so many seconds from now; raises as Twisted's does where it is too late."""
        if self.cancelled:
            raise AlreadyCancelled
        if self.done:
            raise AlreadyCalled
        self._clock.postpone(self, seconds)


@implementer(IReactorTime)
class SimClock:
    """Time that passes when it is told to (IReactorTime); calls due at one time run in the order they were made."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0

    def seconds(self) -> float:
        """Return the time: seconds since the world began."""
        return self._now

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Timer:
        """Have ``call`` run ``delay`` seconds from now."""
        return self.add(delay, call, args, kwargs, None)

    def add(self, delay: float, call: Callable[..., object], args: Any, kwargs: Any, owner: NodeClock | None) -> Timer:
        """Have ``call`` run in ``delay`` seconds, if its owner (``None``: the world) is awake then."""
        assert delay >= 0, f"a delay of {delay}"
        self._made += 1
        bound = (lambda: call(*args, **kwargs)) if args or kwargs else call
        timer = Timer(self, self._now + delay, self._made, bound, owner)
        heappush(self._heap, (timer.time, timer.number, timer))
        return timer

    def shift(self, wall: WallClock, seconds: float) -> None:
        """Have all that goes by a clock that has stepped come so much later, or sooner."""
        timers = [timer for _, number, timer in self._heap if number == timer.number]
        for timer in timers:
            if timer.wall is wall:
                timer.time = max(self._now, timer.time + seconds)
        self._heap = [(timer.time, timer.number, timer) for timer in timers]
        heapify(self._heap)

    def postpone(self, timer: Timer, seconds: float) -> None:
        """Have a timer come at another time; the entry of before counts no more."""
        self._made += 1
        timer.time, timer.number = self._now + seconds, self._made
        self.push(timer)

    def push(self, timer: Timer) -> None:
        """Put back one that was held."""
        heappush(self._heap, (timer.time, timer.number, timer))

    def next(self, until: float) -> bool:
        """Run the next call that is due until then, moving the time; answer whether there was one."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, number, timer = heappop(heap)
            owner = timer.owner
            if number != timer.number or timer.cancelled or (owner is not None and not owner.takes(timer)):
                continue
            if time > self._now:
                self._now = time
            timer.done = True
            timer.call()
            return True
        return False

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due meanwhile."""
        end = self._now + seconds
        for _ in range(_MOST):
            if not self.next(end):
                break
        else:
            raise Runaway(f"more than {_MOST} calls in {seconds:g} s")
        self._now = max(self._now, end)


@implementer(IReactorTime)
class NodeClock:
    """One node's share of the time: it can be frozen (a stopped process) and killed (a dead one)."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._held: list[Timer] = []
        self.timers = 0
        self.frozen = False
        self.dead = False

    def seconds(self) -> float:
        """Return the time."""
        return self._clock.seconds()

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Timer:
        """Have ``call`` run ``delay`` seconds from now, or later where the node is frozen then."""
        self.timers += 1
        return self._clock.add(delay, call, args, kwargs, self)

    def takes(self, timer: Timer) -> bool:
        """Whether the node is there to run ``timer``; one that is frozen runs it when it thaws."""
        if self.frozen and not self.dead:
            self._held.append(timer)
            return False
        self.timers -= 1
        return not self.dead

    def thaw(self, *, reads_first: bool = False) -> None:
        """Go on, with what was due meanwhile; or first with what has arrived, as a reactor that slept in its poll."""
        self.frozen = False
        held, self._held = self._held, []
        for number, timer in enumerate(held):
            if reads_first:
                # It may have been taken from the heap while nothing else was due, before its time.
                timer.time = max(timer.time, self.seconds() + _POLL * (1 + number / len(held)))
            self._clock.push(timer)


@implementer(IReactorTime)
class WallClock:
    """What a node's reactor goes by: the time of day, which steps. ``steady`` is the node's time itself."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._offset = 0.0
        self.steady = NodeClock(clock)

    def seconds(self) -> float:
        """Return the time of day."""
        return self.steady.seconds() + self._offset

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Timer:
        """Have ``call`` run when the time of day is ``delay`` seconds later, as Twisted's reactors do."""
        timer = self.steady.callLater(delay, call, *args, **kwargs)
        timer.wall = self
        return timer

    def step(self, seconds: float) -> None:
        """Set it forward, or back where negative."""
        self._offset += seconds
        self._clock.shift(self, -seconds)
