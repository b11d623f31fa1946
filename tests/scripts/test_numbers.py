"""F2: the numbers of calls, and what the server remembers of them."""

from __future__ import annotations

import pytest

from scripts.maps import HOUR, Map
from scripts.servers import Client, Server, ServerError


def test_f2_repeated_number_answers_as_before(mount: Map) -> None:
    """F2: a batch, or the one before it, is answered again as before and changes nothing, whatever happened.

    A value that no longer stands is left out.
    """
    batch = (("F", "a", b"1"), ("P", "b", b"2"), ("R", "a", b""), ("R", "x", b""))
    reply = mount.raw(*batch)
    next_reply = mount.raw(("F", "b", b"3"))
    other = Map(mount.client, node="n2")
    other.apply(("F", "a", b'"another"'), ("R", "b", b""))
    before = mount.dump()
    reset = reply.index(b'["reset"')
    header = reply[reset : reply.index(b"\n", reset)]
    without = reply.replace(b"*%d:%b\n1" % (len(header) + 2, header), b"*%d:%b" % (len(header), header))
    assert mount.raw(*batch, number=1) == b"=" + without != b"=" + reply
    assert mount.raw(("F", "b", b"3"), number=2) == b"=" + next_reply
    assert mount.dump() == before
    assert b"1" not in (mount.outcome or b"").partition(b"]")[2]


@pytest.mark.parametrize("letter", ["F", "X", "R"])
def test_f2_repeated_number_has_the_value_that_stands(mount: Map, letter: str) -> None:
    """F2: an outcome is kept without the value of its record, and answered with it as long as that stands."""
    value = b'"%b"' % (b"x" * 60_000)
    mount.fire("k", value)
    call = (letter, "k", b"" if letter == "R" else b"2")
    reply = mount.raw(call)
    assert value in reply
    assert len(mount.outcome or b"") < 150
    assert mount.raw(call, number=2) == b"=" + reply
    other = Map(mount.client, node="n2")
    other.apply(("P", "k", b"3"))
    assert value not in mount.raw(call, number=2)


def test_f2_a_repetition_is_not_large(mount: Map) -> None:
    """F2, A5: a reply that was lost because it is large is given again without most of its values."""
    value = b'"%b"' % (b"x" * 60_000)
    mount.apply(*(("F", f"k{number}", value) for number in range(20)))
    batch = [("F", f"k{number}", b"1") for number in range(20)]
    assert len(mount.raw(*batch)) > 20 * 60_000
    reply = mount.raw(*batch, number=2)
    assert len(reply) < 262_144 + 20 * 100
    outcomes = mount.parse(reply, *batch)
    assert [outcome.stored.data for outcome in outcomes if outcome.stored] == [value] * 4 + [None] * 16


def test_f2_repeated_number_tells_nobody(mount: Map) -> None:
    """F2: a repeated batch sends no message, not even the doorbell's."""
    mount.pulse("a")
    listener = mount.client.beside()
    listener.subscribe(mount.names.channel("a"), mount.names.doorbell)
    mount.apply(("P", "a", b"true"), number=1)
    assert listener.messages() == []


def test_f2_lower_number_is_refused(mount: Map) -> None:
    """F2: a number below the last two is refused as stale and changes nothing."""
    for key in ("a", "b", "c", "d"):
        mount.fire(key)
    before = mount.dump()
    for number in (1, 2):
        with pytest.raises(ServerError, match=r"^STALE call"):
            mount.apply(("F", "e", b"1"), number=number)
    assert mount.dump() == before
    assert mount.fire("e").first


def test_f1_second_of_two_waits_for_the_first(mount: Map) -> None:
    """F1: a batch that was sent behind another is refused, and changes nothing, where that one was not applied."""
    mount.fire("a")
    before = mount.dump()
    with pytest.raises(ServerError, match=r"^EARLY call 3"):
        mount.raw(("F", "c", b"1"), number=3, before=2)
    assert mount.dump() == before
    mount.raw(("F", "b", b"1"), number=2, before=1)
    mount.raw(("F", "c", b"1"), number=3, before=2)
    assert [key for key, _ in mount.lines] == ["a", "b", "c"]


def test_f2_second_of_two_is_answered_again(mount: Map) -> None:
    """F2: also where the first is not remembered any more, an answer that was lost is given again."""
    mount.fire("a")
    reply = mount.raw(("F", "b", b"1"), number=2, before=1)
    mount.number = 1
    mount.client.command("HDEL", mount.names.records, mount.outcome_field)
    assert mount.raw(("F", "b", b"1"), number=2, before=1) == b"=" + reply


def test_f2_numbers_may_be_left_out(mount: Map) -> None:
    """F2: a number above the next one is applied: those between were given up unsent."""
    mount.fire("a")
    assert mount.apply(("F", "b", b"1"), number=17)[0].first
    with pytest.raises(ServerError, match=r"^STALE"):
        mount.apply(("F", "c", b"1"), number=16)


def test_f2_forgotten_number_is_applied(mount: Map) -> None:
    """F2: where the server has no record of a number, it is applied."""
    mount.fire("a")
    mount.client.command("FLUSHALL")
    assert mount.apply(("F", "a", b"1"), number=1)[0].first


def test_f2_numbers_are_per_node_and_map(client: Client, mount: Map) -> None:
    """F2: another node, or the same one on another map, numbers its calls by itself."""
    mount.apply(("F", "a", b"1"), number=9)
    assert Map(client, node="n2").apply(("F", "b", b"1"), number=1)[0].first
    assert Map(client, name="other").apply(("F", "a", b"1"), number=1)[0].first


