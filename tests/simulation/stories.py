"""Short stories that chance alone would seldom tell: a few steps each, of one kind of trouble."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from simulation.steps import Step, step

__all__ = ["STORIES_OF"]


def _call_and_cut(chance: Random) -> list[Step]:
    """A call, cut while it is under way; others go on meanwhile."""
    node, key = chance.randrange(3), chance.randrange(4)
    verbs = ("fire", "pulse", "reset", "fail")
    return [
        step(chance.choice(verbs), chance, node, key),
        step("run", chance, chance.randrange(1, 9)),
        step(chance.choice(("cut", "cut_one", "restart", "drop")), chance, node),
        step(chance.choice(verbs), chance, node + 1, key),
        step("run", chance),
        step(chance.choice(verbs), chance, node + 1, key),
    ]


def _away(chance: Random) -> list[Step]:
    """A waiter whose node is away while its key is woken, and perhaps reset."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("wait", chance, node, key),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("cut", "cut", "cut_one", "stall", "stall_one")), chance, node),
        step(chance.choice(("fire", "fire", "pulse")), chance, node + 1, key),
        step("run", chance, chance.randrange(2, 12)),
        step("reset", chance, node + 1, key, 1),
        step("pass", chance),
        step("unstall", chance, node),
    ]


def _switch(chance: Random) -> list[Step]:
    """A node connects again while another server takes over."""
    node = chance.randrange(3)
    return [
        step("wait", chance, node),
        step("cut", chance, node),
        step("run", chance, chance.randrange(10, 40)),
        step("split", chance, 0, chance.choice((0, 0, 1, 2, 5, 7))),
        step("run", chance),
        step(chance.choice(("fire", "pulse")), chance),
        step("pass", chance),
        step(chance.choice(("wait", "retire", "move")), chance),
    ]


def _back_and_forth(chance: Random) -> list[Step]:
    """Wait, cancel, wait again, with little in between."""
    node, key = chance.randrange(3), chance.randrange(4)
    steps = [step("wait", chance, node, key), step("pass", chance, chance.randrange(9))]
    for name in ("cancel", "wait", "cancel", "wait"):
        steps += [step("run", chance, chance.randrange(6)), step(name, chance, node, key)]
    return [*steps, step("run", chance, chance.randrange(12)), step("pulse", chance, node + 1, key)]


def _slow_to_join(chance: Random) -> list[Step]:
    """Wait, cancel, wait again; the first confirmation comes late, and the last request goes slowly."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("wait", chance, node, key, 0),
        step("run", chance, chance.randrange(1, 4)),
        step("stall_one", chance, node, 1, 2),
        step("cancel", chance, node, 0),
        step("run", chance, chance.randrange(2, 6)),
        step("wait", chance, node, key, 0),
        step("run", chance, 1),
        step("unstall", chance, node),
        step("stall_one", chance, node, 1, 1),
        step("run", chance, chance.randrange(4, 10)),
        step("pulse", chance, node + 1, key, 1),
        step("run", chance, chance.randrange(4, 20)),
        step("unstall", chance, node),
    ]


def _latch(chance: Random) -> list[Step]:
    """Fired, seen, reset, and asked for again at once."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("wait", chance, node, key),
        step("fire", chance, node + chance.randrange(2), key),
        step("pass", chance),
        step("reset", chance, node, key, 0),
        step("run", chance),
        step("wait", chance, node, key),
    ]


def _lost_writes(chance: Random) -> list[Step]:
    """Changes that a failover loses, and others in their place."""
    key = chance.randrange(4)
    return [
        step("fire", chance, chance.randrange(3), key),
        step("pass", chance),
        step("save", chance),
        step("watch", chance),
        step(chance.choice(("reset", "pulse")), chance, chance.randrange(3), key),
        step("pulse", chance),
        step("pass", chance),
        step("fail_over", chance, 0),
        step(chance.choice(("step", "run")), chance),
        step("fire", chance),
    ]


def _late_copy(chance: Random) -> list[Step]:
    """A call that is given up under way, and arrives after the node's next one."""
    node, key = chance.randrange(3), chance.randrange(4)
    calls = ("fire", "pulse", "fail")
    return [
        step("pass", chance, 8),
        step("stall_one", chance, node, 0, 1),
        step(chance.choice(calls), chance, node, key, 16),
        step("pass", chance, chance.randrange(10, 13)),
        step(chance.choice((*calls, "reset")), chance, node, key, 1),
        step("pass", chance, chance.randrange(5, 8)),
        step("unstall", chance, node),
    ]


def _look_late(chance: Random) -> list[Step]:
    """A node's question just after another node's change."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("wait", chance, node, key),
        step("fire", chance, node + 1, key),
        step("pass", chance, 7),
        step("reset", chance, node + 1, key),
        step("run", chance, chance.randrange(2, 8)),
        step("look", chance, node, key),
    ]


def _flushed(chance: Random) -> list[Step]:
    """Data lost under everybody's feet, and a wait for what was there."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("wait", chance, node, key),
        step("fire", chance, node + chance.randrange(2), key),
        step("pass", chance, 7),
        step("flush", chance),
        step("pass", chance, 12),
        step("wait", chance, node, key),
    ]


