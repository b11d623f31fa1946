"""Every transition of docs/semantics.md, "What happens to a key", and everything that one leaves behind."""

from __future__ import annotations

import pytest

from coord.core.records import Kind, Revision, StoredRecord
from scripts.maps import Map
from scripts.servers import Client, Server, ServerError
from support.packing import pack

PENDING = {
    "unknown": [],
    "pulsed": [("P", "k", b'"p"')],
    "reset": [("F", "k", b'"f"'), ("R", "k", b"")],
}
LATCHED = {"fired": [("F", "k", b'"old"')], "failed": [("X", "k", b'"old"')]}


@pytest.fixture(params=sorted(PENDING))
def pending(request: pytest.FixtureRequest, mount: Map) -> Map:
    """Give a map whose key k is pending, in each way that it can be."""
    if PENDING[request.param]:
        mount.apply(*PENDING[request.param])
    return mount


@pytest.fixture(params=sorted(LATCHED))
def latched(request: pytest.FixtureRequest, mount: Map) -> Map:
    """Give a map whose key k is latched."""
    mount.apply(*LATCHED[request.param])
    return mount


@pytest.mark.parametrize(("letter", "kind"), [("F", Kind.FIRED), ("X", Kind.FAILED), ("P", Kind.PULSED)])
def test_pending_key_takes_a_wake(pending: Map, letter: str, kind: Kind) -> None:
    """A fire, fail or pulse of a pending key becomes its record, its line and the outcome."""
    before = len(pending.lines)
    outcome = pending.apply((letter, "k", b'{"at": 1}'))[0]
    stored = pending.stored("k")
    assert outcome.first
    assert outcome.stored is not None
    assert pack(outcome.stored) == pending.records["k"]
    assert (stored.kind, stored.data, stored.node) == (kind, b'{"at": 1}', "n1")
    assert stored.revision == stored.wake_revision == pending.revision
    assert len(pending.lines) == before + 1
    assert (("k" in pending.due) and letter == "P") or letter != "P"


@pytest.mark.parametrize("letter", ["F", "X"])
def test_latched_key_stands(latched: Map, letter: str) -> None:
    """A fire or fail of a latched key changes nothing and answers with the record that stands."""
    before = latched.dump()
    outcome = latched.apply((letter, "k", b'"new"'))[0]
    assert latched.dump() == before
    assert not outcome.first
    assert outcome.stored is not None
    assert pack(outcome.stored) == latched.records["k"]
    assert outcome.stored.data == b'"old"'


def test_pulse_of_a_latched_key_makes_it_pending(latched: Map) -> None:
    """A pulse of a latched key wakes with its own value and leaves the key pending."""
    outcome = latched.pulse("k", b'"again"')
    assert outcome.first
    assert not latched.stored("k").latched
    assert latched.stored("k").data == b'"again"'
    assert "k" in latched.due


def test_reset_of_a_pending_key(pending: Map) -> None:
    """A reset of a pending key changes nothing and answers with what stands, or with nothing."""
    before = pending.dump()
    outcome = pending.reset("k")
    assert pending.dump() == before
    assert not outcome.first
    standing = pending.records.get("k")
    assert (outcome.stored and pack(outcome.stored)) == standing


def test_reset_of_a_latched_key_keeps_its_wake(latched: Map) -> None:
    """A reset makes a latched key pending; its record names and keeps the last wake."""
    old = latched.stored("k")
    outcome = latched.reset("k")
    stored = latched.stored("k")
    assert outcome.first
    assert outcome.stored is not None
    assert pack(outcome.stored) == latched.records["k"]
    assert (stored.kind, stored.wake_kind, stored.wake_revision, stored.data) == (
        Kind.RESET, old.kind, old.revision, b'"old"',
    )  # fmt: skip
    assert stored.revision == Revision(old.revision.generation, old.revision.number + 1)
    assert "k" in latched.due


def test_reset_by_revision(latched: Map) -> None:
    """A reset with a revision needs that record to stand: an older one, or a newer one, is refused."""
    revision = latched.stored("k").revision
    before = latched.dump()
    for other in (revision.number - 1, revision.number + 1):
        outcome = latched.reset("k", b"%d,%d" % (revision.generation, other))
        assert not outcome.first
        assert outcome.stored is not None
        assert outcome.stored.revision == revision
    assert latched.dump() == before
    assert latched.reset("k", b"%d,%d" % revision).first


def test_reset_by_revision_of_nothing(mount: Map) -> None:
    """A reset with a revision of a key that nothing is known of answers with nothing."""
    outcome = mount.reset("k", b"1,1")
    assert not outcome.first
    assert outcome.stored is None


