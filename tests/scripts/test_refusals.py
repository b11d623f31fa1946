"""On an error neither the record, nor the line, nor the message stays; and nothing else is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from coord.core.records import StoredRecord
from scripts.maps import Map, Operation, follows
from scripts.servers import Client, Server, ServerError, Word
from support.packing import pack

WRITES: list[Operation] = [("F", "k", b"1"), ("X", "k", b"1"), ("P", "k", b"1")]


class Spy:
    """Listens to a map's keys a, b and k and to its doorbell."""

    def __init__(self, mount: Map) -> None:
        self._client = mount.client.beside()
        self._doorbell = mount.names.doorbell
        self._client.subscribe(self._doorbell, *map(mount.names.channel, ("a", "b", "k")))

    def changes(self) -> list[str]:
        """Return the keys whose changes were told since the last look."""
        heard = (channel for channel, _ in self._client.messages())
        return [channel.rpartition(b":")[2].decode() for channel in heard if channel != self._doorbell]


@pytest.fixture
def spy(mount: Map) -> Spy:
    """Give a listener."""
    return Spy(mount)


def _user(server: Server, mount: Map, *rules: Word) -> Map:
    """Return the same map in the hands of a user with these rules; all keys and commands else."""
    admin = mount.client
    admin.command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "+@all", "~*", *rules)
    limited = server.connect()
    limited.command("AUTH", "limited", "secret")
    other = Map(admin, node="limited")
    other.client = limited
    return other


@pytest.fixture
def without_channel_a(server: Server, mount: Map) -> Map:
    """Give the map to a user who may publish on k, b and the doorbell, but not on a."""
    bell = mount.names.doorbell.decode()
    return _user(server, mount, "resetchannels", f"&{bell}", f"&{bell}:k", f"&{bell}:b")


def _refusal(mount: Map, operation: Operation) -> str:
    """Return what the server says against one operation, or against the call."""
    try:
        return mount.apply(operation)[0].error or ""
    except ServerError as error:
        return str(error)


def _but_the_head(mount: Map) -> dict[bytes, bytes]:
    """Return what Redis holds; the head may tell of numbers that were spent."""
    return mount.dump(with_head=False)


def _line_keys(mount: Map) -> list[str]:
    return [key for key, _ in mount.lines]


# No permission for a key's channel.


@pytest.mark.parametrize("letter", ["F", "X", "P"])
def test_forbidden_channel_undoes_one_operation(mount: Map, without_channel_a: Map, spy: Spy, letter: str) -> None:
    """The key whose channel is forbidden has an error and no trace; the others of the batch are applied."""
    outcomes = without_channel_a.apply(("F", "k", b"1"), (letter, "a", b"2"), ("P", "b", b"3"))
    assert [outcome.first for outcome in outcomes] == [True, False, True]
    assert outcomes[1].error is not None
    assert outcomes[1].error.startswith("NOPERM ")
    assert outcomes[1].error.endswith("(coord:0:{default/mount}:a)")
    assert sorted(mount.records) == ["b", "k"]
    assert spy.changes() == ["k", "b"]
    assert _line_keys(mount) == ["k", "b"]
    assert [StoredRecord.parse(line).revision.number for _, line in mount.lines] == [1, 3]
    assert follows(mount.entries)
    assert mount.revision.number == 3
    for outcome, key in ((outcomes[0], "k"), (outcomes[2], "b")):
        assert outcome.stored is not None
        assert pack(outcome.stored) == mount.records[key]


@pytest.mark.parametrize("standing", [("F", "a", b"1"), ("P", "a", b"1")])
@pytest.mark.parametrize("letter", ["F", "P", "R"])
def test_forbidden_channel_restores_what_stood(
    mount: Map, without_channel_a: Map, letter: str, standing: Operation
) -> None:
    """A change that is undone leaves the record that stood, byte for byte."""
    mount.apply(standing)
    before = mount.records, mount.lines
    outcome = without_channel_a.apply((letter, "a", b"" if letter == "R" else b"2"))[0]
    assert not outcome.first
    assert (mount.records, mount.lines) == before


@pytest.mark.parametrize("standing", [[], [("F", "a", b"1")], [("P", "a", b"1")]])
def test_forbidden_channel_refuses_all_that_builds_on_it(
    mount: Map, without_channel_a: Map, spy: Spy, standing: list[Operation]
) -> None:
    """Calls of one batch that stand on an undone change have its error; those beside them are applied."""
    mount.apply(*standing)
    before, lines = mount.records, len(mount.lines)
    spy.changes()
    on_a: list[Operation] = [("P", "a", b"2"), ("F", "a", b"3"), ("X", "a", b"4"), ("R", "a", b""), ("F", "a", b"5")]
    outcomes = without_channel_a.apply(("F", "k", b"1"), *on_a, ("F", "b", b"1"), ("F", "k", b"2"))
    assert [outcome.error is not None for outcome in outcomes] == [False, *[True] * 5, False, False]
    assert [outcome.first for outcome in outcomes] == [True, *[False] * 5, True, False]
    assert {key: record for key, record in mount.records.items() if key == "a"} == before
    assert spy.changes() == ["k", "b"]
    assert _line_keys(mount)[lines:] == ["k", "b"]
    assert follows(mount.entries)
    assert set(mount.due) == {key for letter, key, _ in standing if letter == "P"}
    for outcome, key in ((outcomes[0], "k"), (outcomes[6], "b"), (outcomes[7], "k")):
        assert outcome.stored is not None
        assert pack(outcome.stored) == mount.records[key]