def _lied_to(chance: Random) -> list[Step]:
    """A node that waits for a key that was there before is told what never happened, and left alone with it."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("pulse", chance, node + 1, key),
        step("wait", chance, node, key),
        step("pass", chance, 7),
        # Far ahead, of any kind; whole, and from a server that is there.
        step("forge", chance, chance.randrange(4), 4 + chance.randrange(4), 2),
        step("pass", chance, 12),
    ]


STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    _call_and_cut,
    _call_and_cut,
    _away,
    _away,
    _switch,
    _back_and_forth,
    _slow_to_join,
    _latch,
    _late_copy,
    _look_late,
    _flushed,
    _lost_writes,
    _lied_to,
)


def _over_while_away(chance: Random) -> list[Step]:
    """A waiter whose node is away while its key is fired and ends; and one that waits for the end of that."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step(chance.choice(("wait", "wait", "end_of")), chance, node, key),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("cut", "cut_one", "stall", "stall_one")), chance, node),
        step("fire_for", chance, node + 1, key, chance.randrange(5)),
        step("pass", chance, chance.randrange(5, 13)),
        step("unstall", chance, node),
        step(chance.choice(("wait", "end_of", "look")), chance, node, key),
    ]


def _overdue(chance: Random) -> list[Step]:
    """An event that is over before anybody ends it, and those that meet it."""
    node, key = chance.randrange(3), chance.randrange(4)
    meet = (
        "wait",
        "wait",
        "look",
        "fire",
        "fire_for",
        "fail",
        "expire",
        "end_of",
        "reset",
        "pulse",
        "listing",
        "watch",
    )
    return [
        step("wait", chance, node, key, 0),
        step("fire_for", chance, node + 1, key, chance.randrange(1, 5)),
        step("pass", chance, chance.randrange(6, 11)),
        *(step(chance.choice(meet), chance, node + chance.randrange(2), key) for _ in range(2)),
        step("run", chance, chance.randrange(1, 12)),
        *(step(chance.choice(meet), chance, node + chance.randrange(2), key) for _ in range(2)),
    ]


def _later_end(chance: Random) -> list[Step]:
    """An event whose end is moved, by one node or two."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("fire_for", chance, node, key, chance.randrange(2, 8)),
        step("end_of", chance, node + 1, key),
        step("pass", chance, chance.randrange(4, 9)),
        step(chance.choice(("fire_for", "expire")), chance, node + 1, key),
        step(chance.choice(("pass", "run", "cut", "restart")), chance),
        step(chance.choice(("fire_for", "expire", "reset", "fire")), chance, node, key),
        step("pass", chance, chance.randrange(7, 12)),
    ]


def _latched_again(chance: Random) -> list[Step]:
    """Somebody waits for the end of an event, and is away when it is over and another begins."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step(chance.choice(("fire", "fire_for", "fail")), chance, node + 1, key),
        step("end_of", chance, node, key, 0),
        step("pass", chance, chance.randrange(6, 9)),
        step(chance.choice(("cut", "stall", "stall_one")), chance, node),
        step(chance.choice(("reset", "pulse", "expire")), chance, node + 1, key, 1),
        step("run", chance, chance.randrange(2, 12)),
        step(chance.choice(("fire", "fire_for", "fail")), chance, node + 1, key),
        step("run", chance, chance.randrange(2, 12)),
        step("unstall", chance, node),
    ]


def _sweeper_dies(chance: Random) -> list[Step]:
    """A node that has claimed a map is gone before it ends an event."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("fire_for", chance, node, key, chance.randrange(3, 6)),
        step("pass", chance, chance.randrange(7, 11)),
        step("run", chance, chance.randrange(1, 14)),
        step(chance.choice(("crash", "cut", "cut_one", "stall", "freeze", "save", "fail_over")), chance),
        step(chance.choice(("pass", "fail_over", "restart")), chance, 10),
    ]


def _clock_goes_back(chance: Random) -> list[Step]:
    """An event that somebody has found over, and then is not, as the server's clock was set back."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("fire_for", chance, node, key, chance.randrange(2, 6)),
        step("pass", chance, chance.randrange(7, 11)),
        step(chance.choice(("end_of", "wait", "run")), chance, node + 1, key),
        step("run", chance, chance.randrange(1, 20)),
        step("step", chance, 0, chance.randrange(4, 6)),
        step("run", chance),
        step(chance.choice(("wait", "end_of", "look", "fire")), chance, node, key),
    ]


