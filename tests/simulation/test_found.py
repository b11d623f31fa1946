"""Schedules that broke a promise once, shortened: what the simulation has found, and must not find again."""

from __future__ import annotations

import pytest

from simulation.schedule import play
from simulation.steps import Step
from simulation.world import Setup

FOUND: dict[str, tuple[Setup, list[Step]]] = {
    "a lie under the number of the next change hid that one, and the reset behind it hid the lie": (
        Setup(seed=3016224, nodes=2, maps=1, keys=1, latency=2, heartbeat=2.0, cache=2, batch=2),
        [
            ("wait", 1, 0, 8),
            ("cut", 5, 0, 0),
            ("reset", 2, 3, 1),
            ("pass", 21, 0, 0),
            ("forge", 10, 3, 2),
            ("fire", 2, 2, 47),
            ("reset", 2, 2, 11),
        ],
    ),
    "a channel whose UNSUBSCRIBE was forbidden for a while stayed subscribed": (
        Setup(seed=3002395, nodes=2, maps=1, keys=2, latency=1, heartbeat=2.0, cache=1, batch=2),
        [
            ("wait", 0, 0, 3),
            ("fire", 1, 0, 36),
            ("pass", 7, 0, 0),
            ("reset", 1, 0, 0),
            ("run", 4, 0, 0),
            ("refuse", 43, 36, 0),
            ("run", 23, 0, 0),
        ],
    ),
    "a doorbell whose UNSUBSCRIBE was put off stayed subscribed": (
        Setup(seed=2004667, nodes=3, maps=1, keys=1, latency=3, heartbeat=5.0, cache=100, batch=1),
        [
            ("stall", 43, 38, 0),
            ("run", 41, 0, 0),
            ("wait", 3, 36, 48),
            ("watch", 54, 52, 47),
            ("run", 55, 0, 0),
            ("refuse", 7, 10, 0),
            ("run", 10, 0, 0),
        ],
    ),
    "a connection that was made while the other one went was left behind": (
        Setup(seed=19, nodes=2, latency=3, heartbeat=5.0, cache=2),
        [
            ("run", 14, 0, 0),
            ("pass", 7, 0, 0),
            ("crash", 17, 0, 0),
            ("run", 30, 0, 0),
            ("cut_one", 1, 34, 0),
        ],
    ),
    "the connection for replicated calls was left behind when the link went": (
        Setup(seed=9618, nodes=2, latency=1, heartbeat=5.0, cache=1),
        [
            ("freeze", 29, 0, 0),
            ("run", 41, 0, 0),
            ("fail", 2, 1, 6),
            ("cut", 2, 0, 0),
            ("run", 50, 0, 0),
            ("pulse", 8, 19, 19),
            ("load", 45, 0, 0),
            ("pass", 7, 0, 0),
        ],
    ),
    "a new generation's head was not read before the next activity": (
        Setup(seed=87, nodes=2, latency=1, heartbeat=2.0),
        [("wait", 26, 39, 29)],
    ),
    "a repeated call's outcome, long past, woke waits made after it": (
        Setup(seed=1652, nodes=3, latency=1, heartbeat=2.0, cache=2),
        [
            ("run", 15, 0, 0),
            ("cut", 0, 0, 0),
            ("fail", 1, 1, 48),
            ("run", 37, 0, 0),
            ("reset", 1, 1, 37),
            ("run", 11, 0, 0),
            ("wait", 40, 43, 20),
            ("fire", 47, 4, 39),
            ("run", 25, 0, 0),
            ("hang", 41, 0, 0),
            ("pass", 12, 0, 0),
            ("wait", 43, 5, 53),
        ],
    ),
    "a copy of an answered call, on a lost link, reached the server after a flush and was taken for a lie": (
        Setup(seed=200135, nodes=2, latency=0, heartbeat=1.0, cache=1),
        [
            ("fire", 12, 3, 26),
            ("pass", 1, 0, 0),
            ("stall_one", 42, 54, 57),
            ("fire", 56, 49, 27),
            ("pass", 11, 0, 0),
            ("flush", 0, 0, 0),
        ],
    ),
    "the promoted server's clock was an hour ahead, so that it had forgotten the outcome of a repeated call": (
        Setup(seed=257988, nodes=3, latency=1, heartbeat=1.0, cache=1),
        [
            ("step", 31, 41, 0),
            ("pass", 6, 0, 0),
            ("pulse", 2, 3, 49),
            ("pass", 57, 0, 0),
            ("cut", 1, 0, 0),
            ("split", 0, 2, 38),
        ],
    ),
    # In the next four, W8 was read too strictly: a waiter that is armed where there is no data must be woken by what
    # stands when its node is back, also where that is an older copy of what was flushed.
    "flushed, and an older copy promoted: a fire that was reset in that copy woke a wait made in between": (
        Setup(seed=230733, nodes=2, latency=2, heartbeat=2.0, cache=1),
        [
            ("wait", 57, 2, 22),
            ("fire", 1, 2, 51),
            ("pass", 11, 0, 0),
            ("reset", 0, 2, 0),
            ("run", 4, 0, 0),
            ("save", 0, 0, 0),
            ("flush", 0, 0, 0),
            ("pass", 12, 0, 0),
            ("wait", 0, 2, 37),
            ("split", 29, 44, 21),
        ],
    ),
    "flushed, and an older copy restored: a pulse of the waiter's own node woke a wait made in between": (
        Setup(seed=256818, nodes=2, keys=1, latency=2, heartbeat=5.0),
        [
            ("pulse", 14, 56, 5),
            ("run", 35, 0, 0),
            ("run", 32, 0, 0),
            ("save", 0, 0, 0),
            ("cut_one", 39, 14, 0),
            ("wait", 0, 1, 12),
            ("flush", 0, 0, 0),
            ("pass", 12, 0, 0),
            ("wait", 0, 1, 22),
            ("fail_over", 22, 0, 0),
        ],
    ),
    "flushed, and an older copy promoted: a wait was woken by a fire that its node could not know to be old": (
        Setup(seed=265626, nodes=2, latency=2, heartbeat=1.0, cache=1),
        [
            ("fire", 1, 0, 4),
            ("reset", 1, 0, 1),
            ("pass", 37, 0, 0),
            ("save", 0, 0, 0),
            ("flush", 0, 0, 0),
            ("wait", 6, 36, 37),
            ("run", 49, 0, 0),
            ("split", 47, 50, 50),
        ],
    ),
    "flushed, and an older copy promoted: a wait was armed at the empty server after that, and met the copy later": (
        Setup(seed=230733, nodes=2, latency=2, heartbeat=2.0, cache=1),
        [
            ("fire", 1, 2, 51),
            ("reset", 0, 2, 0),
            ("pass", 47, 0, 0),
            ("fire", 18, 20, 2),
            ("save", 0, 0, 0),
            ("pass", 7, 0, 0),
            ("flush", 0, 0, 0),
            ("pass", 12, 0, 0),
            ("wait", 0, 2, 37),
            ("split", 29, 44, 21),
            ("run", 10, 0, 0),
        ],
    ),
    "a handler that cancelled a sibling had armed() called before the rest of the same wake was": (
        Setup(seed=221309, nodes=2, maps=1, keys=1, latency=2, heartbeat=1.0, cache=100),
        [
            ("wait", 15, 52, 36),
            ("stall", 1, 5, 0),
            ("wait", 1, 0, 35),
            ("fire", 2, 0, 43),
            ("pass", 12, 0, 0),
            ("wait", 1, 0, 38),
        ],
    ),
    "two servers with clocks behind began the same generation, the first one's was lost: revisions came twice": (
        Setup(seed=241868, nodes=2, maps=1, keys=1, latency=1, heartbeat=5.0, cache=1),
        [
            ("run", 45, 0, 0),
            ("run", 13, 0, 0),
            ("run", 1, 0, 0),
            ("drop", 2, 28, 0),
            ("reset", 3, 3, 42),
            ("run", 28, 0, 0),
            ("stall_one", 57, 14, 53),
            ("pass", 46, 0, 0),
            ("fire", 2, 3, 46),
            ("pass", 30, 0, 0),
            ("save", 0, 0, 0),
            ("watch", 38, 26, 43),
            ("fail_over", 0, 0, 0),
            ("step", 30, 47, 0),
            ("pulse", 36, 12, 59),
            ("pass", 22, 0, 0),
            ("fail_over", 0, 0, 0),
        ],
    ),
    "flushed, and an older copy restored in the very moment in which a wait joined what its node had armed before": (
        Setup(seed=592096, nodes=2, maps=2, keys=2, latency=1, heartbeat=2.0, cache=1),
        [
            ("reset", 0, 0, 54),
            ("fire", 53, 12, 10),
            ("pass", 37, 0, 0),
            ("save", 0, 0, 0),
            ("flush", 0, 0, 0),
            ("pass", 12, 0, 0),
            ("fail_over", 10, 0, 0),
            ("wait", 12, 56, 2),
        ],
    ),
    "flushed, and an older copy promoted: a wait made in the callback of a pulse was woken by that pulse": (
        Setup(seed=1202396, nodes=2, latency=1, heartbeat=1.0, cache=1),
        [
            ("pulse", 38, 56, 1),
            ("wait", 12, 32, 43),
            ("pass", 9, 0, 0),
            ("save", 0, 0, 0),
            ("flush", 0, 0, 0),
            ("pass", 12, 0, 0),
            ("split", 21, 40, 47),
        ],
    ),
    "flushed twice: what was fired in between, while the node was subscribing anew, was gone when it read": (
        Setup(seed=1504381, nodes=2, keys=1, latency=3, heartbeat=5.0, cache=2),
        [
            ("reset", 32, 18, 24),
            ("cut_one", 14, 53, 0),
            ("fire", 3, 2, 12),
            ("pass", 12, 0, 0),
            ("flush", 0, 0, 0),
            ("pass", 22, 0, 0),
            ("fire", 1, 1, 18),
            ("pass", 7, 0, 0),
            ("flush", 0, 0, 0),
        ],
    ),
    "flushed, and begun anew below what was seen, as the clock was behind: an armed waiter missed the next pulse": (
        Setup(seed=337671, nodes=2, maps=1, keys=1, latency=2, heartbeat=1.0, cache=1),
        [
            ("pass", 48, 0, 0),
            ("fire", 40, 38, 13),
            ("wait", 1, 8, 28),
            ("cut", 1, 0, 0),
            ("run", 19, 0, 0),
            ("split", 0, 5, 47),
            ("pass", 9, 0, 0),
            ("close", 4, 0, 0),
            ("pulse", 44, 33, 30),
            ("wait", 1, 2, 4),
            ("pass", 7, 0, 0),
            ("flush", 0, 0, 0),
        ],
    ),
    "flushed, and the first pulse after it was heard before the flush was noticed: who waited again had it twice": (
        Setup(seed=474423, nodes=2, maps=1, keys=2, latency=1, heartbeat=5.0, cache=100),
        [
            ("cut", 3, 0, 0),
            ("wait", 1, 0, 12),
            ("pass", 7, 0, 0),
            ("fire", 2, 0, 59),
            ("reset", 2, 0, 1),
            ("run", 58, 0, 0),
            ("wait", 21, 58, 40),
            ("pass", 22, 0, 0),
            ("flush", 0, 0, 0),
            ("stall_one", 47, 48, 48),
            ("watch", 5, 25, 32),
            ("wait", 41, 53, 5),
            ("pass", 45, 0, 0),
            ("pulse", 35, 4, 53),
            ("pass", 42, 0, 0),
            ("hang", 29, 0, 0),
            ("wait", 43, 32, 43),
        ],
    ),
    "flushed between a pulse's message and its answer: who waited again in the callback was woken by that pulse too": (
        Setup(seed=628730, nodes=2, maps=1, keys=2, latency=1, heartbeat=5.0, cache=1),
        [
            ("wait", 19, 37, 34),
            ("wait", 2, 1, 58),
            ("pass", 6, 0, 0),
            ("pulse", 3, 1, 49),
            ("run", 11, 0, 0),
            ("run", 15, 0, 0),
            ("cut", 58, 0, 0),
            ("flush", 0, 0, 0),
        ],
    ),
    "one connection falls silent in the moment in which the other speaks again: armed after twice the time": (
        Setup(seed=824825, nodes=2, maps=1, keys=1, latency=0, heartbeat=2.0, cache=100),
        [
            ("pass", 8, 0, 0),
            ("fire", 3, 0, 12),
            ("run", 5, 0, 0),
            ("wait", 0, 1, 0),
            ("stall_one", 0, 1, 1),
            ("run", 16, 0, 0),
            ("unstall", 0, 0, 0),
            ("stall_one", 24, 4, 34),
            ("pass", 50, 0, 0),
        ],
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_found_once(what: str) -> None:
    """A schedule that showed a mistake, coord's own or the simulation's, breaks no promise any more."""
    assert play(*FOUND[what]).broken == []
