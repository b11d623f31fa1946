"""Doorbells: a word that a map may have changed, for those who watch it."""

from __future__ import annotations

from collections.abc import Callable

from coord.core.entries import Doorbell, MapState
from coord.core.keys import KeyTable
from coord.errors import Error

__all__ = ["Bells", "Ring"]

Ring = Callable[[Error | None], None]
"""A watcher's ear: called without an error when there may be something new, else with the reason for the end."""


class Bells:
    """Who is called when which bell rings: ``rings``, by channel.

    :param schedule: has the table's wishes sent.
    """

    def __init__(self, table: KeyTable, schedule: Callable[[], None]) -> None:
        self._table = table
        self._schedule = schedule
        self.rings: dict[bytes, list[Ring]] = {}

    def listen(self, map_state: MapState, ring: Ring) -> Callable[[], None]:
        """Call ``ring`` whenever a map may have changed, the link came back or was lost; return what ends that."""
        bell = self._table.listen(map_state.names.doorbell)
        rings = self.rings.setdefault(bell.channel, [])
        rings.append(ring)
        self._schedule()

        def stop() -> None:
            rings.remove(ring)
            if not rings:
                self.rings.pop(bell.channel, None)
            self._table.unlisten(bell)
            self._schedule()

        return stop

    def heard(self, map_state: MapState) -> bool:
        """Whether the bell of a map is heard on the present link: then nothing can change unheard."""
        bell = self._table.subscriptions.get(map_state.names.doorbell)
        return isinstance(bell, Doorbell) and bell.heard

    def ring(self, channel: bytes, error: Error | None = None) -> None:
        """Call all who listen to one bell."""
        for ring in list(self.rings.get(channel, ())):
            ring(error)

    def ring_all(self, error: Error | None = None) -> None:
        """Call all who listen to any bell."""
        for channel in list(self.rings):
            self.ring(channel, error)
