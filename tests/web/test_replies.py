"""The head of an answer, and ids."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from uuid import RFC_4122, UUID

import pytest

from coord.web.exchange import Answer
from coord.web.replies import SAFE, head_of, new_id


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line and the headers, of which none comes twice, without the date, which is now."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert len(headers) == len(lines)
    assert abs(parsedate_to_datetime(headers.pop("Date")).timestamp() - time.time()) < 60
    return first, headers


def test_ids_are_random_uuids() -> None:
    """Each is another UUID of version 4."""
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(str(UUID(each)) == each and UUID(each).version == 4 and UUID(each).variant == RFC_4122 for each in ids)


def test_a_head_has_what_each_answer_has() -> None:
    """And also the answer's own headers, its type and its length."""
    first, headers = parsed(head_of(Answer(200, b"12345", "text/plain", {"ETag": '"1.1"'}), "id"))
    assert first == "HTTP/1.1 200 OK"
    own = {"Request-Id": "id", "ETag": '"1.1"', "Content-Type": "text/plain", "Content-Length": "5"}
    assert headers == {**SAFE, **own}


def test_an_answer_may_have_others_of_these() -> None:
    """Its own value replaces ours."""
    _, headers = parsed(head_of(Answer(headers={"Cache-Control": "no-cache"}), "id"))
    assert headers["Cache-Control"] == "no-cache"
    assert headers.keys() >= SAFE.keys()


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    """Nor a length, nor a type."""
    _, headers = parsed(head_of(Answer(status), "id"))
    assert headers == {**SAFE, "Request-Id": "id"}


@pytest.mark.parametrize(
    ("status", "first"),
    [
        (404, "HTTP/1.1 404 Not Found"),
        (421, "HTTP/1.1 421 Misdirected Request"),
        (429, "HTTP/1.1 429 Too Many Requests"),
        (503, "HTTP/1.1 503 Service Unavailable"),
    ],
)
def test_a_status_has_its_reason(status: int, first: str) -> None:
    """The one of its standard."""
    assert parsed(head_of(Answer(status), "id"))[0] == first
