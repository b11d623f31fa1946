"""Mistakes about holders and their leases: L1 to L4."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed

from coord.link.scripts import BEAT, SWEEP
from coord.session.holding import Held, Holding
from coord.session.holds import Holds
from simulation.breaking import replace, rewrite, variant

_LOOKING = (BEAT, SWEEP)
"""The scripts that look at the lease clock."""

_ALSO_BEFORE = "recovers and ends <= clock.untl", "false"
"""Has a lease renewed in a recovery that is from the time before it."""


@variant("a beat revives a lease that is over", "L1", "L2", held=True)
def _revived(stack: ExitStack) -> None:
    rewrite(
        stack, ("not makes and (not ends or", "not makes and (not redis.call('ZSCORE', due, member) or"), script=BEAT
    )


@variant("the lease clock takes the whole step of the server's", "L3", held=True)
def _whole_step(stack: ExitStack) -> None:
    for script in _LOOKING:
        rewrite(stack, ("math.floor(math.min(passed, most))", "passed"), script=script)


@variant("the lease clock goes on while the server's rocks", "L3", held=True)
def _rocks(stack: ExitStack) -> None:
    for script in _LOOKING:
        rewrite(stack, ("if now.ms > clock.latest or clock.moved then", "do clock.moved = true"), script=script)


@variant("a restart begins no recovery", "L1", "L2", "L3", held=True)
def _no_recovery(stack: ExitStack) -> None:
    for script in _LOOKING:
        rewrite(stack, ("if run ~= clock.run or not fresh then", "if false then"), script=script)


@variant("who holds does not notice a recovery", "L2", held=True)
def _epoch_unnoticed(stack: ExitStack) -> None:
    def renewed(holds: Holds, reply: list[Any], held: Any, *context: Any) -> None:
        held.epoch = b""
        old(holds, reply, held, *context)

    old = replace(stack, Holds, "_renewed", renewed)
    rewrite(stack, _ALSO_BEFORE, script=BEAT)


@variant("the next lease has the name of the last", "L2", held=True)
def _same_name(stack: ExitStack) -> None:
    def next_lease(held: Held) -> None:
        name = held.lease
        old(held)
        held.lease = name
        for holding in held.wanted.values():
            holding.lease = 0

    old = replace(stack, Held, "next_lease", next_lease)
    rewrite(stack, _ALSO_BEFORE, script=BEAT)


@variant("the first lease in a map has the same name each time", "L2", held=True)
def _first_name(stack: ExitStack) -> None:
    def init(held: Held, map_state: Any, seconds: Any, reconcile: Any, _: Any, numbers: Any) -> None:
        old(held, map_state, seconds, reconcile, count(1), numbers)

    old = replace(stack, Held, "__init__", init)
    rewrite(stack, _ALSO_BEFORE, script=BEAT)


@variant("a lease is as long as its holder's deadline", "L4", held=True)
def _no_grace(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("ends = clock.time + lease_time + grace_time", "ends = clock.time + lease_time - grace_time"),
        script=BEAT,
    )


@variant("a deadline counts from the answer", "L4", held=True)
def _from_the_answer(stack: ExitStack) -> None:
    def renewed(holds: Holds, reply: list[Any], held: Any, lease: int, _: float) -> None:
        old(holds, reply, held, lease, holds._clock.seconds())

    old = replace(stack, Holds, "_renewed", renewed)


@variant("a hold is valid until somebody says otherwise", "L4", held=True)
def _always_valid(stack: ExitStack) -> None:
    def valid(holding: Holding) -> bool:
        return holding.number in holding.held.wanted and holding.lease > 0

    replace(stack, Holding, "valid", property(valid))


@variant("a heartbeat renews no lease", "L3", held=True)
def _not_renewed(stack: ExitStack) -> None:
    def heartbeat(holds: Holds) -> None:
        if not all(held.checked for held in holds._maps.values()):
            old(holds)

    old = replace(stack, Holds, "heartbeat", heartbeat)


@variant("the record stays with the owner who has left", "L1", held=True)
def _not_passed(stack: ExitStack) -> None:
    rewrite(stack, ("if owner ~= name then return '=' end", "do return '=' end"))


@variant("a passing forgets since when the key is latched", "L1", "L10", held=True)
def _since_forgotten(stack: ExitStack) -> None:
    rewrite(stack, ("if not revision then return members", "if true then return members"))


@variant("the end of the owner is the end of all", "L1", held=True)
def _others_forgotten(stack: ExitStack) -> None:
    rewrite(stack, ("if not next then\n      return nil, pending_tail", "if true then\n      return nil, pending_tail"))


@variant("what is held under a lease that is over is not held again", "L1", "L2", held=True)
def _not_held_again(stack: ExitStack) -> None:
    def send(holds: Holds, held: Any, holding: Holding) -> None:
        if not holding.lease:
            old(holds, held, holding)

    old = replace(stack, Holds, "_send", send)


@variant("a hold that was given up is not withdrawn", "L2", "hold", held=True)
def _not_withdrawn(stack: ExitStack) -> None:
    def give_up(holds: Holds, holding: Holding) -> None:
        holding.stop()
        holding.held.wanted.pop(holding.number, None)

    replace(stack, Holds, "give_up", give_up)


@variant("a withdrawal that was not answered is forgotten", "L2", held=True)
def _withdrawal_forgotten(stack: ExitStack) -> None:
    def withdraw(holds: Holds, held: Any, number: int, key: bytes, timeout: float) -> Deferred[Any]:
        def forget(result: Any) -> Any:
            held.unwanted.pop(number, None)
            return result

        answer: Deferred[Any] = old(holds, held, number, key, timeout)
        return answer.addBoth(forget)

    old = replace(stack, Holds, "_withdraw", withdraw)


@variant("close() withdraws nothing", "L2", held=True)
def _left_behind(stack: ExitStack) -> None:
    replace(stack, Holds, "withdraw_all", lambda holds: succeed(None))


@variant("a sweep ends holders of a lease that lives", "L3", held=True)
def _too_early(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("format('%.0f', LEASES + clock.time + 1)", "format('%.0f', LEASES + clock.time + clock.lease)"),
        script=SWEEP,
    )
    rewrite(stack, ("kind == LOSE and alive(mine.lease)", "false"))


@variant("the end of a holder does not ask whether its lease is over", "L1", "L2", "L4", held=True)
def _not_asked(stack: ExitStack) -> None:
    rewrite(stack, ("kind == LOSE and alive(mine.lease)", "false"))


@variant("a sweep looks for no holders", "L2", held=True)
def _holders_unseen(stack: ExitStack) -> None:
    rewrite(stack, ("if clock and clock.time >= clock.untl then find_holders() end", ""), script=SWEEP)


@variant("a sweep forgets to look at the lease clock again", "L2", held=True)
def _no_next_look(stack: ExitStack) -> None:
    rewrite(stack, ("clock and next_look()}", "false}"), script=SWEEP)


@variant("whoever finds a lease that is over asks again at once", "link", held=True)
def _asked_at_once(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("calls[1] = ends and", "if any and any ~= alive then calls[1] = 1 else calls[1] = ends and"),
        script=SWEEP,
    )
    rewrite(stack, ("clock.grace / 2)) or 0\n", "clock.grace / 2)) or 0 end\n"), script=SWEEP)


@variant("an end is told under the name of the node that found it", "L2", held=True)
def _other_name(stack: ExitStack) -> None:
    rewrite(stack, ("kind == LOSE and mine.node or nil", "nil"))


@variant("who has left is still counted", "L1", "L2", held=True)
def _still_counted(stack: ExitStack) -> None:
    both = "key .. '\\0' .. holder.sequence .. '\\0' .. name, under .. '\\0' .. name)"
    rewrite(stack, (both, "under .. '\\0' .. name)"))


@variant("one holder is always enough", "L2", held=True)
def _need_ignored(stack: ExitStack) -> None:
    rewrite(stack, ("if not first or size(key) < first.need then return end", "if not first then return end"))


@variant("a reset ends what is held", "L1", held=True)
def _reset_ends(stack: ExitStack) -> None:
    rewrite(stack, ("if find(tail, '\"held\":\"', 1, true) then return '=' end", ""))


@variant("nobody takes over an event that is reset", "L1", held=True)
def _nobody_takes_over(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("if not next then return nil, members, value end", "do return nil, members, value end"),
    )


@variant("who holds an event whose end has passed waits until that is told", "hold", held=True)
def _behind_what_is_over(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("if not over and (word == 'fired' or word == 'failed') then", "if word == 'fired' or word == 'failed' then"),
    )


@variant("a pulse lets an event go on whose end has passed", "L1", held=True)
def _goes_on(stack: ExitStack) -> None:
    rewrite(
        stack, ("end_record(key, tail, not over and revision, '', value)", "end_record(key, tail, revision, '', value)")
    )
