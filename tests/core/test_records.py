"""Records, revisions and heads: read what was written, and refuse anything else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode as to_json

from coord.core.names import MapNames
from coord.core.records import NEVER, Applied, Head, Kind, Revision, StoredRecord, Tail
from coord.core.values import decode
from coord.errors import CorruptRecord, InvalidInput, NewerLayout
from support.packing import pack

QUICK = settings(deadline=None, derandomize=True, database=None)
NUMBERS = st.integers(0, 10**16 - 1)
REVISIONS = st.builds(Revision, NUMBERS, NUMBERS)
NODES = st.text("abcXYZ019._-", min_size=1, max_size=128)
WAKES = [Kind.FIRED, Kind.FAILED, Kind.PULSED]
MADE = st.builds(StoredRecord.of_call, st.sampled_from(WAKES), REVISIONS, NUMBERS, NODES, st.binary())
RESETS = st.builds(StoredRecord, st.just(Kind.RESET), REVISIONS, NUMBERS, NODES, data=st.just(b"")) | st.builds(
    StoredRecord,
    st.just(Kind.RESET),
    REVISIONS,
    NUMBERS,
    NODES,
    st.builds(Tail, st.tuples(st.sampled_from(WAKES), NUMBERS, NUMBERS)),
    st.binary(),
)


@QUICK
@given(MADE | RESETS)
def test_a_record_is_read_as_it_was_written(stored: StoredRecord) -> None:
    """Whatever bytes the value has: the header ends at the first line's end."""
    assert StoredRecord.parse(pack(stored)) == stored


@QUICK
@given(
    st.binary()
    | st.builds(lambda stored, cut, more: pack(stored)[:cut] + more, MADE | RESETS, st.integers(0, 60), st.binary())
)
def test_junk_is_a_value_error_and_nothing_else(payload: bytes) -> None:
    """What stands in Redis may have been written by anybody; what is taken for a record can be written again."""
    try:
        stored = StoredRecord.parse(payload)
    except ValueError:
        return
    assert StoredRecord.parse(pack(stored)) == stored
    with suppress(CorruptRecord):
        stored.record("map", "key")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"fired",
        b'["fired"]',
        b'["fired",[1,2],3]',
        b'["fired",[1,2],3,"node"]',
        b'["fired",[1,2],3]\ntrue',
        b'["fired",[1],3,"node"]\ntrue',
        b'["fired",[1,2,3],3,"node"]\ntrue',
        b'["fired",1,2,3,"node"]\ntrue',
        b'["Fired",[1,2],3,"node"]\ntrue',
        b'["F",[1,2],3,"node"]\ntrue',
        b'[0,[1,2],3,"node"]\ntrue',
        b'["fired",[-1,2],3,"node"]\ntrue',
        b'["fired",[1.0,2],3,"node"]\ntrue',
        b'["fired",[1e3,2],3,"node"]\ntrue',
        b'["fired",["1",2],3,"node"]\ntrue',
        b'["fired",[1,2],-3,"node"]\ntrue',
        b'["fired",[10000000000000000,2],3,"node"]\ntrue',
        b'["fired",[1,2],3,"node"],\ntrue',
        b'["fired",[1,2],3,"node"] true',
        b'["fired",[1,2],3,NaN]\ntrue',
        b'["fired",[1,2],3,"\xff"]\ntrue',
        b'["fired",[1,2],3,"node","fired",[1,1]]\ntrue',
        b'["reset",[1,2],3,"node","reset",[1,1]]\ntrue',
        b'["reset",[1,2],3,"node","fired",[1]]\ntrue',
        b'["fired",[1,2],3,"node",' + b"[" * 100_000 + b"\n1",
        b'["counted",[1,2],3,"node"]\n',
        b'["counted",[1,2],3,"node",{}]\n',
        b'["counted",[1,2],3,"node",{"goal":1}]\n',
        b'["counted",[1,2],3,"node",{"count":-1}]\n',
        b'["counted",[1,2],3,"node",{"count":1.0}]\n',
        b'["counted",[1,2],3,"node",{"count":10000000000000000}]\n',
        b'["counted",[1,3],3,"node",{"count":1,"since":[1,2]}]\n',
        b'["counted",[1,3],3,"node",{"count":1,"wake":["counted",1,2]}]\n',
        b'["pulsed",[1,2],3,"node",{"count":1}]\n1',
        b'["failed",[1,2],3,"node",{"count":1}]\n1',
        b'["reset",[1,2],3,"node",{"count":0}]\n1',
        b'{"kind":"fired"}',
        b"junk",
        b"\xff",
    ],
)
def test_what_is_nearly_a_record_is_none(payload: bytes) -> None:
    """One error for all that is not what the script writes."""
    with pytest.raises(ValueError, match=r"."):
        StoredRecord.parse(payload)


