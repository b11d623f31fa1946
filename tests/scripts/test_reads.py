"""HMGET and ``history.lua``: answers as of a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coord.core.history import Cursor, parse_entry
from coord.core.records import Head
from scripts.maps import Map, follows
from scripts.servers import ServerError


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


def test_heads_of_many_maps(mount: Map) -> None:
    """Heads come in the order asked: nil where there is no data, a mark where the head cannot be read."""
    other = Map(mount.client, name="other")
    mount.fire("a")
    other.fire("b")
    mount.client.command("LPUSH", "coord:{default/list}", "junk")
    mount.client.command("HSET", "coord:{default/junk}", "\0head", "junk")
    names = [b"coord:{default/%b}" % name for name in (b"other", b"none", b"list", b"mount", b"junk", b"mount")]
    head = mount.head_bytes
    assert mount.heads(*names) == [other.head_bytes, None, b"!", head, b"junk", head]
    assert mount.heads() == []
    many = [b"coord:{default/m%d}" % number for number in range(499)]
    assert mount.heads(*many, mount.names.records) == [None] * 499 + [head]


def test_history_of_nothing(mount: Map) -> None:
    """A map without data has no head and no lines."""
    assert mount.history() == (None, [], [])
    assert mount.history("5-1") == (None, [], [])


def test_history_from_a_point(mount: Map) -> None:
    """Entries come in order, above the one asked for, with the head."""
    for i in range(5):
        mount.apply(("F", f"k{i}", b"1"), ("P", f"k{i}", b"2"))
    generation = mount.revision.generation
    head, entries, _ = mount.history()
    assert Head.parse(head) == mount.head
    ids = [b"%d-%d" % (generation, number) for number in range(2, 11, 2)]
    assert [entry[0] for entry in entries] == ids
    assert entries[4][1][2:] == [b"k4", mount.records["k4"]]
    assert [entry[0] for entry in mount.history(f"{generation}-4")[1]] == ids[2:]
    assert mount.history(f"{generation}-10") == (head, [], [])


def test_history_from_the_middle_of_an_entry(mount: Map) -> None:
    """The entry that has the next line comes whole."""
    mount.apply(*(("F", f"k{i}", b"1") for i in range(5)))
    head, entries, _ = mount.history(f"{mount.revision.generation}-2")
    ((identifier, fields),) = entries
    lines = parse_entry("mount", identifier, fields, {})
    new, caught_up = Cursor("mount", mount.stored("k1").revision).advance(lines, Head.parse(head))
    assert [line.key for line in new] == [b"k2", b"k3", b"k4"]
    assert caught_up


def test_history_has_enough(mount: Map) -> None:
    """An answer ends once it has enough lines, and never in the middle of an entry; what an entry follows is a line."""
    for i in range(45):
        mount.apply(*(("P", f"k{i}", b"1") for _ in range(1 + 19 * (i >= 40))))
    entries = mount.history("-", 25)[1]
    assert len(entries) == 24
    rest = mount.history(entries[-1][0], 25)[1]
    assert [len(fields) // 2 for _, fields in rest] == [1] * 16 + [20]


def test_history_has_enough_bytes(mount: Map) -> None:
    """Nor does an answer go on once it has enough bytes; of an entry larger than that, one comes."""
    for i in range(30):
        mount.apply(*(("P", f"k{i}", b'"%s"' % (b"x" * 1000)) for _ in range(1 + 9 * (i == 20))))
    assert len(mount.history("-", most=10_000)[1]) == 10
    assert len(mount.history("-", most=1)[1]) == 1
    generation = mount.revision.generation
    ((identifier, fields),) = mount.history(f"{generation}-20", most=1)[1]
    assert (identifier, len(fields)) == (b"%d-30" % generation, 20)
    read, since = 0, "-"
    while entries := mount.history(since, most=12_000)[1]:
        read, since = read + len(entries), entries[-1][0]
    assert read == 30


def test_history_sends_a_record_once(mount: Map) -> None:
    """However often a large value came: only the newest of its lines can have it, and the bytes bound records, too."""
    large = b'"%s"' % (b"x" * 50_000)
    for _ in range(20):
        mount.apply(("P", "k", large), ("P", "l", large))
    mount.apply(("F", "k", large), ("R", "k", b""), ("F", "latched", large))
    _, entries, standing = mount.history()
    now = mount.records
    assert dict(zip(standing[::2], standing[1::2], strict=True)) == {key.encode(): now[key] for key in now}
    assert len(standing) == 2 * len(now) == 6
    stands = dict(zip(standing[::2], standing[1::2], strict=True))
    lines = [line for name, fields in entries for line in parse_entry("m", name, fields, stands)]
    assert [line.revision.number for line in lines if line.record and line.record.value] == [40, 41, 43]
    for i in range(40):
        mount.fire(f"f{i}", large)
    entries, standing = mount.history("-", most=500_000)[1:]
    assert sum(map(len, standing)) < 600_000
    assert 0 < len(entries) < 62


def test_history_from_now(mount: Map) -> None:
    """A plus asks for no line, only for the head to begin at."""
    mount.fire("a")
    head, entries, _ = mount.history("+")
    assert Head.parse(head) == mount.head
    assert entries == []


def test_history_with_a_large_value(mount: Map) -> None:
    """With a line whose value was left out comes the record that stands, whichever that is by now."""
    large = b'"%s"' % (b"x" * 5000)
    mount.apply(("F", "k", large), ("R", "k", b""), ("P", "k", b"1"), ("F", "l", large), ("F", "gone", large))
    mount.client.command("HDEL", mount.names.records, "gone")
    _, entries, standing = mount.history()
    now = mount.records
    assert standing == [b"l", now["l"]]
    ((identifier, fields),) = entries
    lines = parse_entry("mount", identifier, fields, dict(zip(standing[::2], standing[1::2], strict=True)))
    assert [line.record and line.record.value_omitted for line in lines] == [True, False, False, False, True]
    assert lines[3].record is not None
    assert lines[3].record.value == "x" * 5000


def test_history_with_a_foreign_entry(mount: Map) -> None:
    """An entry that somebody else wrote is handed on as it is."""
    mount.client.command("XADD", mount.names.log, "1-1", "a", "b")
    mount.client.command("XADD", mount.names.log, "1-2", "k", '["fired",[1,2],')
    assert mount.history() == (None, [[b"1-1", [b"a", b"b"]], [b"1-2", [b"k", b'["fired",[1,2],']]], [])


def test_history_is_cut(mount: Map) -> None:
    """No more lines are kept than asked for, and a sixteenth; also those of old generations go."""
    mount.history_kept = 160
    most = 0
    for call in range(120):
        mount.apply(*(("P", f"k{call}", b"1") for _ in range(5)))
        most = max(most, len(mount.lines))
        if call % 15 == 0:
            assert mount.head_bytes is not None
            mount.head_bytes = mount.head_bytes.replace(mount.process.encode(), b"cd" * 20)
    assert 160 <= len(mount.lines) <= most <= 160 + 10 + 5
    assert follows(mount.entries)


@pytest.mark.parametrize("history", [1, 5, 20])
def test_a_short_history_is_cut_every_sixteen_lines(mount: Map, history: int) -> None:
    """Down to a single line."""
    mount.history_kept = history
    for number in range(1, 100):
        mount.pulse(f"k{number}")
        kept = [key for key, _ in mount.lines]
        assert kept == [f"k{each}" for each in range(number - len(kept) + 1, number + 1)]
        assert min(number, history) <= len(kept) <= history + 16
        assert number % 16 or number <= history or len(kept) == history


@pytest.mark.parametrize("look", [lambda mount: mount.read("a"), lambda mount: mount.history()])
@pytest.mark.parametrize("name", ["records", "log"])
def test_wrong_type(mount: Map, look: Callable[[Map], Any], name: str) -> None:
    """Records or a log of the wrong type are an error to who reads them, in the server's words."""
    mount.client.command("LPUSH", getattr(mount.names, name), "junk")
    if name == "log":
        assert mount.read("a") == [None, None]
        look = Map.history
    with pytest.raises(ServerError, match=r"WRONGTYPE"):
        look(mount)


def test_looks_change_nothing(mount: Map) -> None:
    """Reading writes nothing: a read-only server, and a user without writes, can do it."""
    mount.apply(("F", "a", b"1"), ("P", "b", b"1"))
    before = mount.dump()
    mount.read("a", "b", "c")
    mount.history()
    mount.heads(mount.names.records)
    assert mount.dump() == before
