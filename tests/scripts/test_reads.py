"""``read.lua`` and ``history.lua``: answers as of a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coord.core.records import Head

from .maps import Map
from .servers import ServerError


def test_read_nothing(mount: Map) -> None:
    """A map without data answers with no head and no records, one for each key asked for."""
    assert mount.read() == [None]
    assert mount.read("a", "b", "c") == [None, None, None, None]


def test_read_in_the_order_asked(mount: Map) -> None:
    """Records come in the keys' order, nil where there is none, after the head."""
    mount.apply(("F", "a", b"1"), ("P", "c", b"3"))
    records = mount.records
    answer = mount.read("b", "c", "x", "a", "c", "z")
    assert answer[1:] == [None, records["c"], None, records["a"], records["c"], None]
    assert Head.parse(answer[0]) == mount.head
    assert mount.read() == [answer[0]]


def test_read_many(mount: Map) -> None:
    """A thousand keys are read in one step."""
    mount.apply(*(("F", f"k{i}", b"%d" % i) for i in range(0, 1000, 2)))
    answer = mount.read(*(f"k{i}" for i in range(1000)))[1:]
    assert len(answer) == 1000
    assert all((record is None) is bool(i % 2) for i, record in enumerate(answer))


def test_history_of_nothing(mount: Map) -> None:
    """A map without data has no head and no lines."""
    assert mount.history() == (None, [])
    assert mount.history("5-1") == (None, [])


def test_history_from_a_point(mount: Map) -> None:
    """Lines come in order, above the one asked for, as many as asked for, with the head."""
    mount.apply(*(("F", f"k{i}", b"1") for i in range(5)))
    generation = mount.revision.generation
    head, lines = mount.history()
    assert Head.parse(head) == mount.head
    ids = [b"%d-%d" % (generation, number) for number in range(1, 6)]
    assert [line[0] for line in lines] == ids
    assert lines[4][1] == [b"key", b"k4", b"record", mount.records["k4"]]
    assert [line[0] for line in mount.history(f"{generation}-2", 2)[1]] == ids[2:4]
    assert mount.history(f"{generation}-5") == (head, [])


def test_history_from_now(mount: Map) -> None:
    """A plus asks for no line, only for the head to begin at."""
    mount.fire("a")
    head, lines = mount.history("+")
    assert Head.parse(head) == mount.head
    assert lines == []


def test_history_with_a_large_value(mount: Map) -> None:
    """A line whose value was left out carries the record that stands, whichever that is by now."""
    large = b'"%s"' % (b"x" * 5000)
    mount.apply(("F", "k", large), ("R", "k", b""), ("P", "k", b"1"), ("F", "gone", large))
    mount.client.command("HDEL", mount.names.records, "gone")
    lines = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in mount.history()[1]]
    assert [line.get(b"omitted") for line in lines] == [b"1", b"1", None, b"1"]
    assert [line.get(b"standing") for line in lines] == [mount.records["k"]] * 2 + [None, None]


def test_history_with_a_foreign_line(mount: Map) -> None:
    """A line that somebody else wrote is handed on as it is."""
    mount.client.command("XADD", mount.names.log, "1-1", "omitted", "1")
    mount.client.command("XADD", mount.names.log, "1-2", "a", "b", "omitted", "1")
    assert mount.history() == (
        None,
        [[b"1-1", [b"omitted", b"1"]], [b"1-2", [b"a", b"b", b"omitted", b"1"]]],
    )


@pytest.mark.parametrize("look", [lambda mount: mount.read("a"), lambda mount: mount.history()])
def test_wrong_type_of_the_head(mount: Map, look: Callable[[Map], Any]) -> None:
    """Without a head that can be read there is no answer: it would be as of nothing."""
    mount.client.command("LPUSH", mount.names.head, "junk")
    with pytest.raises(ServerError, match=r"WRONGTYPE"):
        look(mount)


def test_wrong_type_of_what_is_asked_for(mount: Map) -> None:
    """Records or a log of the wrong type are an error to who reads them, in the server's words."""
    mount.client.command("LPUSH", mount.names.records, "junk")
    mount.client.command("LPUSH", mount.names.log, "junk")
    assert mount.read() == [None]
    with pytest.raises(ServerError, match=r"WRONGTYPE"):
        mount.read("a")
    with pytest.raises(ServerError, match=r"WRONGTYPE"):
        mount.history()


def test_looks_change_nothing(mount: Map) -> None:
    """Reading writes nothing: a read-only server, and a user without writes, can do it."""
    mount.apply(("F", "a", b"1"), ("P", "b", b"1"))
    before = mount.dump()
    mount.read("a", "b", "c")
    mount.history()
    assert mount.dump() == before
