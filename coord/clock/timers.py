"""A clock that never steps, in the place of the reactor's.

Twisted's reactors use the wall clock (twisted#2424). If it is set back, a call that is due waits until the clock has
caught up; if it is set ahead, every deadline expires. So coord never uses the reactor's timers, not even for calls in
the next iteration: `steady` wraps a reactor with timers of its own, on a clock that also counts while the machine
sleeps, and delegates everything else to the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from types import MethodType
from typing import Any, Final
from weakref import WeakValueDictionary

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer, providedBy

from coord.clock.descriptors import Pipe, Timer, now, timer_of

__all__ = ["SteadyClock", "forget_inherited", "steady"]

_LOST: Final = 1.0
"""Seconds by which a wake-up is late until it is taken for lost."""

_DEAD_KEPT: Final = 64
"""How many entries of finished calls are too few to be worth removing."""

# Methods whose results use the reactor's timers; bound to a steady clock, they use ours.
_MAKERS: Final = frozenset({"connectTCP", "connectUNIX", "spawnProcess"})

_clocks: WeakValueDictionary[int, SteadyClock] = WeakValueDictionary()


def steady(reactor: Any) -> Any:
    """Return the steady clock that wraps a reactor; the same one as long as it exists.

    A clock that does not run by itself, such as ``task.Clock``, is returned as it is.
    """
    if isinstance(reactor, SteadyClock | Clock) or not IReactorFDSet.providedBy(reactor):
        return reactor
    # Keyed by id, which is unique while the clock keeps the reactor alive.
    clock = _clocks.get(id(reactor))
    if clock is None:
        clock = _clocks[id(reactor)] = SteadyClock(reactor)
    return clock


def forget_inherited(detach: Callable[[Any], None]) -> None:
    """In the child of a fork: close the clocks' descriptors, which are the parent's too; the parent notices nothing.

    What is still pending is made when the child uses the clock again, and not before.

    :param detach: has a reactor share nothing with the parent's, so that what is closed is closed here alone.
    """
    for clock in list(_clocks.values()):
        detach(clock.reactor)
        clock.close(inherited=True)


@implementer(IReactorTime)
class SteadyClock:
    """See the module's text. It wraps ``reactor``, and has descriptors only while a call is pending."""

    _log = Logger()
    seconds = staticmethod(now)

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        # Ordered by due time, then by order of scheduling. A call that was cancelled or rescheduled leaves its entry
        # behind.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()
        self._pending = 0
        self._timer: Timer | None = None
        self._pipe: Pipe | None = None
        # Our reactor for asyncio has a `call_soon`. Any other with its own callLater may read the wall clock there.
        self._call_soon: Callable[[Callable[[], object]], Any] | None = getattr(reactor, "call_soon", None)
        plain = getattr(reactor.callLater, "__func__", None) is ReactorBase.callLater
        self._plain = plain or self._call_soon is not None
        # When the timer expires; whether the reactor's next iteration calls us anyway.
        self._armed = inf
        self._signalled = False
        self._signalled_at = inf
        directlyProvides(self, IReactorTime, providedBy(reactor))

    def __repr__(self) -> str:
        return f"<steady clock of {self.reactor!r}>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.reactor, name)
        if name in _MAKERS:
            function: Any = getattr(found, "__func__", None)
            # Do not rebind a method that the user has replaced.
            if getattr(function, "__module__", "") == "twisted.internet.posixbase":
                return MethodType(function, self)
        return found

    # IReactorTime.

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:  # noqa: A002
        """Call it once, ``delay`` seconds from now, but never in this turn."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        at = now() + delay
        call = DelayedCall(at, callable, args, kw, self._cancelled, self._moved_ahead, now)
        self._pending += 1
        heappush(self._heap, (at, next(self._order), call))
        self._wake_at(at)
        return call

    def call_soon(self, callable: Callable[[], object]) -> Any:  # noqa: A002
        """Call it in the next turn: ``callLater(0, ...)`` at half the cost, but all one can do is to cancel it."""
        if self._call_soon is not None:
            return self._call_soon(callable)
        if not self._plain:
            return self.callLater(0, callable)
        call: DelayedCall = self.reactor.callLater(0, callable)
        # Due since 1970, so that it is due whatever the wall clock shows.
        call.time = 0.0
        return call

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """Return the pending calls."""
        return list(dict.fromkeys(call for _, _, call in self._heap if call.active()))

    def _cancelled(self, _: DelayedCall) -> None:
        self._pending -= 1
        if not self._pending:
            # Close in the next iteration, because a call may be scheduled in this one: see `_run`.
            self._wake_at(now())
        self._compact()

    def _moved_ahead(self, call: DelayedCall) -> None:
        heappush(self._heap, (call.time, next(self._order), call))
        self._wake_at(call.time)
        self._compact()

    def _compact(self) -> None:
        """Drop the entries of finished calls once they are the majority, at an amortized constant cost."""
        if len(self._heap) > 2 * self._pending + _DEAD_KEPT:
            self._heap[:] = [entry for entry in self._heap if entry[2].active() and entry[2].time == entry[0]]
            heapify(self._heap)

    # Waking.

    def _wake_at(self, at: float) -> None:
        """Make sure that the reactor wakes us by then."""
        if self._signalled or at >= self._armed:
            if min(self._armed, self._signalled_at) > now() - _LOST:
                return
            # The reactor is late, or was emptied by others, as trial does after a test that left something behind.
            self.close()
            self._signalled = False
            at = self._heap[0][0] if self._heap else at
        try:
            if at <= now():
                self._wake_next()
            else:
                self._set_timer(at)
        except OSError as error:
            # No descriptor is left. A timer that may step is better than none, and then we try again.
            self._log.warn("coord's clock falls back to the reactor's: {error}", error=error)
            self.reactor.callLater(min(max(at - now(), 0.0), 1.0), self._run)

    def _wake_next(self) -> None:
        """Be called in the reactor's next iteration: setting an expired timer takes the kernel ten times as long."""
        if self._plain:
            self.call_soon(self._on_signal)
        else:
            self._open_pipe().signal()
        self._signalled = True
        self._signalled_at = now()

    def _set_timer(self, at: float) -> None:
        if self._timer is None:
            self._timer = timer_of(self.reactor, self._run, self.close, self._open_pipe)
        self._timer.set(at)
        self._armed = at

    def _open_pipe(self) -> Pipe:
        if self._pipe is None:
            self._pipe = Pipe(self.reactor, self._on_signal, self.close)
        return self._pipe

    def close(self, *, inherited: bool = False) -> None:
        """Close the descriptors; they are opened again on demand. See `forget_inherited`."""
        pipe, self._pipe, timer, self._timer = self._pipe, None, self._timer, None
        self._armed = inf
        if pipe is not None:
            self._signalled = False
        for each in (timer, pipe):
            if each is not None:
                each.close(inherited=inherited)

    def _on_signal(self) -> None:
        self._signalled = False
        self._signalled_at = inf
        self._run()

    def _run(self) -> None:
        """Run the calls that are due, but none that they schedule."""
        start, end, heap = now(), next(self._order), self._heap
        if self._armed <= start:
            self._armed = inf
        while heap and heap[0][0] <= start and heap[0][1] < end:
            at, _, call = heappop(heap)
            if call.time != at or not call.active():
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                heappush(heap, (call.time, next(self._order), call))
                continue
            self._pending -= 1
            call.called = 1
            try:
                call.func(*call.args, **call.kw)
            except BaseException:  # noqa: BLE001 - as a reactor does: the other calls must still run
                self._log.failure("while handling timed call {call}", call=call)
        if self._pending:
            self._wake_at(heap[0][0])
        else:
            heap.clear()
            self.close()
