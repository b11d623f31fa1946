"""Mistakes about events with a TTL, and about waits for the end of an event: L10, L11."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from twisted.internet.defer import Deferred

from coord.core.conditions import Ended
from coord.core.entries import Entry
from coord.core.records import StoredRecord
from coord.link.scripts import SWEEP
from coord.session.commands import Commands, Look
from coord.session.sweeper import Sweeper
from coord.testing._server import EPOCH
from simulation.breaking import replace, rewrite, variant


@variant("an end does not ask whether its time has come", "L11", timed=True)
def _whenever(stack: ExitStack) -> None:
    rewrite(stack, ("kind == END and not over then", "false then"))


@variant("a sweep claims a map, and ends nothing in it", "L11", timed=True)
def _claimed_alone(stack: ExitStack) -> None:
    async def sweep_one(sweeper: Sweeper, name: bytes) -> None:
        await sweeper._commands.sweep(sweeper._names_of(name.decode()), 200)

    replace(stack, Sweeper, "_sweep_one", sweep_one)


@variant("an event ends by the clock of the node that looks", "L11", timed=True)
def _by_own_clock(stack: ExitStack) -> None:
    def left(commands: Commands, payload: bytes | None) -> int:
        stored = payload and StoredRecord.parse(payload)
        if not stored or stored.tail is None:
            return 0
        now = 1000 * (EPOCH + commands._node.clock.seconds())
        return max(0, int(stored.time / 1000 + (stored.tail.ttl or 0) - now))

    def look(commands: Commands, *asked: Any) -> Deferred[Look]:
        looking: Deferred[Look] = old(commands, *asked)
        return looking.addCallback(
            lambda look: look._replace(left=[left(commands, payload) for payload in look.records])
        )

    old = replace(stack, Commands, "look", look)


@variant("a late wait is answered by an event whose end has passed", "L11", timed=True)
def _answered_by_overdue(stack: ExitStack) -> None:
    replace(stack, StoredRecord, "over", lambda stored: stored)


@variant("a node does not see that an event has a TTL", "L11", timed=True)
def _ttl_unseen(stack: ExitStack) -> None:
    replace(stack, StoredRecord, "perishable", property(lambda stored: False))


@variant("a record and the time it has left are of two moments", "L11", timed=True)
def _two_moments(stack: ExitStack) -> None:
    def look(commands: Commands, names: Any, keys: Any) -> Deferred[Look]:
        return commands.read(names, keys).addCallback(
            lambda reply: old(commands, names, keys).addCallback(
                lambda look: look._replace(head=reply[0], records=reply[1:])
            )
        )

    old = replace(stack, Commands, "look", look)


@variant("a wait for the end is resolved by any news of its key", "L10", timed=True)
def _any_news(stack: ExitStack) -> None:
    def met(condition: Ended, stored: StoredRecord | None, *, armed: bool) -> bool:
        return armed

    replace(stack, Ended, "met", met)


@variant("who waits for the end does not notice that the key was latched again meanwhile", "L10", timed=True)
def _latched_again(stack: ExitStack) -> None:
    def met(condition: Ended, stored: StoredRecord | None, *, armed: bool) -> Any:
        if stored is not None and stored.latched_at is not None and condition.latched_at is not None:
            condition.latched_at = stored.latched_at
        return old(condition, stored, armed=armed)

    old = replace(stack, Ended, "met", met)


@variant("a wait for the end that is cancelled stays in the table", "W5", "L10", "noise", timed=True)
def _stays(stack: ExitStack) -> None:
    def remove(entry: Entry, waiter: object) -> Any:
        return waiter not in (entry.conditions or ()) and old(entry, waiter)

    old = replace(stack, Entry, "remove", remove)


@variant("a reset leaves the end", "L11", timed=True)
def _end_stays(stack: ExitStack) -> None:
    note = "elseif kind ~= FIRE and kind ~= 88 then"
    rewrite(stack, (note, f"{note} if kind == RESET and end_of(key) > 0 then return end"))


@variant("a fire makes an end earlier", "L11", timed=True)
def _earlier(stack: ExitStack) -> None:
    rewrite(stack, ("if kind == MOVE or milliseconds + ttl > end_of(key) then", "if true then"))


@variant("a fire does not make an end later", "L11", timed=True)
def _not_later(stack: ExitStack) -> None:
    rewrite(stack, ("if kind == MOVE or milliseconds + ttl > end_of(key) then", "if kind == MOVE then"))


@variant("an event whose end has passed stands in the way of the next", "L11", timed=True)
def _in_the_way(stack: ExitStack) -> None:
    rewrite(stack, ("latched and not over and '='", "latched and '='"))


@variant("an end is moved after it has passed", "L11", timed=True)
def _revived(stack: ExitStack) -> None:
    rewrite(stack, ("if ttl and timed and not over then", "if ttl and timed then"))


@variant("an end forgets the last wake", "W2", timed=True)
def _wake_lost_at_end(stack: ExitStack) -> None:
    ended = "return end_record(key, tail, latched and not over and revision, members, sub(old, from))"
    rewrite(stack, (ended, f"if kind == END then return nil, '', '' end {ended}"))


@variant("an end is told under the name of the node that made the call", "L11", timed=True)
def _other_name(stack: ExitStack) -> None:
    rewrite(stack, ("by = by or kind == END and", "by = by or false and"))


@variant("a call does not tell the namespace when its map has to be swept", "L11", timed=True)
def _not_told(stack: ExitStack) -> None:
    rewrite(stack, ("at, math.min(soonest or at, at), pending or {}", "at, soonest, pending or {}"))


@variant("a sweep forgets when the next event of its map ends", "L11", timed=True)
def _next_end_forgotten(stack: ExitStack) -> None:
    rewrite(stack, ("ends and math.max(ends - LATER", "false and math.max(ends - LATER"), script=SWEEP)


@variant("a repeated answer does not resolve the waits for an end", "L10", timed=True)
def _end_not_told(stack: ExitStack) -> None:
    replace(stack, Entry, "_take_met_earlier", lambda entry, stored, call_order: [])


@variant("the answer to a call takes an event whose end has passed for latched", "L11", timed=True)
def _overdue_in_answer(stack: ExitStack) -> None:
    rewrite(stack, ("if kind == MOVE then return over and ';' or '=' end", "if kind == MOVE then return '=' end"))
