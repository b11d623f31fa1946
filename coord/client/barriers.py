"""Barriers: nobody passes before so many are there."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from coord.core.values import Json

if TYPE_CHECKING:
    from coord.client.events import EventMap
    from coord.client.holds import Hold

__all__ = ["Barrier"]


class Barrier:
    """What ``barrier`` returns: enter it with ``async with``; the block runs once enough have entered."""

    def __init__(self, events: EventMap, key: str, parties: int, value: object, timeout: float | None) -> None:
        self._events = events
        self._arguments = key, value, parties
        self._timeout = timeout

    async def __aenter__(self) -> Hold:
        key, value, parties = self._arguments
        # Armed before it is held: so this wait is woken even if those who pass first leave at once (W2).
        opened: Deferred[Json] = self._events.wait(key, self._timeout)
        try:
            await self._events.armed()
            hold = self._hold = await self._events.hold(key, value, need=parties)
            try:
                await opened
            except BaseException:
                await hold.withdraw()
                raise
        finally:
            opened.addErrback(lambda _: None)
            opened.cancel()
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)
