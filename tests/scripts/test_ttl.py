"""Events that end by themselves: where their ends are kept, what tells of them, and what undoes them."""

from __future__ import annotations

import pytest

from coord.core.records import Kind, StoredRecord, Tail
from coord.link.scripts import IDLE, SWEEP
from scripts.maps import Map, Operation, let_pass
from scripts.servers import Server, Word

LATER = 2**50
LONG = 3_600_000


def _timed(ttl: int, key: str = "a", data: bytes = b"1") -> Operation:
    return "T", key, b"%d\n%b" % (ttl, data)


def _sweep(mount: Map, most: int = 100) -> list[bytes]:
    _, _, *calls = mount._run(SWEEP, 5, *mount.names.keys, mount.names.name, most, 60_000)
    assert set(calls[::3]) <= {b"E"}
    return [word for event in zip(calls[1::3], calls[2::3], strict=True) for word in event]


def _swept_at(mount: Map) -> int:
    return int(float(mount.client.command("ZSCORE", mount.names.idle, mount.names.name)))


def _end(mount: Map, key: str = "a") -> Operation:
    return "E", key, b"%d,%d" % mount.stored(key).revision


def test_l11_a_record_says_that_it_has_a_ttl(mount: Map) -> None:
    """L11: its end is in the due set, and the map is swept then; nothing else of the map is due earlier."""
    outcome = mount.apply(_timed(500))[0]
    assert outcome.first
    assert outcome.stored == mount.stored("a")
    assert mount.stored("a").tail == Tail(ttl=500)
    end = mount.stored("a").time // 1000 + 500
    assert mount.due == {"a": LATER + end}
    assert _swept_at(mount) == end
    (left,) = mount.ends("a")
    assert 0 < left <= 500
    assert mount.ends("b") == [0]


def test_l11_an_end_before_its_time_is_none(mount: Map) -> None:
    """L11: whoever asks, the event stands until its end has passed; the answer is the record."""
    mount.apply(_timed(LONG))
    outcome = mount.apply(_end(mount))[0]
    assert (outcome.first, outcome.stored) == (False, mount.stored("a"))
    assert mount.stored("a").kind is Kind.FIRED


