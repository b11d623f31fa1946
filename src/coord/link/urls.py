"""Where the server is: URLs and endpoints, and what is left unsaid in them.

No message, ``repr`` or log line of this module shows a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.interfaces import IStreamClientEndpoint

from coord.errors import InvalidURL

__all__ = ["DEFAULT_URL", "Target", "parse_target"]

DEFAULT_URL: Final = "redis://127.0.0.1:6379"
_EXAMPLE: Final = "like redis://HOST:PORT/DATABASE or unix:///PATH"
_SCHEMES: Final = ("redis", "unix")


@dataclass(frozen=True, slots=True)
class Target:
    """One server: how to reach it (``endpoint`` takes the reactor), who we are there, and its name in messages."""

    shown: str
    endpoint: Callable[[Any], Any] = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0


def parse_target(
    address: str | IStreamClientEndpoint,
    *,
    username: str | None = None,
    password: str | None = None,
    database: int | None = None,
) -> Target:
    """Return what ``address`` means; the keyword arguments overrule what a URL says.

    :raises InvalidURL: for anything that is neither an endpoint nor a URL of a known scheme.
    """
    if IStreamClientEndpoint.providedBy(address):
        return Target(
            "the given endpoint",
            lambda _: address,
            username,
            password,
            _checked(database or 0, "the endpoint"),
        )
    if not isinstance(address, str):
        raise InvalidURL(f"a server's address is a URL or an IStreamClientEndpoint, not {type(address).__name__}")
    url, shown = _split(address)
    if url.scheme == "unix":
        endpoint, given_database, shown = _unix(url, shown)
    else:
        endpoint, given_database, shown = _tcp(url, shown)
    return Target(
        shown,
        endpoint,
        username or unquote(url.username or "") or None,
        password or unquote(url.password or "") or None,
        given_database if database is None else _checked(database, shown),
    )


def _split(address: str) -> tuple[SplitResult, str]:
    try:
        url = urlsplit(address)
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        raise InvalidURL(f"the server's URL cannot be understood; it is written {_EXAMPLE}") from None
    shown = f"{url.scheme}://{host}{url.path}"
    if url.scheme not in _SCHEMES:
        # What has no scheme may be a bare password: it is not repeated.
        named = f"unknown scheme {url.scheme!r}" if "://" in address else "no scheme"
        raise InvalidURL(f"{shown if '://' in address else 'the URL'}: {named}; a server's URL is written {_EXAMPLE}")
    if url.fragment:
        raise InvalidURL(f"{shown}: '#' has no meaning here; in a password it is written %23")
    return url, shown


def _unix(url: SplitResult, shown: str) -> tuple[Callable[[Any], Any], int, str]:
    path = unquote(url.path)
    if shown.removeprefix("unix://").partition("/")[0] or not path.strip("/"):
        raise InvalidURL(f"{shown}: a unix URL is written unix:///PATH, with an absolute path")
    if len(path.encode()) > 107:
        raise InvalidURL(f"{shown}: the path of a socket has at most 107 bytes")
    database = parse_qs(url.query).get("db", ["0"])[-1]

    def endpoint(reactor: Any) -> Any:
        from twisted.internet.endpoints import UNIXClientEndpoint

        return UNIXClientEndpoint(reactor, path, timeout=10)

    return endpoint, _database(database, shown), shown


def _tcp(url: SplitResult, shown: str) -> tuple[Callable[[Any], Any], int, str]:
    host = url.hostname
    if not host:
        raise InvalidURL(f"{shown}: no host; a server's URL is written {_EXAMPLE}")
    try:
        port = 6379 if url.port is None else url.port
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise InvalidURL(f"{shown}: a port is a number from 1 to 65535")
    if url.query:
        raise InvalidURL(f"{shown}: '?' has no meaning in this URL; it is written {_EXAMPLE}")
    database = _database(url.path.strip("/") or "0", shown)

    def endpoint(reactor: Any) -> Any:
        from twisted.internet import endpoints

        match _family(host):
            # HostnameEndpoint goes through the thread pool even for a literal address.
            case 4:
                return endpoints.TCP4ClientEndpoint(reactor, host, port, timeout=10)
            case 6:
                return endpoints.TCP6ClientEndpoint(reactor, host, port, timeout=10)
            case _:
                return endpoints.HostnameEndpoint(reactor, host, port, timeout=10)

    return endpoint, database, shown


def _family(host: str) -> int:
    try:
        return ip_address(host).version
    except ValueError:
        return 0


def _database(text: str, shown: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidURL(f"{shown}: the database is a number, not {text!r}")
    return _checked(int(text), shown)


def _checked(database: int, shown: str) -> int:
    if isinstance(database, int) and 0 <= database < 2**31:
        return database
    raise InvalidURL(f"{shown}: {database!r} is no database number")
