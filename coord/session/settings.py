"""The settings of a node, and the limits of all times that users give."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final, TypedDict

from coord.core.names import shown
from coord.errors import InvalidInput, InvalidTime

__all__ = [
    "MAX_DEADLINE",
    "MAX_WAIT",
    "MOST_COUNTED",
    "MOST_GOAL",
    "OUTCOMES_KEPT",
    "SettingOptions",
    "Settings",
    "check_seconds",
    "check_whole",
]

MAX_DEADLINE: Final = 600.0
"""The longest deadline of a call, in seconds: the server remembers outcomes for longer."""

OUTCOMES_KEPT: Final = int(6 * MAX_DEADLINE * 1000)
"""Milliseconds for which the server remembers the outcomes of a node's last two batches, and of named calls."""

_LONGEST_LEASE: Final = 86_400.0
"""In seconds: a day."""

MOST_COUNTED: Final = 10**9
"""The most that one call adds to a counter."""

MOST_GOAL: Final = 10**15
"""The highest goal of a counter."""

MAX_WAIT: Final = 10 * 365 * 86_400.0
"""The longest timeout of a wait, in seconds: ten years."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers, all with a default. Times are in seconds.

    ``heartbeat``: the interval; a server that hangs is noticed within two. ``cache_size``: the most latched keys in the
    live cache. ``history``: lines kept of each map. ``retention``: how long the record of a pending key is kept.
    ``timeout``: the default deadline of a call. ``max_pending_calls``: the most calls that wait for a server that does
    not take them; further ones fail at once. ``lease``: how long this node certainly keeps what it holds without
    renewing it, at least three heartbeats; 20 s, or more with a long heartbeat. ``grace``: how much longer the server
    keeps it, to make up for steps of its clock; at least two heartbeats. All holders in a map must agree on both.
    """

    heartbeat: float = 5.0
    cache_size: int = 10_000
    history: int = 100_000
    retention: float = 3_600.0
    timeout: float = 30.0
    max_pending_calls: int = 100_000
    lease: float = 0.0
    grace: float = 0.0

    def __post_init__(self) -> None:
        check_seconds("heartbeat", self.heartbeat, least=0.01, most=3_600.0)
        check_seconds("retention", self.retention, least=1.0, most=MAX_WAIT)
        check_seconds("timeout", self.timeout, most=MAX_DEADLINE)
        self._set_lease("lease", max(20.0, 3 * self.heartbeat), least=3 * self.heartbeat)
        self._set_lease("grace", max(10.0, 2 * self.heartbeat), least=2 * self.heartbeat)
        for name in ("cache_size", "history", "max_pending_calls"):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise InvalidInput(f"{name}: a whole number from 1 on, not {number!r}")

    def _set_lease(self, name: str, default: float, *, least: float) -> None:
        given = getattr(self, name)
        seconds = default if given == 0.0 and not isinstance(given, bool) else given
        object.__setattr__(self, name, check_seconds(name, seconds, least=least, most=_LONGEST_LEASE))


class SettingOptions(TypedDict, total=False):
    """The same for type checkers, where each may be left out."""

    heartbeat: float
    cache_size: int
    history: int
    retention: float
    timeout: float
    max_pending_calls: int
    lease: float
    grace: float


def check_seconds(what: str, seconds: object, *, least: float = 0.0, most: float) -> float:
    """Return ``seconds`` if it is a number within the bounds; else raise `InvalidTime`."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    # Compared first: a whole number may be too large for `isfinite`.
    if number and least <= seconds <= most and isfinite(seconds):  # type: ignore[arg-type, operator]
        return float(seconds)  # type: ignore[arg-type]
    raise InvalidTime(f"{what}: a number of seconds from {least:g} to {most:g}, not {seconds!r}")


def check_whole(what: str, number: object, most: int) -> int:
    """Return ``number`` if it is a whole number from 1 to ``most``; else raise `InvalidInput`."""
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= most:
        return number
    raise InvalidInput(f"{what}: a whole number from 1 to {most}, not {shown(number)}")
