"""The steps that a schedule is made of: what there is, how often it comes, how many numbers it takes."""

from __future__ import annotations

from random import Random

__all__ = [
    "ACKED",
    "ARITY",
    "COUNTED",
    "HELD",
    "LOCKED",
    "MIXES",
    "MOVED",
    "PAUSES",
    "SHARD_FAULTS",
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
ACKED = {
    "join": (1, 14),
    "leave": (1, 7),
    "ack": (3, 34),
    "announce": (3, 14),
    "acked": (3, 20),
    "unack": (2, 3),
}
"""Of schedules with acknowledgements alone."""
MOVED = {
    "migrate": (2, 40),
    "migrate_all": (1, 2),
    "call_off": (1, 5),
    "bus": (1, 3),
}
"""Of schedules on a cluster alone."""
_SHARDS_BREAK = {
    "hand_over": (1, 2),
    "down": (1, 1),
    "up": (1, 3),
}
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
Verbs = dict[str, tuple[int, int]]
_ANY: Verbs = USE | _BREAK | _PASS
# More time passes, so that events end; fewer wait, as most get answers.
_TIMED: Verbs = _ANY | TIMED | {"wait": (3, 20), "look": (2, 6), "pass": (1, 26)}
# Nodes come and go, clocks step, and servers restart.
_HELD: Verbs = _ANY | TIMED | HELD | _ROCK
_HELD |= {"wait": (3, 10), "fire": (3, 5), "fail": (3, 2), "pulse": (3, 4), "look": (2, 4), "pass": (1, 40)}
_HELD |= {"fire_for": (3, 6), "expire": (3, 2), "watch": (3, 2), "split": (3, 3), "demote": (1, 4)}
_HELD |= {"crash": (1, 5), "close": (1, 3), "stall": (2, 4), "step": (2, 5), "forge": (3, 3), "restart": (1, 3)}
_LOCKED: Verbs = {name: how for name, how in _HELD.items() if name not in TIMED and name not in HELD} | LOCKED
_LOCKED |= {"fail_over": (1, 4), "save": (0, 6), "restart": (1, 5), "fire": (3, 3), "reset": (3, 3)}
_ACKED: Verbs = _ANY | ACKED
_ACKED |= {"wait": (3, 5), "fire": (3, 5), "fail": (3, 2), "pulse": (3, 5), "look": (2, 1), "pass": (1, 40)}
_ACKED |= {"crash": (1, 4), "close": (1, 3), "watch": (3, 2), "listing": (2, 1), "trim": (1, 3), "split": (3, 4)}
_ACKED |= {"fail_over": (1, 4), "demote": (1, 4), "restart": (1, 3), "forge": (3, 2), "refuse": (2, 3)}
MIXES: dict[str, Verbs] = {
    "": _ANY,
    "timed": _TIMED,
    "counted": _ANY | COUNTED,
    "held": _HELD,
    "locked": _LOCKED,
    "acked": _ACKED,
}
"""What the schedules of each family are made of."""

SHARD_FAULTS = frozenset(
    {"cut", "cut_one", "stall", "stall_one", "unstall", "crash", "freeze", "thaw", "hang", "resume", "drop", "scripts"}
) | set(_SHARDS_BREAK)
"""What may break in a cluster."""


def _sharded(verbs: Verbs) -> Verbs:
    """Return the same on a cluster: what only one server knows is left out."""
    known = {name: how for name, how in verbs.items() if name in SHARD_FAULTS or not (name in _BREAK or name in _ROCK)}
    return known | MOVED | _SHARDS_BREAK


MIXES |= {f"sharded {family}": _sharded(verbs) for family, verbs in MIXES.items()}
# The seeds of the other kinds on a cluster were tried before there was this there.
MIXES["sharded acked"] |= {"lag": (2, 3), "pulse": (3, 8)}
ARITY = {name: arity for verbs in MIXES.values() for name, (arity, _) in verbs.items()}
# Milliseconds.
PAUSES = (1, 2, 5, 10, 20, 50, 100, 300, 1_000, 1_500, 3_000, 6_000, 12_000)


def step(name: str, chance: Random, *fixed: int) -> Step:
    """Return a step; the numbers that are not given are chosen."""
    numbers = [*fixed, *(chance.randrange(60) for _ in range(ARITY[name] - len(fixed))), 0, 0, 0]
    return name, numbers[0], numbers[1], numbers[2]


def is_fault(step: Step) -> bool:
    """Whether a step breaks or mends something."""
    return step[0] in _BREAK or step[0] in _ROCK or step[0] in _SHARDS_BREAK


def any_step(chance: Random, family: str) -> Step:
    """Return a step of a family that chance chooses."""
    verbs = MIXES[family]
    weights = [0 if name in UNMENDED else weight for name, (_, weight) in verbs.items()]
    return step(chance.choices(list(verbs), weights)[0], chance)
