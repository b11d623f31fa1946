"""Flow control of reads: how many keys are read at once."""

from __future__ import annotations

from typing import Final

__all__ = ["Window"]

_MOST: Final = 2_000
_MOST_A_CALL: Final = 500

_HINT: Final = (
    "{losses} times in a row while keys were read: is the server's client-output-buffer-limit for normal "
    "clients, or its maxmemory-clients, too small?"
)


class Window:
    """A limit for the keys being read; it paces the many reads after a reconnect.

    A server drops a client whose replies exceed its limits, without saying what these are. So the window halves if a
    link is lost while reads are unanswered, and grows slowly again.
    """

    def __init__(self) -> None:
        self._size = _MOST
        self._losses = 0

    def room(self, reading: int) -> int:
        """Return how many more keys one command may read now."""
        return min(_MOST_A_CALL, self._size - reading)

    def link_lost(self, reading: int) -> str:
        """Take the loss of a link with ``reading`` unanswered reads; return a hint at the cause if they repeat."""
        if not reading:
            return ""
        self._size = max(1, min(self._size, reading) // 2)
        self._losses += 1
        return "" if self._losses == 1 else _HINT.format(losses=self._losses)

    def heartbeat(self) -> None:
        """Take a heartbeat: this link has lasted for a while."""
        self._losses = 0
        self._size = min(_MOST, self._size + self._size // 4 + 1)
