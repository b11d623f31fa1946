"""Schedules: made from a seed, played, and shortened as long as they still break a promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from simulation.checkers import check
from simulation.clock import Runaway
from simulation.history import History
from simulation.run import Run
from simulation.setup import Setup
from simulation.steps import SHARD_FAULTS, Step, any_step, is_fault
from simulation.stories import STORIES_OF
from simulation.world import deterministic

__all__ = [
    "ACKED_SEEDS",
    "COUNTED_SEEDS",
    "HELD_SEEDS",
    "LOCKED_SEEDS",
    "SHARDED_ACKED_SEEDS",
    "SHARDED_SEEDS",
    "TIMED_SEEDS",
    "Outcome",
    "describe",
    "generate",
    "play",
    "setup_of",
    "shorten",
]

_MAX_STEPS = 50

TIMED_SEEDS = 1_000_000_000
"""The first seed of those that stand for timed schedules; the schedules of lower ones do not know TTLs."""

HELD_SEEDS = 2_000_000_000
"""The first seed of those that stand for timed schedules in which keys are held, too."""

COUNTED_SEEDS = 3_000_000_000
"""The first seed of those that stand for schedules with counters."""

LOCKED_SEEDS = 4_000_000_000
"""The first seed of those that stand for schedules with locks."""

ACKED_SEEDS = 5_000_000_000
"""The first seed of those that stand for schedules with acknowledgements."""

SHARDED_SEEDS = 6_000_000_000
"""The first seed of those that stand for schedules on a cluster: with counters, TTLs, holds or locks."""

SHARDED_ACKED_SEEDS = 7_000_000_000
"""The first seed of those that stand for schedules on a cluster with acknowledgements."""

_ONE_SERVER = ("stall", "unstall", "freeze", "thaw", "stop", "start", "restart", "hang", "resume", "save", "fail_over")
_FAULTS = (frozenset({"crash"}), frozenset({"crash", "cut", "jump", "step", "rock", *_ONE_SERVER}), None)
"""What may break where keys are held, by the seed: dead nodes alone; what leaves one server; anything."""

_IN_CLUSTER = (frozenset({"crash"}), SHARD_FAULTS - {"hand_over", "hang", "down"}, SHARD_FAULTS)
"""What may break in a cluster beside slots that move."""

_KINDS = ("counted", "timed", "held", "locked")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run: the broken promises, and how much happened."""

    broken: list[tuple[str, str]]
    waits: int
    calls: int
    changes: int
    faults: list[str]
    steps: int
    grants: int
    # Calls of which nobody knows whether they were applied; moves of slots.
    doubts: int = 0
    moves: int = 0


def family_of(seed: int) -> str:
    """Return the family that a seed belongs to; empty for the first one."""
    if seed >= SHARDED_ACKED_SEEDS:
        return "sharded acked"
    if seed >= SHARDED_SEEDS:
        return f"sharded {_KINDS[seed % len(_KINDS)]}"
    firsts = ACKED_SEEDS, LOCKED_SEEDS, COUNTED_SEEDS, HELD_SEEDS, TIMED_SEEDS
    names = "acked", "locked", "counted", "held", "timed"
    return next((name for name, first in zip(names, firsts, strict=True) if seed >= first), "")


