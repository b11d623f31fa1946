"""Mistakes about counters: L12."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from coord.core.conditions import Reached
from coord.core.entries import Entry
from coord.core.records import StoredRecord
from simulation.breaking import replace, rewrite, variant


@variant("a count whose answer was lost counts again", "L12", counted=True)
def _again(stack: ExitStack) -> None:
    rewrite(stack, ("if done == called then", "if done == called and not find(letters, 'C', 1, true) then"))


@variant("a goal is not fired by the count that reaches it", "L12", counted=True)
def _beyond(stack: ExitStack) -> None:
    rewrite(stack, ("counter.count >= counter.goal then", "counter.count > counter.goal then"))


@variant("a count after the goal fires the key anew", "L12", counted=True)
def _anew(stack: ExitStack) -> None:
    rewrite(stack, ("if of.since then tail", "if false then tail"))


@variant("another goal takes the place of the first", "L12", counted=True)
def _other_goal(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("if goal > 0 and counter.goal > 0 and goal ~= counter.goal then", "if false then"),
        ("counter.goal > 0 and counter.goal or goal", "goal > 0 and goal or counter.goal"),
    )


@variant("a name counts each time", "L12", counted=True)
def _each_time(stack: ExitStack) -> None:
    rewrite(stack, ("if member and not counter.begins and has_counted(key, member) then", "if false then"))


@variant("a name counts twice in one batch", "L12", counted=True)
def _twice_in_a_batch(stack: ExitStack) -> None:
    rewrite(stack, ("return joined[member] or not cleared[key] and", "return not cleared[key] and"))


@variant("a reset leaves the names that have counted", "L12", counted=True)
def _names_left(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("commands[i] = {{'ZREMRANGEBYLEX', entries,", "local _ = {{'ZREMRANGEBYLEX', entries,"),
        ("return joined[member] or not cleared[key] and", "return joined[member] or"),
        ("member and not counter.begins and has_counted", "member and old and has_counted"),
    )


@variant("a counter may be fired and pulsed", "L12", counted=True)
def _fired(stack: ExitStack) -> None:
    rewrite(stack, ("if wrong and kind ~= RESET and kind ~= END then return wrong end", ""))


@variant("a latched event may be counted on", "L12", counted=True)
def _counted_on(stack: ExitStack) -> None:
    rewrite(stack, ("if latched and not is_over(key, tail) then", "if false then"))


@variant("a reset leaves a counter below its goal", "L12", "W5", counted=True)
def _left_below(stack: ExitStack) -> None:
    rewrite(stack, ("if not (latched or counter) or value ~= ''", "if not latched or value ~= ''"))


@variant("counts that share a change are told what was before them", "L12", counted=True)
def _told_before(stack: ExitStack) -> None:
    rewrite(stack, ("return format('%.0f&', counter.count)", "return format('%.0f&', counter.count - n)"))


@variant("a later count of a batch leaves the record as it was", "L12", counted=True)
def _not_replaced(stack: ExitStack) -> None:
    rewrite(stack, ("    replace(key)\n", ""))


@variant("a counter forgets the wake before it", "W2", counted=True)
def _wake_lost(stack: ExitStack) -> None:
    rewrite(stack, ("if word == 'pulsed' or word == 'fired' or word == 'failed' then", "if false then"))


@variant("a wait for a count asks only when it is armed", "L12", counted=True)
def _asked_once(stack: ExitStack) -> None:
    def met(condition: Reached, stored: StoredRecord | None, *, armed: bool) -> Any:
        return not condition.armed and old(condition, stored, armed=armed)

    old = replace(stack, Reached, "met", met)


@variant("a wait for a count is met by one less", "L12", counted=True)
def _one_less(stack: ExitStack) -> None:
    replace(
        stack,
        Reached,
        "met_earlier",
        lambda condition, stored: stored.count is not None and stored.count >= condition._least - 1,
    )


@variant("a wait for a count that is cancelled stays in the table", "W5", "L12", "noise", counted=True)
def _stays(stack: ExitStack) -> None:
    def remove(entry: Entry, waiter: object) -> Any:
        return waiter not in (entry.conditions or ()) and old(entry, waiter)

    old = replace(stack, Entry, "remove", remove)
