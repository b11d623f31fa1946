"""Revisions never go back and never repeat, whatever becomes of the server or its data."""

from __future__ import annotations

import pytest

from coord.core.history import Cursor, parse_entry
from coord.core.records import Head, Revision
from coord.errors import HistoryLost
from scripts.maps import Map, follows
from scripts.servers import Client, Server, ServerError

ANOTHER = "ab" * 8


def _now(client: Client) -> int:
    seconds, micro = client.command("TIME")
    return int(seconds) * 1_000_000 + int(micro)


def _head(mount: Map, generation: int, number: int, history: str = ANOTHER, rest: str = "0 0") -> str:
    head = f"1 {generation} {number} {mount.process} {history} {rest}"
    mount.head_bytes = head.encode()
    return head


def _begins_above(mount: Map, highest: int) -> bool:
    """Whether the head stands in a generation that is less than a second above ``highest``."""
    return highest < mount.revision.generation <= highest + 1_000_000


def test_first_generation(mount: Map) -> None:
    """The first change of a map begins a generation at the server's time, after nothing."""
    before = _now(mount.client)
    mount.fire("a")
    assert before <= mount.revision.generation <= _now(mount.client)
    assert mount.entries[0].after == b"0 0"


def test_restart_begins_a_generation(server: Server, client: Client) -> None:
    """After a real restart with its data the next change begins a generation that follows the last."""
    mount = Map(client)
    mount.apply(("F", "a", b"1"), ("F", "b", b"2"))
    before = mount.revision
    server.restart()
    again = Map(server.connect())
    again.number = mount.number
    assert again.process != mount.process
    assert again.apply(("F", "a", b"3"), ("F", "c", b"4"))[0].first is False
    assert again.head is not None
    assert again.head.follows == before
    assert again.revision > before
    assert again.revision.number == before.number + 1
    assert follows(again.entries)
    assert [entry.after for entry in again.entries] == [b"0 0", b"%d %d" % before]


def test_f2_number_outlives_a_restart(server: Server, client: Client) -> None:
    """F2: a batch repeated after a restart with the data is still answered as before."""
    mount = Map(client)
    reply = mount.raw(("P", "a", b"1"))
    server.restart()
    again = Map(server.connect())
    assert again.raw(("P", "a", b"1"), number=1) == b"=" + reply
    assert again.revision == mount_revision(reply)


def mount_revision(reply: bytes) -> tuple[int, int]:
    """Return the revision of the first change that a reply tells of."""
    generation, number, _ = reply.partition(b"\n")[0].split()
    return int(generation), int(number) + 1


def test_another_history_by_its_name(mount: Map) -> None:
    """A head of another history, as on a promoted replica: the next change begins a generation."""
    _head(mount, 5, 70)
    mount.apply(("F", "a", b"1"), ("F", "b", b"1"))
    head = mount.head
    assert head is not None
    assert head.follows == (5, 70)
    assert head.history.decode() == mount.history_id
    assert head.revision.number == 72
    assert [entry.after for entry in mount.entries] == [b"5 70"]


@pytest.mark.parametrize("batch", [[], [("R", "x", b"")], [("F", "k", b"2")]])
def test_no_generation_without_a_change(mount: Map, batch: list[tuple[str, str, bytes]]) -> None:
    """A call that changes nothing leaves the head as it was, even another process's."""
    mount.fire("k")
    head = _head(mount, 5, 70)
    mount.raw(*batch)
    assert mount.head_bytes == head.encode()


def test_no_head_without_a_change(mount: Map) -> None:
    """A call that changes nothing leaves no head where there was none."""
    mount.reset("x")
    assert mount.dump() == {}


def test_clock_set_back(mount: Map) -> None:
    """A head from a clock ahead of this one is followed by a higher generation nevertheless."""
    ahead = _now(mount.client) + 3_600_000_000
    _head(mount, ahead, 3)
    mount.fire("a")
    assert _begins_above(mount, ahead)


def test_generation_above_what_the_caller_saw(mount: Map) -> None:
    """After a flush the new generation is higher than any that the caller has seen."""
    mount.fire("a")
    mount.newest_seen = Revision(_now(mount.client) + 3_600_000_000, 1)
    mount.client.command("FLUSHALL")
    assert mount.fire("a").first
    assert _begins_above(mount, mount.newest_seen.generation)


def test_a1_a_caller_that_has_seen_more_begins_a_generation(mount: Map) -> None:
    """A1: data that lack what the caller has seen go on in a generation that follows what is there."""
    mount.apply(("P", "a", b"1"), ("P", "a", b"2"))
    stands = mount.revision
    mount.newest_seen = Revision(stands.generation, stands.number + 5)
    mount.pulse("a")
    head = mount.head
    assert head is not None
    assert head.revision.generation > stands.generation
    assert head.follows == stands
    assert follows(mount.entries)


def test_a_caller_that_has_seen_what_stands_begins_nothing(mount: Map) -> None:
    """A caller that has seen the head, or less, goes on in its generation."""
    for seen in (0, 1):
        mount.fire(f"k{seen}")
        stands = mount.revision
        mount.newest_seen = Revision(stands.generation, stands.number - seen)
        mount.fire(f"l{seen}")
        assert mount.revision == (stands.generation, stands.number + 1)


