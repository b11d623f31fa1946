"""Deadlines of calls that end before an earlier call does. The cost of a call does not grow with their number."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["EarlyDeadlines"]

_KEPT: Final = 64
"""Ended calls that are not worth removing."""


class Timed(Protocol):
    """The part of a call that matters here. ``order`` is unique; ``taken``: it left the queue; ``done``: it ended."""

    deadline: float
    order: int
    taken: bool
    done: bool


T = TypeVar("T", bound=Timed)


class EarlyDeadlines(Generic[T]):
    """A heap of the calls that are still queued, by their deadlines.

    Calls that ended otherwise are dropped when they come to the top, and all of them once they are most of the heap.
    """

    __slots__ = ("_heap", "_most")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._most = _KEPT

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, call: T) -> None:
        """Add a call."""
        heappush(self._heap, (call.deadline, call.order, call))
        if len(self._heap) > self._most:
            self._compact()

    def expire(self, now: float) -> list[T]:
        """Remove and return the calls whose deadline has passed."""
        found = []
        while (earliest := self.earliest()) is not None and earliest <= now:
            found.append(heappop(self._heap)[2])
        return found

    def earliest(self) -> float | None:
        """Return the earliest deadline of a call that is still queued."""
        heap = self._heap
        while heap and (heap[0][2].done or heap[0][2].taken):
            heappop(heap)
        return heap[0][0] if heap else None

    def _compact(self) -> None:
        """Drop all calls that ended otherwise.

        This is done after as many calls were added as were left the last time, so its cost a call is constant.
        """
        self._heap = [entry for entry in self._heap if not (entry[2].done or entry[2].taken)]
        heapify(self._heap)
        self._most = 2 * len(self._heap) + _KEPT