def test_l11_an_end_keeps_the_wake_and_the_name_of_who_fired(mount: Map) -> None:
    """L11: as a reset does; the record is forgotten after the retention, and only one of two calls ends it."""
    mount.apply(_timed(1, data=b'"v"'))
    fired = mount.stored("a")
    let_pass(mount.client)
    other = Map(mount.client, node="n2")
    call = _end(mount)
    ended, again = other.apply(call, call)
    assert (ended.first, again.first) == (True, False)
    stored = mount.stored("a")
    assert stored == StoredRecord(
        Kind.EXPIRED,
        stored.revision,
        stored.time,
        "n1",
        Tail((Kind.FIRED, *fired.revision)),
        b'"v"',
    )
    assert mount.due == {"a": stored.time // 1000 + mount.retention}
    assert [StoredRecord.parse(line).kind for _, line in mount.lines] == [Kind.FIRED, Kind.EXPIRED]


def test_l11_an_end_is_of_one_revision(mount: Map) -> None:
    """L11: a late call does not end the event that was fired since."""
    mount.apply(_timed(1))
    late = _end(mount)
    let_pass(mount.client)
    mount.apply(_timed(1))
    let_pass(mount.client)
    assert not mount.apply(late)[0].first
    assert mount.stored("a").kind is Kind.FIRED
    assert mount.apply(_end(mount))[0].first


def test_l11_what_is_over_is_not_in_the_way(mount: Map) -> None:
    """L11: before it is ended, a fire is the first, and a plain one has no end."""
    mount.apply(_timed(1))
    let_pass(mount.client)
    assert mount.fire("a", b"2").first
    assert mount.due == {}
    assert mount.stored("a").tail is None


@pytest.mark.parametrize("letter", ["P", "R"])
def test_l11_every_change_removes_the_end(mount: Map, letter: str) -> None:
    """L11: the key is pending, forgotten in its time, and its next event has no end."""
    mount.apply(_timed(LONG), (letter, "a", b"" if letter == "R" else b"2"))
    assert mount.due == {"a": mount.stored("a").time // 1000 + mount.retention}
    tail = mount.stored("a").tail
    assert tail is None or tail.ttl is None
    mount.fire("a", b"3")
    assert mount.due == {}


def test_l11_a_reset_keeps_other_members(mount: Map) -> None:
    """L11: wherever the TTL stands among them."""
    for members in ('"ttl":1,"x":2', '"x":2,"ttl":1', '"x":1,"ttl":1,"y":2', '"ttl":1'):
        mount.pulse("b")
        record = f'["fired",[{mount.revision.generation},1],5,"n1",{{{members}}}]\n1'
        mount.client.command("HSET", mount.names.records, "a", record)
        assert mount.reset("a").first
        header = mount.records["a"].partition(b"\n")[0].decode()
        others = ["".join(part) for part in members.split(",") if "ttl" not in part]
        assert header.endswith(",".join(["]", *others]).removeprefix("]") + "}]")
        assert "ttl" not in header


def test_l11_to_fire_again_makes_the_end_later_only(mount: Map) -> None:
    """L11: the record and its revision stay; an end is moved to either side."""
    mount.apply(_timed(LONG))
    end = mount.due["a"]
    shorter, plain = mount.apply(_timed(5), ("F", "a", b"2"))
    assert (shorter.first, plain.first, mount.due["a"]) == (False, False, end)
    assert not mount.apply(_timed(2 * LONG))[0].first
    assert mount.due["a"] > end + LONG / 2
    moved = mount.apply(("M", "a", b"1000"))[0]
    assert (moved.first, moved.stored) == (True, mount.stored("a"))
    assert mount.due["a"] < end
    assert _swept_at(mount) == mount.due["a"] - LATER
    assert len(mount.lines) == 1


@pytest.mark.parametrize("standing", [[], [("P", "a", b"1")], [("F", "a", b"1")], [_timed(LONG), ("R", "a", b"")]])
def test_l11_what_has_no_ttl_has_no_end_to_move(mount: Map, standing: list[Operation]) -> None:
    """L11: neither a pending key nor an event without one; nothing changes."""
    if standing:
        mount.apply(*standing)
    before = mount.dump()
    moved, ended = mount.apply(("M", "a", b"1"), ("E", "a", b"1,1"))
    assert (moved.first, ended.first) == (False, False)
    assert mount.dump() == before


def test_l11_within_one_batch(mount: Map) -> None:
    """L11: an end that this batch sets is moved by the next call of it."""
    outcomes = mount.apply(_timed(LONG), _timed(5), ("M", "a", b"7"), _timed(6))
    assert [outcome.first for outcome in outcomes] == [True, False, True, False]
    assert mount.due == {"a": LATER + mount.stored("a").time // 1000 + 7}


def test_l11_a_sweep_tells_what_is_over(mount: Map) -> None:
    """L11: key and revision; again until a call has ended it. The map is not swept for the rest."""
    mount.apply(_timed(1), _timed(1, "b"), _timed(LONG, "later"))
    let_pass(mount.client)
    assert mount._run(IDLE, 1, mount.names.idle, 10) == [b"mount"]
    events = _sweep(mount)
    assert sorted(events[::2]) == [b"a", b"b"]
    assert events[1] == b"%d,%d" % mount.stored(events[0].decode()).revision
    assert mount._run(IDLE, 1, mount.names.idle, 10) == [b"mount"]
    mount.apply(_end(mount, "a"), _end(mount, "b"))
    assert _sweep(mount) == []
    assert _swept_at(mount) == min(mount.due_of_outcomes.values())


def test_l11_a_sweep_is_bounded(mount: Map) -> None:
    """L11: it returns as many events as it is told to, those that ended first."""
    for number in range(3):
        mount.apply(_timed(1, f"k{number}"))
        let_pass(mount.client)
    assert _sweep(mount, 2)[::2] == [b"k0", b"k1"]


def test_l11_junk_among_the_ends(mount: Map) -> None:
    """L11: what is no event with a TTL is removed, and does not end."""
    mount.apply(("F", "plain", b"1"), ("P", "pending", b"1"))
    for key in ("plain", "pending", "missing"):
        mount.client.command("ZADD", mount.names.due, LATER + 1, key)
    assert _sweep(mount) == []
    assert mount.due == {}
    assert mount.stored("plain").latched


@pytest.mark.parametrize("key", ["", "a\x01b", "a\x85b", "\x00x"])
def test_l11_junk_that_is_no_key(mount: Map, key: str) -> None:
    """L11: no call could end it, and it would have all other calls of its batch refused."""
    mount.apply(_timed(1))
    mount.client.command("HSET", mount.names.records, key, mount.records["a"])
    mount.client.command("ZADD", mount.names.due, LATER + 1, key)
    let_pass(mount.client)
    assert _sweep(mount, 1) in ([], [b"a", b"%d,%d" % mount.stored("a").revision])
    assert _sweep(mount, 1)[::2] == [b"a"]


def test_l11_a_corrupt_record_with_a_ttl(mount: Map) -> None:
    """L11: it is no event, and does not stand in the way of those that are over."""
    mount.apply(_timed(1))
    mount.client.command("HSET", mount.names.records, "c", '["foo",[1,1],1,"n",{"ttl":5}]\n1')
    mount.client.command("ZADD", mount.names.due, LATER + 1, "c")
    let_pass(mount.client)
    _sweep(mount, 1)
    assert _sweep(mount, 1)[::2] == [b"a"]


def test_l11_an_end_to_come_is_swept_in_its_time(mount: Map) -> None:
    """L11: also right after a sweep of the map."""
    mount.apply(_timed(300))
    _sweep(mount)
    assert _swept_at(mount) == mount.due["a"] - LATER


def test_l11_a_new_generation_forgets_no_end(mount: Map) -> None:
    """L11: the first call under another server does not put off the next sweep."""
    mount.apply(_timed(500))
    at = _swept_at(mount)
    assert mount.head_bytes is not None
    mount.head_bytes = mount.head_bytes.replace(mount.history_id.encode(), b"cd" * 8)
    mount.pulse("b")
    assert _swept_at(mount) == at


def test_l11_a_map_with_only_an_end_to_come_is_not_forgotten(mount: Map) -> None:
    """L11: pending records and outcomes go, the event stays."""
    mount.retention = mount.outcome_life = 1
    mount.apply(_timed(LONG), ("P", "b", b"1"))
    let_pass(mount.client)
    mount._run(SWEEP, 5, *mount.names.keys, mount.names.name, 100, 1)
    assert sorted(mount.records) == ["a"]
    assert mount.due_of_outcomes == {}
    assert _swept_at(mount) == mount.due["a"] - LATER


@pytest.mark.parametrize("letter", ["T", "M", "P", "R"])
def test_l11_an_undone_change_leaves_the_end(server: Server, mount: Map, letter: str) -> None:
    """L11: a refused message restores the record and its end."""
    mount.apply(_timed(LONG, "a"), _timed(LONG, "b"))
    before, due = mount.dump(with_head=False), mount.due
    mount.client.command("SET", "foreign", "1")
    bell = mount.names.doorbell.decode()
    limited = _user(server, mount, "resetchannels", f"&{bell}")
    data = {"T": b"%d\n1" % (2 * LONG), "M": b"7", "R": b"", "P": b"2"}
    outcome = limited.apply((letter, "a", data[letter]))[0]
    mount.client.command("DEL", "foreign")
    if letter in "PR":
        assert outcome.error is not None
        assert (mount.dump(with_head=False), mount.due) == (before, due)
    else:
        # Nothing is published, so nothing is refused.
        assert (outcome.error, mount.records) == (None, mount.records)


def test_l11_a_refused_fire_over_a_pending_key(server: Server, mount: Map) -> None:
    """L11: the pending record is forgotten when it was to be."""
    mount.pulse("a")
    before, due = mount.dump(with_head=False), mount.due
    limited = _user(server, mount, "resetchannels", f"&{mount.names.doorbell.decode()}")
    assert limited.apply(_timed(LONG))[0].error is not None
    assert (mount.dump(with_head=False), mount.due) == (before, due)


@pytest.mark.parametrize(
    "operation", [("T", "a", b"1"), ("T", "a", b"\n1"), ("T", "a", b"0\n1"), ("T", "a", b"5\n"), ("M", "a", b"")]
)
def test_l11_bad_arguments(mount: Map, operation: Operation) -> None:
    """L11: what is no TTL, or has no value, is refused as a whole."""
    with pytest.raises(Exception, match="not what they should be"):
        mount.raw(("F", "b", b"1"), operation)
    assert mount.records == {}


def _user(server: Server, mount: Map, *rules: Word) -> Map:
    admin = mount.client
    admin.command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "+@all", "~*", *rules)
    limited = server.connect()
    limited.command("AUTH", "limited", "secret")
    other = Map(admin, node="limited")
    other.client = limited
    return other
