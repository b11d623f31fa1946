"""Sending the calls of a node: batches, repetitions, deadlines (F1-F3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import LOCK, REPEATED, Batch, Call, CallQueue, Outcome, parse_reply
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.quoting import quoted
from coord.core.records import COUNTED, EXPIRED, SILENT, Applied, Counted, StoredRecord
from coord.core.subscriptions import Wake
from coord.errors import Closed, CorruptRecord, Error, Unconfirmed, Unreachable
from coord.link.one_shot import resolve
from coord.link.replies import LinkLeft, LinkLost, ServerError, explain, will_pass
from coord.session.commands import Commands
from coord.session.node import Node
from coord.session.replicas import Replicas
from coord.session.settings import OUTCOMES_KEPT

if TYPE_CHECKING:
    from coord.link.map_link import AnyLink

__all__ = ["CallSender"]

_LARGE: Final = 4096
"""Values with more bytes of JSON than this are left out of the history."""

_RECOUNT_INTERVAL: Final = 1.0
"""Seconds between two counts of the pending calls while they are at their limit."""


class CallSender:
    """All unanswered calls of a node.

    :param deliver: wakes this node's waiters, before the caller's Deferred is called (W7).
    :param postpone: schedules `resume` after a pause; called with the server's message.
    """

    log = Logger()

    def __init__(
        self,
        node: Node,
        link: AnyLink,
        commands: Commands,
        table: KeyTable,
        deliver: Callable[[Wake], None],
        postpone: Callable[[str], None],
    ) -> None:
        self._link = link
        self._commands = commands
        self._table = table
        self._clock = node.clock
        self._node = node.name
        self._incarnation = node.incarnation.encode()
        self._node_bytes = node.name.encode()
        settings = node.settings
        kept = settings.history, int(settings.retention * 1000), OUTCOMES_KEPT, _LARGE
        cluster = link.target.cluster
        # The flags of a usual and of a named call; see `apply.lua`.
        self._flags = (b"-", b"n") if cluster is None else (b"c", b"cn") if cluster.classic else (b"s", b"sn")
        self._limits = b"%d %d %d %d" % kept
        self._deliver = deliver
        self._postpone = postpone
        self._counters = node.counters
        self._replicas = Replicas(link, node.clock, node.counters)
        self._queues: dict[MapState, CallQueue] = {}
        # The queues that may have a batch to send now, so that the queues of all maps need not be checked. Calls in the
        # other queues wait for the answer to an earlier batch.
        self.ready: dict[MapState, CallQueue] = {}
        # A heap of the times at which to check the deadlines of a map: its earliest one, though most calls are answered
        # long before. One timer serves all, and is set for the first.
        self._checks: list[tuple[float, int, MapState, CallQueue]] = []
        self._tie_breaker = count()
        self._timer: Any = None
        self._next_check = inf
        # An upper bound of the pending calls: it includes those answered since the last count.
        self._pending = 0
        self._recount_at = -inf
        self._max_pending = settings.max_pending_calls

    def __len__(self) -> int:
        # A copy: metrics are read in any thread.
        return sum(map(len, list(self._queues.values()))) + len(self._replicas)

    def add(self, map_state: MapState, call: Call) -> None:
        """Queue a call, to be sent with the next batch of its map."""
        queue = self._queues.get(map_state)
        if self._pending >= self._max_pending and self._is_full(queue):
            call.done = True
            pending = f"{self._pending} calls wait for it already (max_pending_calls)"
            self._fail([call], lambda: Unreachable(f"{self._why_late(queue, '')}; {pending}: not applied"))
            return
        if queue is None:
            # An earlier queue of this map may have been forgotten. The next number in the order of calls is above every
            # number of its batches, so that batches still under way are refused.
            queue = self._queues[map_state] = CallQueue(self._table.order())
        self._pending += 1
        self.ready[map_state] = queue
        if queue.add(call):
            self._check_at(call.deadline, map_state, queue)

    def forget(self) -> None:
        """Forget empty queues; else a node that calls on ever new maps would keep them for ever."""
        for map_state, queue in [entry for entry in self._queues.items() if not entry[1]]:
            self._forget(map_state, queue)
        self._checks = [entry for entry in self._checks if entry[0] == entry[3].due]
        heapify(self._checks)

    def _forget(self, map_state: MapState, queue: CallQueue) -> None:
        """Forget an empty queue, and do not check its deadlines any more: its map may get a new queue."""
        queue.due = inf
        del self._queues[map_state]
        self.ready.pop(map_state, None)

    def send(self) -> None:
        """Send all batches that need not wait for an answer.

        Only the queues in ``ready`` are checked, so the cost does not grow with the number of maps.
        """
        ready, self.ready = self.ready, {}
        for map_state, queue in ready.items():
            while (batch := queue.next()) is not None:
                self._send(map_state, queue, batch)

    def link_made(self) -> None:
        """Send all unanswered batches of the last link again, unchanged (F2)."""
        self._recount_at = -inf
        for map_state, queue in self._queues.items():
            for batch in queue.sent:
                batch.repeated = batch.in_doubt
                batch.early, batch.postponed = False, ""
                self._send(map_state, queue, batch)
        self._replicas.link_made()

    def resume(self) -> None:
        """Send all postponed batches again, in order; later batches of their maps have waited (F1)."""
        for map_state, queue in self._queues.items():
            for batch in list(queue.sent):
                if batch.postponed:
                    batch.postponed = ""
                    self._send(map_state, queue, batch)

    def fail_unsent(self, error: Error) -> None:
        """Fail every call that was never sent, with this error."""
        for queue in list(self._queues.values()):
            self._fail(queue.drop_unsent(), lambda: type(error)(*error.args))

    def close(self) -> None:
        """Fail every call: `Closed` if it was never sent, else `Unconfirmed`."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        # The callback of an expired call may have called this.
        self._checks.clear()
        for queue in list(self._queues.values()):
            unsent, unconfirmed = queue.expire(float("inf"))
            self._fail(unsent, lambda: Closed("closed before the call was sent: it was not applied"))
            self._fail(
                unconfirmed, lambda: Unconfirmed("closed before the call was answered: it may have been applied")
            )
        self._replicas.close()

    def fail_inherited(self, error: Callable[[], Error]) -> None:
        """Fail every call, without logging: the answers go to the parent process."""
        for queue in list(self._queues.values()):
            for calls in queue.expire(float("inf")):
                for call in calls:
                    resolve(call.result, error())
        self._replicas.fail_inherited(error)

    # One batch.

    def _send(self, map_state: MapState, queue: CallQueue, batch: Batch) -> None:
        args = (self._settings(map_state, queue, batch), *batch.args, *batch.nodes(self._node))
        context = (map_state, queue, batch)
        # In a batch of many, the answer is as urgent as the wake-ups: the next batch waits for it.
        alone = len(batch.calls) == 1
        answer = self._commands.apply(map_state.names, args, others_first=alone)
        answer.addCallbacks(self._answered, self._unanswered, callbackArgs=context, errbackArgs=context)
        answer.addErrback(self._internal_error, queue, batch)

    def _settings(self, map_state: MapState, queue: CallQueue, batch: Batch) -> bytes:
        """Return the first argument of ``apply.lua``."""
        name, seen = batch.name, map_state.seen_revision
        return b"%b %d %d %d %d %b %b %b %b" % (
            self._flags[name is not None],
            batch.number,
            queue.before(batch),
            seen.generation,
            seen.number,
            self._incarnation if name is None else name.incarnation.encode(),
            self._node_bytes,
            map_state.names.doorbell,
            self._limits,
        )

    def _answered(self, reply: bytes, map_state: MapState, queue: CallQueue, batch: Batch) -> None:
        if not queue.answered(batch):
            return
        # Send the next batch first: the server works on it while this reply is parsed and delivered.
        self.ready[map_state] = queue
        self._send_next()
        try:
            outcomes = parse_reply(reply, batch.calls, self._node)
        except ValueError:
            # Another program has replaced the outcome that the script remembered.
            names = map_state.names
            message = f"CORRUPT {names.records.decode()} has no outcome of a call of ours where one should be"
            self._refuse(batch, lambda: _refusal(message, names.name, batch))
            return
        if self._link.guest:
            names, prefix = map_state.names, map_state.names.prefix
            self._link.call_across([names.doorbell, *dict.fromkeys(prefix + call.key for call in batch.calls)])
        self._counters.batches += 1
        self._counters.calls += len(batch.calls)
        self._report(map_state, batch, outcomes, repeated=reply.startswith(REPEATED))
        self._replicas.count()
        # Send what the callbacks have requested: a loop of single calls saves some 5 us a call.
        self._send_next()

    def _report(self, map_state: MapState, batch: Batch, outcomes: Iterable[Outcome], *, repeated: bool) -> None:
        """For each call, wake this node's waiters first, and then resolve its result (W7).

        :param repeated: the server remembered the outcomes, and the keys may have changed since.
        """
        table, prefix = self._table, map_state.names.prefix
        learn = table.call_repeated if repeated else table.call_applied
        # The first call of that name may have been another node's, from before the waits here.
        own = not (repeated and batch.name)
        newest: StoredRecord | None = None
        firsts = 0
        for call, outcome in zip(batch.calls, outcomes, strict=True):
            channel = prefix + call.key
            firsts += outcome.first
            if outcome.first and not repeated and not table.is_tracked(channel):
                newest = outcome.stored
            elif outcome.error is None:
                # If the call wrote no record, that is older than the call and wakes no pulse waiters.
                wrote = outcome.first and own and call.kind is not EXPIRED
                wake = learn(map_state, channel, outcome.stored, call.order if wrote else 0)
                if wake is not None:
                    self._deliver(wake)
            if not call.done:
                call.done = True
                self._resolve(map_state, call, outcome)
        self._counters.firsts += firsts
        if newest is not None:
            table.note_seen(map_state, newest.revision)

    def _send_next(self) -> None:
        """Send the calls that have gathered, and those made by callbacks, if there is a link."""
        if self._link.up:
            self.send()

    def _resolve(self, map_state: MapState, call: Call, outcome: Outcome) -> None:
        """Resolve the result of a call, now or once its replicas have it."""
        stored = outcome.stored
        if outcome.error is not None:
            self._counters.refusals += 1
            self._fail([call], lambda: explain(outcome.error or "", quoted(call.key.decode())))
            return
        if call.letter == LOCK:
            call.result.callback(outcome)
            return
        if call.kind is COUNTED:
            applied: Applied = Counted(stored, outcome.first, map_state.names.name, call.key, outcome.count)
        else:
            applied = Applied(stored, outcome.first, map_state.names.name, call.key)
        if not outcome.first or call.name is not None or call.kind in SILENT:
            # Another node may have written this record.
            try:
                _ = applied.record
            except CorruptRecord as error:
                call.result.errback(error)
                return
        if call.replication[0]:
            self._replicas.add(call, applied)
        else:
            call.result.callback(applied)

    def _unanswered(self, failure: Failure, map_state: MapState, queue: CallQueue, batch: Batch) -> None:
        failure.trap(LinkLost, ServerError)
        if failure.check(LinkLost):
            # The batch keeps its place, and is sent again on the next link.
            if failure.check(LinkLeft):
                batch.postponed = str(failure.value)
            return
        if batch not in queue.sent:
            # The batch was given up, and its queue may be forgotten.
            return
        self.ready[map_state] = queue
        message = str(failure.value)
        if message.startswith("EARLY "):
            # The batch keeps its place, and is sent again when the one before it is answered.
            batch.early = True
            self._send_next()
        elif will_pass(message, writing=True):
            batch.postponed = message
            self._postpone(message)
        elif queue.answered(batch):
            self._refuse(batch, lambda: _refusal(message, map_state.names.name, batch))

    def _refuse(self, batch: Batch, error: Callable[[], Error]) -> None:
        """Fail all calls of a batch with this error."""
        for call in batch.calls:
            if not call.done:
                call.done = True
                self._fail([call], error)
        self._send_next()

    def _internal_error(self, failure: Failure, queue: CallQueue, batch: Batch) -> None:
        self.log.failure("internal error", failure)
        self._link.abandon(f"an answer could not be understood: {failure.getErrorMessage()}")
        if batch not in queue.sent:
            # The batch was answered and will not be again: its other callers must not wait for ever.
            self._refuse(batch, lambda: Unconfirmed("an internal error came between: it may have been applied"))

    def _fail(self, calls: Iterable[Call], error: Callable[[], Error]) -> None:
        """Fail these calls; the callback of one may cancel others."""
        for call in calls:
            if not call.result.called:
                why = error()
                self._counters.call_failed(why)
                call.result.errback(why)

    # Deadlines.

    def _set_timer(self, due: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._next_check = due
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._expire)

    def _check_at(self, due: float, map_state: MapState, queue: CallQueue) -> None:
        """Check a map's deadlines at this time, and not later."""
        queue.due = due
        heappush(self._checks, (due, next(self._tie_breaker), map_state, queue))
        if due < self._next_check:
            self._set_timer(due)

    def _expire(self) -> None:
        now, self._next_check = self._clock.seconds(), inf
        late: list[tuple[MapState, CallQueue]] = []
        while self._checks and self._checks[0][0] <= now:
            due, _, map_state, queue = heappop(self._checks)
            # The queue may have been checked earlier, or forgotten.
            if due == queue.due:
                queue.due = inf
                late.append((map_state, queue))
        for map_state, queue in late:
            self._expire_one(map_state, queue, now)
        if self._checks and self._checks[0][0] < self._next_check:
            self._set_timer(self._checks[0][0])
        self._send_next()

    def _expire_one(self, map_state: MapState, queue: CallQueue, now: float) -> None:
        message = f"{self._why_late(queue, ' in time')}: not applied"
        shown = self._link.target.shown
        doubt = f"sent to {shown}, not answered in time: it may have been, or may yet be, applied"
        length = len(queue)
        unsent, unconfirmed = queue.expire(now)
        self._pending -= length - len(queue)
        earliest = queue.earliest()
        if earliest is not None and earliest < queue.due:
            self._check_at(earliest, map_state, queue)
        if queue:
            self.ready[map_state] = queue
        elif earliest is None:
            # Do not wait for the next heartbeat, which may take long.
            self._forget(map_state, queue)
        self._fail(unsent, lambda: Unreachable(message))
        self._fail(unconfirmed, lambda: Unconfirmed(doubt))

    def _is_full(self, queue: CallQueue | None) -> bool:
        """Whether calls of this map cannot be sent now, and no more calls may be pending."""
        now = self._clock.seconds()
        if now >= self._recount_at:
            for each in self._queues.values():
                each.drop_over()
            self._pending = sum(map(len, self._queues.values()))
            # Near the limit, each further call would count again.
            self._recount_at = now + _RECOUNT_INTERVAL if self._pending > self._max_pending * 7 / 8 else now
        stuck = not self._link.up or (queue is not None and queue.postponed)
        return bool(stuck) and self._pending >= self._max_pending

    def _why_late(self, queue: CallQueue | None, when: str) -> str:
        """Return the reason why calls were not applied."""
        if self._link.up:
            did, why = "did not take it", queue.postponed if queue is not None else ""
        else:
            did, why = "was not reached", self._link.trouble
        return f"{self._link.target.shown} {did}{when}{f' ({why})' if why else ''}"


def _refusal(message: str, name: str, batch: Batch) -> Error:
    if batch.repeated and not message.startswith("REUSED "):
        # Only the repetition was refused: the first try may have been applied, and its answer lost.
        return Unconfirmed(f"{name}: sent, not answered, and then refused ({message}): it may have been applied")
    return explain(message, name)