def test_undone_number_is_followed_in_a_later_call(mount: Map, without_channel_a: Map) -> None:
    """A number spent by an earlier call leaves no false gap, and the head stays at the newest line."""
    mount.fire("k")
    generation = mount.revision.generation
    without_channel_a.apply(("F", "a", b"1"), ("P", "a", b"1"))
    assert mount.revision == (generation, 1)
    without_channel_a.apply(("P", "a", b"1"))
    assert mount.revision == (generation, 1)
    assert mount.head_bytes is not None
    assert mount.head_bytes.split()[7:] == [b"4"]
    outcomes = mount.apply(("F", "b", b"1"), ("F", "a", b"1"))
    assert [o.stored and o.stored.revision for o in outcomes] == [(generation, 5), (generation, 6)]
    assert [entry.after for entry in mount.entries] == [b"0 0", b"%d 1" % generation]
    assert mount.records["b"] == mount.lines[1][1]
    assert len(mount.head_bytes.split()) == 7


def test_undone_number_is_followed_in_the_same_batch(mount: Map, without_channel_a: Map) -> None:
    """Where the first change of a batch is undone, the next one of the batch follows the line before the batch."""
    mount.fire("k")
    generation = mount.revision.generation
    without_channel_a.apply(("F", "a", b"1"), ("F", "b", b"1"))
    assert [entry.after for entry in mount.entries] == [b"0 0", b"%d 1" % generation]
    assert mount.revision == (generation, 3)
    mount.fire("c")
    assert follows(mount.entries)


def test_undone_first_change_begins_no_generation(mount: Map, without_channel_a: Map) -> None:
    """Where the only change of what would be a generation is undone, none has begun."""
    without_channel_a.apply(("F", "a", b"1"))
    assert mount.head is None
    mount.fire("k")
    head = f"1 5 70 ab {'ab' * 8} 0 0".encode()
    mount.head_bytes = head
    without_channel_a.apply(("F", "a", b"1"))
    assert mount.head_bytes == head
    assert mount.fire("b").first
    assert mount.entries[-1].after == b"5 70"


def test_first_line_after_an_undone_one(mount: Map, without_channel_a: Map) -> None:
    """Where the first change of a generation is undone, its second line says what the generation follows."""
    mount.head_bytes = f"1 5 70 ab {'ab' * 8} 0 0".encode()
    without_channel_a.apply(("F", "a", b"1"), ("F", "k", b"1"))
    assert [(entry.after, len(entry.lines)) for entry in mount.entries] == [(b"5 70", 1)]
    assert mount.revision.number == 72
    mount.fire("b")
    assert follows(mount.entries)


def test_f2_undone_batch_is_repeated(mount: Map, without_channel_a: Map) -> None:
    """F2: also a batch with an undone operation is answered as before."""
    batch: list[Operation] = [("F", "a", b"1"), ("F", "k", b"1")]
    reply = without_channel_a.raw(*batch)
    before = mount.dump()
    assert without_channel_a.raw(*batch, number=1) == b"=" + reply
    assert mount.dump() == before


# What forbids a whole call.


def test_forbidden_doorbell(server: Server, mount: Map, spy: Spy) -> None:
    """Without permission for the doorbell nothing is applied and nothing is left, not even a head."""
    limited = _user(server, mount, "resetchannels", f"&{mount.names.doorbell.decode()}:*")
    with pytest.raises(ServerError, match=r"^NOPERM .*\(coord:0:\{default/mount\}\)"):
        limited.fire("a")
    assert mount.dump() == {}
    assert spy.changes() == []


@pytest.mark.parametrize("command", ["hset", "xadd", "zadd"])
def test_forbidden_command(server: Server, mount: Map, spy: Spy, command: str) -> None:
    """A user who lacks one of the commands gets an error, and no change leaves a trace."""
    limited = _user(server, mount, "allchannels", f"-{command}")
    assert _refusal(limited, ("P", "a", b"1")).startswith("NOPERM ")
    assert mount.records == {}
    assert mount.lines == []
    assert spy.changes() == []
    assert mount.fire("b").first
    assert follows(mount.entries)


def test_forbidden_undo_raises_nothing(server: Server, mount: Map, spy: Spy) -> None:
    """Even a user who may not undo gets an outcome for every operation, and no message is sent."""
    bell = mount.names.doorbell.decode()
    limited = _user(server, mount, "resetchannels", f"&{bell}", f"&{bell}:b", "-zrem", "-xdel", "-hdel")
    outcomes = limited.apply(("P", "a", b"1"), ("F", "b", b"1"))
    assert outcomes[0].error is not None
    assert outcomes[1].first
    assert spy.changes() == ["b"]