def _told_again(chance: Random) -> list[Step]:
    """Somebody who waits for the end brings it about, and loses the link before the answer comes."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step(chance.choice(("fire", "fire_for")), chance, node + 1, key, chance.randrange(6, 9)),
        step("pass", chance, 8),
        step("end_of", chance, node, key, 0),
        step("pass", chance, chance.randrange(7, 9)),
        step(chance.choice(("reset", "reset", "pulse")), chance, node, key, 1),
        step("run", chance, chance.randrange(1, 6)),
        step(chance.choice(("cut", "cut_one")), chance, node),
        step(chance.choice(("fire", "pass", "run")), chance, node + 1, key),
    ]


def _asked_too_late(chance: Random) -> list[Step]:
    """A node waits for an event that is over, and makes a call on it."""
    node, key = chance.randrange(3), chance.randrange(4)
    steps = [
        step("wait", chance, node, key, 0),
        step(chance.choice(("expire", "expire", "take_back", "end_of")), chance, node, key),
    ]
    chance.shuffle(steps)
    return [
        step("fire_for", chance, node + 1, key, chance.randrange(1, 5)),
        step("pass", chance, chance.randrange(7, 10)),
        *steps,
        step("run", chance),
    ]


TIMED_STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    _over_while_away,
    _over_while_away,
    _over_while_away,
    _overdue,
    _overdue,
    _overdue,
    _overdue,
    _later_end,
    _later_end,
    _later_end,
    _latched_again,
    _latched_again,
    _latched_again,
    _sweeper_dies,
    _sweeper_dies,
    _clock_goes_back,
    _clock_goes_back,
    _told_again,
    _told_again,
    _asked_too_late,
    _asked_too_late,
)


def _behind_a_counter(chance: Random) -> list[Step]:
    """A waiter whose node is away while its key is pulsed, and then counted on."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("begin_anew", chance, node + 1, key),
        step("goal", chance, node, key, 0),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("cut", "cut", "cut_one", "stall")), chance, node),
        step("misuse", chance, node + 1, key, 1),
        step("count", chance, node + 1, key, chance.choice((0, 1, 2))),
        step("pass", chance),
        step("unstall", chance, node),
    ]


def _reached_while_away(chance: Random) -> list[Step]:
    """Waiters whose node is away while a goal is reached, and perhaps the counter is reset."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("goal", chance, node, key),
        step("reach", chance, node, key),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("cut", "cut", "cut_one", "stall", "stall_one")), chance, node),
        *(step("count", chance, node + 1, key, chance.choice((3, 4, 5, 11))) for _ in range(3)),
        step(chance.choice(("begin_anew", "count")), chance, node + 1, key),
        step("pass", chance),
        step("unstall", chance, node),
    ]


def _count_and_cut(chance: Random) -> list[Step]:
    """Counts, cut while they are under way; others count on and begin anew meanwhile."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("count", chance, node, key),
        step("run", chance, chance.randrange(1, 9)),
        step(chance.choice(("cut", "cut_one", "restart", "drop")), chance, node),
        step(chance.choice(("count", "begin_anew")), chance, node + 1, key),
        step("run", chance),
        step("count", chance, node + 1, key),
    ]


COUNTED_STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    *(_behind_a_counter,) * 4,
    *(_reached_while_away,) * 6,
    *(_count_and_cut,) * 6,
)
"""Of schedules with counters alone; each as often as it comes."""


def _dies(chance: Random) -> list[Step]:
    """A node dies with what it holds, perhaps beside another; somebody waits for the end."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key),
        step("pass", chance, chance.randrange(6, 9)),
        *(step("hold", chance, node + 1, key) for _ in range(chance.randrange(2))),
        step("end_of", chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(6, 9)),
        step("crash", chance, node),
        step("pass", chance, 12),
        step(chance.choice(("pass", "hold", "wait", "look")), chance, node, key),
    ]


def _passes(chance: Random) -> list[Step]:
    """Several hold a key, and leave one after another; somebody may be away meanwhile."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key, 0),
        step("hold", chance, node + chance.randrange(2), key, 0),
        step("pass", chance, chance.randrange(5, 9)),
        step("end_of", chance, node + 1, key, 0),
        step(chance.choice(("pass", "cut", "stall", "hold")), chance, node + 1, key),
        step("withdraw", chance, node, 0),
        step("run", chance),
        step("unstall", chance, node + 1),
        step("pass", chance, chance.randrange(6, 11)),
        step("withdraw", chance, node + 1, 0),
    ]


def _cut_off(chance: Random) -> list[Step]:
    """A node is cut off for about as long as its lease, and comes back."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key, 0),
        step("pass", chance, chance.randrange(7, 11)),
        step(chance.choice(("stall", "stall", "freeze")), chance, node, 0),
        *(step(chance.choice(("pass", "step")), chance, chance.randrange(9, 13)) for _ in range(2)),
        step("unstall", chance, node),
        step("thaw", chance, node),
        step("pass", chance, chance.randrange(7, 13)),
    ]


def _just_over(chance: Random) -> list[Step]:
    """A node that has slept wakes up while others end what it held."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key, 0),
        step("hold", chance, node, key + chance.randrange(2), 0),
        step("pass", chance, chance.randrange(6, 9)),
        step("freeze", chance, node),
        step("pass", chance, chance.choice((11, 11, 12))),
        step("pass", chance, chance.randrange(4, 9)),
        step("run", chance),
        step("thaw", chance, node),
        step("run", chance),
        step("pass", chance, chance.randrange(6, 10)),
    ]


