"""A clock that never steps, in the place of the reactor's.

Twisted's reactors go by the wall clock (twisted#2424). When that is set back, a call of theirs that is due now waits
until the wall clock has caught up; when it is set ahead, every deadline has passed. So nothing of coord stands on the
reactor's timers, not even the calls of its next round: `steady` returns a stand-in for a reactor that keeps the time
itself, by a clock that goes on while the machine sleeps, and hands everything else to the reactor.
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

_DEAD_KEPT: Final = 64
"""Entries of calls that are over, of which it is not worth to be rid."""

# What Twisted makes with a reactor's timers in it; made by the same methods, it goes by ours.
_MAKERS: Final = frozenset({"connectTCP", "connectUNIX", "spawnProcess"})

_clocks: WeakValueDictionary[int, SteadyClock] = WeakValueDictionary()


def steady(reactor: Any) -> Any:
    """Return what stands in for a reactor and keeps steady time; the same one while the reactor has one.

    A clock that does not run by itself, such as ``task.Clock``, is returned as it is.
    """
    if isinstance(reactor, SteadyClock | Clock) or not IReactorFDSet.providedBy(reactor):
        return reactor
    # By its identity, which is no other's as long as its clock is there.
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
    """See the module's text. It stands in for ``reactor``, and has descriptors only while something is pending."""

    _log = Logger()
    seconds = staticmethod(now)

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        # What is due next is first, and of what is due at once, what was asked for first. A call that was cancelled or
        # moved ahead leaves its entry behind.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()
        self._pending = 0
        self._timer: Timer | None = None
        self._pipe: Pipe | None = None
        # What has its own way with timers may look at the clock when it is asked for one.
        self._plain = getattr(reactor.callLater, "__func__", None) is ReactorBase.callLater
        # When the timer ends; whether we are called in the reactor's next round anyway.
        self._armed = inf
        self._signalled = False
        directlyProvides(self, IReactorTime, providedBy(reactor))

    def __repr__(self) -> str:
        return f"<steady clock of {self.reactor!r}>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.reactor, name)
        if name in _MAKERS:
            function: Any = getattr(found, "__func__", None)
            # Not where the user has a method of their own.
            if getattr(function, "__module__", "") == "twisted.internet.posixbase":
                return MethodType(function, self)
        return found

    # What Twisted asks of a clock (IReactorTime).

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:  # noqa: A002
        """Call it once, ``delay`` seconds from now, and never in this turn."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        at = now() + delay
        call = DelayedCall(at, callable, args, kw, self._cancelled, self._moved_ahead, now)
        self._pending += 1
        heappush(self._heap, (at, next(self._order), call))
        self._wake_at(at)
        return call

    def call_soon(self, callable: Callable[[], object]) -> DelayedCall:  # noqa: A002
        """Call it in the next turn: ``callLater(0, ...)`` at half its price, which can be cancelled but not moved."""
        if not self._plain:
            return self.callLater(0, callable)
        call: DelayedCall = self.reactor.callLater(0, callable)
        # Due since 1970: whatever the wall clock shows when the reactor looks.
        call.time = 0.0
        return call

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """Return the calls that are pending."""
        return list(dict.fromkeys(call for _, _, call in self._heap if call.active()))

    def _cancelled(self, _: DelayedCall) -> None:
        self._pending -= 1
        if not self._pending:
            # In the next round, for something may be asked for in this one: see `_run`.
            self._wake_at(now())
        self._compact()

    def _moved_ahead(self, call: DelayedCall) -> None:
        heappush(self._heap, (call.time, next(self._order), call))
        self._wake_at(call.time)
        self._compact()

    def _compact(self) -> None:
        """Drop the entries of calls that are over once they are the most: each costs its part of this once."""
        if len(self._heap) > 2 * self._pending + _DEAD_KEPT:
            self._heap[:] = [entry for entry in self._heap if entry[2].active() and entry[2].time == entry[0]]
            heapify(self._heap)

    # Waking.

    def _wake_at(self, at: float) -> None:
        """See that the reactor wakes us by then."""
        if self._signalled or at >= self._armed:
            return
        try:
            if at <= now():
                self._wake_next()
            else:
                self._set_timer(at)
        except OSError as error:
            # No descriptor is left. A timer that may step is better than none, and then we look again.
            self._log.warn("coord's clock goes by the reactor's: {error}", error=error)
            self.reactor.callLater(min(max(at - now(), 0.0), 1.0), self._run)

    def _wake_next(self) -> None:
        """Be called in the reactor's next round. A timer that has ended already takes the kernel ten times as long."""
        if self._plain:
            self.call_soon(self._on_signal)
        else:
            self._open_pipe().signal()
        self._signalled = True

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
        """Close the descriptors, until they are needed again; see `forget_inherited`."""
        pipe, self._pipe, timer, self._timer = self._pipe, None, self._timer, None
        self._armed = inf
        if pipe is not None:
            self._signalled = False
        for each in (timer, pipe):
            if each is not None:
                each.close(inherited=inherited)

    def _on_signal(self) -> None:
        self._signalled = False
        self._run()

    def _run(self) -> None:
        """Make the calls that are due, but none that is asked for meanwhile."""
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
            except BaseException:  # noqa: BLE001 - as a reactor does: the others are no worse for it
                self._log.failure("while handling timed call {call}", call=call)
        if self._pending:
            self._wake_at(heap[0][0])
        else:
            heap.clear()
            self.close()
