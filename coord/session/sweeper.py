"""Forgetting expired data of maps that get no more calls, and ending events whose TTL is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from coord.core.names import MapNames
from coord.errors import InvalidName
from coord.link.replies import LinkLost, ServerError
from coord.session.commands import Commands

__all__ = ["Sweeper"]

_MAPS: Final = 64
_FIELDS: Final = 200
"""Limits of one sweep: a server does nothing else while a script runs."""


class Sweeper:
    """Sweeps maps of a namespace that have data to forget or events to end, a few each time.

    Each call on a map forgets some of the map's expired data. This is for maps that get no more calls, from any node.

    :param end: ends an event of a map, given its key and revision; see `Ends.end`.
    """

    log = Logger()

    def __init__(
        self, commands: Commands, names_of: Callable[[str], MapNames], end: Callable[[str, bytes, bytes], None]
    ) -> None:
        self._commands = commands
        self._names_of = names_of
        self._end = end
        self._sweeping = False

    def sweep(self) -> None:
        """Sweep some maps, unless the last sweep is still under way."""
        if not self._sweeping:
            self._sweeping = True
            Deferred.fromCoroutine(self._sweep()).addBoth(self._swept)

    def _swept(self, result: Any) -> None:
        self._sweeping = False
        if result is not None:
            # No permission, or the link was lost: another node or a later sweep will do it.
            result.trap(LinkLost, ServerError)
            self.log.debug("maps are not swept: {error}", error=result.value)

    async def _sweep(self) -> None:
        names = await self._commands.idle_maps(_MAPS)
        gathered: Any = DeferredList([self._sweep_one(name) for name in names], consumeErrors=True)
        await gathered

    def _sweep_one(self, name: bytes) -> Deferred[Any]:
        try:
            names = self._names_of(name.decode())
        except (InvalidName, UnicodeDecodeError):
            # Another program wrote this name; the script does not return it again soon.
            return succeed(None)
        return self._commands.sweep(names, _FIELDS).addCallback(self._end_events, names.name)

    def _end_events(self, events: list[bytes], name: str) -> None:
        for key, revision in zip(events[::2], events[1::2], strict=True):
            self._end(name, key, revision)