def _server_away(chance: Random) -> list[Step]:
    """The server is away for long, and comes back with all, or with less."""
    node, key = chance.randrange(3), chance.randrange(4)
    away, back = chance.choice((("hang", "resume"), ("stop", "start")))
    return [
        step("hold", chance, node, key, 0),
        step("hold", chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(6, 11)),
        step(away, chance, 0),
        step(chance.choice(("pass", "crash")), chance, 12),
        step("pass", chance, chance.randrange(10, 13)),
        step(back, chance, 0),
        step("run", chance),
        step("pass", chance, chance.randrange(10, 13)),
        step("pass", chance, chance.randrange(10, 13)),
    ]


def _resurrected(chance: Random) -> list[Step]:
    """A failover brings back what was withdrawn; its node goes on holding something else, or does so again."""
    node, key = chance.randrange(3), chance.randrange(4)
    goes_on = chance.random() < 0.5
    again = [step("hold", chance, node, key + chance.randrange(2), 0)]
    return [
        step("hold", chance, node, key, 0),
        *(again if goes_on else ()),
        step("pass", chance, 8),
        step("save", chance),
        step("withdraw", chance, node, 0, 0),
        step("pass", chance, chance.randrange(6, 9) if goes_on else 12),
        step("fail_over", chance, 0),
        step("run", chance),
        *(() if goes_on else again),
        step("pass", chance, 12),
        step("pass", chance, 12),
    ]


def _clock_rocks(chance: Random) -> list[Step]:
    """The server's clock goes forward and back again and again, while a node is cut off for less than its lease."""
    node, key = chance.randrange(3), chance.randrange(4)
    long = chance.choice(((7, 7, 7), (8,), (8,), (9,), (8, 8)))
    rocks = [each for _ in range(chance.randrange(3, 7)) for each in ("rock", *long)]
    return [
        step("hold", chance, node, key, 0),
        step("hold", chance, node + 1, key + chance.randrange(2), 0),
        step("hold", chance, node + 2, key + chance.randrange(2), 0),
        step("pass", chance, 8),
        step("run", chance),
        step("stall", chance, node, 0),
        *(step("rock", chance, 0) if each == "rock" else step("pass", chance, each) for each in rocks),
        step("unstall", chance, node),
        step(chance.choice(("step", "pass")), chance, 0),
        step("pass", chance, 11),
    ]


def _late_answer(chance: Random) -> list[Step]:
    """The answer to a renewal comes late, and the next one never arrives."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("pass", chance, chance.randrange(7, 9)),
        step("hold", chance, node, key, 0),
        step("run", chance, chance.randrange(1, 4)),
        step("stall", chance, node, 2),
        step("pass", chance, chance.randrange(7, 10)),
        step("unstall", chance, node),
        step("pass", chance, chance.randrange(4, 7)),
        step("stall", chance, node, 0),
        step(chance.choice(("step", "step", "pass")), chance, 0, 2),
        step("pass", chance, chance.randrange(9, 12)),
        step("pass", chance, chance.randrange(9, 13)),
        step("unstall", chance, node),
    ]


def _hold_behind(chance: Random) -> list[Step]:
    """Somebody holds a key that is fired, and takes over when that ends."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step(chance.choice(("fire", "fire_for", "fire_for", "fail")), chance, node + 1, key, chance.randrange(2, 6)),
        step("pass", chance, chance.randrange(3, 9)),
        step("hold", chance, node, key, 0),
        step(chance.choice(("end_of", "run", "hold")), chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("reset", "reset", "pulse", "pulse", "expire", "withdraw")), chance, node + 1, key, 1),
        step("pass", chance, chance.randrange(5, 10)),
        step(chance.choice(("withdraw", "look", "wait", "end_of")), chance, node, key),
    ]


def _given_up(chance: Random) -> list[Step]:
    """A hold whose caller does not wait for it, over a link that may break."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key + 1, 0),
        step("pass", chance, chance.randrange(6, 9)),
        step(chance.choice(("run", "stall", "cut", "stall_one")), chance, node, 2, 2),
        step("hold", chance, node, key, chance.choice((0, 5, 6))),
        step("run", chance, chance.randrange(8)),
        step(chance.choice(("give_up", "give_up", "pass")), chance, node, 0),
        step("run", chance, chance.randrange(8)),
        step(chance.choice(("cut", "pass", "restart")), chance, node),
        step("unstall", chance, node),
        step("pass", chance, chance.randrange(6, 12)),
    ]


def _withdrawn_in_vain(chance: Random) -> list[Step]:
    """A hold is withdrawn while the server cannot be reached, and its node goes on holding something else."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("hold", chance, node, key, 0),
        step("hold", chance, node, key + chance.randrange(2), 0),
        step("pass", chance, chance.randrange(7, 10)),
        step(chance.choice(("stall", "cut", "hang", "freeze")), chance, 0 if chance.random() < 0.2 else node, 0),
        step("withdraw", chance, node, chance.randrange(2), chance.choice((5, 6))),
        step("pass", chance, chance.randrange(6, 10)),
        step(chance.choice(("unstall", "resume")), chance, node),
        step("thaw", chance, node),
        step("pass", chance, chance.randrange(7, 11)),
    ]


