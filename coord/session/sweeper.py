"""Forgetting what is due in maps that are not called any more."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from coord.core.names import MapNames, idle_maps
from coord.errors import InvalidName
from coord.link.link import Link
from coord.link.replies import LinkLost, ServerError
from coord.link.scripts import IDLE, SWEEP
from coord.session.settings import OUTCOMES_KEPT

__all__ = ["Sweeper"]

_MAPS: Final = 64
_FIELDS: Final = 200
"""Bounds of one sweep: a server stands still for as long as a script runs."""


class Sweeper:
    """Sweeps the maps of a namespace that have something to forget: some of them each time that it is asked to.

    Each call on a map forgets some of what is due there. This is for the maps on which no calls are made any more,
    whichever node made them.
    """

    log = Logger()

    def __init__(self, link: Link, namespace: str, database: int) -> None:
        self._link = link
        self._namespace = namespace
        self._database = database
        self._sweeping = False

    def sweep(self) -> None:
        """Sweep some maps; does nothing while the last sweep goes on."""
        if not self._sweeping:
            self._sweeping = True
            Deferred.fromCoroutine(self._sweep()).addBoth(self._swept)

    def _swept(self, result: Any) -> None:
        self._sweeping = False
        if result is not None:
            # A user that may not, or a link that was lost: another node, or a later sweep, will do it.
            result.trap(LinkLost, ServerError)
            self.log.debug("maps are not swept: {error}", error=result.value)

    async def _sweep(self) -> None:
        names = await self._link.run_script(IDLE, (idle_maps(self._namespace),), (b"%d" % _MAPS,))
        gathered: Any = DeferredList([self._sweep_one(name) for name in names], consumeErrors=True)
        await gathered

    def _sweep_one(self, name: bytes) -> Deferred[Any]:
        try:
            names = MapNames(self._namespace, name.decode(), self._database)
        except (InvalidName, UnicodeDecodeError):
            # Written by somebody else; the script does not name it again soon.
            return succeed(None)
        return self._link.run_script(SWEEP, names.keys, (name, b"%d" % _FIELDS, b"%d" % OUTCOMES_KEPT))
