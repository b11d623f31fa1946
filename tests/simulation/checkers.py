"""One function a promise: each looks at what was observed, and yields in words what breaks its promise.

What is left out, and why:

- what the server lost (flushed, restarted empty, failed over without its last writes) is promised to nobody. A change
  counts as kept if it is part of what the last primary's data are made of;
- where data were lost *and* a clock went back, a new generation may be lower than one that nobody alive has seen;
  such changes wake nobody reliably, and are left out of W2;
- where a map had gone and an older copy of it was brought back, whoever was armed in between is woken by what had
  been over before: it cannot know that from the first change of a new map. Such wakes are left out of W8;
- a crashed incarnation is promised nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from simulation import to_ackers, to_callers, to_counters, to_ends, to_holders, to_locks, to_shards, to_waiters
from simulation.evidence import SLACK, Evidence, Found, noted
from simulation.history import NodeLife
from simulation.to_watchers import watch

__all__ = ["CHECKERS", "check"]


def links(evidence: Evidence) -> Found:
    """Connecting, then connected and suspended in turn, then closed; it recovers, and notices who is silent."""
    follows = {
        "connecting": ("connected", "closed"),
        "connected": ("suspended", "closed"),
        "suspended": ("connected", "closed"),
        "closed": (),
    }
    for life in evidence.history.lives:
        for (_, before, _), (_, after, _) in zip(life.links, life.links[1:], strict=False):
            if after not in follows[before]:
                yield f"{life.name}/{life.number}: from {before} to {after}"
        yield from _unnoticed(life, evidence)
    yield from _astray(evidence)
    yield from noted(evidence, "recovers")


def _astray(evidence: Evidence) -> Found:
    """A link that leads to a replica is given up."""
    for astray in evidence.history.astray:
        if astray.end > evidence.soon(astray.life, astray.begin):
            life = astray.life
            yield f"{life.name}/{life.number}: linked to a replica for {astray.end - astray.begin[1]:g} s"


def revisions(evidence: Evidence) -> Found:
    """A revision is given once, whatever is lost."""
    for (name, revision), changes in evidence.by_revision.items():
        if len(changes) > 1:
            yield f"{revision} of {name} was given {len(changes)} times"


def _unnoticed(life: NodeLife, evidence: Evidence) -> Found:
    """Who is silent for two beats is noticed; a frozen node cannot notice."""
    if life.frozen:
        return
    patience = 2 * evidence.setup.heartbeat + evidence.setup.slowest + SLACK
    over = life.crashed or life.closing or evidence.rest
    for silence in life.silences:
        end = min(silence[1] if len(silence) == 2 else evidence.rest[1], over[1])
        state = ""
        for moment, after, _ in life.links:
            if moment[1] <= silence[0] + patience:
                state = after
        if end > silence[0] + patience and state == "connected":
            yield f"{life.name}/{life.number}: still connected {patience:g} s after all fell silent"


def noise(evidence: Evidence) -> Found:
    """Nothing is logged as an error: no handler that raises, no Deferred forgotten, no mistake of coord's own."""
    yield from noted(evidence, "noise")
    yield from noted(evidence, "W4")


CHECKERS: dict[str, Callable[[Evidence], Found]] = {
    "W1": to_waiters.w1_late,
    "W2": to_waiters.w2_no_lost_wake_up,
    "W3": to_waiters.w3_once,
    "W4": to_waiters.w4_alone,
    "W5": to_waiters.w5_no_leak,
    "W6": to_waiters.w6_closed,
    "W7": to_waiters.w7_own_calls,
    "W8": to_waiters.w8_staleness,
    "F1": to_callers.f1_acknowledged,
    "F2": to_callers.f2_applied_once,
    "F3": to_callers.f3_the_one_doubt,
    "F4": to_callers.f4_replicas,
    "L1": to_holders.l1_held_means_latched,
    "L2": to_holders.l2_dead_means_gone,
    "L3": to_holders.l3_alive_means_kept,
    "L4": to_holders.l4_told_first,
    "hold": to_holders.answers,
    "L5": to_locks.l5_one_at_a_time,
    "L6": to_locks.l6_the_owner_goes_on,
    "L7": to_locks.l7_through_a_split,
    "L8": to_locks.l8_tokens_rise,
    "L9": to_locks.l9_in_order,
    "lock": to_locks.answers,
    "L10": to_ends.l10_gone,
    "L11": to_ends.l11_ttl,
    "L12": to_counters.l12_counted,
    "L13": to_ackers.l13_acks_are_of_handlers,
    "watch": watch,
    "revision": revisions,
    "forged": lambda evidence: noted(evidence, "forged"),
    "kept": lambda evidence: noted(evidence, "kept"),
    "link": links,
    "noise": noise,
}


ON_A_CLUSTER: list[tuple[str, Callable[[Evidence], Found]]] = [
    ("link", to_shards.links_alone),
    ("W2", to_shards.woken_soon),
    ("F3", to_shards.no_doubt),
    ("L6", to_shards.no_grant_after_a_move),
]


def check(evidence: Evidence) -> list[tuple[str, str]]:
    """Return every broken promise: its name, and what broke it."""
    evidence.turn()
    checkers = [*CHECKERS.items(), *(ON_A_CLUSTER if evidence.map else ())]
    return [(name, words) for name, checker in checkers for words in checker(evidence)]
