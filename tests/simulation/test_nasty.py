"""The schedules that a design of holders and locks has to survive, each by its name.

The simulation finds them, and worse ones, by chance; here each is played as it was told, with quick and with slow
deliveries. Three nodes, leases of 3 s, a grace time of 2 s.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulation.schedule import play
from simulation.setup import Setup
from simulation.steps import Step

_LOCK = Setup(4_000_000_001, nodes=3, keys=1, latency=1, heartbeat=1.0, locks=2, held=True, lease=3.0, grace=2.0)
_HOLD = Setup(2_000_000_001, nodes=3, keys=2, latency=1, heartbeat=1.0, timed=True, held=True, lease=3.0, grace=2.0)
_COUNT = Setup(3_000_000_001, nodes=3, keys=1, latency=1, heartbeat=1.0, counters=1)


def _s(name: str, *numbers: int) -> Step:
    first, second, third, *_ = *numbers, 0, 0, 0
    return name, first, second, third


_MOMENT, _SECOND, _LONG = _s("pass", 6), _s("pass", 8), _s("pass", 12)


def _lock(node: int, key: int = 0) -> Step:
    return _s("lock", node, key, 0)


def _hold(node: int, key: int = 0) -> Step:
    return _s("hold", node, key, 0)


# A lock of the map that somebody else owns, so that the map and its leases are older than what is lost.
_OLDER = (_lock(2, 1), _LONG, _LONG)

NASTY: dict[str, tuple[Setup, int, list[Step]]] = {
    "grant, crash": (
        _LOCK,
        3,
        [*_OLDER, _s("save"), _lock(0), _SECOND, _s("fail_over", 0), _lock(1), _LONG, _s("unlock", 0), _LONG, _LONG],
    ),
    "release, grant, crash": (
        _LOCK,
        4,
        [
            _lock(0),
            _SECOND,
            _lock(1),
            _SECOND,
            _s("save"),
            _s("unlock", 0),
            _SECOND,
            _s("fail_over", 0),
            _lock(0),
            _LONG,
            _s("unlock", 1),
            _LONG,
            _LONG,
            _lock(2, 1),
            _LONG,
        ],
    ),
    "stopped server": (_LOCK, 2, [_lock(0), _lock(1), _SECOND, _s("hang"), _LONG, _s("resume"), _lock(2, 1), _LONG]),
    "hours down": (
        _LOCK,
        2,
        [_lock(0), _lock(1), _SECOND, _s("stop"), *(_LONG,) * 20, _s("start"), _LONG, _lock(2, 1), _LONG],
    ),
    "clock ahead, then back": (
        _LOCK,
        1,
        [_lock(0), _lock(1), _SECOND, _s("step", 0, 3), _SECOND, _s("step", 0, 6), _LONG, _s("step", 0, 3), _LONG],
    ),
    "the late yes": (
        _LOCK,
        2,
        [*_OLDER, _lock(0, 1), _SECOND, _s("stall", 0, 2), _lock(0), _SECOND, _lock(1), _LONG, _s("unstall", 0), _LONG],
    ),
    "the old yes": (
        _LOCK,
        2,
        [
            *_OLDER,
            _lock(0, 1),
            _SECOND,
            _s("stall", 0, 2),
            _lock(0),
            _MOMENT,
            _s("unask", 0, 1),
            _lock(0),
            _s("unstall", 0),
            _SECOND,
            _LONG,
        ],
    ),
    "repeated hold after the end": (
        _HOLD,
        0,
        [_hold(0, 1), _SECOND, _s("stall", 0, 2), _hold(0), _LONG, _s("unstall", 0), _LONG],
    ),
    "suspend": (_LOCK, 2, [_lock(0), _lock(1), _SECOND, _s("freeze", 0), *(_LONG,) * 5, _s("thaw", 0), _LONG]),
    "restart in place": (_HOLD, 0, [_hold(0), _SECOND, _s("crash", 0), _hold(0), _LONG, _s("end_of", 1, 0, 0), _LONG]),
    "split": (_LOCK, 1, [_lock(0), _SECOND, _s("split", 0, 1), _lock(1), _LONG, _s("retire"), _LONG, _LONG]),
    "passing across a cut": (
        _HOLD,
        0,
        [
            _hold(0),
            _SECOND,
            _hold(1),
            _s("end_of", 2, 0, 0),
            _SECOND,
            _s("stall", 2, 0),
            _s("withdraw", 0),
            _SECOND,
            _s("unstall", 2),
            _LONG,
        ],
    ),
    "many die in one moment": (
        _HOLD,
        0,
        [*(_hold(number % 3, number % 2) for number in range(12)), _SECOND, _s("crash", 0), _s("crash", 1), _LONG],
    ),
    "the node's own clock goes back an hour": (_LOCK, 1, [_lock(0), _lock(1), _SECOND, _s("jump", 0, 0), _LONG, _LONG]),
    "a second failover in the recovery of the first": (
        _LOCK,
        2,
        [
            *_OLDER,
            _s("save"),
            _lock(0),
            _lock(1),
            _SECOND,
            _s("fail_over", 0),
            _SECOND,
            _s("fail_over", 0),
            _LONG,
            _s("unlock", 0),
            _LONG,
            _LONG,
        ],
    ),
    "there and back without a call": (
        _LOCK,
        1,
        [
            _lock(0),
            _lock(1),
            _SECOND,
            _s("split", 0, 7),
            _s("demote", 0),
            _s("split", 0, 7),
            _LONG,
            _s("retire"),
            _LONG,
        ],
    ),
    "two holders in one process": (_LOCK, 3, [_lock(0), _lock(0), _lock(0), _SECOND, _s("unlock", 0), _SECOND]),
    "a withdrawal in the lost second": (
        _HOLD,
        0,
        [_hold(0), _hold(0, 1), _SECOND, _s("save"), _s("withdraw", 0, 1), _SECOND, _s("fail_over", 0), _LONG, _LONG],
    ),
    "a beat while its lease is swept": (
        _HOLD,
        0,
        [*(_hold(0, number) for number in range(8)), _SECOND, _s("freeze", 0), _s("pass", 11), _s("thaw", 0), _LONG],
    ),
    "a forged grant": (
        _LOCK,
        3,
        [_lock(0), _lock(1), _lock(2), _SECOND, *(_s("forge", 0, 4 * number, 1) for number in range(9)), _SECOND],
    ),
    "an eviction of somebody who is cut off": (
        _LOCK,
        2,
        [_lock(0), _lock(1), _SECOND, _s("stall", 0, 0), _s("evict", 1, 0), _LONG, _s("unstall", 0), _LONG],
    ),
    "a lost second with counts": (
        _COUNT,
        0,
        [_s("count", 0, 0, 3), _SECOND, _s("save"), _s("count", 1, 0, 3), _SECOND, _s("fail_over", 0), _LONG],
    ),
    "an answer from memory": (
        _LOCK,
        1,
        [
            _lock(0, 1),
            _SECOND,
            _s("stall", 0, 2),
            _lock(0),
            _s("pass", 10),
            _s("cut", 0),
            _s("unstall", 0),
            _lock(1),
            _LONG,
            _LONG,
        ],
    ),
    "a clock that rocks": (
        _LOCK,
        1,
        [_lock(0), _lock(1), _SECOND, *(each for _ in range(6) for each in (_s("rock", 0), _s("pass", 7))), _LONG],
    ),
}
"""By name: the world, how many grants there are at least, and the steps."""


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_schedule_breaks_nothing(name: str, latency: int) -> None:
    """Every promise holds; and what it is about has happened."""
    setup, grants, steps = NASTY[name]
    outcome = play(replace(setup, latency=latency), steps)
    assert outcome.broken == []
    assert outcome.grants >= grants
