"""The gateway as a server: where it listens, and its orderly end."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint

from coord.web.addresses import Address, check_addresses
from coord.web.channel import Site
from coord.web.config import Config
from coord.web.gateway import Gateway
from coord.web.problems import Problem
from coord.web.routes import Router
from coord.web.table import TABLE

__all__ = ["Server"]

_BACKLOG: Final = 1024


class Server:
    """Listens, until it is stopped.

    :param gateway: what all requests share; its coordinators are the caller's.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.router = Router(TABLE)
        self.addresses: list[Address] = []
        """Where it listens."""
        self._ports: list[Any] = []
        self._sites: list[Site] = []

    def site(self, listener: Address) -> Site:
        """Return what makes the channels of an address."""
        self._sites.append(Site(self.gateway, self.router, listener))
        return self._sites[-1]

    async def listen(self, reactor: Any, address: Address) -> Address:
        """Listen; return the address, with the port that it became if 0 was given.

        :raises InvalidInput: it is open to others, and the settings are not for that.
        :raises CannotListenError: it is taken.
        """
        check_addresses([address], self.gateway.config)
        if address.path:
            # Whoever may open the socket may write: nobody else, from the first moment on.
            mask = os.umask(0o177)
            try:
                endpoint: Any = UNIXServerEndpoint(reactor, address.path, _BACKLOG, 0o600)
                port = await endpoint.listen(self.site(address))
            finally:
                os.umask(mask)
        else:
            kind = TCP6ServerEndpoint if ":" in address.host else TCP4ServerEndpoint
            endpoint = kind(reactor, address.port, _BACKLOG, address.host)
            port = await endpoint.listen(self.site(address))
            address = address._replace(port=port.getHost().port)
        self._ports.append(port)
        self.addresses.append(address)
        return address

    def adopt(self, reactor: Any, descriptor: int) -> Address:
        """Listen on a socket that was inherited, and listens already; return its address.

        :raises InvalidInput: it is open to others, and the settings are not for that.
        """
        with socket.socket(fileno=os.dup(descriptor)) as inherited:
            family, address = inherited.family, Address.of_socket(inherited.getsockname())
        check_addresses([address], self.gateway.config)
        os.set_blocking(descriptor, False)
        self._ports.append(reactor.adoptStreamPort(descriptor, family, self.site(address)))
        os.close(descriptor)
        self.addresses.append(address)
        return address

    def configure(self, config: Config, key: bytes | None) -> None:
        """Take other settings; raise `InvalidInput` and change nothing if they are not for where it listens."""
        check_addresses(self.addresses, config)
        self.gateway.configure(config, key)

    async def stop(self) -> None:
        """Listen no more, end waits and streams, and let calls finish, all within the time of grace."""
        gateway = self.gateway
        gateway.stopping = True
        end = gateway.clock.seconds() + gateway.config.limits.grace
        for port in self._ports:
            await port.stopListening()
        for exchange in list(gateway.exchanges):
            if exchange.long:
                exchange.end(Problem("stopping"))
        await self._until(end, gateway.idle())
        for exchange in list(gateway.exchanges):
            exchange.end(Problem("stopping"))
        await self._until(end, Deferred.fromCoroutine(gateway.close()))
        await self._until(end, self._closed())

    async def _until(self, end: float, deferred: Deferred[None]) -> None:
        """Wait for it, but not after the end."""
        clock = self.gateway.clock
        with suppress(defer.TimeoutError):
            await deferred.addTimeout(max(0.0, end - clock.seconds()), clock)

    def _closed(self) -> Deferred[None]:
        """Close the connections; return a Deferred that fires when their last bytes are written."""
        channels = [channel for site in self._sites for channel in site.channels]
        ends = [channel.ended() for channel in channels]
        return DeferredList(ends, consumeErrors=True).addCallback(lambda _: None)


def remove_stale(path: Path) -> None:
    """Remove a unix socket that nobody listens at any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        try:
            tried.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError:
            return
