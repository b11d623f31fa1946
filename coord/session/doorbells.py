"""Doorbells: notify the watchers of a map that it may have changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.records import NEVER, Head, Revision
from coord.errors import Error

__all__ = ["Callback", "Doorbells", "Position"]

Callback = Callable[[Error | None], None]
"""Watcher callback: ``None`` for "read again", an error if the watch is over."""

Position = Callable[[], Revision | None]
"""Returns the revision up to which a watcher has read; ``None`` before its first read."""


class Doorbells:
    """The ``callbacks`` of the watchers, and their positions, by the channel of the doorbell.

    :param schedule: schedules sending of the table's requests.
    """

    def __init__(self, table: KeyTable, schedule: Callable[[], None]) -> None:
        self._table = table
        self._schedule = schedule
        self.callbacks: dict[bytes, list[tuple[Callback, Position]]] = {}

    def add(self, map_state: MapState, callback: Callback, position: Position) -> Callable[[], None]:
        """Call ``callback`` whenever a map may have changed, and when the link is made or lost.

        Return a function that ends this.
        """
        bell = self._table.add_watcher(map_state)
        watchers = self.callbacks.setdefault(bell.channel, [])
        watcher = callback, position
        watchers.append(watcher)
        self._schedule()

        def stop() -> None:
            watchers.remove(watcher)
            if not watchers:
                self.callbacks.pop(bell.channel, None)
            self._table.remove_watcher(bell)
            self._schedule()

        return stop

    def is_subscribed(self, map_state: MapState) -> bool:
        """Whether the doorbell of a map is subscribed to on the present link, so that no change goes unnoticed."""
        return self._table.is_armed(map_state.names.doorbell)

    def ring(self, channel: bytes, error: Error | None = None) -> None:
        """Call all watchers of one doorbell."""
        for callback, _ in list(self.callbacks.get(channel, ())):
            callback(error)

    def head_read(self, map_state: MapState, head: bytes | None) -> None:
        """Call the watchers whose position is not the map's head: a flush of the server rings no doorbell."""
        watchers = self.callbacks.get(map_state.names.doorbell)
        if not watchers:
            return
        now: Revision | None = None
        with suppress(ValueError, Error):
            parsed = Head.parse(head)
            now = parsed.revision if parsed else NEVER
        for callback, position in list(watchers):
            if now is None or position() != now:
                callback(None)

    def ring_all(self, error: Error | None = None) -> None:
        """Call all watchers of all doorbells."""
        for channel in list(self.callbacks):
            self.ring(channel, error)