HELD_STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    _dies,
    _dies,
    _passes,
    _passes,
    _cut_off,
    _cut_off,
    _just_over,
    _just_over,
    _server_away,
    _resurrected,
    _clock_rocks,
    _clock_rocks,
    _late_answer,
    _hold_behind,
    _hold_behind,
    _given_up,
    _withdrawn_in_vain,
)


def _lock_passes(chance: Random) -> list[Step]:
    """Several want a lock, and have it one after another; somebody may be away meanwhile, or give up."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("pass", chance, chance.randrange(5, 9)),
        *(step("lock", chance, node + 1 + number, key, 0) for number in range(chance.randrange(1, 3))),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("run", "run", "cut", "cut_one", "stall", "stall_one", "unask", "forge")), chance, node + 1),
        step("unlock", chance, node, 0),
        step("run", chance),
        step("unstall", chance, node + 1),
        step("pass", chance, chance.randrange(6, 11)),
        step("unlock", chance, node + 1, 0),
    ]


def _owner_dies(chance: Random) -> list[Step]:
    """The owner of a lock dies, or stops for long, or is cut off; others wait."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("pass", chance, chance.randrange(6, 10)),
        step("lock", chance, node + 1, key, 0),
        step("lock", chance, node + 2, key, 0),
        step("pass", chance, chance.randrange(6, 11)),
        step(chance.choice(("crash", "freeze", "stall", "stall", "close")), chance, node, 0),
        *(step("pass", chance, chance.randrange(10, 13)) for _ in range(chance.randrange(1, 4))),
        step("thaw", chance, node),
        step("unstall", chance, node),
        step("run", chance),
        step("pass", chance, chance.randrange(8, 12)),
    ]


def _grant_lost(chance: Random) -> list[Step]:
    """A grant, and perhaps the release before it, are lost with the last second; others ask at once."""
    node, key = chance.randrange(3), chance.randrange(2)
    passes = chance.random() < 0.5
    before = [
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, 8),
        *([step("lock", chance, node, key, 0), step("pass", chance, 7)] if chance.random() < 0.5 else []),
    ]
    release = [step("unlock", chance, node + 1, 0)]
    return [
        step("pass", chance, chance.choice((8, 11, 12))),
        *(before if passes else [step("lock", chance, node + 2, key + 1, 0), step("pass", chance, 8)]),
        step("save", chance),
        *(release if passes else ()),
        step("lock", chance, node, key, 0),
        step("pass", chance, chance.randrange(4, 9)),
        step(chance.choice(("cut", "stall", "run", "run")), chance, node, 0),
        step("fail_over", chance, 0),
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(3, 12)),
        step("unstall", chance, node),
        step("pass", chance, chance.randrange(10, 13)),
        step("unlock", chance, node, 0),
        step("pass", chance, 12),
    ]


def _twice_failed_over(chance: Random) -> list[Step]:
    """A failover in the recovery of another, perhaps to what there was before; a lock changes hands in between."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, 8),
        step("save", chance),
        step(chance.choice(("fail_over", "restart", "split")), chance, chance.randrange(2)),
        step("pass", chance, chance.randrange(7, 12)),
        step("unlock", chance, node, 0),
        step(chance.choice(("lock", "pass", "evict")), chance, node + 2, key, 0),
        step(chance.choice(("fail_over", "fail_over", "restart", "demote")), chance, 0),
        step("pass", chance, chance.randrange(7, 13)),
        step("pass", chance, chance.randrange(10, 13)),
        step("pass", chance, 12),
    ]


def _late_yes(chance: Random) -> list[Step]:
    """The answer to a request comes late: the lease is over by then, or the request was given up and made again."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node + 1, key, 0),
        step("lock", chance, node, key + 1, 0),
        step("pass", chance, 8),
        step("unlock", chance, node + 1, 0),
        step(chance.choice(("stall", "stall_one", "cut")), chance, node, 2, 2),
        step("lock", chance, node, key, 0),
        step("run", chance),
        step(chance.choice(("unask", "pass")), chance, node, 11),
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(6, 13)),
        step("unstall", chance, node),
        step("lock", chance, node, key, 0),
        step("pass", chance, chance.randrange(6, 13)),
    ]