def test_forbidden_info(server: Server, mount: Map) -> None:
    """Without INFO nobody can tell whether the data are this server's: nothing is applied."""
    limited = _user(server, mount, "allchannels", "-info")
    with pytest.raises(ServerError, match=r"^NOPERM "):
        limited.fire("a")
    assert mount.dump() == {}


def _condition(server: Server, name: str) -> AbstractContextManager[None]:
    conditions: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "OOM": server.out_of_memory,
        "READONLY": server.read_only,
    }
    return conditions[name]()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("refusal", ["OOM", "READONLY"])
def test_server_that_refuses_writes(server: Server, mount: Map, spy: Spy, refusal: str, known: bool) -> None:
    """Out of memory, or a replica: refused in the server's words, and nothing is left of it."""
    if known:
        mount.apply(("F", "a", b"1"), ("P", "b", b"1"))
        spy.changes()
    before = mount.dump()
    with _condition(server, refusal):
        for operation in (*WRITES, ("R", "a", b"")):
            with pytest.raises(ServerError, match=f"^{refusal}"):
                mount.apply(operation)
    assert mount.dump() == before
    assert spy.changes() == []
    assert mount.fire("k").first


def test_refused_call_may_be_repeated(server: Server, mount: Map) -> None:
    """A call that was refused as a whole is applied when it is repeated under its number."""
    with server.out_of_memory(), pytest.raises(ServerError):
        mount.fire("a")
    assert mount.apply(("F", "a", b"1"), number=mount.number)[0].first


# Junk under our names.

NAMES = ["records", "log", "due"]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_type(mount: Map, spy: Spy, name: str, known: bool) -> None:
    """A name of the wrong type is an error that tells the name; no trace is left of the call."""
    redis_name = getattr(mount.names, name)
    if known:
        mount.apply(("F", "k", b"1"), ("P", "b", b"1"))
        spy.changes()
        mount.client.command("DEL", redis_name)
    mount.client.command("LPUSH", redis_name, "junk")
    before = _but_the_head(mount)
    words = _refusal(mount, ("P", "a", b"1"))
    assert words.startswith("WRONGTYPE")
    assert redis_name.decode() in words
    after = _but_the_head(mount)
    # An emptied stream may stay: it keeps the numbers that were spent.
    assert {key: value for key, value in after.items() if value != repr(b"(b'stream', [])").encode()} == before
    assert spy.changes() == []
    mount.client.command("DEL", redis_name)
    assert mount.pulse("a").first
    assert spy.changes() == ["a"]


@pytest.mark.parametrize("junk", ["", "junk", "\n", "x\ny", "7"])
def test_broken_call_number(mount: Map, junk: str) -> None:
    """A call number that is none counts as forgotten."""
    mount.outcome = junk
    assert mount.fire("a").first


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "fired",
        '["fired"',
        '["fired",[1,2],3,"n1"]',
        '["Fired",[1,2],3,"n1"]\n1',
        '["fired",[1,x],3,"n1"]\n1',
        '["other",[1,2],3,"n"]\n1',
    ],
)
def test_broken_record(mount: Map, client: Client, spy: Spy, junk: str) -> None:
    """A record that is none is an error to its own callers, hurts no other key, and a reset repairs it."""
    client.command("HSET", mount.names.records, "a", junk)
    outcomes = mount.apply(("F", "a", b"1"), ("X", "a", b"1"), ("P", "a", b"1"), ("R", "a", b"1,2"), ("F", "b", b"1"))
    errors = [outcome.error or "" for outcome in outcomes]
    assert [error.startswith("CORRUPT") for error in errors] == [True] * 4 + [False]
    assert outcomes[4].first
    assert mount.records["a"] == junk.encode()
    assert spy.changes() == ["b"]
    repaired = mount.reset("a")
    assert repaired.first
    assert repaired.stored is not None
    assert (repaired.stored.wake_kind, repaired.stored.wake_revision, repaired.stored.data) == (None, (0, 0), b"")
    assert spy.changes() == ["a"]
    assert mount.fire("a").first


def test_broken_log(mount: Map, client: Client, spy: Spy) -> None:
    """A log whose last id is beyond all numbers takes no line: no record and no message either."""
    client.command("XADD", mount.names.log, "18446744073709551615-1", "foreign", "1")
    before = mount.dump()
    assert _refusal(mount, ("F", "a", b"1")).endswith("(coord:{default/mount}:log)")
    assert mount.dump() == before
    assert spy.changes() == []


def test_foreign_line_ahead_in_this_generation(mount: Map, client: Client, spy: Spy) -> None:
    """A foreign entry above our number refuses ours, and all is as it was. Numbers beyond it are taken."""
    mount.fire("a")
    client.command("XADD", mount.names.log, f"{mount.revision.generation}-4", "foreign", "1")
    before = _but_the_head(mount)
    spy.changes()
    for operation in (("R", "a", b""), ("P", "b", b"1"), ("P", "b", b"1")):
        assert "equal or smaller" in _refusal(mount, operation)
    assert _but_the_head(mount) == before
    assert spy.changes() == []
    assert mount.pulse("b").first
    assert mount.revision.number == 5
