"""Keep-alives for thousands of streams by one timer."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Wheel"]

T = TypeVar("T")


class Wheel(Generic[T]):
    """Members in ``slots`` of about the same size, one of which is due at each tick.

    Those that come at the same moment go to different slots, so that they are not all due at the same one.
    """

    def __init__(self, slots: int) -> None:
        self._slots: list[dict[T, None]] = [{} for _ in range(slots)]
        self._slot_of: dict[T, int] = {}
        self._due = self._next = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, member: T) -> None:
        """Add a member."""
        self._next = (self._next + 1) % len(self._slots)
        self._slot_of[member] = self._next
        self._slots[self._next][member] = None

    def discard(self, member: T) -> None:
        """Remove a member, if it is one."""
        slot = self._slot_of.pop(member, None)
        if slot is not None:
            del self._slots[slot][member]

    def tick(self) -> list[T]:
        """Return the members that are due."""
        self._due = (self._due + 1) % len(self._slots)
        return list(self._slots[self._due])
