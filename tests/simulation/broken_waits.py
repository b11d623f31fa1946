"""Mistakes about waits: W1 to W8."""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.defer import Deferred, succeed

from coord.client import waits
from coord.client.events import EventMap
from coord.client.waits import Waiter
from coord.core.entries import Entry
from coord.core.keys import KeyTable
from coord.core.maps import HeadChange
from coord.core.records import NEVER, Revision, StoredRecord
from coord.core.subscriptions import Phase, Registry, Wake
from coord.core.values import decode
from coord.link.connections import Connections
from coord.session.call_sender import CallSender
from coord.session.delivery import Delivery
from coord.session.session import Session
from simulation.breaking import replace, rewrite, variant


def _call_whatever_happened(delivery: Delivery, wake: Wake) -> None:
    with delivery._arming:
        for waiter in cast("list[Waiter]", wake.waiters):
            waiter.wake(cast("StoredRecord", wake.stored), wake.entry.map.names)


@variant("what a read finds latched does not wake", "W1")
def _late(stack: ExitStack) -> None:
    def answered(table: KeyTable, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Any:
        return old(table, channel, ticket, head, None if stored is None or stored.latched else stored)

    old = replace(stack, KeyTable, "read_answered", answered)


@variant("the live cache does not answer before the subscript returns", "W1")
def _slow_cache(stack: ExitStack) -> None:
    def wait(table: KeyTable, map_state: Any, channel: bytes, waiter: Any) -> None:
        stored = old(table, map_state, channel, waiter)
        if stored is not None:
            table.waiting_turns.append((waiter, map_state, stored))  # type: ignore[attr-defined]

    def send(session: Session) -> None:
        turns, session.table.waiting_turns = session.table.waiting_turns, []  # type: ignore[attr-defined]
        for waiter, map_state, stored in turns:
            if not waiter.called:
                waiter.wake(stored, map_state.names)
        old_send(session)

    def session_wait(session: Session, map_state: Any, channel: bytes, waiter: Any) -> None:
        session.table.wait(map_state, channel, waiter)
        session.schedule()

    stack.enter_context(patch.object(KeyTable, "waiting_turns", [], create=True))
    old = replace(stack, KeyTable, "wait", wait)
    old_send = replace(stack, Session, "_send", send)
    replace(stack, Session, "wait", session_wait)


@variant("the key is read before its subscription is confirmed", "W1", "W2")
def _read_before_subscribe(stack: ExitStack) -> None:
    def take_subscribes(table: KeyTable, most: int) -> list[bytes]:
        channels: list[bytes] = old(table, most)
        for channel in channels:
            entry = table.subscriptions[channel]
            if isinstance(entry, Entry):
                entry.phase = Phase.READING
                table.read(entry)
        return channels

    old = replace(stack, Registry, "take_subscribes", take_subscribes)


@variant("any confirmation of a name is taken for the latest request's", "W2", "W3", "W7", "W8")
def _confirmation_by_name(stack: ExitStack) -> None:
    def release(table: KeyTable, subscription: Any) -> None:
        if subscription.needed or subscription.phase in (Phase.UNSUBSCRIBED, Phase.UNSUBSCRIBING):
            old(table, subscription)
            return
        # Left at once, and forgotten, whatever is still unanswered.
        table.drop(subscription)
        subscription.phase = Phase.UNSUBSCRIBING
        table._to_unsubscribe[subscription.channel] = subscription

    old = replace(stack, Registry, "release", release)


@variant("a key that was armed on the last link is not read again on the next", "W1", "W2")
def _no_reread(stack: ExitStack) -> None:
    def subscribed(table: KeyTable, channel: bytes) -> Any:
        bell = old(table, channel)
        entry = table.subscriptions.get(channel)
        if isinstance(entry, Entry) and any(order < 0 for order in entry.waiters.values()):
            entry.phase = Phase.ARMED
            entry.known_revision = entry.armed_revision
        return bell

    old = replace(stack, Registry, "subscribed", subscribed)


@variant("the two connections may be on two servers", "W1", "W2", "W7", "W8")
def _two_servers(stack: ExitStack) -> None:
    async def opened(pair: Connections) -> None:
        try:
            pair.process = await pair._connect(pair.command)
            await pair._connect(pair.subscriber)
            await pair._subscribe_own_channel()
            await pair.prove()
        except BaseException:
            pair.lose("the link could not be made")
            raise
        pair._schedule_heartbeat()

    async def prove(pair: Connections) -> None:
        def answered(_: object) -> None:
            proof, pair._proof = pair._proof, None
            if proof is not None:
                proof.callback(None)

        proof: Deferred[None] = Deferred()
        pair._proof = proof
        pair.command.ask(b"PING").addCallbacks(answered, lambda _: None)
        await proof

    replace(stack, Connections, "open", opened)
    replace(stack, Connections, "prove", prove)


@variant("a reset forgets the last wake", "W2")
def _wake_lost_at_reset(stack: ExitStack) -> None:
    rewrite(
        stack,
        (
            "local members = latched and pending_tail(word, revision, tail)",
            "local members = latched and ''",
        ),
    )


@variant("a pulse is not kept for those that were away", "W2")
def _pulse_not_kept(stack: ExitStack) -> None:
    def woken(entry: Entry, stored: Any, call_order: int) -> Any:
        if stored is not None and not stored.latched and entry.armed_revision != NEVER:
            return []
        return old(entry, stored, call_order)

    old = replace(stack, Entry, "_take_woken", woken)


@variant("waiters stay in the table when they are woken, and are resolved again", "W3", "noise")
def _resolve_twice(stack: ExitStack) -> None:
    replace(stack, Delivery, "deliver", _call_whatever_happened)
    replace(stack, Entry, "take_waiters", lambda entry: list(entry.waiters))


@variant("the youngest waiter is called first", "W3")
def _youngest_first(stack: ExitStack) -> None:
    def woken(entry: Entry, stored: Any, call_order: int) -> Any:
        return old(entry, stored, call_order)[::-1]

    old = replace(stack, Entry, "_take_woken", woken)


@variant("a wake also takes the waits made in its callbacks", "W3")
def _wake_goes_on(stack: ExitStack) -> None:
    def deliver(delivery: Delivery, wake: Any) -> None:
        old(delivery, wake)
        later, wake.entry.waiters = list(wake.entry.waiters), {}
        for waiter in later:
            if not waiter.called:
                waiter.wake(wake.stored, wake.entry.map.names)

    old = replace(stack, Delivery, "deliver", deliver)


@variant("waiters share one value", "W4")
def _shared_value(stack: ExitStack) -> None:
    stack.enter_context(patch.object(waits, "decode", lru_cache(decode)))


@variant("a waiter that its sibling cancelled is called all the same", "W4", "noise")
def _cancelled_and_called(stack: ExitStack) -> None:
    replace(stack, Delivery, "deliver", _call_whatever_happened)


@variant("nothing is ever unsubscribed", "W5")
def _no_unsubscribe(stack: ExitStack) -> None:
    def take_unsubscribes(table: KeyTable, most: int) -> list[bytes]:
        table._to_unsubscribe.clear()
        return []

    replace(stack, Registry, "take_unsubscribes", take_unsubscribes)


@variant("the live cache has no bound", "W5")
def _no_bound(stack: ExitStack) -> None:
    def keep(table: KeyTable, entry: Entry) -> None:
        table.cache_size = 1_000
        old(table, entry)

    old = replace(stack, Registry, "keep", keep)


@variant("close() forgets the waiters", "W3", "W6")
def _close_forgets(stack: ExitStack) -> None:
    replace(stack, Delivery, "give_up_all", lambda delivery, error: None)


@variant("close() leaves the deadlines' timer", "W6")
def _close_leaves_timer(stack: ExitStack) -> None:
    def close(call_sender: CallSender) -> None:
        timer, call_sender._timer = call_sender._timer, None
        old(call_sender)
        call_sender._timer = timer

    old = replace(stack, CallSender, "close", close)


@variant("the table hears of own outcomes from messages alone", "W7")
def _messages_alone(stack: ExitStack) -> None:
    replace(stack, KeyTable, "call_applied", lambda table, *news: None)
    replace(stack, KeyTable, "call_repeated", lambda table, *news: None)


@variant("the caller is told before the node's own waits", "W7")
def _caller_first(stack: ExitStack) -> None:
    def answered(call_sender: CallSender, answer: Any, map_state: Any, queue: Any, batch: Any) -> None:
        later: list[Wake] = []
        with patch.object(call_sender, "_deliver", later.append):
            old(call_sender, answer, map_state, queue, batch)
        for wake in later:
            call_sender._deliver(wake)

    old = replace(stack, CallSender, "_answered", answered)


@variant("a dead connection is never noticed", "W2", "W8", "link")
def _never_noticed(stack: ExitStack) -> None:
    replace(stack, Connections, "_silent", lambda pair, *owed: False)


@variant("record() answers from the live cache", "W8")
def _record_from_cache(stack: ExitStack) -> None:
    def record(events: EventMap, key: str) -> Any:
        entry = events._session.table.subscriptions.get(events._map.names.channel(key))
        if isinstance(entry, Entry) and entry.stored is not None:
            return succeed(entry.stored.record(events.name, key))
        return old(events, key)

    old = replace(stack, EventMap, "record", record)


@variant("a flush under a live link goes unnoticed", "W8")
def _flush_unnoticed(stack: ExitStack) -> None:
    replace(stack, HeadChange, "voids", lambda change, known: False)
