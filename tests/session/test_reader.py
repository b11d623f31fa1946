"""The reads of a session, with what the server answers written by the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.records import EXPIRED, FIRED, Revision, StoredRecord, Tail
from coord.core.subscriptions import READING, Wake
from coord.errors import CorruptRecord
from coord.link.replies import LinkLost, ServerError
from coord.session.commands import Look
from coord.session.reader import Reader
from support.packing import pack

_HEAD = b"1 5 %d process history 0 0"


class _Asked:
    """One command, and the Deferred of its answer."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = [list(each) if isinstance(each, Iterator | map) else each for each in arguments]
        self.answer: Deferred[Any] = Deferred()


class _Script:
    """Stands for the commands, and for all that a reader tells; the test gives the answers."""

    def __init__(self) -> None:
        self.asked: list[_Asked] = []
        self.told: list[tuple[Any, ...]] = []
        self.table = KeyTable(10)
        self.reader = Reader(self, self.table, self, self, self, self._postpone, self._abandon)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any) -> Deferred[Any]:
            self.asked.append(_Asked(name, arguments))
            return self.asked[-1].answer

        if name in ("read", "look", "heads"):
            return ask
        raise AttributeError(name)

    # What the reader tells.

    def deliver(self, wake: Wake) -> None:
        """Take a wake."""
        self.told.append(("deliver", *wake.waiters))

    def fail(self, channel: bytes, ticket: int, error: Any) -> None:
        """Take a key that cannot be read."""
        self.told.append(("fail", channel.rpartition(b":")[2], type(error("k"))))
        self.table.failed(channel, ticket)

    def refuse(self, channel: bytes, ticket: int, message: str) -> None:
        """Take a key that the server refuses to read."""
        self.told.append(("refuse", channel.rpartition(b":")[2], message))

    def ring(self, channel: bytes) -> None:
        """Take it that watchers have to read."""
        self.told.append(("ring", channel))

    def head_read(self, map_state: MapState, head: bytes | None) -> None:
        """Take a head for the watchers."""
        self.told.append(("head", map_state.names.name, head))

    def end(self, map_state: MapState, letter: int, key: bytes, revision: bytes) -> None:
        """Take an event to end."""
        self.told.append(("end", chr(letter), map_state.names.name, key, revision))

    def _postpone(self, message: str) -> None:
        self.told.append(("postpone", message))

    def _abandon(self, failure: Failure) -> None:
        self.told.append(("abandon", type(failure.value)))

    # What the test does.

    def map(self, name: str) -> MapState:
        """Make a map."""
        state = self.table.maps[name] = MapState(MapNames("default", name, 0))
        return state

    def subscribe(self, state: MapState, *keys: str) -> None:
        """Wait for keys, and have their subscriptions confirmed; a waiter has the name of its key."""
        for key in keys:
            self.table.wait(state, state.names.channel(key), key)
        for channel in self.table.take_subscribes(100):
            self.table.subscribed(channel)

    def take(self) -> list[tuple[Any, ...]]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told


def _fired(number: int, ttl: int | None = None) -> StoredRecord:
    return StoredRecord(FIRED, Revision(5, number), 0, "n", None if ttl is None else Tail(ttl=ttl), b"1")


@pytest.fixture
def script() -> _Script:
    """Give a reader whose surroundings are the test."""
    return _Script()


def test_one_command_reads_all_keys_of_a_map(script: _Script) -> None:
    """What is latched wakes, in the order of the reply; the others are armed."""
    first, second = script.map("a"), script.map("b")
    script.subscribe(first, "x", "y")
    script.subscribe(second, "z")
    assert script.reader.send()
    assert sorted((asked.name, sorted(asked.arguments[1])) for asked in script.asked) == [
        ("read", [b"x", b"y"]),
        ("read", [b"z"]),
    ]
    assert script.reader.reading == 3
    assert not script.reader.send()
    for asked in script.asked:
        records = {b"x": pack(_fired(1)), b"y": None, b"z": pack(_fired(2))}
        asked.answer.callback([_HEAD % 2, *(records[key] for key in asked.arguments[1])])
    assert sorted(script.take()) == [("deliver", "x"), ("deliver", "z")]
    assert script.reader.reading == 0
    assert script.table.is_armed(first.names.channel("y"))


