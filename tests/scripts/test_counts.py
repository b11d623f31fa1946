"""Counters: what their records say, who counts once, what a batch shares, and what undoes them."""

from __future__ import annotations

import pytest

from coord.core.calls import Outcome
from coord.core.records import Kind, StoredRecord, Tail
from coord.link.scripts import SWEEP
from scripts.maps import Map, Operation, counts, follows
from scripts.servers import Server, ServerError, Word
from scripts.test_holders import Holder

MOST = 2**53 - 1


def _counted(*outcomes: Outcome) -> list[tuple[bool, int]]:
    return [(outcome.first, outcome.count) for outcome in outcomes]


def test_l12_a_counter_begins_with_its_first_count(mount: Map) -> None:
    """L12: nobody declares it; its record says what it stands at, and it is not due to be forgotten."""
    outcome = mount.count("a", 10)
    assert _counted(outcome) == [(True, 10)]
    stored = mount.stored("a")
    assert outcome.stored == stored
    assert (stored.kind, stored.tail, stored.data, stored.node) == (Kind.COUNTED, Tail(count=10), b"", "n1")
    assert _counted(mount.count("a", 5)) == [(True, 15)]
    assert mount.due == {}
    assert [StoredRecord.parse(line).count for _, line in mount.lines] == [10, 15]


def test_l12_the_goal_fires_in_the_same_step(mount: Map) -> None:
    """L12: with the count as the value; then it counts on, and the key stays latched since then."""
    assert mount.count("a", 7, goal=8).stored == mount.stored("a")
    assert not mount.stored("a").latched
    reached = mount.count("a").stored
    assert reached == mount.stored("a")
    assert (reached.kind, reached.tail, reached.data) == (Kind.FIRED, Tail(count=8, goal=8), b"8")
    assert reached.latched_at == reached.revision
    on = mount.count("a", 2).stored
    assert on == mount.stored("a")
    assert (on.kind, on.data, on.latched_at) == (Kind.FIRED, b"10", reached.revision)
    assert mount.count("a").stored.latched_at == reached.revision  # type: ignore[union-attr]


@pytest.mark.parametrize("goal", [3, 5])
def test_l12_a_goal_that_comes_later(mount: Map, goal: int) -> None:
    """L12: where none was given before it is set, and reached at once if the count is there already."""
    mount.count("a", 4)
    stored = mount.count("a", 1, goal=goal).stored
    assert stored is not None
    assert (stored.kind, stored.tail) == (Kind.FIRED, Tail(count=5, goal=goal))


def test_l12_the_first_goal_stands(mount: Map) -> None:
    """L12: another one is refused with both, and nothing is counted; the same one and none are fine."""
    mount.count("a", 1, goal=8)
    before = mount.dump()
    refused = mount.apply(counts("a", 1, 9), counts("a", 1, 7))
    assert [outcome.error for outcome in refused] == [
        "GOAL its goal is 8, not 9; nothing was counted",
        "GOAL its goal is 8, not 7; nothing was counted",
    ]
    assert mount.dump() == before
    assert _counted(*mount.apply(counts("a", 1, 8), counts("a"))) == [(True, 2), (True, 3)]


def test_l12_a_name_counts_once(mount: Map) -> None:
    """L12: in one batch or in several, whatever it adds; the answer is the present count. Each key has its own."""
    assert _counted(*mount.apply(counts("a", 1, 0, "x"), counts("a", 1, 0, "x"), counts("b", 1, 0, "x"))) == [
        (True, 1),
        (False, 1),
        (True, 1),
    ]
    mount.count("a", 5)
    before = mount.dump()
    again = mount.count("a", 1, goal=3, who="x")
    assert (again.first, again.count, again.stored) == (False, 6, mount.stored("a"))
    assert mount.dump() == before
    assert _counted(mount.count("a", 1, who="x,1"), mount.count("a", 1, who="\u4e16")) == [(True, 7), (True, 8)]


@pytest.mark.parametrize("goal", [0, 2])
def test_l12_a_reset_begins_anew(mount: Map, goal: int) -> None:
    """L12: at any count the key is pending afterwards, and its names are forgotten; those of other keys are not."""
    mount.apply(counts("a", 2, goal, "x"), counts("ab", 1, 0, "x"), counts("a!", 1, 0, "x"))
    fired = mount.stored("a")
    assert mount.reset("a").first
    stored = mount.stored("a")
    assert (stored.kind, stored.count, "a" in mount.due) == (Kind.RESET, None, True)
    assert stored.wake_revision == (fired.revision if goal else (0, 0))
    assert mount.names_counted == [b"a!\0who\0x", b"ab\0who\0x"]
    assert not mount.reset("a").first
    assert _counted(mount.count("a", 1, who="x")) == [(True, 1)]
    assert _counted(mount.count("ab", 1, who="x")) == [(False, 1)]


