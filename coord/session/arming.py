"""Who waits for waits to be armed."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from coord.core.entries import Entry, MapState
from coord.core.keys import KeyTable
from coord.errors import Closed
from coord.session.link_status import resolve

__all__ = ["Arming"]


class Arming:
    """Deferreds for when every wait that was there is armed or resolved.

    As a context, it tells nobody before the waiters that are resolved inside it have all been: the table has let go
    of them, and one's callback may ask, or cancel another. ``waiting`` is what there is to check.
    """

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self.waiting: list[tuple[list[Entry], Deferred[None]]] = []
        self._resolving = 0

    def __enter__(self) -> None:
        self._resolving += 1

    def __exit__(self, *_: object) -> None:
        self._resolving -= 1
        if self.waiting:
            self.check()

    def armed(self, map_state: MapState) -> Deferred[None]:
        """Return a Deferred for when every wait made so far on a map is armed or resolved."""
        entries = [
            entry
            for entry in self._table.subscriptions.values()
            if isinstance(entry, Entry) and entry.map is map_state and entry.unarmed
        ]
        armed: Deferred[None] = Deferred()
        self.waiting.append((entries, armed))
        self.check()
        return armed

    def check(self) -> None:
        """Tell those who have nothing left to wait for. Looks at each entry about once."""
        if self._resolving:
            return
        waiting, self.waiting = self.waiting, []
        ready = []
        for entries, armed in waiting:
            while entries and not entries[-1].unarmed:
                entries.pop()
            if not entries or armed.called:
                ready.append(armed)
            else:
                self.waiting.append((entries, armed))
        # Only now: whoever is told may ask again, and so come back here.
        for armed in ready:
            resolve(armed, None)

    def close(self, error: Closed) -> None:
        """Tell all that it is over."""
        waiting, self.waiting = self.waiting, []
        for _, armed in waiting:
            resolve(armed, error)
