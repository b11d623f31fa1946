"""coord, broken on purpose: one mistake each, of the kind that somebody may make some day.

Each variant is a context manager that breaks something while it is open, and names the promises of which at least one
has to be seen broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred

from coord.client.queries import Queries
from coord.client.waits import Waiter
from coord.client.watch import Watch
from coord.core.calls import Call, CallQueue
from coord.core.entries import Entry, Phase
from coord.core.history import Cursor
from coord.core.keys import KeyTable
from coord.core.records import NEVER, Applied, Kind, Revision, Stored
from coord.link.pair import Pair
from coord.link.scripts import APPLY
from coord.session.outbox import Outbox
from coord.session.session import Session

__all__ = ["VARIANTS", "Variant"]

Break = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One mistake: what it is, which promises it breaks, and how to make it."""

    mistake: str
    promises: tuple[str, ...]
    make: Break

    @contextmanager
    def made(self) -> Iterator[None]:
        """Have coord make the mistake for a while."""
        with ExitStack() as stack:
            self.make(stack)
            yield


VARIANTS: list[Variant] = []


def _variant(mistake: str, *promises: str) -> Callable[[Break], Break]:
    def keep(make: Break) -> Break:
        VARIANTS.append(Variant(mistake, promises, make))
        return make

    return keep


