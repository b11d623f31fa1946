"""What a node has done since it was made, counted."""

from __future__ import annotations

__all__ = ["Counters"]


class Counters:
    """Totals that only grow; ``Statistics`` tells what each counts.

    ``waits`` leaves out those that the live cache answered: so each is counted once.
    """

    __slots__ = ("batches", "cache_hits", "calls", "losses", "waits", "wakes")

    def __init__(self) -> None:
        self.waits = 0
        self.cache_hits = 0
        self.wakes = 0
        self.calls = 0
        self.batches = 0
        self.losses = 0