def _owner_evicted(chance: Random) -> list[Step]:
    """An owner is asked to release its lock, perhaps while it is cut off or stopped; somebody waits."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key),
        step("pass", chance, chance.randrange(6, 9)),
        step("lock", chance, node + 1, key, 0),
        step(chance.choice(("stall", "freeze", "cut", "run")), chance, node, 0),
        step("evict", chance, node + 1, key),
        step("pass", chance, chance.randrange(6, 13)),
        step("pass", chance, chance.randrange(6, 13)),
        step("unstall", chance, node),
        step("thaw", chance, node),
        step("pass", chance, chance.randrange(6, 13)),
    ]


def _server_away_for_owners(chance: Random) -> list[Step]:
    """The server stops, hangs or restarts for less than a lease, or for longer; the owner releases afterwards."""
    node, key = chance.randrange(3), chance.randrange(2)
    away, back = chance.choice((("hang", "resume"), ("stop", "start"), ("restart", "run")))
    return [
        step("lock", chance, node, key, 0),
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, chance.randrange(6, 11)),
        step(away, chance, 0),
        *(step("pass", chance, chance.randrange(7, 13)) for _ in range(chance.randrange(1, 3))),
        step(back, chance, 0),
        step("run", chance),
        step("pass", chance, chance.randrange(6, 12)),
        step("unlock", chance, node, 0),
        step("pass", chance, chance.randrange(8, 13)),
        step("pass", chance, chance.randrange(10, 13)),
    ]


def _clock_jumps(chance: Random) -> list[Step]:
    """The server's clock jumps while an owner is cut off, or between two of its renewals."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("lock", chance, node + 1, key, 0),
        step("pass", chance, 8),
        step(chance.choice(("stall", "freeze", "run")), chance, node, 0),
        step("pass", chance, chance.randrange(7, 12)),
        step(chance.choice(("step", "step", "rock")), chance, 0),
        step("pass", chance, chance.randrange(7, 12)),
        step("unstall", chance, node),
        step("thaw", chance, node),
        step("pass", chance, chance.randrange(7, 12)),
    ]


def _asked_while_away(chance: Random) -> list[Step]:
    """A grant is lost with the last second; somebody else has asked for the lock while its link was down."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node + 1, key + 1, 0),
        step("pass", chance, 12),
        step("pass", chance, 12),
        step("save", chance),
        step("lock", chance, node, key, 0),
        step("pass", chance, 8),
        step("cut", chance, node + 1),
        step("lock", chance, node + 1, key, 0),
        step("fail_over", chance, 0),
        step("pass", chance, chance.randrange(8, 12)),
        step("pass", chance, chance.randrange(8, 12)),
    ]


def _forged_grant(chance: Random) -> list[Step]:
    """Somebody forges the grant of a lock that others wait for."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("pass", chance, 8),
        step("lock", chance, node + 1, key, 0),
        step("lock", chance, node + 2, key, 0),
        step("pass", chance, 8),
        *(step("forge", chance, key, 4 * chance.randrange(9), chance.randrange(1, 7)) for _ in range(3)),
        step("pass", chance, chance.randrange(5, 10)),
    ]


def _reads_late(chance: Random) -> list[Step]:
    """An owner is stopped while a renewal is under way, and reads its answer when the old deadline has passed."""
    node, key = chance.randrange(3), chance.randrange(2)
    return [
        step("lock", chance, node, key, 0),
        step("pass", chance, chance.randrange(7, 10)),
        step("hang", chance, 0),
        step("pass", chance, chance.choice((8, 8, 9))),
        step("freeze", chance, node),
        step("resume", chance, 0),
        *(step("pass", chance, chance.choice((8, 9, 10))) for _ in range(2)),
        step("thaw", chance, node),
        step("run", chance),
        step("pass", chance, chance.randrange(8, 12)),
    ]


LOCKED_STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    *(_lock_passes,) * 3,
    *(_owner_dies,) * 3,
    *(_grant_lost,) * 5,
    *(_twice_failed_over,) * 3,
    *(_late_yes,) * 2,
    *(_owner_evicted,) * 2,
    *(_server_away_for_owners,) * 3,
    *(_clock_jumps,) * 2,
    *(_asked_while_away,) * 2,
    *(_reads_late,) * 2,
    _forged_grant,
)
"""Of schedules with locks alone; each as often as it comes."""


def _announced(chance: Random) -> list[Step]:
    """Members are told of a change, and acknowledge it one after another; one may die, leave or be away."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        *(step("join", chance, number) for number in range(3)),
        step("pass", chance, 8),
        step("announce", chance, node, key, chance.choice((1, 4, 7, 10, 13))),
        step("pass", chance, chance.randrange(3, 8)),
        step("ack", chance, node + 1, key, 0),
        step(chance.choice(("run", "pass", "crash", "leave", "close", "stall", "cut", "freeze")), chance, node + 2, 7),
        step("ack", chance, node, key, 0),
        step("pass", chance, chance.randrange(5, 12)),
        step("ack", chance, node + 2, key, 0),
        step("unstall", chance, node + 2),
        step("thaw", chance, node + 2),
    ]


def _dies_unheard(chance: Random) -> list[Step]:
    """A member dies before it has acknowledged; somebody waits for it, and its name may be taken by another."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node + 1),
        step("join", chance, node + 2),
        step("announce", chance, node, key, 1),
        step("acked", chance, node, key),
        step("pass", chance, chance.randrange(6, 9)),
        step("ack", chance, node + 2, key, 0),
        step("crash", chance, node + 1),
        *([step("join", chance, node + 1)] if chance.random() < 0.3 else []),
        *(step("pass", chance, chance.randrange(10, 13)) for _ in range(2)),
    ]