@pytest.mark.parametrize("goal", [0, 2])
def test_l12_an_eviction_is_a_reset(mount: Map, goal: int) -> None:
    """L12: nobody holds a counter, so it does what a reset does."""
    mount.count("a", 2, goal, "x")
    assert mount.apply(("V", "a", b"-"))[0].first
    assert (mount.stored("a").kind, mount.names_counted) == (Kind.RESET, [])


def test_l12_a_reset_by_revision(mount: Map) -> None:
    """L12: a counter that has counted on is not the one that was meant."""
    mount.count("a")
    old = mount.stored("a").revision
    mount.count("a")
    assert not mount.reset("a", b"%d,%d" % old).first
    assert mount.stored("a").count == 2
    assert mount.reset("a", b"%d,%d" % mount.stored("a").revision).first


@pytest.mark.parametrize("standing", [[("F", "a", b"1")], [("X", "a", b"1")], [("T", "a", b"99999\n1")]])
def test_l12_a_latched_event_is_no_counter(mount: Map, standing: list[Operation]) -> None:
    """L12: it is refused, and nothing is counted."""
    mount.apply(*standing)
    before = mount.dump()
    outcome = mount.count("a", who="x")
    assert (outcome.error or "").startswith("KIND it is an event")
    assert mount.dump() == before


@pytest.mark.parametrize("goal", [0, 1])
@pytest.mark.parametrize(
    "call", [("F", "a", b"1"), ("X", "a", b"1"), ("P", "a", b"1"), ("T", "a", b"5\n1"), ("M", "a", b"5")]
)
def test_l12_a_counter_is_no_event(mount: Map, goal: int, call: Operation) -> None:
    """L12: at any count, also once it is fired by its goal; a reset makes the key free."""
    mount.count("a", 1, goal)
    before = mount.dump()
    outcome = mount.apply(call)[0]
    assert (outcome.error or "").startswith("KIND it is a counter")
    assert mount.dump() == before
    mount.reset("a")
    assert mount.apply(call)[0].error is None


@pytest.mark.parametrize("goal", [0, 1, 2])
def test_l12_a_counter_keeps_the_wake_before_it(mount: Map, goal: int) -> None:
    """W2: who was armed before a pulse and was cut off gets that, as long as no later wake came."""
    pulsed = mount.pulse("a", b'"v"').stored
    assert pulsed is not None
    mount.count("a", 1, goal)
    stored = mount.stored("a")
    expected = (Kind.FIRED, stored.revision, b"1") if goal == 1 else (Kind.PULSED, pulsed.revision, b'"v"')
    assert (stored.wake_kind, stored.wake_revision, stored.data) == expected
    assert mount.due == {}
    assert mount.reset("a").first
    assert (mount.stored("a").wake_kind, mount.stored("a").wake_revision, mount.stored("a").data) == expected
    mount.count("a", 2, goal)
    stored = mount.stored("a")
    again = (Kind.FIRED, stored.revision, b"2") if goal else expected
    assert (stored.wake_kind, stored.wake_revision, stored.data) == again


def test_l12_a_large_wake_is_left_out_of_the_history(mount: Map) -> None:
    """L12: the counter's record keeps it, and its lines do not."""
    value = b'"%b"' % (b"x" * 5_000)
    mount.pulse("a", value)
    mount.apply(counts("a"), ("P", "b", value), counts("a"), ("F", "c", b"1"))
    assert mount.stored("a").data == value
    assert all(len(line) < 200 for _, line in mount.lines)
    assert mount.lines[1][1] == mount.records["a"].partition(b"\n")[0]


def test_l12_an_event_that_is_over_is_not_in_the_way(mount: Map) -> None:
    """L12: as for a fire; its end is removed, and its wake kept."""
    mount.apply(("T", "a", b"1\n7"))
    fired = mount.stored("a")
    begin = _now(mount)
    while _now(mount) < begin + 3:
        mount.client.pass_time(0.001)
    assert _counted(mount.count("a")) == [(True, 1)]
    assert (mount.stored("a").wake_revision, mount.stored("a").data, mount.due) == (fired.revision, b"7", {})


