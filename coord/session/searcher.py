"""Finding maps of a cluster that no node uses any more, so that their data is forgotten and what is over ends.

On one server, one set names all maps that have something due. The maps of a cluster share no key, so nodes look through
the keys of the servers that they are linked to, a little at each heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from coord.core.names import MEMBERS, check_name, idle_map
from coord.errors import InvalidName
from coord.link.link import Link
from coord.link.replies import LinkLost, ServerError
from coord.link.scripts import IDLE

__all__ = ["Searcher"]

_KEYS: Final = b"1000"
"""Keys that one command looks at: a fraction of a millisecond of the server's time."""

_MAPS: Final = 50
"""So many maps are found at once; the others in the next round."""

_SEARCHING: Final = 20
"""About so many of a server's clients search at a time, however many there are."""


class Searcher:
    """Searches one server.

    :param is_used: whether this node uses a map, and sweeps it anyway.
    :param found: called with the name of a map that has something due.
    """

    log = Logger()

    def __init__(
        self, namespace: str, link: Link, is_used: Callable[[str], bool], found: Callable[[str], object]
    ) -> None:
        self._namespace = namespace
        self._link = link
        self._is_used, self._found = is_used, found
        self._cursor = b"0"
        self._searching = False

    def heartbeat(self, clients: int) -> None:
        """Search on, if it is this node's turn among the server's ``clients``."""
        if not self._searching and random() * clients < _SEARCHING:  # noqa: S311 - nothing to guess here
            self._searching = True
            Deferred.fromCoroutine(self._search()).addBoth(self._searched)

    def _searched(self, result: Any) -> None:
        self._searching = False
        if result is not None:
            # No permission, or the link was lost: another node or a later search will find them.
            result.trap(LinkLost, ServerError)
            self._cursor = b"0"
            self.log.debug("idle maps are not searched for: {error}", error=result.value)

    async def _search(self) -> None:
        pattern = idle_map(self._namespace, "*")
        self._cursor, keys = await self._link.ask(
            b"SCAN", self._cursor, b"MATCH", pattern, b"COUNT", _KEYS, b"TYPE", b"zset"
        )
        for key in keys[:_MAPS]:
            name = self._name_of(key)
            if name is None or self._is_used(name):
                continue
            if await self._link.run_script(IDLE, (key,), (b"1",)):
                self._found(name)

    def _name_of(self, key: bytes) -> str | None:
        """Return the map whose idle set has this key; ``None`` if another program wrote it."""
        name = key.partition(b"/")[2].rpartition(b"}")[0].decode(errors="replace")
        try:
            known = name == MEMBERS or check_name("map", name) == name
        except InvalidName:
            return None
        return name if known and key == idle_map(self._namespace, name) else None