@pytest.mark.parametrize("node", ["no/de", "", "n" * 129, "\x1b[2J", "a\nb"])
def test_a_node_without_a_proper_name_is_not_shown(node: str) -> None:
    """It would end up on terminals; whoever waits for the key is woken all the same."""
    stored = StoredRecord.parse(to_json(["fired", [1, 2], 3, node]) + b"\ntrue")
    assert decode(stored.data or b"") is True
    with pytest.raises(CorruptRecord, match=r"k: record 1\.2 .*reset repairs it"):
        stored.record("map", "k")


def test_a_record_shows_itself_to_the_user() -> None:
    """Times are seconds since 1970, and a failed record's value is the reason."""
    failed = StoredRecord.parse(b'["failed",[1763820000000000,17],1763820000250000,"node1"]\n"disk on fire"')
    record = failed.record("mount", "/mnt/abc")
    assert (record.map, record.key, record.kind, record.value) == ("mount", "/mnt/abc", Kind.FAILED, "disk on fire")
    assert (record.time, record.node, record.latched) == (1763820000.25, "node1", True)
    assert str(record.revision) == "1763820000000000.17"
    assert not record.value_omitted


def test_a_reset_record_has_no_value_for_the_user_but_keeps_its_wake() -> None:
    """What a reset keeps is for waiters that were away."""
    stored = StoredRecord.parse(b'["reset",[5,3],0,"node",{"wake":["fired",5,2]}]\n{"at":1}')
    assert not stored.latched
    assert stored.record("mount", "abc").value is None
    assert (stored.wake_kind, stored.wake_revision, decode(stored.data or b"")) == (
        Kind.FIRED,
        Revision(5, 2),
        {"at": 1},
    )


def test_l12_a_counter_shows_its_count_and_keeps_the_wake_before_it() -> None:
    """L12: the count is the value, also where that was left out; once fired, it is its own wake."""
    stored = StoredRecord.parse(b'["counted",[5,3],0,"node",{"count":7,"goal":8,"wake":["failed",5,2]}]\n"why"')
    assert (stored.latched, stored.latched_at, stored.count) == (False, None, 7)
    assert (stored.wake_kind, stored.wake_revision, stored.data) == (Kind.FAILED, Revision(5, 2), b'"why"')
    record = stored.record("mount", "abc")
    assert (record.kind, record.value, record.goal, record.latched) == (Kind.COUNTED, 7, 8, False)
    stored = StoredRecord.parse(b'["fired",[5,4],0,"node",{"count":9,"goal":8,"since":[5,3]}]', whole=False)
    assert (stored.wake_revision, stored.latched_at, stored.count) == (Revision(5, 4), Revision(5, 3), 9)
    record = stored.record("mount", "abc")
    assert (record.kind, record.value, record.value_omitted, record.goal) == (Kind.FIRED, 9, False, 8)


def test_a_value_left_out_is_not_looked_for() -> None:
    """The history leaves large values out."""
    record = StoredRecord.parse(b'["fired",[5,3],0,"node"]', whole=False).record("mount", "abc")
    assert record.value is None
    assert record.value_omitted
    assert not StoredRecord.parse(b'["reset",[5,3],0,"node"]', whole=False).record("mount", "abc").value_omitted


def test_a_broken_value_hurts_who_asks_for_it() -> None:
    """The rest is good, so the key lives on; the error says how to repair it."""
    stored = StoredRecord.parse(b'["fired",[5,3],0,"node"]\n{')
    assert stored.latched
    with pytest.raises(CorruptRecord, match=r"abc: .* 5\.3 .*reset repairs it"):
        stored.record("mount", "abc")


@QUICK
@given(REVISIONS)
def test_a_revision_is_read_as_it_is_shown(revision: Revision) -> None:
    """It is what a user copies from a line of `coord watch`."""
    assert Revision.parse(str(revision)) == revision


@QUICK
@given(st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_revisions_are_ordered_by_generation_and_then_number(pairs: list[tuple[int, int]]) -> None:
    """A new generation is higher than all of the one before; nothing is lower than `NEVER`."""
    assert sorted(Revision(*pair) for pair in pairs) == [Revision(*pair) for pair in sorted(pairs)]
    assert all(Revision(*pair) >= NEVER for pair in pairs)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.2 ", " 1.2", "1.2\n", "a.b", "1_0.2", "٣.1", "1" * 17 + ".1"]
)
def test_what_is_no_revision_is_refused(text: str) -> None:
    """Before it is sent anywhere, with the form that is wanted."""
    with pytest.raises(InvalidInput, match=r"GENERATION\.NUMBER"):
        Revision.parse(text)


