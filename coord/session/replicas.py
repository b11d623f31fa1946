"""Calls that are applied, and wait for so many replicas to have them (F4).

They stand here and not in the way of other calls: their numbers are answered. One count serves all whose outcome came
before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from coord.core.calls import Call
from coord.core.quoting import quoted
from coord.core.records import Applied
from coord.errors import AccessDenied, Error, NotReplicated
from coord.link.one_shot import resolve
from coord.link.replies import LinkLost, ServerError, explain
from coord.session.counters import Counters

if TYPE_CHECKING:
    from coord.link.map_link import AnyLink

__all__ = ["Replicas"]

_PAUSE: Final = 0.1
"""Seconds before WAIT is sent again, if it was refused or answered at once."""

_CLOSED: Final = "the coordinator was closed before the replicas had it"


class _Applied:
    """An applied call, and the ``count`` of replicas that have it; ``over``: its result is resolved.

    ``data`` identifies the server's data that it was applied to. ``asked``: it was counted before. ``offset`` is a
    replication offset of the server after the call; -1 while it is unknown.
    """

    __slots__ = ("applied", "asked", "call", "count", "data", "due", "offset", "over")

    def __init__(self, call: Call, applied: Applied, due: float, data: Any) -> None:
        self.call = call
        self.applied = applied
        self.due = due
        self.data = data
        self.asked = self.over = False
        self.offset = -1
        self.count = 0


class Replicas:
    """The applied calls of a node that not enough replicas have confirmed."""

    log = Logger()

    def __init__(self, link: AnyLink, clock: Any, counters: Counters) -> None:
        self._counters = counters
        self._link = link
        self._clock = clock
        self._held: list[_Applied] = []
        self._doubt = ""
        # The count that is under way.
        self._counting: object = None
        self._closed = False
        self._pausing: Deferred[None] | None = None
        # One timer for all deadlines, set for the earliest.
        self._timer: Any = None
        self._due = float("inf")

    def __len__(self) -> int:
        return len(self._held)

    def add(self, call: Call, applied: Applied) -> None:
        """Add an applied call; it is resolved once its replicas have it. `count` begins to ask."""
        due = self._clock.seconds() + call.replication[1] / 1000
        held = _Applied(call, applied, due, self._link.data)
        self._held.append(held)
        if self._closed:
            # The callback of a call in the same batch has closed the node.
            self._give_up([held], _CLOSED)
            return
        if due < self._due:
            self._set_timer(due)

    def count(self) -> None:
        """Ask how many replicas have the calls, unless this is under way."""
        if self._held and self._counting is None and self._link.up:
            self._counting = count = object()
            Deferred.fromCoroutine(self._count(count)).addErrback(self._internal_error)

    def link_made(self) -> None:
        """Go on with the calls that the server's data contains; fail the others."""
        other = [held for held in self._held if not self._link.has_still(held.data)]
        self._give_up(other, "the server may have other data since")
        for held in self._held:
            held.data = self._link.data
        # On a cluster, the last count may still be under way: the map has left its server, whose link goes on.
        self._counting = None
        if self._pausing is not None:
            self._pausing.cancel()
        self.count()

    def close(self) -> None:
        """Fail all calls."""
        for waiting in (self._pausing, self._timer if self._timer is not None and self._timer.active() else None):
            if waiting is not None:
                waiting.cancel()
        self._closed = True
        self._give_up(self._held, _CLOSED)

    def fail_inherited(self, error: Callable[[], Error]) -> None:
        """Fail all calls with this error, without logging."""
        for held in self._take(self._held):
            resolve(held.call.result, error())

    # Counting.

    async def _count(self, count: object) -> None:
        try:
            while self._held and self._link.up and self._counting is count:
                if await self._count_once() and self._counting is count:
                    self._pausing = deferLater(self._clock, _PAUSE)
                    await self._pausing
        except (LinkLost, CancelledError):
            # The next link counts again; or this was closed.
            return
        finally:
            if self._counting is count:
                self._counting = None

    async def _count_once(self) -> bool:
        """Count once; return whether to make a pause before the next time."""
        # Drop the cancelled ones.
        self._held = [held for held in self._held if not held.call.result.called]
        # A copy: this count does not include the calls that are added while it is under way.
        covered = self._held.copy()
        if not covered:
            return False
        wanted = min([held.call.replication[0] for held in covered])
        begun, due = self._clock.seconds(), min([held.due for held in covered])
        new = any([not held.asked for held in covered])  # noqa: C419 - a list is twice as fast as a generator
        # INFO also finds replicas that take longer than one WAIT lasts.
        on_progress = partial(self._note_progress, covered) if any([held.asked for held in covered]) else None  # noqa: C419
        try:
            count = await self._link.count_replicas(wanted, due, on_progress, new=new)
        except ServerError as error:
            self._doubt = str(error)
            if isinstance(explain(self._doubt, ""), AccessDenied):
                self._give_up(covered)
                return False
            count = 0
        else:
            # Not before: a deadline that comes during this attempt has the reason of the last one.
            self._doubt = ""
        for held in covered:
            held.asked = True
            held.count = max(held.count, count)
        self._answer(covered)
        return count < wanted and self._clock.seconds() - begun < min(due - begun, _PAUSE) / 10

    def _note_progress(self, covered: list[_Applied], offset: int, replicas: list[int]) -> None:
        """Take the replication offsets of the server and of each replica."""
        for held in covered:
            if held.offset < 0:
                held.offset = offset
            elif held.asked:
                held.count = max(held.count, sum([each >= held.offset for each in replicas]))
        self._answer(covered)

    def _answer(self, covered: list[_Applied]) -> None:
        """Resolve the calls that have enough replicas."""
        for held in self._take([held for held in covered if held.count >= held.call.replication[0]]):
            # One of these callbacks may cancel another call.
            if not held.call.result.called:
                held.call.result.callback(held.applied)

    def _take(self, those: list[_Applied]) -> list[_Applied]:
        """Remove some calls, and return those that were not removed before."""
        taken = [held for held in those if not held.over]
        for held in taken:
            held.over = True
        if taken:
            self._held = [held for held in self._held if not held.over]
        return taken

    # Giving up.

    def _give_up(self, those: list[_Applied], why: str = "") -> None:
        for held in self._take(those):
            wanted, milliseconds = held.call.replication
            said = why or self._doubt or f"{held.count} of {wanted} replicas have it after {milliseconds / 1000:g} s"
            if not held.call.result.called:
                message = f"{quoted(held.call.key.decode())}: applied, but {said}"
                error = NotReplicated(message, held.applied)
                self._counters.call_failed(error)
                held.call.result.errback(error)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self._due = float("inf")
        now = self._clock.seconds()
        self._give_up([held for held in self._held if held.due <= now])
        earliest = min([held.due for held in self._held], default=self._due)
        if earliest < self._due:
            self._set_timer(earliest)

    def _internal_error(self, failure: Any) -> None:
        self.log.failure("internal error", failure)
        self._link.abandon("an internal error; starting over")
