"""Requests that nobody would write: made from the table of routes, and then damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final
from urllib.parse import quote

from msgspec.structs import fields

from coord.web.routes import Route

__all__ = ["Fuzz"]

_TEXTS: Final = (
    "", "a", "k", "build-1", "é", "\u202e", "\x00", "\n", "a" * 513, "ж" * 200, "../..", "%", "'", "*", "0", "-1",
    "1.5", "1e9", "nan", "inf", "true", "null", "start", "now", "1.1", "1700000000000000.5", "99999999999999999999",
    "all", "any", "gone", "@members", "m", "lease-0123456789abcdef", "[]", "{}",
)  # fmt: skip
_GOOD: Final = {
    "map": "m", "key": "k", "lease": "lease-0123456789abcdef", "name": "anonymous", "ttl": "30", "need": "1", "by": "1",
    "goal": "5", "who": "w", "wait": "0", "limit": "10", "revision": "1.1", "within": "0.5", "for": "any",
}  # fmt: skip
"""What the parameters of these names may well be: most requests have to come past the first checks."""

_HEADERS: Final = (
    "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID", "Accept", "Prefer", "Content-Type", "Cookie",
    "Authorization", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Content-Encoding", "Expect", "Connection",
    "traceparent", "Transfer-Encoding", "Range", "Upgrade", "Host", "X-\xff",
)  # fmt: skip
_VALUES: Final = (
    "*", '"1.1"', '"0.0"', "1.1", "text/event-stream", "application/x-ndjson", "text/plain", "multipart/form-data",
    "application/json; charset=x", "Bearer x", "coord-80=1.2.3.4", "null", "http://localhost", "same-origin", "gzip",
    "100-continue", "close", "chunked", "identity", "handling=lenient", "wait=5", "\xff", "", "a" * 300, "bytes=0-1",
    "localhost", "127.0.0.1", "evil.com",
)  # fmt: skip
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "x", "")
_JSON: Final[tuple[object, ...]] = (None, True, 0, -1, 1e308, "", "x", [], {}, [[]], {"keys": ["a"]}, {"keys": "a"})


class Fuzz:
    """Makes requests as bytes; the same ones for the same seed."""

    def __init__(self, seed: int, routes: tuple[Route[Any, Any], ...]) -> None:
        self._random = Random(seed)
        self._routes = routes

    def request(self) -> bytes:
        """Return the next one."""
        random = self._random
        route = random.choice(self._routes)
        method = route.method if random.random() < 0.9 else random.choice(_METHODS)
        head = [f"{method} {self._target(route)} HTTP/1.1"]
        if random.random() < 0.97:
            head.append("Host: localhost")
        head += [f"{random.choice(_HEADERS)}: {random.choice(_VALUES)}" for _ in range(random.choice((0, 0, 1, 2)))]
        body = self._body() if method in ("POST", "PUT") and random.random() < 0.8 else b""
        if body or random.random() < 0.1:
            head.append(f"Content-Length: {len(body) if random.random() < 0.95 else random.choice((0, 5, -1, 10**9))}")
        data = "\r\n".join([*head, "", ""]).encode("latin-1") + body
        return self._damaged(data) if random.random() < 0.3 else data

    def _target(self, route: Route[Any, Any]) -> str:
        random = self._random
        path = "/".join(
            quote(self._text(part[1:-1]), safe="") if part.startswith("{") else part
            for part in route.template.split("/")
        )
        words = []
        for field in fields(route.query):
            for _ in range(random.choice((0, 1, 1, 1, 2)) if field.required else random.choice((0, 0, 0, 1))):
                words.append(f"{field.encode_name}={quote(self._text(field.encode_name), safe='')}")
        if random.random() < 0.05:
            words.append(random.choice(("x=y", "=", "&", "%", "%ff=%ff", "key", "a=b=c", "é")))
        if route.template.endswith("/watch"):
            words.append("follow=false")
        return path + ("?" + "&".join(words) if words else "")

    def _text(self, name: str) -> str:
        good = _GOOD.get(name, "1")
        return good if self._random.random() < 0.7 else self._random.choice(_TEXTS)

    def _body(self) -> bytes:
        random = self._random
        made: tuple[Callable[[], bytes], ...] = (
            lambda: json.dumps(random.choice(_JSON)).encode(),
            lambda: json.dumps({random.choice(_TEXTS): random.choice(_JSON) for _ in range(3)}).encode(),
            lambda: b"[" * random.choice((1, 99, 101, 1_000, 100_000)),
            lambda: b'"' + b"\\u0416" * random.choice((1, 20_000)) + b'"',
            lambda: random.randbytes(random.choice((1, 10, 1_000))),
            lambda: b"1" * random.choice((1, 20, 5_000)),
        )
        return random.choice(made)()

    def _damaged(self, data: bytes) -> bytes:
        random = self._random
        for _ in range(random.choice((1, 1, 2, 5))):
            at = random.randrange(len(data) + 1)
            to = min(len(data), at + random.choice((0, 1, 1, 4, 30)))
            put = random.choice((b"", b"\r\n", b"\n", b"\0", b" ", b":", b"%", b"\xff", data[at:to] * 2, b"A" * 20_000))
            data = data[:at] + put + data[to:]
        return data