@QUICK
@given(st.text() | st.none() | st.integers() | st.binary())
def test_nothing_but_the_documented_error_is_raised_for_a_revision(text: object) -> None:
    """Whatever is given as one."""
    with suppress(InvalidInput):
        Revision.parse(text)  # type: ignore[arg-type]


def test_a_head_names_its_process_and_what_it_follows() -> None:
    """With or without the word that only the script needs."""
    head = Head(Revision(6, 1), b"0123abcd", Revision(5, 9), b"ef")
    assert Head.parse(b"2 6 1 0123abcd ef 5 9") == head
    assert Head.parse(b"1 6 1 0123abcd ef 5 9") == head
    assert Head.parse(b"1 6 1 0123abcd ef 5 9 2") == head
    assert Head.parse(b"1 6 1 - ef 5 9") == head._replace(process=b"-")
    assert Head.parse(None) is None


@pytest.mark.parametrize("payload", [b"3 6 1 p h 0 0", b"99 whatever"])
def test_a_head_of_a_later_layout_is_named(payload: bytes) -> None:
    """What a later version has written is not taken for junk that a reset repairs."""
    with pytest.raises(NewerLayout, match=r"written in layout \d+ by a newer coord"):
        Head.parse(payload)
    with pytest.raises(NewerLayout, match=r"^mount: written"):
        Head.read(MapNames("default", "mount", 0), payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"1",
        b"1 6",
        b"1 6 1 p h",
        b"1 6 1 p h 5",
        b"1 6 1 p h x y",
        b"x 6 1 p h 0 0",
        b"1 6 1  0 0",
        b"1 6 1 p h 0 0x",
        b"+1 6 1 p h 0 0",
        b"0 6 1 p h 0 0",
    ],
)
def test_what_is_no_head_is_a_value_error(payload: bytes) -> None:
    """Somebody may have written anything there."""
    with pytest.raises(ValueError, match="not a head"):
        Head.parse(payload)


@QUICK
@given(st.binary() | st.text("0123456789 -_p").map(str.encode))
def test_nothing_but_an_error_of_the_map_is_raised_for_a_head(payload: bytes) -> None:
    """Whatever stands there, its map's users get an error that names the map."""
    with suppress(CorruptRecord, NewerLayout):
        Head.read(MapNames("default", "mount", 0), payload)


def test_an_outcome_makes_its_record_when_asked_and_once() -> None:
    """It equals one that was made from the record, and shows the record and not how it is held."""
    stored = StoredRecord(Kind.FIRED, Revision(5, 1), 2_000_000, "n", None, b"[1]")
    applied = Applied(stored, True, "m", b"k")
    assert repr(applied) == f"Applied(record={stored.record('m', 'k')!r}, first=True)"
    assert applied.record is applied.record
    assert applied.record == stored.record("m", "k")
    assert applied == Applied(applied.record, first=True)
    assert applied != Applied(applied.record, first=False)
    assert applied != Applied(None, first=True)
    assert applied != (applied.record, True)
    assert hash(Applied(None, first=True)) == hash(Applied(None, first=True))


def test_a_record_tells_since_when_its_key_is_latched() -> None:
    """It is the record's own revision, unless the record was replaced meanwhile; a pending key has none."""
    for header, at in (
        (b'["fired",[5,3],0,"node"]', Revision(5, 3)),
        (b'["failed",[5,3],0,"node",{"since":[4,9]}]', Revision(4, 9)),
        (b'["pulsed",[5,3],0,"node"]', None),
        (b'["reset",[5,3],0,"node"]', None),
    ):
        stored = StoredRecord.parse(header + b"\n1")
        assert stored.latched_at == at
        assert stored.record("m", "k").latched_at == at


@pytest.mark.parametrize(
    "header",
    [
        b'["pulsed",[5,3],0,"node",{"since":[5,2]}]',
        b'["reset",[5,3],0,"node",{"since":[5,2]}]',
        b'["fired",[5,3],0,"node",{"since":[5,3]}]',
        b'["fired",[5,3],0,"node",{"since":[6,1]}]',
        b'["fired",[5,3],0,"node",{"since":[5,-1]}]',
    ],
)
def test_a_key_that_is_latched_since_a_revision_that_cannot_be_is_no_record(header: bytes) -> None:
    """Only a latched key has been so since an earlier revision."""
    with pytest.raises(ValueError, match=r"since|Expected"):
        StoredRecord.parse(header + b"\n1")
