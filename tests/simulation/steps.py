"""The steps that a schedule is made of: what there is, how often it comes, how many numbers it takes."""

from __future__ import annotations

from random import Random

__all__ = [
    "ARITY",
    "COUNTED",
    "HELD",
    "LOCKED",
    "PAUSES",
    "TIMED",
    "UNMENDED",
    "USE",
    "Step",
    "any_step",
    "is_fault",
    "step",
]

Step = tuple[str, int, int, int]
"""A verb and three numbers, which its taker reduces to what there is."""

# How many of its three numbers each verb takes, and how often it comes.
USE = {
    "wait": (3, 26),
    "cancel": (2, 3),
    "fire": (3, 9),
    "fail": (3, 3),
    "pulse": (3, 9),
    "reset": (3, 9),
    "take_back": (3, 3),
    "forget": (2, 1),
    "look": (2, 2),
    "listing": (2, 2),
    "watch": (3, 4),
    "pull": (1, 3),
    "unwatch": (2, 1),
    "close": (1, 1),
}
TIMED = {
    "fire_for": (3, 22),
    "expire": (3, 6),
    "end_of": (3, 14),
    "forgo": (2, 2),
}
"""Of timed schedules alone, and of those in which keys are held."""
COUNTED = {
    "count": (3, 30),
    "begin_anew": (3, 6),
    "goal": (3, 10),
    "reach": (3, 10),
    "unreach": (2, 2),
    "misuse": (3, 5),
}
"""Of schedules with counters alone."""
HELD = {
    "hold": (3, 30),
    "withdraw": (3, 12),
    "give_up": (2, 3),
}
"""Of schedules alone in which keys are held."""
LOCKED = {
    "lock": (3, 30),
    "unlock": (2, 18),
    "unask": (2, 4),
    "evict": (2, 3),
}
"""Of schedules with locks alone."""
_ROCK = {"rock": (1, 3)}
_BREAK = {
    "cut": (1, 4),
    "cut_one": (2, 4),
    "stall": (2, 2),
    "stall_one": (3, 3),
    "unstall": (1, 4),
    "crash": (1, 1),
    "freeze": (1, 1),
    "thaw": (1, 2),
    "jump": (2, 1),
    "stop": (1, 1),
    "start": (1, 3),
    "restart": (1, 2),
    "hang": (1, 2),
    "resume": (1, 4),
    "drop": (2, 2),
    "flush": (0, 1),
    "scripts": (0, 1),
    "trim": (1, 1),
    "step": (2, 2),
    "replicas": (1, 2),
    "backlog": (1, 1),
    "lag": (2, 3),
    "memory": (1, 1),
    "load": (1, 1),
    "refuse": (2, 6),
    "serve": (1, 5),
    "forge": (3, 8),
    "limit": (1, 5),
    "save": (0, 5),
    "fail_over": (1, 2),
    "split": (3, 8),
    "move": (1, 2),
    "demote": (1, 14),
    "follow": (1, 2),
    "retire": (0, 1),
}
UNMENDED: frozenset[str] = frozenset()
"""What is left out: here a reply is too large from a record and a half on, and pages are bounded at real sizes.

Verbs, and ``back``: a demoted server promoted again; ``denied``: a permission taken away for a while; ``held up``:
calls that wait behind one that waits for replicas; ``aging``: what stays on the server.
"""

_PASS = {"run": (1, 30), "pass": (1, 14)}
_VERBS = USE | _BREAK | _PASS
_NAMES = list(_VERBS)
_WEIGHTS = [0 if name in UNMENDED else weight for name, (_, weight) in _VERBS.items()]
# More time passes, so that events end; fewer wait, as most get answers.
_TIMED_VERBS = _VERBS | TIMED | {"wait": (3, 20), "look": (2, 6), "pass": (1, 26)}
_TIMED_NAMES = list(_TIMED_VERBS)
_TIMED_WEIGHTS = [0 if name in UNMENDED else weight for name, (_, weight) in _TIMED_VERBS.items()]
_COUNTED_VERBS = _VERBS | COUNTED
_COUNTED_NAMES = list(_COUNTED_VERBS)
_COUNTED_WEIGHTS = [0 if name in UNMENDED else weight for name, (_, weight) in _COUNTED_VERBS.items()]
# Nodes come and go, clocks step, and servers restart.
_HELD_VERBS = _VERBS | TIMED | HELD | _ROCK
_HELD_VERBS |= {"wait": (3, 10), "fire": (3, 5), "fail": (3, 2), "pulse": (3, 4), "look": (2, 4), "pass": (1, 40)}
_HELD_VERBS |= {"fire_for": (3, 6), "expire": (3, 2), "watch": (3, 2), "split": (3, 3), "demote": (1, 4)}
_HELD_VERBS |= {"crash": (1, 5), "close": (1, 3), "stall": (2, 4), "step": (2, 5), "forge": (3, 3), "restart": (1, 3)}
_HELD_NAMES = list(_HELD_VERBS)
_HELD_WEIGHTS = [0 if name in UNMENDED else weight for name, (_, weight) in _HELD_VERBS.items()]
_LOCKED_VERBS = {name: how for name, how in _HELD_VERBS.items() if name not in TIMED and name not in HELD} | LOCKED
_LOCKED_VERBS |= {"fail_over": (1, 4), "save": (0, 6), "restart": (1, 5), "fire": (3, 3), "reset": (3, 3)}
_LOCKED_NAMES = list(_LOCKED_VERBS)
_LOCKED_WEIGHTS = [0 if name in UNMENDED else weight for name, (_, weight) in _LOCKED_VERBS.items()]
ARITY = {name: arity for name, (arity, _) in (_HELD_VERBS | COUNTED | LOCKED).items()}
# Milliseconds.
PAUSES = (1, 2, 5, 10, 20, 50, 100, 300, 1_000, 1_500, 3_000, 6_000, 12_000)


def step(name: str, chance: Random, *fixed: int) -> Step:
    """Return a step; the numbers that are not given are chosen."""
    numbers = [*fixed, *(chance.randrange(60) for _ in range(ARITY[name] - len(fixed))), 0, 0, 0]
    return name, numbers[0], numbers[1], numbers[2]


def is_fault(step: Step) -> bool:
    """Whether a step breaks or mends something."""
    return step[0] in _BREAK or step[0] in _ROCK


def any_step(
    chance: Random, *, timed: bool = False, counted: bool = False, held: bool = False, locked: bool = False
) -> Step:
    """Return a step that chance chooses."""
    if locked:
        return step(chance.choices(_LOCKED_NAMES, _LOCKED_WEIGHTS)[0], chance)
    if counted:
        return step(chance.choices(_COUNTED_NAMES, _COUNTED_WEIGHTS)[0], chance)
    if held:
        return step(chance.choices(_HELD_NAMES, _HELD_WEIGHTS)[0], chance)
    if timed:
        return step(chance.choices(_TIMED_NAMES, _TIMED_WEIGHTS)[0], chance)
    return step(chance.choices(_NAMES, _WEIGHTS)[0], chance)