def test_reset_by_the_revision_of_a_pulse(mount: Map) -> None:
    """A reset with the revision of a record that is pending changes nothing."""
    revision = mount.pulse("k").stored
    assert revision is not None
    assert not mount.reset("k", b"%d,%d" % revision.revision).first


def test_bytes_of_a_record(mount: Map) -> None:
    """A record is a line of JSON, and then the value's JSON as it came."""
    data = b'{"n":1,\n"a":[]}'
    mount.fire("k", data)
    fired = mount.stored("k")
    generation = fired.revision.generation
    assert mount.records["k"] == b'["fired",[%d,1],%d,"n1"]\n%s' % (generation, fired.time, data)
    mount.reset("k")
    reset = mount.stored("k")
    wake = b'{"wake":["fired",%d,1]}' % generation
    assert mount.records["k"] == b'["reset",[%d,2],%d,"n1",%s]\n%s' % (generation, reset.time, wake, data)


def test_time_is_the_servers(mount: Map) -> None:
    """A record's time is what the server's clock says, in microseconds."""
    before = mount.client.command("TIME")
    mount.fire("k")
    after = mount.client.command("TIME")
    low, high = (int(seconds) * 1_000_000 + int(micro) for seconds, micro in (before, after))
    assert low <= mount.stored("k").time <= high


def test_lines_are_numbered(mount: Map) -> None:
    """A call's entry is called after its last line; only the first of a generation says what it follows."""
    mount.apply(("F", "a", b"1"), ("F", "a", b"2"), ("P", "b", b"3"))
    mount.apply(("R", "a", b""), ("R", "b", b""))
    generation = mount.revision.generation
    assert [entry.identifier for entry in mount.entries] == [f"{generation}-2", f"{generation}-3"]
    assert [entry.after for entry in mount.entries] == [b"0 0", None]
    keys, lines = zip(*mount.lines, strict=True)
    assert keys == ("a", "b", "a")
    assert [StoredRecord.parse(line).revision.number for line in lines] == [1, 2, 3]
    assert StoredRecord.parse(lines[0]).data == b"1"
    assert lines[2] == mount.records["a"]


def test_head(mount: Map) -> None:
    """The head tells the newest revision, the server's process and history, and what the generation follows."""
    mount.apply(("F", "a", b"1"), ("F", "b", b"2"))
    head = mount.head
    assert head is not None
    assert head.revision == mount.stored("b").revision
    assert head.revision.number == 2
    assert head.process.decode() == mount.process
    assert head.history.decode() == mount.history_id
    assert head.follows == (0, 0)
    assert mount.head_bytes is not None
    assert len(mount.head_bytes.split()) == 7


def test_messages(server: Server, mount: Map) -> None:
    """Each change is told on its key's channel with the record's bytes; the doorbell rings once a call."""
    names = mount.names
    listener = server.connect()
    listener.subscribe(names.channel("a"), names.channel("b"), names.doorbell)
    mount.apply(("F", "a", b"1"), ("F", "a", b"2"), ("P", "b", b"3"), ("R", "a", b""))
    heard = listener.messages()
    assert [channel for channel, _ in heard if channel == names.doorbell] == [names.doorbell]
    changes = [message for message in heard if message[0] != names.doorbell]
    assert changes == [(names.channel(key), line) for key, line in mount.lines]
    assert len(changes) == 3


def test_large_values_stay_out_of_the_history(mount: Map) -> None:
    """A value above the limit is in the record and the message, but not in its line."""
    mount.apply(("F", "large", b'"%s"' % (b"x" * 4095)), ("F", "small", b'"%s"' % (b"x" * 4094)))
    (_, large), (_, small) = mount.lines
    assert large.endswith(b',"n1"]')
    assert mount.records["large"].startswith(large + b"\n")
    assert small == mount.records["small"]


def test_many_operations_of_one_key(mount: Map) -> None:
    """Operations of one call see what those before them did."""
    outcomes = mount.apply(
        ("R", "k", b""), ("F", "k", b"1"), ("X", "k", b"2"), ("R", "k", b""),
        ("R", "k", b""), ("P", "k", b"3"), ("X", "k", b"4"), ("P", "k", b"5"),
    )  # fmt: skip
    assert [outcome.first for outcome in outcomes] == [
        False, True, False, True, False, True, True, True,
    ]  # fmt: skip
    numbers = [outcome.stored and outcome.stored.revision.number for outcome in outcomes]
    assert numbers == [None, 1, 1, 2, 2, 3, 4, 5]
    assert mount.revision.number == 5


