"""The channel that gets one message for each call on a map."""

from __future__ import annotations

from coord.core.maps import MapState
from coord.core.subscriptions import ARMED, Registry, Subscription

__all__ = ["Doorbell"]


class Doorbell(Subscription):
    """The doorbell of a map; watchers subscribe to it, and read for themselves."""

    __slots__ = ("watchers",)

    def __init__(self, channel: bytes, map_state: MapState) -> None:
        super().__init__(channel, map_state)
        self.watchers = 0

    @property
    def needed(self) -> bool:
        """Whether there is a watcher."""
        return self.watchers > 0

    def subscribed(self, registry: Registry) -> bool:
        """Be armed: there is nothing to read here."""
        self.phase = ARMED
        registry.release(self)
        return True

    def failed(self, registry: Registry, ticket: int | None, *, for_good: bool) -> list[object]:
        """Be forgotten: its watchers end."""
        registry.drop(self)
        return []
