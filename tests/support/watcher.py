"""A watch that is followed in the background."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from coord import CaughtUp, EventMap, Record
from support.waiting import until

__all__ = ["Watcher"]


class Watcher:
    """Follows a watch in the background, and keeps what it yields and how it ended."""

    def __init__(self, events: EventMap, prefix: str = "", since: Any = "now") -> None:
        self.changes: list[Record | CaughtUp] = []
        self.error: BaseException | None = None
        self.running: Deferred[None] = Deferred.fromCoroutine(self._follow(events, prefix, since))
        self.running.addErrback(self._ended)

    async def _follow(self, events: EventMap, prefix: str, since: Any) -> None:
        async with events.watch(prefix, since=since) as changes:
            async for change in changes:
                self.changes.append(change)

    def _ended(self, failure: Any) -> None:
        self.error = failure.value

    @property
    def records(self) -> list[Record]:
        """The changes, without the marker."""
        return [change for change in self.changes if isinstance(change, Record)]

    @property
    def values(self) -> list[Any]:
        """Their values."""
        return [record.value for record in self.records]

    @property
    def caught_up(self) -> bool:
        """Whether the past has ended."""
        return any(isinstance(change, CaughtUp) for change in self.changes)

    async def ready(self) -> None:
        """Return once the past has ended."""
        await until(lambda: self.caught_up or self.error, "the watch has caught up")
        assert self.caught_up, self.error

    def stop(self) -> None:
        """End it."""
        self.running.cancel()
        assert isinstance(self.error, CancelledError)