def test_an_event_with_a_ttl_is_read_again_with_its_end(script: _Script) -> None:
    """L11: one that stands wakes; one that is over does not, and is ended; what changed meanwhile counts as it is."""
    state = script.map("a")
    script.subscribe(state, "stands", "over", "changed", "gone", "plain")
    script.reader.send()
    (read,) = script.asked
    keys = read.arguments[1]
    records = {key: pack(_fired(number, ttl=9)) for number, key in enumerate(keys, 1)}
    records[b"plain"] = pack(_fired(9))
    read.answer.callback([_HEAD % 9, *records.values()])
    assert script.take() == [("deliver", "plain")]
    _, look = script.asked
    assert look.name == "look"
    timed = look.arguments[1]
    assert sorted(timed) == [b"changed", b"gone", b"over", b"stands"]
    assert script.reader.reading == 4
    now = {**records, b"changed": pack(_fired(10)), b"gone": None}
    left = {b"stands": 7, b"over": 0, b"changed": 0, b"gone": 0}
    look.answer.callback(Look(_HEAD % 10, [now[key] for key in timed], [left[key] for key in timed]))
    over = StoredRecord.parse(records[b"over"])
    assert sorted(script.take()) == [
        ("deliver", "changed"),
        ("deliver", "stands"),
        ("end", "E", "a", b"over", b"%d,%d" % over.revision),
    ]
    entry: Any = script.table.subscriptions[state.names.channel("over")]
    assert (entry.stored.kind, list(entry.waiters)) == (EXPIRED, ["over"])
    assert script.reader.reading == 0


def test_a_record_that_is_none_fails_its_key_alone(script: _Script) -> None:
    """And a head that is none fails all of the command."""
    state = script.map("a")
    script.subscribe(state, "bad", "good")
    script.reader.send()
    (read,) = script.asked
    read.answer.callback([_HEAD % 2, *(b"junk" if key == b"bad" else pack(_fired(1)) for key in read.arguments[1])])
    assert sorted(script.take()) == [("deliver", "good"), ("fail", b"bad", CorruptRecord)]
    script.table.take_unsubscribes(9)
    script.subscribe(script.map("b"), "other")
    script.reader.send()
    script.asked[-1].answer.callback([b"junk", None])
    assert script.take() == [("fail", b"other", CorruptRecord)]


@pytest.mark.parametrize("name", ["read", "look"])
def test_a_refused_read(script: _Script, name: str) -> None:
    """If the server has no time, it is put off; otherwise each key is refused; a lost link is the link's matter."""
    state = script.map("a")
    for error, told in (
        (ServerError("BUSY now"), [("postpone", "BUSY now")]),
        (ServerError("NOPERM no"), [("refuse", b"k", "NOPERM no")]),
        (LinkLost(), []),
    ):
        script.table.link_lost()
        script.reader.link_made()
        script.subscribe(state, "k")
        script.reader.send()
        if name == "look":
            script.asked[-1].answer.callback([_HEAD % 1, pack(_fired(1, ttl=5))])
        assert script.asked[-1].name == name
        script.asked[-1].answer.errback(error)
        assert script.take() == told
        assert script.table.subscriptions[state.names.channel("k")].phase is READING


def test_an_error_of_our_own_abandons_the_link(script: _Script) -> None:
    """An answer that nobody expects is no reason to hang."""
    script.subscribe(script.map("a"), "k")
    script.reader.send()
    script.asked[0].answer.callback([_HEAD % 1])
    assert script.take() == [("abandon", ValueError)]


def test_a_heartbeat_reads_the_heads_of_the_maps_in_use(script: _Script) -> None:
    """In one command; if that is refused, each map is read for itself, and the watchers read."""
    used = [script.map(name) for name in "ab"]
    script.map("unused")
    for state in used:
        script.subscribe(state, "k")
    script.reader.heartbeat()
    (heads,) = script.asked
    assert heads.name == "heads"
    assert [names.name for names in heads.arguments[0]] == ["a", "b"]
    heads.answer.callback([_HEAD % 3, None])
    assert script.take() == [("head", "a", _HEAD % 3), ("head", "b", None)]
    assert used[0].head == Revision(5, 3)
    script.reader.heartbeat()
    script.asked[-1].answer.errback(ServerError("NOPERM no"))
    assert script.take() == [("ring", state.names.doorbell) for state in used]
    assert [(asked.name, asked.arguments[1]) for asked in script.asked[-2:]] == [("read", []), ("read", [])]