def _replace(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Put ``new`` in the place of an attribute; return the old one."""
    old = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    stack.enter_context(patch.object(owner, name, new))
    return old


def _rewrite(stack: ExitStack, *changes: tuple[str, str]) -> None:
    """Change the text of ``apply.lua``."""
    text = APPLY.text.decode()
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} times in apply.lua: {old}"
        text = text.replace(old, new)
    _replace(stack, APPLY, "text", text.encode())
    _replace(stack, APPLY, "sha", sha1(text.encode(), usedforsecurity=False).hexdigest().encode())


# Waits.


@_variant("what a read finds latched does not wake", "W1")
def _late(stack: ExitStack) -> None:
    def answered(table: KeyTable, channel: bytes, ticket: int, head: Revision, stored: Stored | None) -> Any:
        return old(table, channel, ticket, head, None if stored is None or stored.latched else stored)

    old = _replace(stack, KeyTable, "answered", answered)


@_variant("the live cache does not answer before the subscript returns", "W1")
def _slow_cache(stack: ExitStack) -> None:
    def wait(table: KeyTable, map_state: Any, channel: bytes, waiter: Any) -> None:
        stored = old(table, map_state, channel, waiter)
        if stored is not None:
            table.waiting_turns.append((waiter, channel, stored))  # type: ignore[attr-defined]

    def send(session: Session) -> None:
        turns, session.table.waiting_turns = session.table.waiting_turns, []  # type: ignore[attr-defined]
        for waiter, channel, stored in turns:
            entry = session.table.subscriptions.get(channel)
            waiter.wake(entry.key if isinstance(entry, Entry) else "", stored)
        old_send(session)

    def session_wait(session: Session, map_state: Any, channel: bytes, waiter: Any) -> None:
        session.table.wait(map_state, channel, waiter)
        session.schedule()

    stack.enter_context(patch.object(KeyTable, "waiting_turns", [], create=True))
    old = _replace(stack, KeyTable, "wait", wait)
    old_send = _replace(stack, Session, "_send", send)
    _replace(stack, Session, "wait", session_wait)


@_variant("the key is read before its subscription is confirmed", "W1", "W2")
def _read_before_subscribe(stack: ExitStack) -> None:
    def take_joins(table: KeyTable, most: int) -> list[bytes]:
        channels: list[bytes] = old(table, most)
        for channel in channels:
            entry = table.subscriptions[channel]
            if isinstance(entry, Entry):
                entry.phase = Phase.READING
                table._read(entry)
        return channels

    old = _replace(stack, KeyTable, "take_joins", take_joins)


@_variant("any confirmation of a name is taken for the latest request's", "W2", "W3", "W7", "W8")
def _confirmation_by_name(stack: ExitStack) -> None:
    def release(table: KeyTable, subscription: Any) -> None:
        if subscription.needed or subscription.phase in (Phase.OUTSIDE, Phase.LEAVING):
            old(table, subscription)
            return
        # Left at once, and forgotten, whatever is still unanswered.
        table._drop(subscription)
        subscription.phase = Phase.LEAVING
        table._leaves[subscription.channel] = subscription

    old = _replace(stack, KeyTable, "_release", release)


@_variant("a key that was armed on the last link is not read again on the next", "W1", "W2")
def _no_reread(stack: ExitStack) -> None:
    def joined(table: KeyTable, channel: bytes) -> Any:
        bell = old(table, channel)
        entry = table.subscriptions.get(channel)
        if isinstance(entry, Entry) and any(order < 0 for order in entry.waiters.values()):
            entry.phase = Phase.ARMED
            entry.known = entry.base
        return bell

    old = _replace(stack, KeyTable, "joined", joined)


@_variant("the two connections may be on two servers", "W1", "W2", "W7", "W8")
def _two_servers(stack: ExitStack) -> None:
    async def opened(pair: Pair) -> None:
        try:
            pair.process = await pair._connect(pair.command)
            await pair._connect(pair.subscriber)
            await pair._hear_own_channel()
            await pair.prove()
        except BaseException:
            pair.lose("the link could not be made")
            raise
        pair._start_beating()

    def prove(pair: Pair) -> Deferred[None]:
        def answered(_: object) -> None:
            proof, pair._proof = pair._proof, None
            if proof is not None:
                proof.callback(None)

        proof: Deferred[None] = Deferred()
        pair._proof = proof
        pair.command.ask(b"PING").addCallbacks(answered, lambda _: None)
        return proof

    _replace(stack, Pair, "open", opened)
    _replace(stack, Pair, "prove", prove)


@_variant("a reset forgets the last wake", "W2")
def _wake_lost_at_reset(stack: ExitStack) -> None:
    _rewrite(stack, ("local wake = kind and (kind .. ' ' .. revision) or '- 0 0'", "local wake = '- 0 0'"))


@_variant("a pulse is not kept for those that were away", "W2")
def _pulse_not_kept(stack: ExitStack) -> None:
    def woken(table: KeyTable, entry: Entry, seen: Revision, stored: Any, call_order: int) -> Any:
        if stored is not None and not stored.latched and entry.base != NEVER:
            return []
        return old(table, entry, seen, stored, call_order)

    old = _replace(stack, KeyTable, "_woken", woken)


@_variant("waiters stay in the table when they are woken, and are resolved again", "W3", "noise")
def _resolve_twice(stack: ExitStack) -> None:
    def wake(waiter: Waiter, key: str, stored: Stored) -> None:
        Deferred.callback(waiter, stored.value(key))

    _replace(stack, Waiter, "wake", wake)
    stack.enter_context(patch("coord.core.keys._let_go", lambda entry, woken: woken))


@_variant("the youngest waiter is called first", "W3")
def _youngest_first(stack: ExitStack) -> None:
    def woken(table: KeyTable, entry: Entry, seen: Revision, stored: Any, call_order: int) -> Any:
        return old(table, entry, seen, stored, call_order)[::-1]

    old = _replace(stack, KeyTable, "_woken", woken)


@_variant("a wake also takes the waits made in its callbacks", "W3")
def _wake_goes_on(stack: ExitStack) -> None:
    def deliver(session: Session, wake: Any) -> None:
        old(session, wake)
        later, wake.entry.waiters = list(wake.entry.waiters), {}
        for waiter in later:
            waiter.wake(wake.entry.key, wake.stored)

    old = _replace(stack, Session, "deliver", deliver)


@_variant("waiters share one value", "W4")
def _shared_value(stack: ExitStack) -> None:
    values: dict[tuple[Any, ...], Any] = {}

    def value(stored: Stored, key: str) -> Any:
        name = stored.node, stored.wake, stored.data
        if name not in values:
            values[name] = old(stored, key)
        return values[name]

    old = _replace(stack, Stored, "value", value)


@_variant("a waiter that its sibling cancelled is called all the same", "W4", "noise")
def _cancelled_and_called(stack: ExitStack) -> None:
    def wake(waiter: Waiter, key: str, stored: Stored) -> None:
        Deferred.callback(waiter, stored.value(key))

    _replace(stack, Waiter, "wake", wake)


@_variant("nothing is ever unsubscribed", "W5")
def _no_unsubscribe(stack: ExitStack) -> None:
    def take_leaves(table: KeyTable, most: int) -> list[bytes]:
        table._leaves.clear()
        return []

    _replace(stack, KeyTable, "take_leaves", take_leaves)


@_variant("the live cache has no bound", "W5")
def _no_bound(stack: ExitStack) -> None:
    def keep(table: KeyTable, entry: Entry) -> None:
        table.cache_size = 1_000
        old(table, entry)

    old = _replace(stack, KeyTable, "_keep", keep)


@_variant("close() forgets the waiters", "W3", "W6")
def _close_forgets(stack: ExitStack) -> None:
    _replace(stack, Session, "_give_up_waiters", lambda session, error: None)


@_variant("close() leaves the deadlines' timer", "W6")
def _close_leaves_timer(stack: ExitStack) -> None:
    def close(outbox: Outbox) -> None:
        timer, outbox._timer = outbox._timer, None
        old(outbox)
        outbox._timer = timer

    old = _replace(stack, Outbox, "close", close)


@_variant("the table hears of own outcomes from messages alone", "W7")
def _messages_alone(stack: ExitStack) -> None:
    _replace(stack, Outbox, "_learn", lambda outbox, map_state, call, outcome, learn: None)


@_variant("the caller is told before the node's own waits", "W7")
def _caller_first(stack: ExitStack) -> None:
    def answered(outbox: Outbox, answer: Any, map_state: Any, queue: Any, batch: Any, learn: Any) -> None:
        later: list[tuple[Any, ...]] = []
        with patch.object(Outbox, "_learn", lambda _, *news: later.append(news)):
            old(outbox, answer, map_state, queue, batch, learn)
        for news in later:
            old_learn(outbox, *news)

    old = _replace(stack, Outbox, "_answered", answered)
    old_learn = Outbox._learn


@_variant("a dead connection is never noticed", "W2", "W8", "link")
def _never_noticed(stack: ExitStack) -> None:
    _replace(stack, Pair, "_silent", lambda pair, seen: False)


@_variant("record() answers from the live cache", "W8")
def _record_from_cache(stack: ExitStack) -> None:
    async def record(queries: Queries, key: str, encoded: bytes) -> Any:
        entry = queries._session.table.subscriptions.get(queries._names.channel(key))
        if isinstance(entry, Entry) and entry.stored is not None:
            return entry.stored.record(queries._names.name, key)
        return await old(queries, key, encoded)

    old = _replace(stack, Queries, "_record", record)


@_variant("a flush under a live link goes unnoticed", "W8")
def _flush_unnoticed(stack: ExitStack) -> None:
    stack.enter_context(patch("coord.core.keys._void", lambda known, before, revision: False))


# Calls.


@_variant("the caller is answered when the call is sent", "F1")
def _answered_when_sent(stack: ExitStack) -> None:
    def send(outbox: Outbox, map_state: Any, queue: Any, batch: Any, learn: Any) -> None:
        old(outbox, map_state, queue, batch, learn)
        for call in batch.calls:
            if not call.done and call.kind is not Kind.RESET:
                call.done = True
                head = map_state.seen
                made = Stored.made(call.kind, Revision(head.generation, head.number + 1), 0, b"n", call.data)
                name = map_state.names.name
                call.result.callback(Applied(made.record(name, map_state.names.key_of(call.channel)), True))

    old = _replace(stack, Outbox, "_send", send)


@_variant("calls overtake each other", "F1")
def _out_of_order(stack: ExitStack) -> None:
    _replace(stack, CallQueue, "add", lambda queue, call: queue._gathering.appendleft(call))


@_variant("a call number answered before is applied again", "F1", "F2")
def _applied_again(stack: ExitStack) -> None:
    _rewrite(stack, ("if done == number then", "if false then"))


@_variant("a token in the record, in place of the call number, tells a repetition", "F1", "F2")
def _token_in_record(stack: ExitStack) -> None:
    token = "if old and operation ~= 'R' and string.sub(old, -#data) == data then return told('*', old) end\n  "
    _rewrite(
        stack,
        ("if done == number then", "if false then"),
        ("local latched = kind == 'F' or kind == 'X'\n", f"{token}local latched = kind == 'F' or kind == 'X'\n"),
    )


@_variant("a copy that comes late, of a call that was given up, is applied", "F1", "F2")
def _stale_applied(stack: ExitStack) -> None:
    _rewrite(stack, ("if done and done > number then", "if false then"))


@_variant("a batch that was not answered is sent under a new number", "F1", "F2")
def _new_number(stack: ExitStack) -> None:
    def linked(outbox: Outbox) -> None:
        for queue in outbox._queues.values():
            if queue.sent is not None:
                queue._number += 1
                queue.sent.number = queue._number
        old(outbox)

    old = _replace(stack, Outbox, "linked", linked)


@_variant("a deadline does not ask whether the call was sent", "F3")
def _all_unreachable(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        unsent, unconfirmed = old(queue, now)
        return [*unsent, *unconfirmed], []

    old = _replace(stack, CallQueue, "expire", expire)


@_variant("a call that was never sent leaves a doubt", "F3")
def _all_unconfirmed(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        unsent, unconfirmed = old(queue, now)
        return [], [*unsent, *unconfirmed]

    old = _replace(stack, CallQueue, "expire", expire)


@_variant("a call that expired unsent is sent all the same", "F3")
def _sent_after_expiry(stack: ExitStack) -> None:
    def expire(queue: CallQueue, now: float) -> Any:
        gathering = queue._gathering.copy()
        unsent, unconfirmed = old(queue, now)
        queue._gathering = gathering
        for call in unsent:
            again = Call(call.kind, call.key, call.channel, call.data, now + 60, call.order, Deferred())
            gathering[gathering.index(call)] = again
        return unsent, unconfirmed

    old = _replace(stack, CallQueue, "expire", expire)


@_variant("revisions come from the server's clock alone", "W2", "W3", "W7", "F3", "watch")
def _clock_alone(stack: ExitStack) -> None:
    _rewrite(stack, ("math.max(now, generation + 1, tonumber(ARGV[8]) + 1, logged + 1)", "now"))


@_variant("no new generation begins under another process", "W2", "W7", "F1", "F2", "watch", "link")
def _no_new_generation(stack: ExitStack) -> None:
    _rewrite(stack, ("if process ~= actual then", "if process == '' then"))


@_variant("a call is acknowledged without its replicas", "F4")
def _without_replicas(stack: ExitStack) -> None:
    def conclude(outbox: Outbox, map_state: Any, call: Any, outcome: Any, replicas: int, doubt: str) -> None:
        old(outbox, map_state, call, outcome, 1_000, doubt)

    old = _replace(stack, Outbox, "_conclude", conclude)


# Watches.


@_variant("a watch goes on over a gap", "watch", "link")
def _gap(stack: ExitStack) -> None:
    def advance(cursor: Cursor, lines: Any, head: Any) -> bool:
        if lines:
            cursor.position = lines[-1].revision
        elif head is not None or cursor.position is None:
            cursor.position = head.revision if head else NEVER
        return True

    _replace(stack, Cursor, "advance", advance)


@_variant("a watch begins again when the link is back", "watch")
def _watch_begins_again(stack: ExitStack) -> None:
    links: WeakKeyDictionary[Watch, Any] = WeakKeyDictionary()

    async def fetch(watch: Watch) -> None:
        pair = watch._session.link.pair
        if links.setdefault(watch, pair) is not pair:
            links[watch] = pair
            watch._cursor.position = None
        await old(watch)

    old = _replace(stack, Watch, "_fetch", fetch)


@_variant("a watch that begins now reads before it listens", "watch", "link")
def _now_is_late(stack: ExitStack) -> None:
    async def enter(watch: Watch) -> Watch:
        entered: Watch = await old(watch)
        watch._cursor.position = None
        return entered

    old = _replace(stack, Watch, "__aenter__", enter)