def test_full_batch(mount: Map) -> None:
    """Several hundred operations travel in one call, each under its own number."""
    outcomes = mount.apply(*(("F", f"key-{i}", b"%d" % i) for i in range(2000)))
    numbers = [outcome.stored.revision.number for outcome in outcomes if outcome.stored]
    assert numbers == list(range(1, 2001))
    assert mount.stored("key-1999").data == b"1999"


def test_binary_data_and_keys(mount: Map) -> None:
    """Keys and values are bytes to the scripts: newlines, NULs, colons and braces survive."""
    key, data = "~!*=:{}é 7", b'"\x00\n~+-!3:abc]\xc3\xa9"'
    mount.apply(("F", key, data), ("F", "007", b'"007"'))
    outcome = mount.fire(key)
    assert outcome.stored is not None
    assert outcome.stored.data == data
    assert sorted(mount.records) == ["007", key]


def test_maps_are_apart(client: Client, mount: Map) -> None:
    """The same key in two maps is two events, each with its own numbers."""
    other = Map(client, name="other")
    mount.apply(("F", "k", b"1"), ("F", "l", b"1"))
    assert other.fire("k", b"2").first
    assert other.revision.number == 1
    assert mount.stored("k").data == b"1"


def test_nodes_of_a_batch(mount: Map) -> None:
    """Calls of several nodes travel in one batch, and each record names its own."""
    mount.raw(("F", "a", b"1"), ("P", "b", b"1"), ("F", "c", b"1"), nodes="web.ci,n1,web.bob")
    assert [mount.stored(key).node for key in "abc"] == ["web.ci", "n1", "web.bob"]


def test_what_a_later_version_tells_of_a_record_survives_a_reset(mount: Map) -> None:
    """Members of a header that this version does not know are kept when a reset rewrites the record."""
    tail = b'{"owner":"x ]y","wake-count":[1,{"a":2}]}'
    record = b'["fired",[5,2],7,"n0",%b]\n[1]' % tail
    mount.client.command("HSET", mount.names.records, "k", record)
    outcome = mount.fire("k")
    assert not outcome.first
    assert mount.records["k"] == record
    assert mount.reset("k").first
    assert mount.records["k"].endswith(b'"n1",{"wake":["fired",5,2],%b]\n[1]' % tail[1:])
    stored = mount.stored("k")
    assert (stored.wake_kind, stored.wake_revision, stored.data) == (Kind.FIRED, (5, 2), b"[1]")


@pytest.mark.parametrize("tail", [b",{}", b",[1]", b",1", b',"x"'])
def test_a_header_that_ends_otherwise_is_no_record(mount: Map, tail: bytes) -> None:
    """What stands behind the node is an object with members, or the record is not one of coord's."""
    mount.client.command("HSET", mount.names.records, "k", b'["fired",[5,2],7,"n0"%b]\n1' % tail)
    assert (mount.fire("k").error or "").startswith("CORRUPT")


@pytest.mark.parametrize("key", ["a\nb", "\x00", "\x1b[2J", "a\x7f", "a\x85b", "\x9b", ""])
def test_c2_a_key_with_control_characters_is_refused(mount: Map, key: str) -> None:
    """C2: keys are shown on terminals; one that could move the cursor there is refused, and nothing is applied."""
    with pytest.raises(ServerError, match=r"^ERR the calls"):
        mount.apply(("F", "good", b"1"), ("F", key, b"1"))
    assert mount.dump() == {}


@pytest.mark.parametrize("code", [*range(32), 127, 0x85])
def test_c2_a_control_character_in_a_large_batch_is_refused(mount: Map, code: int) -> None:
    """C2: long texts are searched in another way, for each of them; every other character of ASCII is taken."""
    fires = [("F", f"{number:0100}", b"1") for number in range(20)]
    with pytest.raises(ServerError, match=r"^ERR the calls"):
        mount.apply(*fires, ("F", f"a{chr(code)}b", b"1"))
    assert mount.dump() == {}
    assert all(outcome.first for outcome in mount.apply(*fires, ("F", "".join(map(chr, range(32, 127))), b"1")))


@pytest.mark.parametrize(
    "key", ["a b", "\xa0", "\xe9\u0085x"[:1] + "\u2028", "\u0442\u0435\u0441\u0442", "\U0001f600", "\xc2"]
)
def test_c2_any_other_key_is_taken(mount: Map, key: str) -> None:
    """C2: letters of any script, spaces and symbols are no control characters, whatever bytes they have in UTF-8."""
    assert mount.fire(key).first
