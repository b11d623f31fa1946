"""How long to hold back before the next try."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """The first ``free`` tries at once, then ``first`` seconds, doubling up to ``limit``."""

    def __init__(self, *, free: int, first: float, limit: float) -> None:
        self._free = free
        self._first = first
        self._limit = limit
        self._tries = 0

    def next(self) -> float:
        """Answer the seconds to wait before the next try, and count it."""
        self._tries += 1
        if self._tries <= self._free:
            return 0.0
        # The exponent is bounded, for a try an hour over years would overflow a float.
        return min(self._limit, self._first * 2.0 ** min(self._tries - self._free - 1, 30))

    def rest(self) -> None:
        """Start over: things went well."""
        self._tries = 0
