"""Where the gateway listens, and from where a request really comes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple, Self

from coord.core.quoting import quoted
from coord.errors import InvalidInput
from coord.web.config import UNIX, Config

__all__ = ["Address", "Client", "check_addresses", "client_of"]


class Address(NamedTuple):
    """Where to listen: an address and a port, or the ``path`` of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """What a client on this machine opens."""
        return str(self) if self.path else f"http://{self}"

    @property
    def beyond(self) -> bool:
        """Whether others than this machine may connect."""
        return not self.path and not _is_loopback(self.host)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that a word names; raise `InvalidInput`."""
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            if not path.startswith("/"):
                raise InvalidInput(f"listen: {quoted(text)}: a unix socket is unix:/PATH")
            return cls(path=path)
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            address = cls(str(ip_address("127.0.0.1" if host == "localhost" else host)), int(port))
        except ValueError:
            raise InvalidInput(
                f"listen: {quoted(text)} is not an IP address and a port, such as 127.0.0.1:8181"
            ) from None
        if not 0 <= address.port < 1 << 16:
            raise InvalidInput(f"listen: {port} is no port")
        return address

    @classmethod
    def of_socket(cls, name: Any) -> Self:
        """Return the address of a socket that listens already, from its ``getsockname()``."""
        if isinstance(name, tuple):
            return cls(name[0].partition("%")[0], name[1])
        return cls(path=name if isinstance(name, str) and name else "(unnamed)")


def check_addresses(addresses: Iterable[Address], config: Config) -> None:
    """Raise `InvalidInput` if the gateway would be open to others, or its tokens readable on the way."""
    beyond = [address for address in addresses if address.beyond]
    if not beyond:
        return
    where = f"listen: {beyond[0]} is open to other machines"
    if not config.tokens:
        raise InvalidInput(f"{where}, so there must be tokens: see `coord web token`")
    if not (config.plain or config.behind_proxy):
        raise InvalidInput(
            f"{where}, and tokens would travel in plain text: name the proxy that ends TLS in behind_proxy, "
            "or say plain = true if the network is trusted"
        )


class Client(NamedTuple):
    """Where a request comes from: ``address`` is empty for a unix socket. ``secure``: by https, the proxy says.

    ``direct``: not through a proxy that is listed.
    """

    address: str
    secure: bool = False
    direct: bool = True

    @property
    def local(self) -> bool:
        """Whether it is a program on this machine, by a loopback address."""
        return bool(self.address) and _is_loopback(self.address)


def client_of(peer: str, forwarded: Sequence[str], proto: Sequence[str], config: Config) -> Client:
    """Return the client of a connection.

    :param peer: its address; empty for a unix socket.
    :param forwarded, proto: the values of ``X-Forwarded-For`` and ``-Proto``. The addresses are read from the right, as
        far as the proxies are listed: what is left of these anybody may have written.
    """
    peer = _plain(peer)
    if not _listed(peer, config.behind_proxy):
        return Client(peer)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    address = peer
    while hops and _listed(address, config.behind_proxy):
        hop = _address(hops.pop())
        if hop is None:
            break
        address = hop
    secure = bool(proto) and proto[-1].rpartition(",")[2].strip().lower() == "https"
    return Client(address, secure, direct=False)


@lru_cache(maxsize=1_024)
def _listed(address: str, proxies: tuple[str, ...]) -> bool:
    # To parse them takes half the time of a request.
    if not address or not proxies:
        return not address and UNIX in proxies
    found = ip_address(address)
    return any(found in ip_network(each) for each in proxies if each != UNIX)


@lru_cache(maxsize=1_024)
def _plain(peer: str) -> str:
    """Return an address of IPv4 as such: a socket of IPv6 calls it ``::ffff:10.0.0.1``."""
    if not peer.startswith("::ffff:"):
        return peer
    mapped = getattr(ip_address(peer), "ipv4_mapped", None)
    return peer if mapped is None else str(mapped)


@lru_cache(maxsize=1_024)
def _is_loopback(address: str) -> bool:
    # To parse an address takes a tenth of the time of a request.
    return ip_address(address).is_loopback


def _address(text: str) -> str | None:
    """Return the address in a hop, which may have a port; `None` if there is none."""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return None
