"""Arbitrary arguments for the scripts, over arbitrary data, on real servers: never a half of a change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coord.core.names import HEAD, MapNames
from coord.link.scripts import APPLY, HISTORY, Script
from failover.processes import binary
from scripts.maps import is_key
from scripts.servers import Client, RealServer, ServerError, Word
from security.fuzz import counted, fuzzing

_NAMES = MapNames("default", "m", 0)
_CALL = b"\0call:incarnation:0"
_KEYS = _NAMES.keys
_CHANNELS = ("a", "b")


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run one server for the module."""
    program = shutil.which("redis-server") if request.param == "redis" else binary()
    if program is None:
        pytest.skip(f"no {request.param} on this machine")
    server = RealServer(request.param, Path(program), tmp_path_factory.mktemp("fuzz"))
    yield server
    server.hang_up()
    server.stop()


@pytest.fixture(scope="module")
def client(server: RealServer) -> Client:
    """Give a connection that sends."""
    return server.connect()


@pytest.fixture(scope="module")
def subscriber(server: RealServer) -> Client:
    """Give a connection that hears what is published."""
    connected = server.connect()
    connected.subscribe(_NAMES.doorbell, *(_NAMES.channel(key) for key in _CHANNELS))
    return connected


_JUNK = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "1.5",
        "1e3",
        "1e400",
        "nan",
        "inf",
        "0x10",
        " 1",
        "9" * 30,
        "abc",
        "\xff\0",
        "fired",
        "a b",
        "\0head",
        "\n",
        "%d",
    ]
)
_WRITE = st.tuples(
    st.sampled_from("FXP"),
    st.sampled_from(["a", "b"]) | _JUNK.filter(bool),
    st.sampled_from(["true", '"x"', "1", "x" * 5_000, "not json"]) | _JUNK.filter(bool),
)
_RESET = st.tuples(st.just("R"), st.sampled_from(["a", "b"]), st.sampled_from(["", "5,1", "1,1"]))
_COUNT = st.tuples(
    st.just("C"), st.sampled_from(["a", "b"]), st.sampled_from(["1,0,", "2,3,x", "1,9,", "7,0,y"]) | _JUNK
)
_ANY = st.tuples(_JUNK, _JUNK, _JUNK)
_OPERATION = st.sampled_from([_WRITE, _WRITE, _WRITE, _RESET, _RESET, _COUNT, _COUNT, _ANY]).flatmap(lambda one: one)


@st.composite
def _arguments(draw: st.DrawFn, process: str) -> list[Word]:
    """Return a batch of calls, right or with a few of its words replaced, left out or doubled."""
    settings: list[Word] = [
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0, 0, 0, 0, 1, 2])),
        draw(st.sampled_from([process, "f" * 40])),
        0,
        "incarnation",
        "node",
        _NAMES.doorbell.decode(),
        1_000,
        3_600_000,
        60_000,
        4_096,
    ]
    _spoil(draw, settings)
    operations = draw(st.lists(_OPERATION, max_size=4))
    words: list[Word] = [" ".join(map(str, settings)), "".join(str(letter) for letter, _, _ in operations)]
    words += [key for _, key, _ in operations] + [data for _, _, data in operations]
    _spoil(draw, words)
    return words


