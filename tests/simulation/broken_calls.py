"""Mistakes about calls: F1 to F4."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from twisted.internet.defer import Deferred

from coord.core.calls import Call, CallQueue
from coord.core.records import Applied, Kind, Revision, StoredRecord
from coord.session.call_sender import CallSender
from coord.session.replicas import Replicas
from simulation.breaking import replace, rewrite, variant


@variant("the caller is answered when the call is sent", "F1")
def _answered_when_sent(stack: ExitStack) -> None:
    def send(call_sender: CallSender, map_state: Any, queue: Any, batch: Any) -> None:
        old(call_sender, map_state, queue, batch)
        for call in batch.calls:
            if not call.done and call.kind is not Kind.RESET:
                call.done = True
                head = map_state.seen_revision
                made = StoredRecord.of_call(call.kind, Revision(head.generation, head.number + 1), 0, "n", call.data)
                name = map_state.names.name
                call.result.callback(Applied(made.record(name, call.key.decode()), True))

    old = replace(stack, CallSender, "_send", send)


@variant("calls overtake each other", "F1")
def _out_of_order(stack: ExitStack) -> None:
    def add(call_sender: CallSender, map_state: Any, call: Call) -> None:
        old(call_sender, map_state, call)
        call_sender._queues[map_state].gathering.rotate()

    old = replace(stack, CallSender, "add", add)


@variant("a call number answered before is applied again", "F1", "F2")
def _applied_again(stack: ExitStack) -> None:
    rewrite(stack, ("if done == called then", "if false then"))


@variant("a token in the record, in place of the call number, tells a repetition", "F1", "F2")
def _token_in_record(stack: ExitStack) -> None:
    decided = "outcome, tail, value, as, by = decide(kind, key, old, value, ttl, i)"
    same = "kind ~= RESET and sub(old, -#value) == value"
    rewrite(
        stack,
        ("if done == called then", "if false then"),
        (decided, f"if {same} then outcome = '*' else {decided} end"),
    )


@variant("a copy that comes late, of a call that was given up, is applied", "F1", "F2")
def _stale_applied(stack: ExitStack) -> None:
    rewrite(stack, ("if latest > number then", "if false then"))


@variant("a batch that came too early is forgotten", "F1", "F3")
def _early_forgotten(stack: ExitStack) -> None:
    def again(queue: CallQueue) -> Any:
        for batch in queue.sent:
            batch.early = False
        return old(queue)

    old = replace(stack, CallQueue, "next", again)


@variant("a batch that was not answered is sent under a new number", "F1", "F2")
def _new_number(stack: ExitStack) -> None:
    def linked(call_sender: CallSender) -> None:
        for queue in call_sender._queues.values():
            for batch in queue.sent:
                queue._number += 1
                batch.number = queue._number
        old(call_sender)

    old = replace(stack, CallSender, "link_made", linked)


@variant("a deadline does not ask whether the call was sent", "F3")
def _all_unreachable(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        unsent, unconfirmed = old(queue, now)
        return [*unsent, *unconfirmed], []

    old = replace(stack, CallQueue, "expire", expire)


@variant("a call that was never sent leaves a doubt", "F3")
def _all_unconfirmed(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        unsent, unconfirmed = old(queue, now)
        return [], [*unsent, *unconfirmed]

    old = replace(stack, CallQueue, "expire", expire)


@variant("a call that expired unsent is sent all the same", "F3")
def _sent_after_expiry(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        gathering = queue.gathering.copy()
        unsent, unconfirmed = old(queue, now)
        queue.gathering = gathering
        for call in unsent:
            again = Call(call.kind, call.key, call.data, now + 60, call.order, Deferred())
            gathering[gathering.index(call)] = again
        return unsent, unconfirmed

    old = replace(stack, CallQueue, "expire", expire)


@variant("revisions come from the server's clock alone", "W2", "W3", "W7", "F3", "watch")
def _clock_alone(stack: ExitStack) -> None:
    rewrite(stack, ("now + 0 > highest", "true"))


@variant("no new generation begins under another history", "W2", "W7", "F1", "F2", "watch", "link")
def _no_new_generation(stack: ExitStack) -> None:
    rewrite(stack, ("if actual ~= data or ahead", "if data == '' or ahead"))


@variant("a call is acknowledged without its replicas", "F4")
def _without_replicas(stack: ExitStack) -> None:
    def hold(_: Any, call: Any, applied: Any) -> None:
        call.result.callback(applied)

    replace(stack, Replicas, "add", hold)
