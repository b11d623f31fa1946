"""Where the server is to be found, now: at a fixed place, or wherever the sentinels say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from coord.link.local import password_of
from coord.link.replies import NoServer
from coord.link.tls import Tls

__all__ = ["FixedAddress", "LocalPort", "Resolved", "Resolver", "tcp_endpoint"]

_CONNECT_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Resolved:
    """A server to try: how to connect to it, and its address as far as it matters whether that changes.

    ``password`` is that of a server of this user's own, for those who have been given none.
    """

    endpoint: Any
    address: str
    password: str | None = field(default=None, repr=False)


class Resolver(Protocol):
    """Finds the server for each attempt, and says when it has moved."""

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the server to try now."""

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:
        """Call ``moved(address)`` whenever the server is said to be there now; return what ends that."""


class FixedAddress:
    """A server that stays where it is."""

    def __init__(self, endpoint: Callable[[Any], Any], address: str) -> None:
        self._endpoint = endpoint
        self._address = address

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the one place there is."""
        return succeed(Resolved(self._endpoint(clock), self._address))

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:  # noqa: ARG002
        """Do nothing: it does not move."""
        return lambda: succeed(None)


class LocalPort:
    """A port of this machine, where `coord server` may run."""

    def __init__(self, host: str, port: int, address: str) -> None:
        self._host = host
        self._port = port
        self._address = address

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the port, with the password if it is this user's server that is there; errbacks `NoServer`."""
        try:
            password = password_of(self._port)
        except NoServer as error:
            return fail(error)
        # Only there does it listen: at another address of the name's, its password is nobody's business.
        host = self._host if password is None else "127.0.0.1"
        return succeed(Resolved(tcp_endpoint(clock, host, self._port), self._address, password))

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:  # noqa: ARG002
        """Do nothing: it does not move."""
        return lambda: succeed(None)


def tcp_endpoint(reactor: Any, host: str, port: int, tls: Tls | None = None) -> Any:
    """Return an endpoint for a host's name or address."""
    from twisted.internet import endpoints

    match _family(host):
        # NamedHost goes through the thread pool even for a literal address.
        case 4:
            endpoint: Any = endpoints.TCP4ClientEndpoint(reactor, host, port, timeout=_CONNECT_TIMEOUT)
        case 6:
            endpoint = endpoints.TCP6ClientEndpoint(reactor, host, port, timeout=_CONNECT_TIMEOUT)
        case _:
            from coord.link.named_host import NamedHost

            endpoint = NamedHost(reactor, host, port, timeout=_CONNECT_TIMEOUT)
    return endpoint if tls is None else tls.wrap(endpoint, host, reactor)


def _family(host: str) -> int:
    try:
        return ip_address(host).version
    except ValueError:
        return 0
