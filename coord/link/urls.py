"""Server addresses: URLs and endpoints, with their defaults.

No message, ``repr`` or log line of this module shows a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from coord.core.slots import Address as ServerAddress
from coord.errors import InvalidURL
from coord.link.discovery import LOCAL_HOSTS, FixedAddress, LocalPort, Resolver, tcp_endpoint
from coord.link.hosts import is_host
from coord.link.passwords import Password, check_text
from coord.link.replies import NoServer
from coord.link.target import ClusterTarget, Target
from coord.link.tls import Tls

__all__ = ["DEFAULT_URL", "Address", "Remap", "parse_target"]

DEFAULT_URL: Final = "redis://127.0.0.1:6379"
_EXAMPLE: Final = "like redis://HOST:PORT/DATABASE or unix:///PATH"
_ESCAPES: Final = "in a name or password, '@', '/', '?', '#' and space are written %40, %2F, %3F, %23 and %20"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\ud800-\udfff]")
_MAX_SOCKET_PATH: Final = 107
"""The longest path of a socket that the kernel allows, in bytes."""

_Parsed = tuple[str, Callable[[], Resolver], int]


class Endpoint(Protocol):
    """An ``IStreamClientEndpoint`` for type checkers, which do not know who implements an interface of zope's."""

    def connect(self, protocol_factory: Any, /) -> Deferred[Any]:
        """Connect."""


Remap = Callable[[tuple[str, int]], tuple[str, int]]
"""Returns the host and port at which a cluster's server is reached that announces another address (NAT, Docker)."""

Address = str | Endpoint | IStreamClientEndpoint


def parse_target(
    address: Address,
    *,
    username: str | None = None,
    password: Password | None = None,
    sentinel_password: Password | None = None,
    database: int | None = None,
    remap: Remap | None = None,
) -> Target:
    """Return the server at ``address``; the keyword arguments override the URL.

    :raises InvalidURL: ``address`` is neither an endpoint nor a valid URL.
    """
    username = username if username is None else check_text("username", username)
    password = _checked_password("password", password)
    sentinel_password = _checked_password("sentinel_password", sentinel_password)
    if IStreamClientEndpoint.providedBy(address):
        _no_sentinels(sentinel_password)
        _no_cluster(remap)
        shown = "the given endpoint"
        return Target(
            shown,
            lambda: FixedAddress(lambda _: address, shown),
            username,
            password,
            _checked(database or 0, shown),
        )
    if not isinstance(address, str):
        raise InvalidURL(f"a server's address is a URL or an IStreamClientEndpoint, not {type(address).__name__}")
    url = _split(address)
    try:
        shown, resolver, given_database = _parser(url.scheme, sentinel_password)(url)
        cluster = _cluster(url, remap)
    except InvalidURL:
        if _may_hold_secrets(url):
            raise InvalidURL(f"{url.scheme}://...: cannot be understood; {_ESCAPES}") from None
        raise
    if _may_hold_secrets(url):
        shown = f"{url.scheme}://..."
    if cluster is not None and database:
        raise InvalidURL(f"{shown}: a cluster has one database, 0")
    return Target(
        shown,
        resolver,
        username or _unquoted("username", url.username),
        password or _unquoted("password", url.password),
        given_database if database is None else _checked(database, shown),
        cluster,
    )


def _split(address: str) -> SplitResult:
    scheme, separator, _ = address.partition("://")
    if not separator:
        # A text without a scheme may be a bare password, so it is not shown.
        raise InvalidURL(f"the server's URL has no scheme; it is written {_EXAMPLE}")
    if scheme not in _SCHEMES:
        raise InvalidURL(f"the server's URL has an unknown scheme; there are {', '.join(_SCHEMES)}")
    if _UNPRINTABLE.search(address):
        raise InvalidURL(f"{scheme}://...: a URL has no spaces and no control characters; {_ESCAPES}")
    try:
        url = urlsplit(address)
    except ValueError:
        raise InvalidURL(f"{scheme}://...: cannot be understood; it is written {_EXAMPLE}") from None
    if url.fragment or address.endswith("#"):
        raise InvalidURL(f"{scheme}://...: '#' has no meaning here; in a password it is written %23")
    return url


