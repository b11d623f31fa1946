"""Mistakes about locks: L5 to L9."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from coord.core.conditions import Condition
from coord.core.leases import owner_of
from coord.link.scripts import BEAT, SWEEP
from coord.session import locking
from coord.session.holding import Held
from coord.session.holds import Holds
from coord.session.locking import LockHolding
from simulation.breaking import replace, rewrite, variant
from simulation.single_faults import SingleFaults

broken = partial(variant, locked=True)

_LIVING = "return not recovering() and first_that(key, 64, function(holder) return alive(holder.lease) end) or nil"


@broken("a lock is granted in a recovery", "L5", "L6")
def _granted_in_a_recovery(stack: ExitStack) -> None:
    rewrite(stack, (_LIVING, _LIVING.replace("not recovering() and ", "")))


@broken("the last in the queue is the first", "L9")
def _last_first(stack: ExitStack) -> None:
    newest = "(function() local found; first_that(key, 64, function(holder) "
    newest += "found = alive(holder.lease) and holder or found end)"
    rewrite(stack, (_LIVING, f"return not recovering() and {newest} return found end)() or nil"))


@broken("whoever asks is granted a lock that is free", "L5", "L9")
def _jumps_the_queue(stack: ExitStack) -> None:
    rewrite(
        stack, ("holder.token and holder or not owner and successor(key)", "not owner and not recovering() and holder")
    )


@broken("a lock is granted to whoever asks", "L5")
def _always_granted(stack: ExitStack) -> None:
    rewrite(stack, ("holder.token and holder or not owner and successor(key)", "not recovering() and holder"))


@broken("an owner that comes back too late owns its lock again", "L5", "L8")
def _too_late(stack: ExitStack) -> None:
    rewrite(stack, ("if newer or not recovering() then", "if newer then"))
    # As it would be without a deadline of its own.
    replace(stack, LockHolding, "valid", property(lambda lock: lock.granted and lock.number in lock.held.wanted))


@broken("an answer that is read after the deadline makes a lock valid again", "L5")
def _revived(stack: ExitStack) -> None:
    def move_deadline(holds: Holds, held: Held, deadline: float) -> None:
        held.deadline = deadline

    replace(stack, Holds, "_move_deadline", move_deadline)


@broken("an owner that comes back gets another token", "L6", "L8")
def _other_token(stack: ExitStack) -> None:
    rewrite(
        stack,
        (
            "(holder.token or generation .. ',' .. format(decimal, count + 1))",
            "generation .. ',' .. format(decimal, count + 1)",
        ),
    )


@broken("an owner does not come back", "L4", "L6")
def _not_back(stack: ExitStack) -> None:
    replace(stack, LockHolding, "carry", lambda lock: None)


@broken("an owner comes back without its token", "L5", "L6", "L9")
def _no_token(stack: ExitStack) -> None:
    def request(lock: LockHolding, name: bytes, lease: bytes) -> bytes:
        token, lock.token = lock.token, None
        data: bytes = old(lock, name, lease)
        lock.token = token
        return data

    old = replace(stack, LockHolding, "request", request)


@broken("the server lets go when the owner's deadline passes", "L5")
def _no_grace(stack: ExitStack) -> None:
    rewrite(
        stack,
        ("ends = clock.time + lease_time + grace_time", "ends = clock.time + lease_time - grace_time"),
        script=BEAT,
    )


@broken("a lock is valid until somebody says otherwise", "L4", "L5")
def _always_valid(stack: ExitStack) -> None:
    replace(stack, LockHolding, "valid", property(lambda lock: lock.granted and lock.number in lock.held.wanted))


@broken("a lock that was lost is valid again", "L5")
def _valid_again(stack: ExitStack) -> None:
    def move(holds: Holds, held: Held, deadline: float) -> None:
        held.deadline = deadline

    replace(stack, Holds, "_move_deadline", move)
    replace(stack, Holds, "_watch_deadline", lambda holds, lock: None)


@broken("a loss is told late", "L4")
def _told_late(stack: ExitStack) -> None:
    replace(stack, Holds, "_watch_deadline", lambda holds, lock: None)


@broken("a deadline counts from the answer to a renewal", "L4", "L5")
def _from_the_answer(stack: ExitStack) -> None:
    def renewed(holds: Holds, reply: list[Any], held: Any, lease: int, _: float) -> None:
        old(holds, reply, held, lease, holds._clock.seconds())

    old = replace(stack, Holds, "_renewed", renewed)


@broken("a message grants a lock", "L5")
def _message_grants(stack: ExitStack) -> None:
    class Eager(locking.Turn):
        __slots__ = ("holding",)

        def wake(self, stored: Any, names: Any) -> None:
            holding: Any = self._woken.__self__  # type: ignore[attr-defined]
            self.called, holding._turn = True, None
            if stored is not None and owner_of(stored) == holding.name.decode():
                holding._owned(stored, holding.held.lease)
                return
            self.called = False
            super().wake(stored, names)

    replace(stack, locking, "Turn", Eager)


@broken("two requests of a node are one", "L5")
def _one_a_node(stack: ExitStack) -> None:
    def request(lock: LockHolding, name: bytes, lease: bytes) -> bytes:
        return old(lock, name.partition(b".")[0] + b".1", lease)  # type: ignore[no-any-return]

    old = replace(stack, LockHolding, "request", request)


@broken("an eviction frees a lock at once", "L5")
def _evicted_at_once(stack: ExitStack) -> None:
    rewrite(stack, ("if old and find(old, '^[^\\n]*\"token\":%[') and ask_owner(i, old) then return '=' end", ""))


@broken("an owner that was evicted is not told", "lock")
def _not_told(stack: ExitStack) -> None:
    replace(stack, Holds, "_find_evicted", lambda holds, held: None)


@broken("a lock that was lost is never released", "L9")
def _never_released(stack: ExitStack) -> None:
    def lose(holds: Holds, holding: Any, reason: str) -> None:
        old(holds, holding, reason)
        holding.stop_timer()
        holding.held.locks.pop(holding.number, None)

    old = replace(stack, Holds, "_lose", lose)


@broken("a request that was given up stays in the queue", "L9")
def _given_up(stack: ExitStack) -> None:
    def give_up(holds: Holds, holding: Any) -> None:
        holding.stop()
        holding.held.wanted.pop(holding.number, None)

    replace(stack, Holds, "give_up", give_up)


@broken("who waits hears of nothing", "L9", "recovers")
def _deaf(stack: ExitStack) -> None:
    class Never(Condition):
        __slots__ = ()

        def __init__(self, lock: LockHolding) -> None:
            super().__init__()

        def met(self, stored: Any, *, armed: bool) -> bool:
            return False

        def met_earlier(self, stored: Any) -> bool:
            return False

    replace(stack, locking, "FreeOrOwned", Never)


@broken("a clock that is set ahead ends the lease of an owner", "L5", "L6")
def _whole_step(stack: ExitStack) -> None:
    for script in (BEAT, SWEEP):
        rewrite(stack, ("math.floor(math.min(passed, most))", "passed"), script=script)


@broken("a restart lets locks be granted at once", "L5", "L6")
def _no_recovery(stack: ExitStack) -> None:
    for script in (BEAT, SWEEP):
        rewrite(stack, ("if run ~= clock.run or not fresh then", "if false then"), script=script)


@broken("a lease of the time before a recovery is renewed in it", "L9", "L5")
def _old_lease(stack: ExitStack) -> None:
    def renewed(holds: Holds, reply: list[Any], held: Any, *context: Any) -> None:
        held.epoch = b""
        old(holds, reply, held, *context)

    rewrite(stack, ("recovers and ends <= clock.untl", "false"), script=BEAT)
    old = replace(stack, Holds, "_renewed", renewed)


@broken("a primary that is cut off goes on taking writes", "L7")
def _takes_writes(stack: ExitStack) -> None:
    replace(stack, SingleFaults, "_leave_alone", lambda faults, server: None)
