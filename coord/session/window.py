"""How many keys are read at once."""

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
    """A bound for the keys that are being read; it paces the many reads that follow a reconnect.

    A server hangs up on who has asked for more than it allows, and nobody tells how much that is. So less is asked for
    after a link was lost with reads unanswered, and slowly more again.
    """

    def __init__(self) -> None:
        self._size = _MOST
        self._losses = 0

    def room(self, reading: int) -> int:
        """Return for how many more keys one command may ask now."""
        return min(_MOST_A_CALL, self._size - reading)

    def link_lost(self, reading: int) -> str:
        """Take the loss of a link with so many reads unanswered; return what may be behind it, if it is suspicious."""
        if not reading:
            return ""
        self._size = max(1, min(self._size, reading) // 2)
        self._losses += 1
        return "" if self._losses == 1 else _HINT.format(losses=self._losses)

    def heartbeat(self) -> None:
        """Take a heartbeat: this link has lived for a while."""
        self._losses = 0
        self._size = min(_MOST, self._size + self._size // 4 + 1)