def test_f2_outcome_has_a_life(mount: Map) -> None:
    """F2: the server forgets a node's last outcome some time after its last call, and not before."""
    mount.outcome_life = HOUR
    mount.fire("a")
    _set_due(mount, mount.outcome_field, -1)
    other = Map(mount.client, node="n2")
    other.outcome_life = HOUR
    other.fire("b")
    assert mount.outcome is not None
    assert mount.due_of_outcomes[mount.outcome_field] == mount.stored("a").time // 1000 + HOUR
    other.outcome_life = 1
    while mount.outcome_field in mount.due_of_outcomes:
        mount.client.pass_time(0.002)
        _set_due(mount, mount.outcome_field, -1)
        other.pulse("c")
    assert mount.outcome_field not in mount.client.command("HKEYS", mount.names.records)
    assert other.outcome is not None


def test_f2_repetition_writes(mount: Map) -> None:
    """F2, F4: a repeated batch writes, so that a WAIT after it has something to wait for."""
    reply = mount.raw(("F", "a", b"true"))
    changes = mount.client.changes()
    assert mount.raw(("F", "a", b"true"), number=1) == b"=" + reply
    assert mount.client.changes() > changes


def test_f2_repetition_where_nothing_can_be_written(server: Server, mount: Map) -> None:
    """F2: a repeated batch is answered as before also by a server that takes no writes."""
    reply = mount.raw(("F", "a", b"1"))
    with server.read_only():
        assert mount.raw(("F", "a", b"1"), number=1) == b"=" + reply


def test_f2_failed_batch_leaves_the_last_outcome(mount: Map) -> None:
    """F2: a batch that was refused as a whole leaves the outcome of the one before it."""
    reply = mount.raw(("F", "a", b"1"))
    mount.client.command("RENAME", mount.names.log, "aside")
    mount.client.command("SET", mount.names.log, "junk")
    with pytest.raises(ServerError):
        mount.fire("b")
    mount.client.command("RENAME", "aside", mount.names.log)
    assert mount.raw(("F", "a", b"1"), number=1) == b"=" + reply


# Retention: what `due` is for.


def _set_due(mount: Map, key: str | bytes, in_milliseconds: int) -> None:
    seconds, micro = mount.client.command("TIME")
    now = int(seconds) * 1000 + int(micro) // 1000
    mount.client.command("ZADD", mount.names.due, now + in_milliseconds, key)


def test_retention_is_counted_from_the_change(mount: Map) -> None:
    """A key that becomes pending is due after the retention, by the server's clock."""
    mount.apply(("P", "a", b"1"), ("F", "b", b"1"), ("F", "c", b"1"), ("R", "c", b""))
    due = mount.due
    assert sorted(due) == ["a", "c"]
    for key, at in due.items():
        assert at == mount.stored(key).time // 1000 + HOUR


def test_retention_is_looked_after_now_and_then(mount: Map) -> None:
    """A change with every sixteenth number looks for what is due, whether it adds to that or not."""
    mount.fire("b")
    mount.pulse("a")
    _set_due(mount, "a", -1)
    forgotten = []
    for number in range(3, 18):
        mount.fire(f"k{number}")
        if "a" not in mount.records:
            forgotten.append(number)
    assert forgotten == [16, 17]


def test_retention_forgets_pending_keys(mount: Map) -> None:
    """Records of pending keys that are due are forgotten by the next call that adds some, and nothing else is."""
    mount.apply(("P", "a", b"1"), ("F", "b", b"1"), ("R", "b", b""), ("P", "c", b"1"))
    lines = mount.lines
    for key in ("a", "b"):
        _set_due(mount, key, -1)
    outcome = mount.pulse("z")
    assert sorted(mount.records) == ["c", "z"]
    assert sorted(mount.due) == ["c", "z"]
    assert outcome.first
    assert mount.lines[:-1] == lines


def test_retention_spares_latched_keys(mount: Map) -> None:
    """A key that was latched after it became due stays; only its place in the list goes."""
    mount.apply(("P", "a", b"1"), ("F", "a", b"2"), ("P", "b", b"1"), ("X", "b", b"2"))
    for key in ("a", "b"):
        _set_due(mount, key, -1)
    mount.pulse("z")
    assert sorted(mount.records) == ["a", "b", "z"]
    assert sorted(mount.due) == ["z"]


def test_retention_counts_from_the_last_change(mount: Map) -> None:
    """A key that becomes pending again is due later, not when it was due first."""
    mount.pulse("a")
    _set_due(mount, "a", -1)
    mount.pulse("a")
    mount.pulse("z")
    assert "a" in mount.records
    assert mount.due["a"] == mount.stored("a").time // 1000 + HOUR


def test_retention_of_a_moment(mount: Map) -> None:
    """With the real clock: a pulse is forgotten once its retention is over."""
    mount.retention = 5
    mount.pulse("a")
    mount.retention = HOUR
    while "a" in mount.records:
        mount.client.pass_time(0.001)
        mount.pulse("b")
    assert sorted(mount.due) == ["b"]


def test_retention_keeps_up(mount: Map) -> None:
    """However many keys are pulsed once, their records do not pile up: a call forgets more than it adds."""
    for call in range(20):
        mount.apply(*(("P", f"{call}-{i}", b"1") for i in range(50)))
        for key in mount.due:
            _set_due(mount, key, -1)
    assert len(mount.records) <= 53
    assert sorted(mount.due) == sorted(mount.records)


def test_retention_with_junk_in_the_list(mount: Map) -> None:
    """A list of the wrong type, or with keys that have no record, costs no call its outcome."""
    mount.fire("z")
    _set_due(mount, "unknown", -1)
    assert mount.fire("a").first
    assert mount.due == {}
    mount.client.command("SET", mount.names.due, "junk")
    assert mount.fire("b").first