def setup_of(seed: int) -> Setup:
    """Return the world that a seed stands for."""
    chance = Random(seed)
    cluster, _, family = family_of(seed).rpartition(" ")
    latency = chance.choice((0, 1, 1, 2, 2, 3))
    large = chance.random() < 0.15
    setup = Setup(
        seed,
        nodes=chance.choice((2, 2, 2, 3)),
        maps=chance.choice((1, 1, 1, 2)),
        keys=chance.choice((2, 4)) if large else chance.choice((1, 2, 2)),
        latency=latency,
        # A handshake has to fit into two beats, and takes a dozen round trips.
        heartbeat=5.0 if latency == 3 else chance.choice((1.0, 2.0, 5.0)),
        cache=chance.choice((1, 1, 2, 100)),
        # Where one or two calls are a full batch, each is a large one, and is sent behind another.
        # A batch is one entry of the history: where records are large, one of two would be over any limit of replies.
        batch=1 if large else chance.choice((1, 2, 256)),
        padding=400 if large else 0,
        timed=family in ("timed", "held"),
        counters=1 + seed % 2 if family == "counted" else 0,
        locks=1 + seed % 2 if family == "locked" else 0,
        careful=family == "locked" and seed // 2 % 2 == 1,
    )
    if family == "acked":
        setup = replace(_with_leases(setup, chance), held=False, nodes=3, acks=chance.choice((1, 2, 2, 3, 3)))
    if family in ("held", "locked"):
        setup = _with_leases(setup, chance)
    if cluster:
        # Two of three maps are on one server.
        setup = replace(setup, maps=chance.choice((1, 2, 3)), sharded=chance.choice(("redis", "valkey")))
    return setup


def _with_leases(setup: Setup, chance: Random) -> Setup:
    """Return the same world, with leases that last few heartbeats: they end within a schedule."""
    beat = 5.0 if setup.latency == 3 else chance.choice((1.0, 1.0, 2.0))
    lease, grace = beat * chance.choice((3, 3, 4)), beat * chance.choice((2, 2, 3))
    return replace(setup, heartbeat=beat, held=True, lease=lease, grace=grace)


def generate(seed: int) -> list[Step]:
    """Return the steps that a seed stands for; little is broken in every third of the later families' ones.

    There, little is excused.
    """
    chance = Random(seed + 0.5)
    family = family_of(seed)
    leased = family.endswith(("held", "locked", "acked"))
    breaks = _FAULTS[seed % 3] if leased else None
    if family in ("timed", "counted") and seed % 3 == 0:
        breaks = frozenset()
    if seed >= SHARDED_SEEDS:
        breaks = _IN_CLUSTER[seed % 3] | ({"lag"} if family == "sharded acked" else frozenset())
    steps: list[Step] = []
    length = chance.randrange(12, _MAX_STEPS)
    while len(steps) < length:
        if chance.random() < (0.3 if leased else 0.12):
            steps += chance.choice(STORIES_OF[family])(chance)
        else:
            steps.append(any_step(chance, family))
        if breaks is not None:
            steps = [each for each in steps if not is_fault(each) or each[0] in breaks]
    return steps


def play(setup: Setup, steps: list[Step]) -> Outcome:
    """Run a schedule from the beginning to the end."""
    history: History | None = None
    with deterministic(setup, lambda: history):
        run = Run(setup)
        history = run.world.history
        try:
            for step in steps:
                run.take(step)
            broken = [each for evidence in run.end() for each in check(evidence)]
            if setup.sharded:
                broken += history.wrong
        except Runaway as error:
            broken = [("link", str(error))]
    faults = [fault.verb for fault in history.faults]
    grants = sum(request.granted is not None for request in history.locks.values())
    doubts = sum(call.error == "Unconfirmed" for call in history.calls.values())
    happened = len(history.waits), len(history.calls), len(history.changes), faults, len(steps), grants, doubts
    return Outcome(broken, *happened, len(history.moves))


def shorten(setup: Setup, steps: list[Step], promise: str) -> list[Step]:
    """Leave out steps, in ever smaller runs, as long as the same promise is still broken."""

    def breaks(fewer: list[Step]) -> bool:
        return any(name == promise for name, _ in play(setup, fewer).broken)

    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if breaks(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def describe(setup: Setup, steps: list[Step]) -> str:
    """Return what somebody needs to see of a schedule that breaks a promise, and to play it again."""
    broken = play(setup, steps).broken
    lines = [f"{name}: {words}" for name, words in broken]
    return "\n".join([*lines, f"play({setup!r}, [", *(f"    {step!r}," for step in steps), "])"])
