"""Heads that are read at once: the same bytes are understood as Twisted's parser understands them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coord.web import channel, request
from coord.web.admission import Head, admit
from coord.web.config import Config, Limits
from coord.web.heads import Plain, plain
from web.client import ALL, Web
from web.heads import GET, HIDDEN, cut, one_strange_byte, one_strange_part, requests

FREE = Config(anonymous=ALL, limits=Limits(rate=10**9, burst=10**9, connections=10**6, connections_of_one=10**6))
ME = b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=Date: )[^\r]*")


class Read(NamedTuple):
    """How a connection's bytes were understood, answered and logged; ``left`` is what is still to be parsed."""

    heads: list[tuple[str, bytes, bytes, dict[str, Sequence[str]]]]
    answers: str
    logged: list[str]
    closed: bool
    waits_for: int
    left: bytes


class Ways:
    """Sends bytes to connections whose heads may be read at once, or not."""

    def __init__(self, web: Web, patch: pytest.MonkeyPatch) -> None:
        self._web = web
        self._fast = True
        self.plain = 0
        self._heads: list[Head] = []
        self._logged: list[str] = []
        web.gateway.log = lambda line: self._logged.append(_UUID.sub("ID", line))

        def spying(*given: Any) -> Any:
            self._heads.append(given[3])
            return admit(*given)

        patch.setattr(request, "admit", spying)
        patch.setattr(channel, "plain", self._plain)

    def _plain(self, data: bytes) -> Plain | None:
        read = plain(data) if self._fast else None
        self.plain += read is not None
        return read

    def read(self, pieces: Sequence[bytes], *, fast: bool, settling: bool = True) -> Read:
        """Send pieces on a new connection.

        :param settling: whether each is answered, if it may be, before the next one comes.
        """
        self._fast = fast
        self._heads.clear()
        self._logged.clear()
        connection = self._web.connection()
        # Some of these pieces come after it was closed, and no real one reads them.
        connection.transport._lenient = True
        for piece in pieces:
            if connection.lost:
                break
            connection.channel.dataReceived(piece)
            if settling:
                self._web.cluster.settle()
        self._web.cluster.settle()
        one = connection.channel
        seen = [(head.method, head.path, head.query, {**head.headers}) for head in self._heads]
        read = Read(
            seen,
            _UUID.sub("ID", connection.written.decode("latin-1")),
            self._logged[:],
            connection.closed,
            one.phase,
            one._buffer + b"".join(one._dataBuffer),
        )
        connection.hang_up()
        self._web._connections.pop()
        return read


@pytest.fixture
def ways(make_web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Give both ways, to one gateway."""
    return Ways(make_web(FREE), monkeypatch)


def test_bytes_are_understood_as_by_twisted(ways: Ways) -> None:
    """Requests one by one, all at once, and in any pieces: the heads, answers and the bytes left are the same."""

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(0, 10**6), max_size=3), st.booleans())
    @example([GET, HIDDEN], [], True)
    @example([b"\r\n", GET, b"\r\n", b"\r\n", GET], [], True)
    @example([ME.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), HIDDEN], [], False)
    @example([ME + b"POST /v1/maps/m/fire?key=", HIDDEN], [], False)
    @example([ME.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n1") + HIDDEN, HIDDEN], [], False)
    def check(sent: list[bytes], places: list[int], settling: bool) -> None:
        data = b"".join(sent)
        for pieces in ([data], sent, cut(data, places)):
            slow = ways.read(pieces, fast=False, settling=settling)
            assert ways.read(pieces, fast=True, settling=settling) == slow

    check()
    assert ways.plain > 100


@pytest.mark.parametrize("made", [one_strange_part, one_strange_byte])
def test_one_strange_thing_is_understood_as_by_twisted(ways: Ways, made: Callable[[], Iterator[bytes]]) -> None:
    """Whatever is strange about a request, and only that: what is read at once means the same to Twisted."""
    for data in {each for each in made() if plain(each)}:
        assert ways.read([data, HIDDEN], fast=True) == ways.read([data, HIDDEN], fast=False)
    assert ways.plain > 1


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 0", b"content-length: 5", b"Content-Length: +5", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity", b"Connection: close", b"Connection: Upgrade", b"Connection: keep-alive, close",
        b"Upgrade: websocket", b"Expect: 100-continue", b"Connection: Keep-Alive",
        b"X-A : b", b" X-A: b", b"X-A: b\r\n c", b"X-A: b\r\n\tc", b"X-A", b": b", b"X-A: \0", b"X-A: b\rc",
        b"X-A: b\nc", b"X-A: \xe9", b"X-A: \x7f", b"X-A: a\tb", b"X\xe9: b", b"X-A: b\r\nX-B",
        300 * b"X-A: b\r\n" + b"X-B: c", b"X-A: " + 9_000 * b"b", b"\r\nX-A: b",
    ],
)  # fmt: skip
def test_what_is_unusual_is_not_plain(header: bytes) -> None:
    """Whatever may say where a request ends, or be read in two ways, is left to Twisted."""
    assert plain(GET.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n" + GET, GET + b"\r\n", GET + b"x", GET + GET, GET[:-2], GET[:-1], GET.replace(b"\r\n", b"\n"),
        GET.replace(b"1.1", b"1.0"), GET.replace(b"1.1", b"1x1"), GET.replace(b"GET", b"POST"),
        GET.replace(b"GET", b"get"),
        GET.replace(b" H", b"  H"), GET.replace(b"?", b"\x80"), GET.replace(b"?", b"\0"),
        GET.replace(b"HTTP", b"http"), GET.replace(b"?", b"\t"),
    ],
)  # fmt: skip
def test_what_is_not_one_whole_head_is_not_plain(data: bytes) -> None:
    """There has to be one head, all of it, and nothing else."""
    assert plain(data) is None


def test_plain_heads_are_those_of_usual_clients(ways: Ways) -> None:
    """What curl, programs and browsers send is read at once; a header that comes twice has both values."""
    head = GET.replace(
        b"\r\n\r\n", b"\r\nUser-Agent: curl/8\r\nAccept: */*\r\naccept:  a \r\nConnection: keep-alive\r\n\r\n"
    )
    read = ways.read([head], fast=True)
    assert ways.plain == 1
    assert read == ways.read([head], fast=False)
    headers = {"host": ["localhost"], "user-agent": ["curl/8"], "accept": ["*/*", "a"], "connection": ["keep-alive"]}
    assert read.heads == [("GET", b"/v1/maps/m/record", b"key=a", headers)]