def _spoil(draw: st.DrawFn, words: list[Word]) -> None:
    """Replace, leave out or double a few words, or none."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(words) - 1))
        replacement = draw(st.lists(_JUNK, max_size=2))
        words[at : at + 1] = replacement


# What may stand in the map's keys: nothing, what coord wrote, or what anybody did.
_STATES: tuple[tuple[Word, ...], ...] = (
    ("HSET", _NAMES.records, "a", '["fired",[5,1],1763820000000001,"node"]\ntrue'),
    ("HSET", _NAMES.records, "a", '["reset",[5,1],1763820000000001,"node"]\n'),
    ("HSET", _NAMES.records, "b", '["pulsed",[5,2],1763820000000001,"node"]\n1'),
    ("HSET", _NAMES.records, "b", '["counted",[5,2],1763820000000001,"node",{"count":1}]\n1'),
    ("HSET", _NAMES.records, "b", '["fired",[5,2],1763820000000001,"node",{"count":2,"goal":2}]\n2'),
    ("ZADD", _NAMES.entries, "0", "b\0who\0x"),
    ("SET", _NAMES.entries, "junk"),
    ("HSET", _NAMES.records, "b", "junk"),
    ("SET", _NAMES.records, "junk"),
    ("HSET", _NAMES.records, HEAD, "5 9 abc 0 0"),
    ("HSET", _NAMES.records, HEAD, "5 9 abc 0 0 12"),
    ("HSET", _NAMES.records, HEAD, "junk"),
    ("LPUSH", _NAMES.records, "junk"),
    ("XADD", _NAMES.log, "5-9", "a", "b"),
    ("XADD", _NAMES.log, "18446744073709551615-18446744073709551615", "key", "a"),
    ("SET", _NAMES.log, "junk"),
    ("ZADD", _NAMES.due, "1", "a"),
    ("ZADD", _NAMES.due, "1", "b"),
    ("SET", _NAMES.due, "junk"),
    ("ZADD", _NAMES.due, "1", _CALL),
    ("HSET", _NAMES.records, _CALL, "2\nanswered"),
    ("HSET", _NAMES.records, _CALL, "junk"),
)


def _snapshot(client: Client) -> dict[str, Any]:
    """Return the records by key and the lines of the history, as far as these are a hash and a stream."""
    kinds = [client.command("TYPE", key) for key in (_NAMES.records, _NAMES.log)]
    flat = client.command("HGETALL", _NAMES.records) if kinds[0] == b"hash" else []
    lines = client.command("XRANGE", _NAMES.log, "-", "+") if kinds[1] == b"stream" else []
    records = {key: record for key, record in zip(flat[::2], flat[1::2], strict=True) if is_key(key)}
    due = client.command("ZRANGE", _NAMES.due, 0, -1) if client.command("TYPE", _NAMES.due) == b"zset" else []
    # A reminder of a key without a record is for nobody.
    return {"records": records, "lines": lines, "due": [member for member in due if member in records]}


def _run(client: Client, script: Script, keys: tuple[bytes, ...], words: list[Word]) -> Any:
    encoded = [word.encode("latin-1") if isinstance(word, str) else word for word in words]
    return client.command("EVAL", script.text, len(keys), *keys, *encoded)


@given(st.data())
@fuzzing
def test_apply(client: Client, subscriber: Client, data: st.DataObject) -> None:
    """An error leaves records and history as they were; else each changed record has its line and its message."""
    client.command("FLUSHALL")
    for state in data.draw(st.lists(st.sampled_from(_STATES), max_size=4)):
        with suppress(ServerError):
            client.command(*state)
    subscriber.messages()
    before = _snapshot(client)
    words = data.draw(_arguments(client.process()))
    with counted("calls of apply.lua"):
        try:
            reply = _run(client, APPLY, _KEYS, words)
        except ServerError as error:
            reply = error
        after = _snapshot(client)
        heard = [(channel, payload) for channel, payload in subscriber.messages() if channel != _NAMES.doorbell]
        if isinstance(reply, ServerError):
            assert after == before, reply
            assert heard == [], reply
            return
    with counted("of them applied"):
        _check_records(before, after)
        if _NAMES.doorbell.decode() in str(words[0]).split(" ")[6:7]:
            _check_messages(before, after, heard)


def _made(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the key and text of each line that is new."""
    old = {identifier for identifier, _ in before["lines"]}
    return [
        (key, line)
        for identifier, fields in after["lines"]
        if identifier not in old
        for key, line in zip(fields[::2], fields[1::2], strict=True)
        if key
    ]


def _check_records(before: dict[str, Any], after: dict[str, Any]) -> None:
    last = dict(_made(before, after))
    for key in {*before["records"], *after["records"]}:
        was, stands = before["records"].get(key), after["records"].get(key)
        if stands is None:
            # Forgotten after the retention: only what is pending is.
            assert was[:3] in (b'["p', b'["r') or key in last
        elif stands != was:
            # A line leaves out what is large.
            assert stands.startswith(last[key])


def _check_messages(before: dict[str, Any], after: dict[str, Any], heard: list[tuple[bytes, bytes]]) -> None:
    channels = {key.encode(): _NAMES.channel(key) for key in _CHANNELS}
    lines = [(channels[key], line) for key, line in _made(before, after) if key in channels]
    assert [channel for channel, _ in heard] == [channel for channel, _ in lines]
    assert all(payload.startswith(line) for (_, payload), (_, line) in zip(heard, lines, strict=True))


@given(st.data())
@fuzzing
def test_the_reader_changes_nothing(client: Client, data: st.DataObject) -> None:
    """Whatever ``history.lua`` is asked, it answers or refuses, and all stays as it is."""
    client.command("FLUSHALL")
    for state in data.draw(st.lists(st.sampled_from(_STATES), max_size=4)):
        with suppress(ServerError):
            client.command(*state)
    before = _snapshot(client)
    words: list[Word] = list(data.draw(st.lists(_JUNK | st.sampled_from(["a", "-", "+", "5-1", "10"]), max_size=4)))
    with counted("calls of history.lua"), suppress(ServerError):
        _run(client, HISTORY, _KEYS[:2], words)
    assert _snapshot(client) == before
