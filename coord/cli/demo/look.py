"""The page of ``coord demo --web``: a gateway in the demo's own process."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.error import CannotListenError

import coord
from coord.web.addresses import Address
from coord.web.config import Config
from coord.web.gateway import Gateway
from coord.web.server import Server

__all__ = ["Look"]

_USUAL: Final = Address("127.0.0.1", 8181)

_EVERYTHING: Final = ("read:*", "write:*", "evict:*", "count:*")
"""What everybody on this machine may do: the demo has nothing to protect."""


class Look:
    """A gateway to the demo's server, as long as the demo runs."""

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor = reactor
        self._coordinator = coord.connect(url, reactor=reactor, node="web", namespace="demo", heartbeat=0.9)
        config = Config(anonymous=_EVERYTHING)
        self._server = Server(Gateway(self._coordinator, config, clock=reactor))

    async def open(self) -> str:
        """Listen at the usual port, or at any if that is taken; return the address of the page."""
        try:
            address = await self._server.listen(self._reactor, _USUAL)
        except CannotListenError:
            address = await self._server.listen(self._reactor, _USUAL._replace(port=0))
        return f"{address.url}/"

    async def close(self) -> None:
        """End it."""
        await self._server.stop()
        await self._coordinator.close()