def _acknowledges_and_leaves(chance: Random) -> list[Step]:
    """A member acknowledges and is gone at once: whoever waits may hear of the second first, or on another link."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node + 1),
        step("join", chance, node + 2),
        step("announce", chance, node, key, 1),
        step("acked", chance, node, key),
        step("pass", chance, chance.randrange(5, 9)),
        step(chance.choice(("run", "run", "cut", "stall", "stall_one")), chance, node),
        step(chance.choice(("leave", "run")), chance, node + 2),
        step("run", chance, chance.randrange(1, 5)),
        step("ack", chance, node + 1, key, 0),
        step("run", chance, chance.randrange(1, 3)),
        step(chance.choice(("leave", "close", "crash")), chance, node + 1),
        step("pass", chance, chance.randrange(5, 12)),
        step("unstall", chance, node),
    ]


def _joins_meanwhile(chance: Random) -> list[Step]:
    """Another process joins a name while one of it acknowledges."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node),
        step("fire", chance, node, key),
        step("pass", chance, 7),
        *(step("acked", chance, node + number, key) for number in range(2)),
        step("run", chance, chance.randrange(1, 12)),
        step("join", chance, node + 1),
        step("run", chance, chance.randrange(1, 5)),
        step("ack", chance, node, key, 0),
        step("run", chance, chance.randrange(1, 12)),
        step("join", chance, node + 2),
        step("run", chance, chance.randrange(1, 12)),
        step("ack", chance, node + 1, key, 0),
    ]


def _heard_on_the_next_link(chance: Random) -> list[Step]:
    """The link of whoever waits is lost while others acknowledge, perhaps with the history in between."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node + 1),
        step("announce", chance, node, key, 1),
        step("acked", chance, node, key),
        step("pass", chance, chance.randrange(6, 9)),
        step(chance.choice(("cut", "cut", "cut_one", "stall", "stall_one", "drop")), chance, node),
        step("ack", chance, node + 1, key, 0),
        step("ack", chance, node + 2, key, 0),
        step(chance.choice(("run", "run", "trim")), chance, chance.choice((1, 4, 8))),
        step("pass", chance),
        step("unstall", chance, node),
    ]


def _acks_lost(chance: Random) -> list[Step]:
    """Acknowledgements, or who has joined, are lost with the last second, or with all data."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node + 1),
        step("announce", chance, node, key, 1),
        step("pass", chance, 8),
        step("save", chance),
        step(chance.choice(("join", "leave", "ack")), chance, node + 2, key, 0),
        step("ack", chance, node + 1, key, 0),
        step("acked", chance, node, key),
        step("pass", chance, chance.randrange(4, 9)),
        step(chance.choice(("fail_over", "fail_over", "flush", "restart", "split")), chance, chance.choice((0, 1, 3))),
        step("pass", chance, chance.randrange(5, 12)),
        step("ack", chance, node + 2, key, 0),
    ]


def _next_round(chance: Random) -> list[Step]:
    """A key is fired again: that is another change, with acknowledgements of its own."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("join", chance, node + 1),
        step("fire", chance, node, key),
        step("pass", chance, 7),
        step("ack", chance, node + 1, key, 0),
        step("reset", chance, node, key, 1),
        step(chance.choice(("pass", "run")), chance, 7),
        step("announce", chance, node, key),
        step("pass", chance, 7),
        step("acked", chance, node + 2, key),
        step("ack", chance, node + 1, key),
        step("pass", chance),
        step("ack", chance, node + 1, key, 0),
        step("ack", chance, node + 2, key, 0),
    ]


def _member_for_a_moment(chance: Random) -> list[Step]:
    """A node joins and leaves while somebody waits for it, who may not have asked in between."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        step("fire", chance, node, key),
        step("pass", chance, 7),
        step("acked", chance, node, key),
        step("pass", chance, chance.choice((7, 11, 12))),
        step(chance.choice(("run", "run", "cut", "stall")), chance, node),
        step("join", chance, node + 1),
        step("run", chance, chance.randrange(6, 20)),
        step(chance.choice(("leave", "close")), chance, node + 1),
        step("pass", chance, chance.randrange(7, 12)),
        step("unstall", chance, node),
    ]


ACKED_STORIES: tuple[Callable[[Random], list[Step]], ...] = (
    *STORIES[:3],
    *(_announced,) * 4,
    *(_dies_unheard,) * 3,
    *(_acknowledges_and_leaves,) * 4,
    *(_joins_meanwhile,) * 4,
    *(_heard_on_the_next_link,) * 4,
    *(_acks_lost,) * 3,
    *(_next_round,) * 3,
    *(_member_for_a_moment,) * 2,
)
"""Of schedules with acknowledgements alone; each as often as it comes."""


