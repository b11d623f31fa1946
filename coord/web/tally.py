"""What the gateway counts, for its metrics: plain numbers, read at a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Final

__all__ = ["BUCKETS", "Tally"]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the durations, in seconds."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Tally:
    """Counters since the start.

    ``requests`` by route, method and status; ``durations`` and ``seconds`` by route: how many took up to each bound of
    `BUCKETS`, the last for more, and the sum. The streams' are the hub's.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.durations: dict[str, list[int]] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def answered(self, route: str, method: str, status: int) -> None:
        """Count an answer. A method that nobody takes is ``other``: clients do not choose the labels."""
        self.requests[route, method if method in _METHODS else "other", status] += 1

    def took(self, route: str, seconds: float) -> None:
        """Count how long an answer took."""
        counts = self.durations.get(route)
        if counts is None:
            counts = self.durations[route] = [0] * (len(BUCKETS) + 1)
        counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds[route] += seconds
