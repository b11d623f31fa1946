"""The page: its files, as they are sent.

All files but the first stand below ``/page/DIGEST/``, and a browser keeps them for ever: another version of any of them
has another digest. The first, at ``/``, names the digest, and is asked for each time. Addresses in it are relative, so
the page works below a prefix of a proxy, too.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, NamedTuple

from coord.web.exchange import Answer, Exchange
from coord.web.problems import Problem
from coord.web.routes import NoQuery, Route

__all__ = ["FIRST", "POLICY", "ROUTES", "Asset", "Assets", "load"]

FIRST: Final = "index.html"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        # The library that makes templates into elements names its policy so. It makes no HTML of any data.
        "trusted-types lit-html",
    )
)
"""What the page may do: load from the gateway, talk to the gateway, and nothing else."""

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""The endings of the files that are sent; others, such as licences, stay in the package."""

_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """One file: its bytes, the same in gzip, its type, and the ETag of its bytes."""

    body: bytes
    zipped: bytes
    content_type: str
    etag: str


class Assets(NamedTuple):
    """The first file, the digest of all, and the others by their paths."""

    first: Asset
    digest: str
    others: Mapping[str, Asset]


@cache
def load() -> Assets:
    """Read the files from the package, once."""
    found = {path: data for path, data in _below(files("coord.web") / "page", "") if path.rpartition(".")[2] in _TYPES}
    digest = sha256()
    for path, data in sorted(found.items()):
        digest.update(b"%d %b %d " % (len(path), path.encode(), len(data)) + data)
    name = digest.hexdigest()[:16]
    first = found.pop(FIRST).replace(b"{page}", f"page/{name}/".encode())
    return Assets(_asset(FIRST, first), name, {path: _asset(path, data) for path, data in found.items()})


def _below(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for each in folder.iterdir():
        here = f"{path}{each.name}"
        found += _below(each, f"{here}/") if each.is_dir() else [(here, each.read_bytes())]
    return found


def _asset(path: str, data: bytes) -> Asset:
    # Without the time, gzip gives the same bytes each time.
    zipped = gzip.compress(data, mtime=0)
    return Asset(data, zipped, _TYPES[path.rpartition(".")[2]], f'"{sha256(data).hexdigest()[:16]}"')


async def get_first(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with the page."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return _answer(exchange, load().first, headers)


async def get_other(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with a file of the page."""
    assets, path = load(), exchange.path
    parts = [path[name] for name in ("folder", "under", "file") if name in path]
    asset = assets.others.get("/".join(parts)) if path["digest"] == assets.digest else None
    if asset is None:
        raise Problem("not-found", "the page has no such file; was it of another version?")
    return _answer(exchange, asset, {"Cache-Control": _FOR_EVER})


def _answer(exchange: Exchange[Any, Any], asset: Asset, headers: dict[str, str]) -> Answer:
    headers |= {"ETag": asset.etag, "Vary": "Accept-Encoding"}
    if asset.etag in (exchange.header("if-none-match") or ""):
        return Answer(304, headers=headers)
    if "gzip" in (exchange.header("accept-encoding") or ""):
        return Answer(200, asset.zipped, asset.content_type, {**headers, "Content-Encoding": "gzip"})
    return Answer(200, asset.body, asset.content_type, headers)


def _route(template: str, handler: Any, summary: str) -> Route[Any, Any]:
    # Whoever shows no token gets the page too, and is asked for one there.
    return Route("GET", template, handler, headers=("if-none-match",), summary=summary)


ROUTES = (
    _route("/", get_first, "The page."),
    _route("/page/{digest}/{file}", get_other, "A file of the page."),
    _route("/page/{digest}/{folder}/{file}", get_other, "A file of the page."),
    _route("/page/{digest}/{folder}/{under}/{file}", get_other, "A file of the page."),
)