def _may_hold_secrets(url: SplitResult) -> bool:
    """Whether an ``@`` comes after what was parsed as the host, which may then be a part of a password.

    The password may contain an unescaped ``/`` or ``?``; nothing of such a URL may be shown.
    """
    return "@" in url.query or ("@" in url.path and bool(url.scheme != "unix" or url.netloc))


# Each returns the text to show, the resolver, and the database. Only valid parts are shown: a host whose port is not a
# number, for example, may be a name and a password.


def _unix(url: SplitResult) -> _Parsed:
    path = _decoded(url.path, "unix://...")
    if url.netloc.rpartition("@")[2] or not path.strip("/"):
        raise InvalidURL("unix://...: a unix URL is written unix:///PATH, with an absolute path")
    shown = f"unix://{url.path}"
    if len(path.encode()) > _MAX_SOCKET_PATH or "\0" in path:
        raise InvalidURL(f"{shown}: the path of a socket has at most {_MAX_SOCKET_PATH} bytes, none of them NUL")
    (database,) = _query(url, shown, "db")

    def endpoint(reactor: Any) -> Any:
        from twisted.internet.endpoints import UNIXClientEndpoint

        return UNIXClientEndpoint(reactor, path, timeout=10)

    return shown, lambda: FixedAddress(endpoint, shown), _database(database or "0", shown)


def _tcp(url: SplitResult) -> _Parsed:
    shown, (host, port), database = _server(url)
    _query(url, shown)
    if host in LOCAL_HOSTS:
        return shown, lambda: LocalPort(host, port, shown), database
    return shown, lambda: FixedAddress(lambda reactor: tcp_endpoint(reactor, host, port), shown), database


def _tls(url: SplitResult) -> _Parsed:
    shown, (host, port), database = _server(url)
    tls = Tls(*_query(url, shown, "ca", "cert", "key"))
    # Wrapped once now, so that a missing file or extra is an error at the call, and not in the background.
    tls.wrap(None, host)
    return shown, lambda: FixedAddress(lambda reactor: tcp_endpoint(reactor, host, port, tls), shown), database


def _server(url: SplitResult) -> tuple[str, tuple[str, int], int]:
    """Parse a URL with one host, and a path that is a database."""
    where = url.netloc.rpartition("@")[2]
    host = _host_and_port(where, 6379, url.scheme)
    path = url.path.strip("/")
    database = _database(path or "0", f"{url.scheme}://{where}/...")
    return f"{url.scheme}://{where}{url.path}", host, database


def _sentinel(url: SplitResult, given: Password | None = None) -> _Parsed:
    where = url.netloc.rpartition("@")[2]
    hosts = [_host_and_port(text, 26379, url.scheme) for text in where.split(",")]
    shown = f"{url.scheme}://{where}{url.path}"
    username, password, *files = _query(url, shown, "sentinel_username", "sentinel_password", "ca", "cert", "key")
    tls = Tls(*files) if url.scheme.startswith("rediss") else None
    if tls is None and any(files):
        raise InvalidURL(f"{shown}: ca, cert and key belong to rediss+sentinel://")
    service, _, database = _decoded(url.path, shown).strip("/").partition("/")
    if not service or _UNPRINTABLE.search(service):
        raise InvalidURL(f"{shown}: no service; it is written {url.scheme}://HOST1,HOST2,HOST3/SERVICE/DATABASE")
    if tls is not None:
        tls.wrap(None, hosts[0][0])

    def resolver() -> Resolver:
        # Imported late: it imports txredisapi and OpenSSL.
        from coord.link.sentinel import Sentinels

        return Sentinels(hosts, service, (username, given or password), tls)

    return shown, resolver, _database(database or "0", shown)


def _cluster_parsed(url: SplitResult) -> _Parsed:
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    if url.path.strip("/") not in ("", "0"):
        raise InvalidURL(f"{shown}: a cluster has one database, 0")
    return shown, _no_resolver, 0


