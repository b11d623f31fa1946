"""Which server is meant: URLs and endpoints, and what is left unsaid in them.

No message, ``repr`` or log line of this module shows a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.interfaces import IStreamClientEndpoint

from coord.errors import InvalidURL
from coord.link.places import Fixed, Place, tcp_endpoint
from coord.link.tls import Tls

__all__ = ["DEFAULT_URL", "Target", "parse_target"]

DEFAULT_URL: Final = "redis://127.0.0.1:6379"
_EXAMPLE: Final = "like redis://HOST:PORT/DATABASE or unix:///PATH"
_MAX_SOCKET_PATH: Final = 107
"""Bytes that the kernel allows for the path of a socket."""


@dataclass(frozen=True, slots=True)
class Target:
    """One server: where to find it, who we are there, and its name in messages."""

    shown: str
    place: Callable[[], Place] = field(repr=False)
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
        shown = "the given endpoint"
        return Target(
            shown, lambda: Fixed(lambda _: address, shown), username, password, _checked(database or 0, shown)
        )
    if not isinstance(address, str):
        raise InvalidURL(f"a server's address is a URL or an IStreamClientEndpoint, not {type(address).__name__}")
    url, shown = _split(address)
    place, given_database = _PLACES[url.scheme](url, shown)
    return Target(
        shown,
        place,
        username or _unquoted(url.username),
        password or _unquoted(url.password),
        given_database if database is None else _checked(database, shown),
    )


def _split(address: str) -> tuple[SplitResult, str]:
    try:
        url = urlsplit(address)
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        raise InvalidURL(f"the server's URL cannot be understood; it is written {_EXAMPLE}") from None
    if "://" not in address:
        # What has no scheme may be a bare password: it is not repeated.
        raise InvalidURL(f"the server's URL has no scheme; it is written {_EXAMPLE}")
    shown = f"{url.scheme}://{host}{url.path}"
    if url.scheme not in _PLACES:
        raise InvalidURL(f"{shown}: unknown scheme {url.scheme!r}; there are {', '.join(_PLACES)}")
    if url.fragment or address.endswith("#"):
        raise InvalidURL(f"{shown}: '#' has no meaning here; in a password it is written %23")
    return url, shown


def _unix(url: SplitResult, shown: str) -> tuple[Callable[[], Place], int]:
    path = unquote(url.path)
    if url.netloc.rpartition("@")[2] or not path.strip("/"):
        raise InvalidURL(f"{shown}: a unix URL is written unix:///PATH, with an absolute path")
    if len(path.encode()) > _MAX_SOCKET_PATH or "\0" in path:
        raise InvalidURL(f"{shown}: the path of a socket has at most {_MAX_SOCKET_PATH} bytes, none of them NUL")
    (database,) = _query(url, shown, "db")

    def endpoint(reactor: Any) -> Any:
        from twisted.internet.endpoints import UNIXClientEndpoint

        return UNIXClientEndpoint(reactor, path, timeout=10)

    return lambda: Fixed(endpoint, shown), _database(database or "0", shown)


def _tcp(url: SplitResult, shown: str) -> tuple[Callable[[], Place], int]:
    _query(url, shown)
    host, port = _host_and_port(url.netloc.rpartition("@")[2], 6379, shown)
    return lambda: Fixed(lambda reactor: tcp_endpoint(reactor, host, port), shown), _path_database(url.path, shown)


def _tls(url: SplitResult, shown: str) -> tuple[Callable[[], Place], int]:
    tls = Tls(*_query(url, shown, "ca", "cert", "key"))
    host, port = _host_and_port(url.netloc.rpartition("@")[2], 6379, shown)
    # Wrapped once now, so that a missing file or extra is told at the call and not in the background.
    tls.wrap(None, host)
    return lambda: Fixed(lambda reactor: tcp_endpoint(reactor, host, port, tls), shown), _path_database(url.path, shown)


def _sentinel(url: SplitResult, shown: str) -> tuple[Callable[[], Place], int]:
    username, password, *files = _query(url, shown, "sentinel_username", "sentinel_password", "ca", "cert", "key")
    tls = Tls(*files) if url.scheme.startswith("rediss") else None
    if tls is None and any(files):
        raise InvalidURL(f"{shown}: ca, cert and key belong to rediss+sentinel://")
    hosts = [_host_and_port(text, 26379, shown) for text in url.netloc.rpartition("@")[2].split(",")]
    service, _, database = unquote(url.path).strip("/").partition("/")
    if not service or any(character.isspace() for character in service):
        raise InvalidURL(f"{shown}: no service; it is written {url.scheme}://HOST1,HOST2,HOST3/SERVICE/DATABASE")
    if tls is not None:
        tls.wrap(None, hosts[0][0])

    def place() -> Place:
        # Imported late: it brings txredisapi, which installs the global reactor.
        from coord.link.sentinel import Sentinels

        return Sentinels(hosts, service, (username, password), tls)

    return place, _database(database or "0", shown)


_PLACES: Final[dict[str, Callable[[SplitResult, str], tuple[Callable[[], Place], int]]]] = {
    "redis": _tcp,
    "rediss": _tls,
    "unix": _unix,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
}


def _host_and_port(text: str, default: int, shown: str) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT`` or ``[V6]:PORT``."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = "-", 0
    if not host or any(character.isspace() for character in host):
        raise InvalidURL(f"{shown}: no host; a server's URL is written {_EXAMPLE}")
    port = default if port is None else port
    if not 1 <= port <= 65_535:
        raise InvalidURL(f"{shown}: a port is a number from 1 to 65535")
    return host, port


def _query(url: SplitResult, shown: str, *names: str) -> list[str | None]:
    """Return what the query says of each of ``names``; refuse what else it says."""
    try:
        given = parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise InvalidURL(f"{shown}: what follows '?' cannot be understood") from None
    unknown = [name for name in given if name not in names]
    if unknown:
        allowed = f"; there are {', '.join(names)}" if names else ""
        raise InvalidURL(f"{shown}: {unknown[0]!r} has no meaning in this URL{allowed}")
    return [given[name][-1] if name in given else None for name in names]


def _path_database(path: str, shown: str) -> int:
    return _database(path.strip("/") or "0", shown)


def _database(text: str, shown: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidURL(f"{shown}: the database is a number, not {text[:40]!r}")
    return _checked(int(text), shown)


def _checked(database: int, shown: str) -> int:
    if isinstance(database, int) and 0 <= database < 2**31:
        return database
    raise InvalidURL(f"{shown}: {database!r} is no database number")


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None
