"""How long to wait before a retry."""

from __future__ import annotations

__all__ = ["Pauses"]


class Pauses:
    """No pause for the first ``free`` tries, then ``first`` seconds, doubling up to ``limit`` seconds."""

    def __init__(self, *, free: int, first: float, limit: float) -> None:
        self._free = free
        self._first = first
        self._limit = limit
        self._tries = 0

    def next(self) -> float:
        """Count a try; return the seconds to wait before it."""
        self._tries += 1
        if self._tries <= self._free:
            return 0.0
        # Bounded: over years the power would overflow a float.
        return min(self._limit, self._first * 2.0 ** min(self._tries - self._free - 1, 30))

    def reset(self) -> None:
        """Start over, after a success."""
        self._tries = 0
