"""The schedules that a design for clusters has to survive, each by its name."""

from __future__ import annotations

from dataclasses import replace

from simulation.schedule import SHARDED_ACKED_SEEDS, SHARDED_SEEDS
from simulation.setup import Setup
from simulation.steps import Step

__all__ = ["ACKED", "NASTY", "TOO_LONG", "nasty_setup"]


def _s(name: str, *numbers: int) -> Step:
    first, second, third, *_ = *numbers, 0, 0, 0
    return name, first, second, third


def _fire(node: int, key: int = 0) -> Step:
    # With any other third number, its callback waits, or it has less time.
    return _s("fire", node, key, 1)


def _pulse(node: int, key: int = 0) -> Step:
    return _s("pulse", node, key, 1)


_MOMENT, _SECOND, _LONG = _s("pass", 6), _s("pass", 8), _s("pass", 12)
# A map that has all its keys, a node that waits for one, and time for it to be armed.
_BEGUN = [_s("count", 0), _fire(0, 3), _LONG, _s("wait", 1), _SECOND, _SECOND]
_OVER = [_s("migrate")] * 3
_HALF = [*_BEGUN, *[_s("migrate")] * 3]
_CROWD = 40

NASTY: dict[str, list[Step]] = {
    "deaf by ASK": [*_BEGUN, _s("pass", 9), _s("migrate_all"), _fire(0), _LONG, _LONG],
    "armed at the wrong end": [*_BEGUN, _s("migrate_all"), _s("wait", 0, 3), _s("wait", 1), _MOMENT, _pulse(0), _LONG],
    "half a map": [*_HALF, _fire(0), _pulse(1, 3), _LONG, _s("migrate_all"), _LONG],
    "ASKING eaten": [*_BEGUN, _s("migrate_all"), _fire(0), _SECOND, _pulse(0), _SECOND, _pulse(0), _LONG],
    "called off": [
        *(_s("wait", 1), _SECOND, _s("migrate"), _s("migrate"), _s("wait", 1, 3), _LONG),
        *(_s("call_off"), _fire(0), _LONG, _LONG),
    ],
    "the push from the new owner": [*_BEGUN, _s("migrate_all"), _pulse(0, 3), _LONG, *_OVER, _fire(0), _LONG],
    # The second map shares the server: an error that is the first one's must not hit it.
    "crossing": [
        *(*_BEGUN, _s("wait", 1, 1), _SECOND, _s("migrate_all"), _s("cancel", 1), _s("wait", 1, 4)),
        *(*_OVER, _fire(0, 4), _fire(0, 1), _LONG),
    ],
    # A subscription is on its way to the server that the map leaves, and comes back to.
    "there and back": [
        *(*_BEGUN, _s("wait", 1, 6), _s("pass"), _s("migrate_all"), *_OVER, _s("migrate_all"), *_OVER),
        *(_fire(0), _pulse(0, 6), _LONG),
    ],
    "healthy while down": [
        *(*_BEGUN, _s("down", 0), _s("down", 1), _s("wait", 0, 1), _LONG, _s("up", 0), _s("up", 1), _MOMENT),
        *(_fire(0), _fire(1, 1), _LONG),
    ],
    "demoted and friendly": [
        *(*_BEGUN, _s("hand_over", 0), _s("hand_over", 1), _s("wait", 1, 1), _MOMENT, _fire(0)),
        *(_fire(0, 1), _LONG),
    ],
    # The server that gives the slot away is silent, and then closes connections to which it owes too much.
    "standstill": [
        *(_s("count", 0), _LONG, *[_s("wait", 1, 3 * number) for number in range(_CROWD)], _LONG),
        *(_s("migrate_all"), *_OVER, _s("hang", 0), *[_fire(0, 3 * number) for number in range(0, _CROWD, 2)]),
        *(_SECOND, _s("resume", 0), _s("drop", 0), *[_pulse(0, 3 * number) for number in range(1, _CROWD, 2)]),
        *(_LONG, _LONG),
    ],
    # The other server has not heard of the failover, and names the old primary, which says MOVED.
    "two truths": [
        *(_s("bus", 5), *_BEGUN, _s("hand_over", 0), _fire(0), _LONG, _s("cut", 1), _s("wait", 1, 6), _LONG),
        *(_pulse(0, 6), _LONG),
    ],
    # A slot has just moved: who takes over from its last server knows that, or it would take the slot back, empty.
    "handed over after a move": [
        *(*_BEGUN, _s("migrate_all"), *_OVER, _s("hand_over", 0), _fire(0), _fire(1, 3), _LONG),
    ],
    # A server ends the subscriptions, and names the next one. Who serves what is not asked so soon.
    "told by MOVED alone": [*_BEGUN, _s("crash", 0), _LONG, _LONG, _s("migrate_all"), *_OVER, _pulse(0), _LONG, _LONG],
    # One call has its replica late, and the other one's map moves before that.
    "late replica": [
        *(*_BEGUN, _s("lag", 0, 3), _s("fire", 0, 0, 9), _LONG, _s("pulse", 0, 3, 9), _MOMENT, _s("migrate_all")),
        *(*_OVER, _LONG, _s("lag", 0, 0), _s("pulse", 1, 3, 9), _LONG),
    ],
    # A call is refused, and cannot be sent again: the other server takes the cluster for failed until its time is over.
    "refused for good": [
        *(_s("count", 0), _LONG, _s("wait", 1), _SECOND, _s("migrate_all"), *_OVER, _s("down", 1), _fire(0)),
        *(_LONG, _LONG, _LONG),
    ],
}