def test_l12_counts_of_one_batch_share_a_change(mount: Map) -> None:
    """L12: a line, a record and a message for all of them; each is told its own count, also when it is repeated."""
    other = mount.client.beside()
    other.subscribe(mount.names.channel("a"))
    batch = [counts("a"), counts("b"), counts("a", 2, 5), ("F", "c", b"1"), counts("a", 3), counts("a")]
    reply = mount.raw(*batch)
    outcomes = mount.parse(reply, *batch)
    assert [outcome.count for outcome in outcomes] == [1, 1, 3, 0, 6, 7]
    assert [outcome.first for outcome in outcomes] == [True] * 6
    a = mount.stored("a")
    assert [outcome.stored for outcome in outcomes] == [a, mount.stored("b"), a, mount.stored("c"), a, a]
    assert [key for key, _ in mount.lines] == ["a", "b", "c"]
    assert (a.kind, a.count, a.latched_at, a.revision.number) == (Kind.FIRED, 7, a.revision, 1)
    assert [payload for _, payload in other.messages()] == [mount.records["a"]]
    assert mount.raw(*batch, number=1) == b"=" + reply
    mount.apply(counts("a"), ("R", "b", b""))
    repeated = mount.apply(*batch, number=1)
    assert [outcome.count for outcome in repeated] == [1, 1, 3, 0, 6, 7]
    assert [outcome.stored and outcome.stored.revision for outcome in repeated] == [
        outcome.stored and outcome.stored.revision for outcome in outcomes
    ]


def test_l12_another_call_between_the_counts_parts_them(mount: Map) -> None:
    """L12: what follows a reset is another counter; what was refused, or changed nothing, is not between them."""
    outcomes = mount.apply(
        counts("a", 1, 0, "x"), ("F", "a", b"1"), counts("a", 1, 0, "x"), ("R", "a", b"1,1"), counts("a"),
        ("R", "a", b""), counts("a", 5, 0, "x"), counts("a", 1, 0, "y"), ("R", "b", b""),
    )  # fmt: skip
    assert [outcome.count for outcome in outcomes] == [1, 0, 1, 0, 2, 0, 5, 6, 0]
    assert [StoredRecord.parse(line).kind for _, line in mount.lines] == [Kind.COUNTED, Kind.RESET, Kind.COUNTED]
    assert mount.names_counted == [b"a\0who\0x", b"a\0who\0y"]
    assert mount.due == {}


def test_l12_nothing_is_counted_beyond_what_a_number_holds(mount: Map) -> None:
    """L12: the sum is exact up to 2^53 - 1, and more is refused before anything is written."""
    assert _counted(mount.count("a", MOST - 1, MOST)) == [(True, MOST - 1)]
    before = mount.dump()
    assert (mount.count("a", 2, who="x").error or "").startswith("ERR")
    assert mount.dump() == before
    assert _counted(mount.count("a", 1)) == [(True, MOST)]
    assert mount.stored("a").data == b"%d" % MOST
    assert mount.records["a"].partition(b"{")[2].startswith(b'"count":%d,"goal":%d' % (MOST, MOST))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"1", b"1,2", b"0,0,", b"-1,0,", b"1.5,0,", b"01,0,", b"x,0,", b"1,x,", b"1,-1,", b"1,0,a\x01",
        b"1,0,a\x00b", b"1,0,a\x7f",
    ],
)  # fmt: skip
def test_l12_bad_arguments(mount: Map, data: bytes) -> None:
    """L12: what is no number, or no name, is refused as a whole."""
    with pytest.raises(ServerError, match="not what they should be"):
        mount.raw(("F", "b", b"1"), ("C", "a", data))
    assert mount.dump() == {}


@pytest.mark.parametrize(
    "data",
    [
        b"%d,0," % (MOST + 1), b"1,%d," % (MOST + 1), b"9" * 400 + b",0,", b"1," + b"9" * 400 + b",",
        b"1,0,a\xc2\x85", b"1,0," + b"n" * 513,
    ],
)  # fmt: skip
def test_l12_too_much(mount: Map, data: bytes) -> None:
    """L12: what is too much is refused alone."""
    fired, outcome = mount.apply(("F", "b", b"1"), ("C", "a", data))
    assert fired.first
    assert (outcome.error or "").startswith("ERR")
    assert list(mount.records) == ["b"]
    assert mount.names_counted == []


@pytest.mark.parametrize("record", ["junk", '["counted",[1,1],1,"n"]\n', '["counted",[1,1],1,"n",{"goal":5}]\n'])
def test_l12_a_corrupt_record(mount: Map, record: str) -> None:
    """L12: nothing is counted on it, and a reset repairs it."""
    mount.count("a", who="x")
    mount.client.command("HSET", mount.names.records, "a", record)
    assert (mount.count("a").error or "").startswith("CORRUPT")
    assert mount.reset("a").first
    assert _counted(mount.count("a", who="x")) == [(True, 1)]


