"""Resolvers: where the server is now, at a fixed address or as the sentinels say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from coord.link.local import password_of
from coord.link.replies import NoServer
from coord.link.tls import Tls

__all__ = ["LOCAL_HOSTS", "FixedAddress", "LocalPort", "Resolved", "Resolver", "server_at", "tcp_endpoint"]

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost")
"""The names under which `coord server` may be meant."""

_CONNECT_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Resolved:
    """A server to connect to: its endpoint, and an address that changes if another server takes its place.

    ``password`` is that of this user's own `coord server`; it is used if the user gave none.
    """

    endpoint: Any
    address: str
    password: str | None = field(default=None, repr=False)


class Resolver(Protocol):
    """Finds the server for each attempt, and notifies of a move."""

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the server to connect to now."""

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:
        """Call ``moved(address)`` when the server has moved there; return a function that ends this."""


class FixedAddress:
    """A server with a fixed address."""

    def __init__(self, endpoint: Callable[[Any], Any], address: str) -> None:
        self._endpoint = endpoint
        self._address = address

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the fixed address."""
        return succeed(Resolved(self._endpoint(clock), self._address))

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:  # noqa: ARG002
        """Do nothing: this server does not move."""
        return lambda: succeed(None)


class LocalPort:
    """A port of this machine, at which `coord server` may run."""

    def __init__(self, host: str, port: int, address: str) -> None:
        self._host = host
        self._port = port
        self._address = address

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Return the port, with its password if this user's `coord server` runs there; errback `NoServer`."""
        try:
            password = password_of(self._port)
        except NoServer as error:
            return fail(error)
        # `coord server` listens only there, and its password must not be sent to another address of this name.
        host = self._host if password is None else "127.0.0.1"
        return succeed(Resolved(tcp_endpoint(clock, host, self._port), self._address, password))

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:  # noqa: ARG002
        """Do nothing: this server does not move."""
        return lambda: succeed(None)


def server_at(host: str, port: int, shown: str, tls: Tls | None = None) -> Resolver:
    """Return what finds a server of a cluster, which may be this user's own (`coord server --cluster`)."""
    if tls is None and host in LOCAL_HOSTS:
        return LocalPort(host, port, shown)
    return FixedAddress(lambda reactor: tcp_endpoint(reactor, host, port, tls), shown)


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