def _cluster(url: SplitResult, remap: Remap | None) -> ClusterTarget | None:
    """Return the cluster of a URL; ``None`` if it names none."""
    if _SCHEMES[url.scheme] is not _cluster_parsed:
        _no_cluster(remap)
        return None
    where = url.netloc.rpartition("@")[2]
    shown = f"{url.scheme}://{where}"
    seeds = tuple(ServerAddress(*_host_and_port(text, 6379, url.scheme)) for text in where.split(","))
    pubsub, *files = _query(url, shown, "pubsub", "ca", "cert", "key")
    tls = Tls(*files) if url.scheme.startswith("rediss") else None
    if tls is None and any(files):
        raise InvalidURL(f"{shown}: ca, cert and key belong to rediss+cluster://")
    if pubsub not in (None, "classic"):
        raise InvalidURL(f"{shown}: pubsub can only be 'classic', for servers without sharded pub/sub (Redis 6)")
    if tls is not None:
        tls.wrap(None, seeds[0].host)
    if remap is not None and not callable(remap):
        raise InvalidURL(f"remap: a function of (host, port), not {type(remap).__name__}")
    target = ClusterTarget(seeds, url.scheme, tls, classic=pubsub is not None)
    return target if remap is None else replace(target, remap=partial(_remapped, remap))


def _no_cluster(remap: Remap | None) -> None:
    if remap is not None:
        raise InvalidURL("remap: belongs to redis+cluster:// and rediss+cluster://")


def _remapped(remap: Remap, address: ServerAddress) -> ServerAddress:
    """Return what a user's function makes of an address; raise `NoServer` if that is none."""
    found: Any = remap((address.host, address.port))
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], str) and isinstance(found[1], int)):
        raise NoServer(f"remap: returned {found!r:.80} for {address}, and no host and port")
    return ServerAddress(*found)


def _no_resolver() -> Resolver:
    raise AssertionError("a cluster is several servers")


_SCHEMES: Final[dict[str, Callable[[SplitResult], _Parsed]]] = {
    "redis": _tcp,
    "rediss": _tls,
    "unix": _unix,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster_parsed,
    "rediss+cluster": _cluster_parsed,
}


def _parser(scheme: str, sentinel_password: Password | None) -> Callable[[SplitResult], _Parsed]:
    if _SCHEMES[scheme] is _sentinel:
        return partial(_sentinel, given=sentinel_password)
    _no_sentinels(sentinel_password)
    return _SCHEMES[scheme]


def _no_sentinels(password: Password | None) -> None:
    if password is not None:
        raise InvalidURL("sentinel_password: belongs to redis+sentinel:// and rediss+sentinel://")


def _host_and_port(text: str, default: int, scheme: str) -> tuple[str, int]:
    """Parse ``HOST``, ``HOST:PORT`` or ``[V6]:PORT``."""
    if "," in text:
        secure = scheme.partition("+")[0]
        raise InvalidURL(f"{scheme}://...: several hosts belong to {secure}+cluster:// or {secure}+sentinel://")
    try:
        host = urlsplit(f"//{text}").hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidURL(f"{scheme}://...: no host; a server's URL is written {_EXAMPLE}")
    # The zone of a link-local address is written %25eth0 in a URL (RFC 6874), and often %eth0.
    host = host.replace("%25", "%")
    if "[" not in text and not is_host(host):
        raise InvalidURL(f"{scheme}://...: a part of the host's name is empty, or the name is too long")
    port = text.rpartition("]")[2].partition(":")[2]
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise InvalidURL(f"{scheme}://...: a port is a number from 1 to 65535")
    return host, int(port) if port else default


def _query(url: SplitResult, shown: str, *names: str) -> list[str | None]:
    """Return the values of ``names`` in the query; refuse other names."""
    try:
        given = parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise InvalidURL(f"{shown}: what follows '?' cannot be understood") from None
    unknown = [name for name in given if name not in names]
    if unknown:
        allowed = f"; there are {', '.join(names)}" if names else ""
        raise InvalidURL(f"{shown}: {unknown[0]!r} has no meaning in this URL{allowed}")
    return [given[name][-1] if name in given else None for name in names]


def _database(text: str, shown: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidURL(f"{shown}: the database is a number")
    return _checked(int(text), shown)


def _checked(database: int, shown: str) -> int:
    if isinstance(database, int) and not isinstance(database, bool) and 0 <= database < 2**31:
        return database
    raise InvalidURL(f"{shown}: {database!r} is no database number")


def _checked_password(what: str, password: Password | None) -> Password | None:
    return password if password is None or callable(password) else check_text(what, password)


def _unquoted(what: str, text: str | None) -> str | None:
    return check_text(what, _decoded(text, f"the {what} in the server's URL")) if text else None


def _decoded(text: str, shown: str) -> str:
    try:
        return unquote(text, errors="strict")
    except ValueError:
        raise InvalidURL(f"{shown}: what stands behind '%' is no UTF-8") from None