def test_a4_what_a_caller_claims_is_bounded_by_the_clock(mount: Map) -> None:
    """A4: a caller that claims to have seen a generation of the far future gets one at most a day ahead."""
    mount.newest_seen = Revision(9_999_999_999_999_998, 1)
    mount.fire("a")
    assert mount.revision.generation <= _now(mount.client) + 86_401_000_000
    assert Head.parse(mount.head_bytes)


def test_a_first_replica_loses_nothing(mount: Map) -> None:
    """Another replication id under the same process, as when a first replica attaches: a generation that continues."""
    mount.apply(("F", "a", b"1"), ("F", "b", b"1"))
    before = mount.revision
    head = mount.head_bytes
    assert head is not None
    mount.head_bytes = head.replace(mount.history_id.encode(), ANOTHER.encode())
    mount.fire("c")
    assert mount.head is not None
    assert (mount.head.follows, mount.head.process.decode()) == (before, mount.process)
    assert follows(mount.entries)


@pytest.mark.parametrize("head", ["99 1 2 x y 3 4", "3 anything", "10 0"])
def test_a_later_layout_is_refused_by_name(mount: Map, head: str) -> None:
    """A head of a later layout is refused by name and nothing is changed, whatever follows its number."""
    mount.fire("k")
    mount.head_bytes = head.encode()
    before = mount.dump()
    for operation in (("F", "a", b"1"), ("R", "k", b"")):
        with pytest.raises(ServerError, match=r"^NEWER coord:\{default/mount\} was written by a newer coord"):
            mount.apply(operation)
    assert mount.dump() == before


def test_flush_begins_a_generation(mount: Map) -> None:
    """After a flush under the same process a new generation begins, after nothing."""
    mount.fire("a")
    before = mount.revision
    mount.newest_seen = before
    mount.client.command("FLUSHALL")
    mount.fire("a")
    assert mount.revision > before
    assert mount.entries[0].after == b"0 0"


def test_head_lost_alone(mount: Map) -> None:
    """Where only the head has gone, the next line claims to follow nothing: a watch sees the cut."""
    mount.apply(("F", "a", b"1"), ("F", "b", b"1"))
    mount.head_bytes = None
    assert mount.fire("c").first
    assert mount.entries[-1].after == b"0 0"
    with pytest.raises(HistoryLost):
        follows(mount.entries)


@pytest.mark.parametrize("trim", ["kept", "trimmed"])
def test_log_ahead_of_the_clock(mount: Map, trim: str) -> None:
    """A log that was written by a clock ahead, its head gone: the stream would refuse lower numbers."""
    ahead = _now(mount.client) + 3_600_000_000
    mount.client.command("XADD", mount.names.log, f"{ahead}-4", "a", "x")
    if trim == "trimmed":
        mount.client.command("XTRIM", mount.names.log, "MAXLEN", 0)
    assert mount.fire("a").first
    assert _begins_above(mount, ahead)


def test_failover_that_lost_changes(mount: Map) -> None:
    """What a promoted replica never got is not claimed: the line follows what the replica had."""
    mount.apply(("F", "a", b"1"))
    mount.apply(("F", "b", b"1"))
    generation = mount.revision.generation
    mount.client.command("XDEL", mount.names.log, f"{generation}-2")
    _head(mount, generation, 1)
    mount.fire("c")
    assert mount.entries[-1].after == b"%d 1" % generation
    assert follows(mount.entries)


def test_two_that_go_on_from_the_same_data(mount: Map) -> None:
    """Of two servers with clocks behind, the second knows nothing of what the first wrote: a watch that saw it ends."""
    ahead = _now(mount.client) + 3_600_000_000
    _head(mount, ahead, 3)
    mount.fire("a")
    lost = mount.revision
    mount.client.pass_time(0.001)
    mount.client.command("DEL", mount.names.records, mount.names.log)
    _head(mount, ahead, 3)
    mount.apply(("F", "b", b"1"), ("F", "c", b"1"))
    head, reply, _ = mount.history(f"{lost.generation}-{lost.number}")
    lines = [line for identifier, fields in reply for line in parse_entry("mount", identifier, fields, {})]
    with pytest.raises(HistoryLost):
        Cursor("mount", lost).advance(lines, Head.parse(head))


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "1 2",
        "1 1 2 ab",
        "1 1 2 ab cd 3",
        "1 x 2 ab cd 3 4",
        "1 1 2 ab cd 3 4 x",
        "1 1 2 a b 3 4 5 6",
        "0 1",
    ],
)
def test_broken_head(mount: Map, junk: str) -> None:
    """A head that is none is refused by name, and nothing is changed: the numbers would not hold."""
    mount.head_bytes = junk.encode()
    before = mount.dump()
    with pytest.raises(ServerError, match=r"^CORRUPT the head of coord:\{default/mount\} is not one of coord's"):
        mount.fire("a")
    assert mount.dump() == before


def test_an_earlier_layout_is_read(mount: Map) -> None:
    """Its records stay; the next change writes the head in the present layout."""
    mount.fire("k")
    head = mount.head_bytes
    assert head is not None
    mount.head_bytes = b"1" + head[1:]
    assert not mount.fire("k").first
    assert mount.head_bytes[:2] == b"1 "
    assert mount.reset("k").first
    assert mount.head_bytes[:2] == b"2 "
