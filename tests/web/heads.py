"""Heads of requests that nobody would write, for the two ways to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hypothesis import strategies as st

__all__ = ["GET", "HIDDEN", "cut", "one_strange_byte", "one_strange_part", "requests"]

GET: Final = b"GET /v1/maps/m/record?key=a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HIDDEN: Final = b"GET /v1/maps/m/record?key=hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"

BYTES: Final = [bytes((byte,)) for byte in b'\0\t\n\x0b\r\x1c\x1f !"#%,./0:;=A@[\\]_~\x7f\x80\x85\xa0\xb0\xff']

_Part = tuple[Sequence[bytes], Sequence[bytes]]
"""What a part of a request may be: good, or strange."""

_SPACE: _Part = [b" "], [b"  ", b"\t", b" \t", b"", b"\xa0", b"\x0b", b"\r\n "]
_END: _Part = (
    [b"\r\n"],
    [b"\n", b"\r", b"\r\n ", b"\r\n\t", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b"\0\r\n", b"\x85", b""],
)
_COLON: _Part = [b": ", b":"], [b" : ", b" :", b"\t:", b":\t", b":\x0b", b"", b": \r\n ", b"::"]
_METHOD: _Part = (
    [b"GET", b"HEAD"],
    [b"POST", b"OPTIONS", b"get", b"GE", b"G\xc9T", b"GET\0", b"", b"\r\nGET", b"\r\n\r\nGET", b"\nGET", b" GET"],
)
_TARGET: _Part = (
    [b"/v1/me", b"/healthz", b"/v1/maps/m/record?key=a", b"/v1/maps/m/record?key=%C3%A9+b", b"/nothing"],
    [
        b"/v1/maps/m/fire?key=a", b"", b"*", b"/v1/\x7f", b"/v1/\x80", b"/v1/\xb0", b"/v1/\xb1", b"/a b", b"/\0",
        b"/\t", b"/#x", b"http://localhost/v1/me", b"localhost:80", b"/v1/me?\x0b", b"/v1/me?\r\n",
        b"/" + 17_000 * b"x",
    ],
)  # fmt: skip
_VERSION: _Part = (
    [b"HTTP/1.1"],
    [
        b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2", b"HTTP/1.10", b"HTTP/1.1 ", b"HTTP/1.1\0", b"http/1.1", b"HTTP/1.1x",
        b"HTTP/1x1", b"",
    ],
)  # fmt: skip
_NAME: _Part = (
    [b"X-A", b"x-a", b"X-B", b"aCCept", b"If-None-Match", b"Cookie", b"ETag", b"x!#$%&'*+.^_`|~0"],
    [
        b"Content-Length", b"content-length", b"Content-Length ", b"Content-Length\0", b"Content_Length", b"Connection",
        b"Transfer-Encoding", b"TRANSFER-ENCODING", b"connection", b"Expect", b"Upgrade", b"Host", b"X A", b"X-A ",
        b" X-A", b"\tX-A", b"", b"X\0", b"X(", b"X\xe9", b"X\x7f", b"X,", b"GET / HTTP/1.1\r\nHost",
    ],
)  # fmt: skip
_VALUE: _Part = (
    [b"a", b"", b"  b  ", b'a, b;c="d"', b"0", b"5", b"*", b"keep-alive"],
    [
        b"chunked", b"identity", b"close", b"100-continue", b"+5", b"5, 5", b"0x5", b"5 5", b"\xb2", b"Chunked",
        b"Close", b"gzip, chunked", b"keep-alive, close", b"close keep-alive", b"websocket", b"a\0b", b"a\rb", b"a\nb",
        b"a\x0bb", b"\x7f", b"\x1f", b"\xe9", b"\xc3\xa9", b"\xff", b"\tc\t", b"a\tb", b"\x85", b"\x1c", 17_000 * b"y",
    ],
)  # fmt: skip
_HOST: _Part = (
    [b"Host: localhost\r\n", b"host:localhost\r\n"],
    [b"", 2 * b"Host: localhost\r\n", b"Host : localhost\r\n"],
)
# What may say how long a request is: a name and a value that are strange together.
_LENGTH: _Part = (
    [b"X-Length: 5\r\n"],
    [
        b"Content-Length: 5\r\n", b"content-length:0\r\n", b"Content-Length: 58\r\n", b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding: identity\r\n", b"Connection: close\r\n", b"connection:close\r\n",
        b"Connection: x close\r\n", b"Expect: 100-continue\r\n", b"expect: 100-Continue\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    ],
)  # fmt: skip
_BODY: _Part = [b""], [b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n", HIDDEN]
_FIRST: Final = (_METHOD, _SPACE, _TARGET, _SPACE, _VERSION, _END)
_HEADER: Final = (_NAME, _COLON, _VALUE, _END)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return the bytes of a request, of which any part may be strange: most have one such, or none."""
    headers = draw(st.integers(0, 3)) * _HEADER
    parts = [*_FIRST, _HOST, *headers, _LENGTH, _END, _BODY]
    number = draw(st.sampled_from((0, 1, 1, 1, 3)))
    strange = {draw(st.integers(0, len(parts) - 1)) for _ in range(number)}
    if number and draw(st.integers(0, 3)) == 0:
        strange = {len(_FIRST) + 1 + len(headers)}
    data = [draw(st.sampled_from(part[place in strange])) for place, part in enumerate(parts)]
    if draw(st.integers(0, 29)) == 0:
        data.insert(len(_FIRST), draw(st.sampled_from((99, 300, 501))) * b"X:\r\n")
    joined = b"".join(data)
    return _damaged(draw, joined) if draw(st.integers(0, 7)) == 0 else joined


def one_strange_part() -> Iterator[bytes]:
    """Yield each request of which one part is strange, for each strange one there is."""
    parts = [*_FIRST, _HOST, *_HEADER, _LENGTH, _END, _BODY]
    for place, (_, strange) in enumerate(parts):
        for put in strange:
            yield b"".join(put if at == place else good[0] for at, (good, _) in enumerate(parts))


def one_strange_byte() -> Iterator[bytes]:
    """Yield a request with each byte replaced by each of some, or put in front of, or left out."""
    data = GET.replace(b"\r\n\r\n", b"\r\nX-A:  b c\r\nX-B: d\r\n\r\n")
    for at in range(len(data)):
        yield data[:at] + data[at + 1 :]
        for byte in BYTES:
            yield data[:at] + byte + data[at:]
            yield data[:at] + byte + data[at + 1 :]


def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Replace some bytes, anywhere, by some others."""
    at = draw(st.integers(0, len(data)))
    to = at + draw(st.sampled_from((0, 1, 1, 2)))
    put = draw(st.binary(max_size=2) | st.sampled_from((b"\r\n", b"\n", b"\r", b" ", b":", b"\0")))
    return data[:at] + put + data[to:]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the data in pieces."""
    ends = sorted({*(place % (len(data) + 1) for place in places), len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if begin < end]
