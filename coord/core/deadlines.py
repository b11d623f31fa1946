"""When the calls of a map end that are not answered. What that costs a call does not grow with how many wait."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Deadlines"]

_KEPT: Final = 64
"""Calls that are over, of which it is not worth to be rid."""


class Timed(Protocol):
    """As much of a call as matters here. ``order`` is no other's; ``done`` says that it is over."""

    deadline: float
    order: int
    done: bool


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls by their deadlines.

    Most have the same time, so that they end in the order in which they were made: those are in a line. One that ends
    before another that was made earlier goes to a heap. What is over is dropped when it comes to the front, and
    elsewhere once it is most of all.
    """

    __slots__ = ("_heap", "_line", "_most")

    def __init__(self) -> None:
        self._line: deque[T] = deque()
        self._heap: list[tuple[float, int, T]] = []
        self._most = _KEPT

    def __len__(self) -> int:
        return len(self._line) + len(self._heap)

    def add(self, call: T) -> None:
        """Take note of a call that was made after all others."""
        line = self._line
        if not line or line[-1].deadline <= call.deadline:
            line.append(call)
        else:
            heappush(self._heap, (call.deadline, call.order, call))
        if len(line) + len(self._heap) > self._most:
            self._compact()

    def release(self) -> None:
        """Drop what is over and at the front."""
        line, heap = self._line, self._heap
        while line and line[0].done:
            line.popleft()
        while heap and heap[0][2].done:
            heappop(heap)

    def due(self, now: float) -> list[T]:
        """Take out the calls whose deadline has passed, and return those that are not over, in the order made."""
        line, heap = self._line, self._heap
        found = []
        while line and (line[0].done or line[0].deadline <= now):
            found.append(line.popleft())
        while heap and (heap[0][2].done or heap[0][0] <= now):
            found.append(heappop(heap)[2])
        return sorted((call for call in found if not call.done), key=lambda call: call.order)

    def earliest(self) -> float | None:
        """Return the earliest deadline of what is not over."""
        self.release()
        fronts = [call.deadline for call in (*islice(self._line, 1), *(entry[2] for entry in self._heap[:1]))]
        return min(fronts, default=None)

    def _compact(self) -> None:
        """Drop all that is over. It is done when as many have come as were left the last time: each pays for one."""
        self._line = deque(call for call in self._line if not call.done)
        self._heap = [entry for entry in self._heap if not entry[2].done]
        heapify(self._heap)
        self._most = 2 * len(self) + _KEPT
