"""Limits: how much of something there may be at once, and how often something may happen. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final, Self

from coord.web.config import Limits
from coord.web.problems import Problem

__all__ = ["Hourly", "LimitSet", "Quota", "Rate"]

_HOUR: Final = 3600.0
_FREER: Final = 10
_MOST_KEPT: Final = 10_000


class Quota:
    """So many of something at once: ``most`` in all, and ``most_of_one`` for each name.

    An empty name has no limit of its own.

    :param what: in words, for the problem.
    """

    def __init__(self, what: str, most: int, most_of_one: int) -> None:
        self._what = what
        self.most = most
        self.most_of_one = most_of_one
        self.taken = 0
        self._of: dict[str, int] = {}

    def within(self, most: int, most_of_one: int) -> Self:
        """Take other limits; what is taken stays taken. Return the quota."""
        self.most, self.most_of_one = most, most_of_one
        return self

    def of(self, name: str) -> int:
        """Return how many a name has."""
        return self._of.get(name, 0)

    def take(self, name: str, count: int = 1) -> Callable[[], None]:
        """Take some; return a function that gives them back, once. Raises the `Problem` 429."""
        if name and self.of(name) + count > self.most_of_one:
            raise Problem("too-many", f"{self._what}: at most {self.most_of_one} of one at once")
        if self.taken + count > self.most:
            raise Problem("too-many", f"{self._what}: at most {self.most} in all at once")
        self.taken += count
        self._of[name] = self.of(name) + count
        given: list[bool] = []

        def give_back() -> None:
            if not given:
                given.append(True)
                self._give(name, count)

        return give_back

    def _give(self, name: str, count: int) -> None:
        self.taken -= count
        self._of[name] -= count
        if not self._of[name]:
            del self._of[name]


class Rate:
    """Token buckets: ``rate`` a second for each name, and up to ``burst`` after a pause.

    :param seconds: the clock.
    """

    def __init__(self, rate: float, burst: int, seconds: Callable[[], float]) -> None:
        self.rate = rate
        self.burst = burst
        self._seconds = seconds
        # When the bucket of a name was empty, or would have been.
        self._empty_at: dict[str, float] = {}

    def spend(self, name: str, count: int = 1) -> None:
        """Take some, all at most; raise the `Problem` 429, which says when there are so many again."""
        now = self._seconds()
        full = now - self.burst / self.rate
        empty_at = max(self._empty_at.get(name, full), full) + min(count, self.burst) / self.rate
        if empty_at > now + 1e-9:
            wait = max(1, ceil(empty_at - now))
            detail = f"at most {self.rate:g} requests a second"
            raise Problem("too-many", detail, headers={"Retry-After": str(wait)})
        if len(self._empty_at) >= _MOST_KEPT and name not in self._empty_at:
            self._forget(full)
        self._empty_at[name] = empty_at

    def _forget(self, full: float) -> None:
        """Drop the full buckets, which are as those of new names; if there is none, all: better than to grow."""
        kept = {name: at for name, at in self._empty_at.items() if at > full}
        self._empty_at = {} if len(kept) >= _MOST_KEPT else kept


class Hourly:
    """So many an hour for each name."""

    def __init__(self, what: str, most: int, seconds: Callable[[], float]) -> None:
        self._what = what
        self.most = most
        self._seconds = seconds
        self._since = seconds()
        self._of: dict[str, int] = {}

    def spend(self, name: str) -> None:
        """Take one; raise the `Problem` 429."""
        if self._seconds() - self._since >= _HOUR:
            self._since = self._seconds()
            self._of.clear()
        if self._of.get(name, 0) >= self.most:
            left = ceil(self._since + _HOUR - self._seconds())
            detail = f"{self._what}: at most {self.most} an hour"
            raise Problem("too-many", detail, headers={"Retry-After": str(max(1, left))})
        self._of[name] = self._of.get(name, 0) + 1


class LimitSet:
    """The limits of all requests.

    ``connections`` by address; by principal, the ``rate`` of requests, that of the ``free`` ones, and those ``named``:
    calls with an Idempotency-Key. What holds for one kind of route is in its module.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self.rate = Rate(limits.rate, limits.burst, seconds)
        self.free = Rate(limits.rate * _FREER, limits.burst * _FREER, seconds)
        self.connections = Quota("connections", limits.connections, limits.connections_of_one)
        self.named = Hourly("calls with an Idempotency-Key", limits.named_of_one, seconds)

    def configure(self, limits: Limits) -> None:
        """Take other limits; what is counted stays counted."""
        self.rate.rate, self.rate.burst = limits.rate, limits.burst
        self.free.rate, self.free.burst = limits.rate * _FREER, limits.burst * _FREER
        self.connections.within(limits.connections, limits.connections_of_one)
        self.named.most = limits.named_of_one
