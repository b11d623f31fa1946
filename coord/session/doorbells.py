"""Doorbells: a word that a map may have changed, for those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from coord.core.entries import Doorbell, MapState
from coord.core.keys import KeyTable
from coord.core.records import NEVER, Head, Revision
from coord.errors import Error

__all__ = ["Callback", "Doorbells", "Position"]

Callback = Callable[[Error | None], None]
"""A watcher's ear: called without an error when there may be something new, else with the reason for the end."""


Position = Callable[[], Revision | None]
"""Answers how far a watcher has read; ``None`` if it has not begun."""


class Doorbells:
    """Who is called when which bell rings, and how far each has read: ``rings``, by channel.

    :param schedule: has the table's wishes sent.
    """

    def __init__(self, table: KeyTable, schedule: Callable[[], None]) -> None:
        self._table = table
        self._schedule = schedule
        self.callbacks: dict[bytes, list[tuple[Callback, Position]]] = {}

    def add(self, map_state: MapState, ring: Callback, position: Position) -> Callable[[], None]:
        """Call ``ring`` whenever a map may have changed, the link came back or was lost; return what ends that."""
        bell = self._table.add_watcher(map_state.names.doorbell)
        rings = self.callbacks.setdefault(bell.channel, [])
        listener = ring, position
        rings.append(listener)
        self._schedule()

        def stop() -> None:
            rings.remove(listener)
            if not rings:
                self.callbacks.pop(bell.channel, None)
            self._table.remove_watcher(bell)
            self._schedule()

        return stop

    def is_subscribed(self, map_state: MapState) -> bool:
        """Whether the bell of a map is heard on the present link: then nothing can change unheard."""
        bell = self._table.subscriptions.get(map_state.names.doorbell)
        return isinstance(bell, Doorbell) and bell.is_subscribed

    def ring(self, channel: bytes, error: Error | None = None) -> None:
        """Call all who listen to one bell."""
        for ring, _ in list(self.callbacks.get(channel, ())):
            ring(error)

    def head_read(self, map_state: MapState, head: bytes | None) -> None:
        """Call those who are not where a map's head is: a flush rings no bell; what it did is theirs to find out."""
        listeners = self.callbacks.get(map_state.names.doorbell)
        if not listeners:
            return
        now: Revision | None = None
        with suppress(ValueError, Error):
            parsed = Head.parse(head)
            now = parsed.revision if parsed else NEVER
        for ring, position in list(listeners):
            if now is None or position() != now:
                ring(None)

    def ring_all(self, error: Error | None = None) -> None:
        """Call all who listen to any bell."""
        for channel in list(self.callbacks):
            self.ring(channel, error)
