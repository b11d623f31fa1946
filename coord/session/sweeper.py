"""Forgetting expired data of maps that get no more calls, and ending events and holders whose time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from coord.core.names import MapNames
from coord.errors import InvalidName
from coord.link.replies import LinkLost, ServerError
from coord.session.commands import Commands
from coord.session.node import Node

__all__ = ["Sweeper"]

_MAPS: Final = 64
_FIELDS: Final = 200
"""Limits of one sweep: a server does nothing else while a script runs."""


class Sweeper:
    """Sweeps maps of a namespace that have data to forget, or leases or events to end, a few in each command.

    Each call on a map forgets some of the map's expired data. This is for maps that get no more calls, from any node.

    :param end: makes a call on a map that ends something, given its letter, key and data; see `Ends.end`.
    """

    log = Logger()

    def __init__(
        self,
        node: Node,
        commands: Commands,
        names_of: Callable[[str], MapNames],
        end: Callable[[str, int, bytes, bytes], Deferred[bool]],
    ) -> None:
        self._clock = node.clock
        self._heartbeat = node.settings.heartbeat
        self._commands = commands
        self._names_of = names_of
        self._end = end
        self._sweeping = False
        # The next sweeps of maps whose lease clock has to be looked at before the next heartbeat.
        self._later: dict[bytes, Any] = {}

    def sweep(self) -> None:
        """Sweep some maps, unless the last sweep is still under way."""
        if not self._sweeping:
            self._sweeping = True
            Deferred.fromCoroutine(self._sweep()).addBoth(self._swept)

    def cancel(self) -> None:
        """Sweep no map on its own any more; another node or the next link's sweep will."""
        later, self._later = self._later, {}
        for call in later.values():
            call.cancel()

    def _swept(self, result: Any) -> None:
        self._sweeping = False
        self._failed(result)

    def _failed(self, result: Any) -> None:
        if result is not None:
            # No permission, or the link was lost: another node or a later sweep will do it.
            result.trap(LinkLost, ServerError)
            self.log.debug("maps are not swept: {error}", error=result.value)

    async def _sweep(self) -> None:
        # Events that are over are to be ended within this heartbeat, in however many maps.
        seen: set[bytes] = set()
        more = True
        while more:
            names = await self._commands.idle_maps(_MAPS)
            fresh = [name for name in names if name not in seen]
            seen.update(fresh)
            await DeferredList([Deferred.fromCoroutine(self._sweep_one(name)) for name in fresh], consumeErrors=True)
            more = len(names) == _MAPS and bool(fresh)

    async def _sweep_one(self, name: bytes) -> None:
        try:
            names = self._names_of(name.decode())
        except (InvalidName, UnicodeDecodeError):
            # Another program wrote this name.
            return
        full, passed = True, 0
        while full:
            swept = await self._commands.sweep(names, _FIELDS)
            ended = [self._end(names.name, *call) for call in swept.over]
            passed = max(passed, swept.passed)
            full = len(ended) >= _FIELDS and all([await each for each in ended])
        # Unless others look at the lease clock, or a heartbeat is soon enough.
        if 0 < swept.next < 1000 * self._heartbeat and passed >= swept.next / 2 and name not in self._later:
            self._later[name] = self._clock.callLater(swept.next / 1000, self._sweep_again, name)

    def _sweep_again(self, name: bytes) -> None:
        del self._later[name]
        Deferred.fromCoroutine(self._sweep_one(name)).addErrback(self._failed)
