"""Which requests of browsers are let in: by the host's name, and by the origin of the page that makes them.

A page of a foreign origin can make a browser send requests, with the browser's cookie, to any address. A name that its
owner points at this machine makes such a page one of the gateway's own (DNS rebinding), so names are checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from coord.web.problems import Problem

__all__ = ["CORS_HEADERS", "PREFLIGHT", "Host", "check_origin", "host_of"]

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")

CORS_HEADERS: Final = {
    "Access-Control-Expose-Headers": "ETag, Retry-After, Request-Id",
}
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "Last-Event-ID, Prefer",
    "Access-Control-Max-Age": "600",
}
"""What is answered to a page of an origin in ``cors``, and what more to its browser's question beforehand."""


class Host:
    """The value of a ``Host`` header: ``name`` in small letters, and ``port`` as text, empty if it has none.

    ``local``: it is an address, which nobody can point elsewhere, or a name that is always this machine.
    """

    __slots__ = ("local", "name", "port", "text")

    def __init__(self, text: str) -> None:
        match = _HOST.fullmatch(text)
        if match is None:
            raise Problem("invalid-request", "the Host header is not a name or an address, and a port")
        self.text = text.lower()
        self.name = match[1].lower().strip("[]").removesuffix(".")
        self.port = match[2] or ""
        self.local = _is_local(self.name)


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


_host: Final = lru_cache(maxsize=256)(Host)


def host_of(values: Sequence[str], names: Collection[str]) -> Host:
    """Return the host that a request is for; raise the `Problem` 400 or 421.

    :param values: all values of the header.
    :param names: the names that the gateway goes by, besides addresses and those of loopback.
    """
    if len(values) != 1:
        raise Problem("invalid-request", f"a request has one Host header, not {len(values) or 'none'}")
    host = _host(values[0])
    if not host.local and host.name not in names:
        raise Problem("wrong-host", "the gateway answers to addresses, localhost, and the names in hosts of web.toml")
    return host


def check_origin(site: str | None, origin: str | None, host: Host, cors: Collection[str]) -> bool:
    """Raise the `Problem` 403 if a page of a foreign origin makes the request.

    The rule of Go's CrossOriginProtection, for every method: streams and waits of foreign pages are refused too.

    :param site: ``Sec-Fetch-Site``; a page cannot forge it. Old browsers, and all on plain http beyond loopback, do not
        send it.
    :returns: whether it is a page of an origin in ``cors``. Then the cookie does not count.
    """
    if origin is not None and origin in cors:
        return site not in ("same-origin", "none")
    if site is not None:
        allowed = site in ("same-origin", "none")
    else:
        allowed = origin is None or origin.partition("://")[2].lower() == host.text
    if not allowed:
        raise Problem("cross-origin", "the page's origin is not in cors of web.toml")
    return False
