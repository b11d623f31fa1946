"""One hold, and what this node holds in one map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from twisted.internet.defer import Deferred

from coord.core.calls import HOLD
from coord.core.maps import MapState
from coord.link.one_shot import OneShot, resolve

__all__ = ["Held", "Holding"]


class Holding:
    """One hold of a key, for as long as this node wants it.

    ``answer`` is called back once the server has applied the first call; ``lease`` is the number of the lease under
    which the server confirmed the hold last (0: never, or it is to be asked for again), ``sent`` that of the one under
    which a call is under way. ``known``: a call was sent, so the server may have it. ``lost`` fires when it is over.
    """

    __slots__ = ("answer", "data", "held", "key", "known", "lease", "lost", "need", "number", "sent", "timer")

    letter = HOLD
    """What tells `apply.lua` of its calls."""

    def __init__(self, held: Held, key: bytes, data: bytes, need: int, answer: Deferred[Any]) -> None:
        self.held = held
        self.number, self.key, self.data, self.need, self.answer = held.next_number(), key, data, need, answer
        self.lease = self.sent = 0
        self.known = False
        self.lost: OneShot[None] = OneShot()
        self.timer: Any = None

    @property
    def valid(self) -> bool:
        """Whether the server certainly has it: the lease cannot have ended yet."""
        held = self.held
        return self.number in held.wanted and self.lease == held.lease and held.seconds() < held.deadline

    @property
    def map_state(self) -> MapState:
        """The map of its key."""
        return self.held.map_state

    def request(self, name: bytes, lease: bytes) -> bytes:
        """Return what `apply.lua` takes to add it, under this name and lease."""
        return b"%b %b %d\n%b" % (name, lease, self.need, self.data)

    def answered(self, outcome: Any, lease: int) -> None:
        """Take the outcome of a call under this lease."""
        self.lease = lease
        self.stop_timer()
        resolve(self.answer, outcome)

    def stop(self) -> None:
        """End what goes on for it: it is over."""
        self.stop_timer()

    def stop_timer(self) -> None:
        """Cancel its timer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None


class Held:
    """What this node holds in one map.

    ``lease`` is the number of the present lease, ``epoch`` the time between two recoveries in which the server has made
    it (empty: it has not confirmed it). ``deadline``: until then the server has it in any case. ``checked``: it was
    renewed on this link. ``unwanted``: keys of holds that the server may have, by number, though they are over.
    ``locks``: locks that are lost, and not released yet. ``there``: the numbers of those that the server has under the
    present lease, by its answers so far. ``calls``: how many are under way.

    :param seconds: returns the time of the clock.
    :param confirm: sends a hold, if the server has not confirmed it.
    :param leases, numbers: the numbers of the next leases and holds.
    """

    def __init__(
        self,
        map_state: MapState,
        seconds: Callable[[], float],
        confirm: Callable[[Holding], None],
        leases: Iterator[int],
        numbers: Iterator[int],
    ) -> None:
        self.map_state = map_state
        self.seconds, self.confirm = seconds, confirm
        self._leases, self._numbers = leases, numbers
        self.wanted: dict[int, Holding] = {}
        self.unwanted: dict[int, bytes] = {}
        self.locks: dict[int, Holding] = {}
        self.there: set[int] = set()
        self.calls = 0
        self.lease = next(leases)
        self.checked = self.renewing = False
        self.epoch = b""
        self.deadline = -inf

    def next_number(self) -> int:
        """Return the number of the next hold."""
        return next(self._numbers)

    def next_lease(self) -> None:
        """Hold everything under another lease from now on."""
        self.lease = next(self._leases)
        self.there = set()
        self.checked = False
        self.epoch = b""
        self.deadline = -inf

    def take(self, holding: Holding) -> bool:
        """Remove a hold; return whether it was here."""
        return bool(self.wanted.pop(holding.number, None) or self.locks.pop(holding.number, None))
