"""Counters of a node's activity since it was made."""

from __future__ import annotations

__all__ = ["Counters"]


class Counters:
    """Totals that only grow; see ``Statistics``.

    ``waits`` does not count waits that the live cache answered (``cache_hits``).
    """

    __slots__ = ("batches", "cache_hits", "calls", "losses", "waits", "wakes")

    def __init__(self) -> None:
        self.waits = 0
        self.cache_hits = 0
        self.wakes = 0
        self.calls = 0
        self.batches = 0
        self.losses = 0
