"""The parts of streams as plain functions: ids, formats, the ring, the wheel, and the parser of the tests."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from coord import Revision
from coord.errors import InvalidInput
from coord.web.formats import form_of
from coord.web.frames import EVENTS, LINES
from coord.web.positions import NOW, START, parse, text_of
from coord.web.problems import Problem
from coord.web.ring import BITE, Change, Ring
from coord.web.wheel import Wheel
from web.eventsource import Event, Parser

ONE, TWO, THREE = (Revision(7, number) for number in (1, 2, 3))


def change(number: int, size: int = 10) -> Change:
    """Return a change."""
    return Change(Revision(7, number), "k", b"x" * size)


@pytest.mark.parametrize(
    ("text", "maps", "positions"),
    [
        ("now", ["m"], [NOW]),
        ("start", ["m", "n"], [START, START]),
        ("7.1", ["m"], [ONE]),
        ("m@7.1", ["m"], [ONE]),
        ("m@7.1,n@7.2", ["m", "n"], [ONE, TWO]),
        ("n@7.2,m@7.1", ["m", "n"], [ONE, TWO]),
        ("@members@7.2,m@now", ["m", "@members"], [NOW, TWO]),
    ],
)
def test_an_id_says_where_a_stream_is(text: str, maps: list[str], positions: list[Any]) -> None:
    """Of each map; and it is read as it was written."""
    assert parse(text, maps) == positions
    assert parse(text_of(zip(maps, positions, strict=True)).decode(), maps) == positions


@pytest.mark.parametrize(
    ("text", "maps"),
    [
        ("", ["m"]),
        ("yesterday", ["m"]),
        ("n@7.1", ["m"]),
        ("7.1", ["m", "n"]),
        ("m@7.1", ["m", "n"]),
        ("m@7.1,m@7.1", ["m", "n"]),
        ("m@7.1,n@7.1,o@7.1", ["m", "n"]),
        ("m@7.1,n@", ["m", "n"]),
    ],
)
def test_what_is_no_id(text: str, maps: list[str]) -> None:
    """It is refused: to go on anywhere else would be worse."""
    with pytest.raises(InvalidInput):
        parse(text, maps)


def test_a_client_chooses_the_format() -> None:
    """By the quality that it gives; events are what it gets if it does not care."""
    assert form_of(None) is EVENTS
    assert form_of("*/*") is EVENTS
    assert form_of("application/x-ndjson") is LINES
    assert form_of("text/event-stream;q=0.5, application/x-ndjson") is LINES
    assert form_of("text/event-stream, application/x-ndjson;q=0.9") is EVENTS
    for accept in ("text/html", "text/event-stream;q=0", "application/json"):
        with pytest.raises(Problem, match="event-stream"):
            form_of(accept)


def test_a_ring_has_what_follows_a_position() -> None:
    """Or it says that it has not: there is no gap in it, and it goes no further back than it is long."""
    ring = Ring(most=2)
    assert not ring.has(NOW)
    ring.begin(ONE)
    ring.append(change(2))
    ring.append(change(3))
    assert [each.revision for each in ring.after(ONE)] == [TWO, THREE]
    ring.append(change(4))
    assert not ring.has(ONE)
    assert [each.revision.number for each in ring.after(TWO)] == [3, 4]
    assert ring.after(Revision(7, 4)) == []
    assert not ring.has(Revision(7, 5))
    ring.begin(Revision(8, 1))
    assert not ring.has(THREE)
    assert (ring.after(Revision(8, 1)), len(ring), ring.size) == ([], 0, 0)


def test_a_ring_is_bounded_by_bytes_too() -> None:
    """Large changes leave it earlier; and no bite is much larger than the limit."""
    ring = Ring(most=1_000, most_bytes=10 * BITE)
    ring.begin(Revision(7, 0))
    for number in range(1, 101):
        ring.append(change(number, BITE // 2))
    assert ring.size <= 10 * BITE
    assert 15 <= len(ring) <= 20
    assert len(ring.after(Revision(7, 90))) == 2


def test_a_change_is_encoded_once() -> None:
    """For each format, however many streams show it."""
    one = change(1)
    assert one.frame(EVENTS) is one.frame(EVENTS)
    assert one.frame(LINES) == b'{"id":"7.1","data":xxxxxxxxxx}\n'


def test_a_wheel_spreads_its_members() -> None:
    """Each is due once a round, and those that come at once are not due at once."""
    wheel: Wheel[int] = Wheel(3)
    for number in range(6):
        wheel.add(number)
    rounds = [wheel.tick() for _ in range(3)]
    assert [len(each) for each in rounds] == [2, 2, 2]
    assert sorted(chain(*rounds)) == list(range(6))
    wheel.discard(0)
    wheel.discard(0)
    assert sorted(chain(*(wheel.tick() for _ in range(3)))) == [1, 2, 3, 4, 5]
    assert len(wheel) == 5


# From the examples of the HTML standard, and its rules.
@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("message", "YHOO\n+2\n10", "")]),
        (b": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n", [
            Event("message", "first", "1"), Event("message", "second", "")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event("message", "", ""), Event("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [Event("message", "test", "")] * 2),
        (b"\xef\xbb\xbfevent: a\r\ndata: b\r\r\n", [Event("a", "b", "")]),
        (b"id: 1\n\nid: a\0b\ndata: x\n\n", [Event("message", "x", "1")]),
        (b"event: a\n\ndata: x\n\n", [Event("message", "x", "")]),
    ],
)  # fmt: skip
def test_the_parser_is_a_browsers(data: bytes, events: list[Event]) -> None:
    """In one piece, and byte by byte."""
    assert Parser().feed(data) == events
    parser = Parser()
    assert [event for byte in data for event in parser.feed(bytes([byte]))] == events