def test_l12_names_of_a_record_that_is_gone(mount: Map) -> None:
    """L12: a missing key has the count 0, and no name has counted."""
    mount.count("a", who="x")
    mount.client.command("HDEL", mount.names.records, "a")
    assert _counted(mount.count("a", who="x")) == [(True, 1)]


def test_l12_a_counter_is_not_forgotten(mount: Map) -> None:
    """L12: however long nobody calls on its map, which then is not looked at any more."""
    mount.retention = mount.outcome_life = 1
    mount.pulse("a")
    mount.apply(counts("a", 1, 0, "x"), ("P", "b", b"1"))
    begin = _now(mount)
    while _now(mount) < begin + 3:
        mount.client.pass_time(0.001)
    _sweep(mount)
    assert sorted(mount.records) == ["a"]
    assert mount.names_counted == [b"a\0who\0x"]
    assert _counted(mount.count("a", who="x")) == [(False, 1)]
    mount.reset("a")
    begin = _now(mount)
    while _now(mount) < begin + 3:
        mount.client.pass_time(0.001)
    _sweep(mount)
    assert mount.client.command("EXISTS", mount.names.entries) == 0
    assert mount.records == {}


def test_l12_an_undone_count_leaves_no_trace(server: Server, mount: Map) -> None:
    """L12: without permission for the key's channel all counts of it are refused, and their names do not count."""
    mount.apply(counts("a", 1, 0, "x"), ("P", "p", b"1"))
    before, due, names, lines = mount.records, mount.due, mount.names_counted, len(mount.lines)
    bell = mount.names.doorbell.decode()
    limited = _user(server, mount, "resetchannels", f"&{bell}", f"&{bell}:k")
    batch = [counts("k", 1, 0, "y"), counts("a", 1, 2, "y"), ("R", "a", b""), counts("a", 1, 0, "x"), counts("p")]
    outcomes = limited.apply(*batch)
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, False, False]
    assert outcomes[0].count == 1
    assert mount.records == before | {"k": mount.records["k"]}
    assert mount.names_counted == [*names, b"k\0who\0y"]
    assert mount.due == due
    assert [key for key, _ in mount.lines][lines:] == ["k"]
    assert follows(mount.entries)
    assert _counted(mount.count("a", who="x"), mount.count("a", who="y")) == [(False, 1), (True, 2)]


@pytest.mark.parametrize("rule", ["-zadd", "-zremrangebylex", "-zscore"])
def test_l12_names_that_may_not_be_written(server: Server, mount: Map, rule: str) -> None:
    """L12: then the whole batch is refused: a name that could not be written would count again."""
    if rule == "-zscore":
        mount.count("a", who="x")
    mount.client.command("SET", mount.names.entries if rule == "-zscore" else "other", "1")
    before = mount.dump(with_head=False)
    limited = mount if rule == "-zscore" else _user(server, mount, "allchannels", rule)
    for call in (counts("a", 1, 0, "y"), counts("b", 1, 0, "x")):
        with pytest.raises(ServerError):
            limited.apply(call)
    assert mount.dump(with_head=False) == before


def test_l12_a_key_that_somebody_holds_is_no_counter(mount: Map) -> None:
    """L12: whether it is latched, or too few hold it yet, also within a batch; nor is a counter held."""
    holder = Holder(mount.client)
    holder.beat(makes=True)
    held = holder.apply(
        holder.holding("a"), holder.holding("b", number=2, need=2), counts("a"), counts("b"), counts("c", 1, 1),
        holder.holding("c", number=3),
    )  # fmt: skip
    assert [(outcome.error or "").partition(" ")[0] for outcome in held] == ["", "", "KIND", "KIND", "", "KIND"]
    for key in "ab":
        assert (mount.count(key, who="x").error or "").startswith("KIND")
    for key in ("c", "d"):
        mount.count(key)
        assert (holder.hold(key, number=4).error or "").startswith("KIND")
    assert sorted(mount.records) == ["a", "c", "d"]
    assert [entry for entry in mount.names_counted if b"who" in entry] == []


def _now(mount: Map) -> int:
    seconds, micro = mount.client.command("TIME")
    return int(seconds) * 1000 + int(micro) // 1000


def _sweep(mount: Map) -> None:
    mount._run(SWEEP, len(mount.names.keys), *mount.names.keys, mount.names.name, 100, 1)


def _user(server: Server, mount: Map, *rules: Word) -> Map:
    admin = mount.client
    admin.command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "+@all", "~*", *rules)
    limited = server.connect()
    limited.command("AUTH", "limited", "secret")
    other = Map(admin, node="limited")
    other.client = limited
    return other
