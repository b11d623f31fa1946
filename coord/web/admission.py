"""Whether a request is let in, before its body is read: its form, host and origin, its route, principal and rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from coord.core.names import MEMBERS, check_name
from coord.web.addresses import Client, client_of
from coord.web.checks import refused
from coord.web.decoding import query_of
from coord.web.origins import CORS_HEADERS, Host, check_origin, host_of
from coord.web.problems import Problem
from coord.web.rights import Principal
from coord.web.routes import SPECIAL, Found
from coord.web.tokens import cookie_name

if TYPE_CHECKING:
    from coord.web.addresses import Address
    from coord.web.gateway import Gateway
    from coord.web.routes import Router

__all__ = ["Admitted", "Head", "admit", "cors_of"]

_API: Final = b"/v1/"


class Head:
    """The first line and the headers of a request.

    ``found`` is its route, and ``principal`` who makes it, once that is known.

    :param headers: the values of each header, by its name in small letters.
    """

    __slots__ = ("found", "headers", "method", "path", "peer", "principal", "query")

    def __init__(self, method: str, uri: bytes, headers: Mapping[str, Sequence[str]], peer: str) -> None:
        self.method = method
        self.path, _, self.query = uri.partition(b"?")
        self.headers = headers
        self.peer = peer
        self.found: Found | None = None
        self.principal: Principal | None = None

    @property
    def api(self) -> bool:
        """Whether the path is one of the API, however it is escaped."""
        return self.path.startswith(_API) or (b"%" in self.path and unquote_to_bytes(self.path).startswith(_API))

    def all(self, name: str) -> Sequence[str]:
        """Return all values of a header."""
        return self.headers.get(name, ())

    def get(self, name: str) -> str | None:
        """Return a header; several are joined by commas."""
        values = self.headers.get(name)
        return None if values is None else values[0] if len(values) == 1 else ", ".join(values)


@dataclass(slots=True)
class Admitted:
    """A request that is let in; ``query`` is the struct of its route."""

    found: Found
    principal: Principal
    client: Client
    host: Host | None
    query: Any


def admit(gateway: Gateway, router: Router, listener: Address, head: Head) -> Admitted:
    """Return the request, if it is let in; else raise a `Problem`, or `InvalidName` for the map's name."""
    if not head.path.startswith(b"/"):
        raise Problem("invalid-request", "the target of a request is a path; the gateway is no proxy")
    client = client_of(head.peer, head.all("x-forwarded-for"), head.all("x-forwarded-proto"), gateway.config)
    try:
        found = head.found = router.find(head.method, head.path)
    except Problem:
        _host(gateway, listener, client, head)
        raise
    if found.route.open:
        return Admitted(found, gateway.anonymous(listener, client), client, None, query_of(found.route, head.query))
    host, foreign = _host(gateway, listener, client, head)
    name = found.arguments.get("map")
    if name is not None and name != MEMBERS:
        check_name("map", name)
    principal = head.principal = _principal(gateway, listener, client, head, host, foreign=foreign)
    _check_entry(principal, found, head)
    query = query_of(found.route, head.query)
    _check_rights(principal, found, query)
    _check_headers(found, head)
    return Admitted(found, principal, client, host, query)


def _host(gateway: Gateway, listener: Address, client: Client, head: Head) -> tuple[Host, bool]:
    """Return the host, and whether a page of a foreign origin that is allowed makes the request."""
    config = gateway.config
    if listener.beyond and client.direct and not client.local and not config.plain:
        raise Problem("forbidden", "tokens do not travel in plain text: come through the proxy that ends TLS")
    host = host_of(head.all("host"), config.hosts)
    if not head.api:
        return host, False
    return host, check_origin(head.get("sec-fetch-site"), head.get("origin"), host, config.cors)


def _principal(
    gateway: Gateway, listener: Address, client: Client, head: Head, host: Host, *, foreign: bool
) -> Principal:
    authorization = head.get("authorization")
    if authorization is not None:
        return gateway.tokens.of_header(authorization)
    if not foreign and "cookie" in head.headers:
        name = cookie_name(host.port, secure=client.secure)
        for value in _cookies(head.all("cookie"), name):
            principal = gateway.tokens.of_cookie(value)
            if principal is not None:
                return principal
    return gateway.anonymous(listener, client)


def _cookies(headers: Sequence[str], name: str) -> list[str]:
    pairs = (pair.strip().partition("=") for header in headers for pair in header.split(";"))
    return [value for found, _, value in pairs if found == name]


def _check_entry(principal: Principal, found: Found, head: Head) -> None:
    """Raise the `Problem` 401 if the API is asked by somebody who has no rights at all."""
    if principal.anonymous and not principal.rights and not found.route.public and head.api:
        raise Problem("unauthorized", "send Authorization: Bearer TOKEN")


def _check_rights(principal: Principal, found: Found, query: Any) -> None:
    """Raise the `Problem` 401, 403 or 404 if the principal has not the right that the route asks for."""
    verb, name = found.route.verb, found.arguments.get("map")
    if name is None or (verb is not None and _allowed(principal, verb, name, getattr(query, "key", ()))):
        return
    if not principal.rights.any(name):
        raise Problem("unauthorized") if principal.anonymous else Problem("not-found", "no such map")
    if verb is not None:
        raise refused(principal, verb)


def _allowed(principal: Principal, verb: str, name: str, key: str | Sequence[str]) -> bool:
    """Whether a principal may do it to each of these keys; if there is none, to any key of the map."""
    if isinstance(key, str):
        return principal.may(verb, name, key)
    return all(principal.may(verb, name, each) for each in key) if key else principal.may_some(verb, name)


def _check_headers(found: Found, head: Head) -> None:
    """Raise the `Problem` 400 for a conditional header that the route does not know: to skip it does something else."""
    for name in SPECIAL:
        if name in head.headers and name not in found.route.headers:
            raise Problem("invalid-header", f"{name}: this route does not know it", header=name)


def cors_of(gateway: Gateway, origin: str | None) -> dict[str, str]:
    """Return the headers of an answer for a page of this origin."""
    cors = gateway.config.cors
    if not cors:
        return {}
    if origin is None or origin not in cors:
        return {"Vary": "Origin"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, **CORS_HEADERS}
