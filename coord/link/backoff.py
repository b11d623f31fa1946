"""How long to wait before the next attempt."""

from __future__ import annotations

from collections.abc import Callable
from random import uniform

from twisted.application.internet import backoffPolicy

__all__ = ["backoff", "short_pause", "spread"]

_A_CLIENT = 0.0002
"""Seconds that each client of a server adds to the time over which all reconnect; a node has two connections."""

_WIDEST = 60.0


def backoff() -> Callable[[int], float]:
    """Return a retry policy: pauses in seconds, from about 0.1 to 5, each half again as long as the last.

    The jitter is a share of the pause (Twisted's own adds up to a second), so that the first attempts come quickly
    and yet the nodes that a server has lost together do not come back together.
    """
    pause = backoffPolicy(initialDelay=0.1 / 1.5, maxDelay=5.0, factor=1.5, jitter=lambda: 0.0)
    return lambda attempt: pause(attempt) * uniform(0.5, 1.0)  # noqa: S311 - nothing to guess here


def short_pause(attempt: int) -> float:
    """Return the pause while a slot moves: what is missing may be there in a moment."""
    return min(0.5, 0.02 * 2.0 ** min(attempt - 1, 10))


def spread(clients: int) -> float:
    """Return random additional seconds to wait: more on average, the more clients have lost the server together.

    Fifty nodes come back within 20 ms more, ten thousand within 4 s.
    """
    return uniform(0.0, min(_WIDEST, clients * _A_CLIENT))  # noqa: S311 - nothing to guess here