# A change of a map that has all its keys, those for acknowledgements too; a member has yet to acknowledge it.
_TOLD = [_fire(0, 3), _s("join", 1), _LONG, _s("ack", 1, 3), _SECOND, _fire(0), _SECOND]
_AWAITED = [*_TOLD, _s("acked", 0), _SECOND, _SECOND]
# The fourth map is the members'.
_MEMBERS = 3

ACKED: dict[str, list[Step]] = {
    # Whoever waits has followed the map's records, and not all acknowledgements are there yet.
    "half acknowledged": [
        *(*_AWAITED, *[_s("migrate")] * 3, _s("wait", 0, 6), _MOMENT, _s("ack", 1), _MOMENT, _s("leave", 1)),
        *(_LONG, _s("migrate_all"), _LONG),
    ],
    "dead at the other server": [
        *(*_AWAITED, _s("migrate_all", _MEMBERS), _LONG, *[_s("migrate", _MEMBERS)] * 3, _LONG, _s("crash", 1)),
        *(_LONG, _LONG),
    ],
    # One key of the members has moved, for which their sweeps ask: whoever wants the list of them is led to and fro.
    "members to and fro": [
        *(_s("join", 0), _s("join", 1), _SECOND, _SECOND, *[_s("migrate", _MEMBERS)] * 2, _s("migrate", _MEMBERS, 3)),
        *(_SECOND, _s("announce", 0, 0, 1), _s("pass", 11), _s("pass", 11), _s("migrate_all", _MEMBERS)),
    ],
    "acknowledged on the way": [
        *(*_AWAITED, _s("migrate_all"), _s("wait", 1, 6), *[_s("run", 2), _s("ack", 1)] * 8, _LONG),
    ],
}
"""The same of acknowledgements."""

NASTY |= ACKED

TOO_LONG = [*_HALF, _fire(0, 6), _LONG, _LONG, _LONG]
"""A map stays half for longer than a call waits."""


def nasty_setup(name: str, *, latency: int, sharded: str) -> Setup:
    """Return the world of a nasty schedule: there the operator's program ends, and leaves open what is open."""
    seed = SHARDED_SEEDS + 1
    keys = _CROWD if name == "standstill" else 2
    if name in ACKED:
        setup = Setup(SHARDED_ACKED_SEEDS + 1, nodes=3, maps=3, keys=3, latency=latency, heartbeat=1.0, sharded=sharded)
        return replace(setup, lease=3.0, grace=2.0, acks=3)
    # Long enough to tell a word across from a heartbeat.
    heartbeat = 5.0 if name in ("deaf by ASK", "told by MOVED alone") else 1.0
    return Setup(seed, maps=3, keys=keys, latency=latency, heartbeat=heartbeat, counters=1, sharded=sharded)