def _moves_while_used(chance: Random) -> list[Step]:
    """A map moves while it is used: what happens between two steps of the move is what matters."""
    number, use = chance.randrange(3), ("wait", "fire", "pulse", "reset", "run", "run", "pass")
    steps: list[Step] = []
    for _ in range(chance.randrange(3, 10)):
        steps.append(step("migrate", chance, number))
        for name in chance.choices(use, k=chance.randrange(4)):
            steps.append(
                step(name, chance) if name in ("run", "pass") else step(name, chance, chance.randrange(3), number)
            )
    return steps


def _held_while_it_moves(chance: Random) -> list[Step]:
    """Who holds something in a map that moves dies there, or withdraws it, or goes on."""
    number, node = chance.randrange(3), chance.randrange(3)
    return [
        step("hold", chance, node, number),
        step("pass", chance, 8),
        *(step("migrate", chance, number) for _ in range(chance.randrange(2, 10))),
        step(chance.choice(("crash", "withdraw", "close", "run", "freeze")), chance, node),
        *(step(chance.choice(("migrate", "migrate", "call_off", "pass")), chance, number) for _ in range(4)),
        step("pass", chance, chance.randrange(8, 13)),
    ]


def _locked_while_it_moves(chance: Random) -> list[Step]:
    """Others queue for a lock in a map that moves, and its owner dies, releases it, or goes on."""
    number, node = chance.randrange(3), chance.randrange(3)
    return [
        step("lock", chance, node, number, 0),
        step("pass", chance, 8),
        step("lock", chance, node + 1, number, 0),
        *(step("migrate", chance, number) for _ in range(chance.randrange(2, 10))),
        step(chance.choice(("crash", "unlock", "unlock", "freeze", "stall", "run")), chance, node, 0),
        *(step(chance.choice(("migrate", "migrate", "call_off", "pass")), chance, number) for _ in range(4)),
        step("lock", chance, node + 1, number, 0),
        step("pass", chance, chance.randrange(8, 13)),
        step("unstall", chance, node),
    ]


def _acknowledged_while_it_moves(chance: Random) -> list[Step]:
    """A map, or the members, move while a change is acknowledged; one who is to acknowledge may leave or die."""
    node, key = chance.randrange(3), chance.randrange(4)
    number = chance.randrange(4)
    steps = [
        step("join", chance, node + 1),
        step("join", chance, node + 2),
        step("ack", chance, node + 1, key, 0),
        step("pass", chance, 8),
        step("announce", chance, node, key, chance.choice((1, 4, 7, 10, 13))),
        step("pass", chance, chance.randrange(4, 9)),
    ]
    use = (
        ("ack", node + 1),
        ("ack", node + 2),
        ("acked", node),
        ("join", node),
        ("leave", node + 2),
        ("crash", node + 2),
    )
    for verb, who in chance.sample(use, k=chance.randrange(2, 5)):
        steps += [step("migrate", chance, number) for _ in range(chance.randrange(5))]
        steps.append(step(verb, chance, who, *((key, 0) if verb in ("ack", "acked") else ())))
        steps.append(step(chance.choice(("run", "pass")), chance))
    steps += [step(chance.choice(("migrate_all", "migrate", "call_off", "pass")), chance, number) for _ in range(3)]
    return [*steps, step("pass", chance, chance.randrange(6, 13))]


def _replicated_while_it_moves(chance: Random) -> list[Step]:
    """Calls that a replica has to have, which is late; the map moves, or the replica takes over."""
    node, number, server = chance.randrange(3), chance.randrange(3), chance.randrange(2)
    return [
        step("lag", chance, server),
        step("fire", chance, node, number, 9),
        step("pass", chance, chance.randrange(4, 12)),
        *(step("migrate", chance, number) for _ in range(chance.randrange(5))),
        step("pulse", chance, node + 1, number, 9),
        step(chance.choice(("hand_over", "migrate_all", "run", "cut")), chance, server),
        step("pass", chance),
        step("lag", chance, server, 0),
    ]


STORIES_OF: dict[str, tuple[Callable[[Random], list[Step]], ...]] = {
    "": STORIES,
    "timed": (*STORIES, *TIMED_STORIES),
    "counted": (*STORIES, *COUNTED_STORIES),
    "held": (*STORIES[:4], *TIMED_STORIES[::3], *HELD_STORIES),
    "locked": (*STORIES[:2], *LOCKED_STORIES),
    "acked": ACKED_STORIES,
    "sharded acked": (
        *(_acknowledged_while_it_moves,) * 12,
        *(_replicated_while_it_moves,) * 4,
        *ACKED_STORIES,
    ),
    "sharded timed": (*(_moves_while_used,) * 4, *STORIES[:4], *TIMED_STORIES),
    "sharded counted": (*(_moves_while_used,) * 4, *STORIES[:4], *COUNTED_STORIES),
    "sharded held": (*(_moves_while_used, _held_while_it_moves) * 2, *TIMED_STORIES[::3], *HELD_STORIES),
    "sharded locked": (*(_locked_while_it_moves,) * 4, *LOCKED_STORIES),
}
"""By family; each as often as it comes."""
