"""Deferreds that fire once all earlier waits are armed."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.subscriptions import Subscription
from coord.errors import Closed
from coord.link.one_shot import resolve
from coord.session.answers import Answer

__all__ = ["Arming"]


class Arming:
    """Deferreds that fire once every earlier wait of a map is armed or resolved.

    As a context, it holds them back until all waiters inside it are resolved: these have left the table, so they would
    not count any more, though the callback of one of them may ask, or cancel another. ``waiting`` has what is to be
    checked.
    """

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self.waiting: list[tuple[list[Subscription], Deferred[None]]] = []
        self._resolving = 0

    def __enter__(self) -> None:
        self._resolving += 1

    def __exit__(self, *_: object) -> None:
        self._resolving -= 1
        if self.waiting:
            self.check()

    def armed(self, map_state: MapState) -> Deferred[None]:
        """Return a Deferred that fires once every wait made so far on a map is armed or resolved."""
        armed: Deferred[None] = Answer("armed")
        self.waiting.append((self._table.unarmed(map_state), armed))
        self.check()
        return armed

    def check(self) -> None:
        """Fire the Deferreds whose waits are all armed or resolved. It looks at each subscription about once."""
        if self._resolving:
            return
        waiting, self.waiting = self.waiting, []
        ready = []
        for unarmed, armed in waiting:
            while unarmed and not unarmed[-1].unarmed:
                unarmed.pop()
            if not unarmed or armed.called:
                ready.append(armed)
            else:
                self.waiting.append((unarmed, armed))
        # Only now, because a callback may call `armed` again.
        for armed in ready:
            resolve(armed, None)

    def close(self, error: Closed) -> None:
        """Fail all Deferreds with this error."""
        waiting, self.waiting = self.waiting, []
        for _, armed in waiting:
            resolve(armed, error)
