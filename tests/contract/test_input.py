"""docs/semantics.md, "Values, names, limits": bad input raises an error that names it and the rule; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

import coord
from coord import (
    EventMap,
    InvalidInput,
    InvalidKey,
    InvalidName,
    InvalidTime,
    InvalidURL,
    InvalidValue,
    Revision,
)
from coord.testing import MemoryEndpoint
from support.cluster import Cluster, Seen
from support.waiting import until

BAD_KEYS: list[Any] = [
    "",
    "x" * 513,
    "é" * 257,
    "a\x00b",
    "line\nbreak",
    "tab\t",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\x9f",
    "\ud800",
    b"bytes",
    Path("/mnt/abc"),
    None,
    5,
    True,
    ("a",),
]

WITH_A_KEY: list[Callable[[EventMap, Any], object]] = [
    lambda events, key: events[key],
    lambda events, key: events.wait(key),
    lambda events, key: events.wait(key, timeout=1),
    lambda events, key: events.wait_all(["good", key]),
    lambda events, key: events.wait_any(["good", key]),
    lambda events, key: events.fire(key),
    lambda events, key: events.fail(key, "no"),
    lambda events, key: events.pulse(key),
    lambda events, key: events.reset(key),
    lambda events, key: events.count(key),
    lambda events, key: events.reaches(key, 1),
    lambda events, key: events.record(key),
    lambda events, key: events.subscribers(["good", key]),
]


def _nested(depth: int, make: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = make(value)
    return value


_LOOP: list[Any] = []
_LOOP.append(_LOOP)

BAD_VALUES: list[tuple[Any, str]] = [
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    ([1, {"a": float("-inf")}], "inf"),
    ("\ud800", "surrogate"),
    ({"\udfff": 1}, "surrogate"),
    ("x" * 65_535, "65537"),
    ("é" * 32_768, "65538"),
    (_nested(101, lambda value: [value]), "100 deep"),
    (_nested(101, lambda value: {"a": value}), "100 deep"),
    (_LOOP, "100 deep"),
    (b"bytes", "bytes"),
    ({1, 2}, "set"),
    (object(), "object"),
    (Path("/mnt"), "Path"),
    ({1: 2}, "names in JSON are strings"),
    ([1, (2, 3j)], "complex"),
    (Deferred(), "Deferred"),
]

WITH_A_VALUE: list[Callable[[EventMap, Any], object]] = [
    lambda events, value: events.fire("k", value),
    lambda events, value: events.fail("k", value),
    lambda events, value: events.pulse("k", value),
]

BAD_TIMES: list[Any] = [-1, -0.001, float("nan"), float("inf"), "5", True, 1e30, b"5", [5], 5j]

WITH_A_TIME: list[Callable[[EventMap, Any], object]] = [
    lambda events, time: events.wait("k", timeout=time),
    lambda events, time: events.wait_all(["k"], timeout=time),
    lambda events, time: events.wait_any(["k"], timeout=time),
    lambda events, time: events.fire("k", timeout=time),
    lambda events, time: events.fail("k", "no", timeout=time),
    lambda events, time: events.pulse("k", timeout=time),
    lambda events, time: events.count("k", timeout=time),
    lambda events, time: events.reaches("k", 1, timeout=time),
    lambda events, time: events.reset("k", timeout=time),
]


async def _untouched(cluster: Cluster, events: EventMap) -> None:
    """Check that the map holds nothing, here and on the server."""
    now = cluster.of(events).statistics()
    assert (now.waiters, now.subscriptions, now.pending_calls) == (0, 0, 0)
    assert await cluster.server.command("KEYS", "*") == []


@pytest.mark.servers("memory")
async def test_input_keys(cluster: Cluster) -> None:
    """A bad key raises InvalidKey at the call, naming it; wait_all leaves no wait for its good ones."""
    events = await cluster.map()
    for key in BAD_KEYS:
        for call in WITH_A_KEY:
            with pytest.raises(InvalidKey, match="a key") as caught:
                call(events, key)
            text = str(caught.value)
            assert len(text) < 250
            assert text.isprintable(), text
    await _untouched(cluster, events)


async def test_input_keys_at_the_bounds(cluster: Cluster) -> None:
    """The longest keys, and strange ones that are allowed, work."""
    events = await cluster.map()
    for key in ("x", "x" * 512, "é" * 256, " ", "\u2028", "\u202e", "\xa0", "\U0010ffff", "coord:0:{default/m}"):
        waiting = events[key]
        await events.fire(key, key)
        assert await waiting == key
        record = await events.record(key)
        assert record is not None
        assert (record.key, record.value) == (key, key)


@pytest.mark.servers("memory")
async def test_input_values(cluster: Cluster) -> None:
    """A value that breaks a rule raises InvalidValue at the call, saying which."""
    events = await cluster.map()
    for value, said in BAD_VALUES:
        for call in WITH_A_VALUE:
            with pytest.raises(InvalidValue, match="value") as caught:
                call(events, value)
            assert said in str(caught.value)
            assert len(str(caught.value)) < 400
    await _untouched(cluster, events)


@pytest.mark.servers("memory")
async def test_input_times(cluster: Cluster) -> None:
    """Negative and absurd times raise InvalidTime at the call, naming them."""
    events = await cluster.map()
    for time in BAD_TIMES:
        for call in WITH_A_TIME:
            with pytest.raises(InvalidTime, match="seconds"):
                call(events, time)
        with pytest.raises(InvalidTime):
            cluster.of(events).connected(timeout=time)
    with pytest.raises(InvalidTime, match="600"):
        events.fire("k", timeout=601)
    await _untouched(cluster, events)


@pytest.mark.servers("memory")
async def test_input_revisions(cluster: Cluster) -> None:
    """A reset's revision is one, or its text."""
    events = await cluster.map()
    revision: Any
    for revision in ("", "x", "1", "1.", "-1.2", "1.2.3", 5, (1, 2), b"1.2", 1.2, Revision(-1, 2)):
        with pytest.raises(InvalidInput, match="revision"):
            events.reset("k", revision)
        with pytest.raises(InvalidInput, match="revision"):
            events.watch(since=revision)
    await _untouched(cluster, events)


@pytest.mark.servers("memory")
async def test_input_lists_of_keys(cluster: Cluster) -> None:
    """One string is no list of keys; neither is what cannot be iterated."""
    events = await cluster.map()
    with pytest.raises(InvalidKey, match="abc"):
        events.wait_all("abc")
    with pytest.raises(InvalidKey, match="abc"):
        events.wait_any("abc")
    with pytest.raises(InvalidKey, match="abc"):
        events.subscribers("abc")
    keys: Any
    for keys in (None, 5):
        calls: list[Any] = [events.wait_all, events.wait_any, events.subscribers]
        for call in calls:
            with pytest.raises(TypeError):
                call(keys)
            with pytest.raises(InvalidKey):
                call([keys])
    await _untouched(cluster, events)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "{a}", "é", "x" * 129, "a\n", None, 5, b"m", [], {}])
def test_input_names(name: Any) -> None:
    """Namespaces, maps and nodes have plain names; each error says which it was."""
    clock: Any = __import__("twisted.internet.task", fromlist=["Clock"]).Clock()
    endpoint: Any = MemoryEndpoint(None, clock)  # type: ignore[arg-type]
    if name is not None:
        with pytest.raises(InvalidName, match="node"):
            coord.connect(endpoint, node=name, reactor=clock)
    with pytest.raises(InvalidName, match="namespace"):
        coord.connect(endpoint, namespace=name, reactor=clock)
    node = coord.Coordinator(endpoint, namespace="n", node="n", reactor=clock)
    with pytest.raises(InvalidName, match="map"):
        node.events(name)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "scheme"),
        ("localhost", "scheme"),
        ("http://localhost", "scheme"),
        ("redis:///0", "host"),
        ("redis://localhost:0", "port"),
        ("redis://localhost:65536", "port"),
        ("redis://localhost:http", "port"),
        ("redis://localhost:-1", "port"),
        ("redis://localhost/zero", "database"),
        ("redis://localhost/-1", "database"),
        ("redis://localhost/1/2", "database"),
        ("redis://localhost/99999999999", "database"),
        ("redis://localhost?db=1", "db"),
        ("redis://localhost#x", "#"),
        ("redis://[::1", "understood"),
        ("unix://relative/path", "path"),
        ("unix://", "path"),
        ("unix:///" + "x" * 107, "107"),
        ("unix:///tmp/s?db=x", "database"),
        (b"redis://localhost", "bytes"),
        (None, "NoneType"),
        (6379, "int"),
        (Path("/tmp/s"), "Path"),
    ],
)
def test_input_urls(url: Any, said: str) -> None:
    """An address that cannot be understood raises InvalidURL before anything is sent, naming the rule."""
    with pytest.raises(InvalidURL) as caught:
        coord.connect(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@localhost:0",
        "redis://:s3cret@localhost/zero",
        "http://:s3cret@localhost",
        "redis://:s3cret@[::1",
        "s3cret",
        "redis://:s3cret#x@localhost",
        "redis://:s3cret@localhost:70000",
        "unix://:s3cret@/" + "x" * 120,
    ],
)
def test_input_urls_never_show_a_password(url: str) -> None:
    """No error repeats what may be a password."""
    with pytest.raises(InvalidURL) as caught:
        coord.connect(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"heartbeat": 0}, InvalidTime, "heartbeat"),
        ({"heartbeat": -5}, InvalidTime, "heartbeat"),
        ({"heartbeat": "5"}, InvalidTime, "heartbeat"),
        ({"heartbeat": float("nan")}, InvalidTime, "heartbeat"),
        ({"heartbeat": 1e9}, InvalidTime, "heartbeat"),
        ({"retention": 0}, InvalidTime, "retention"),
        ({"timeout": -1}, InvalidTime, "timeout"),
        ({"timeout": 1e4}, InvalidTime, "timeout"),
        ({"cache_size": 0}, InvalidInput, "cache_size"),
        ({"cache_size": 1.5}, InvalidInput, "cache_size"),
        ({"history": -1}, InvalidInput, "history"),
        ({"history": True}, InvalidInput, "history"),
        ({"database": -1}, InvalidURL, "database"),
        ({"database": "1"}, InvalidURL, "database"),
        ({"database": True}, InvalidURL, "database"),
    ],
)
def test_input_options(options: dict[str, Any], error: type[Exception], said: str) -> None:
    """Bad options of connect() raise, naming the option."""
    with pytest.raises(error, match=said):
        coord.connect("redis://127.0.0.1:1", **options)


async def test_input_nothing_else_is_disturbed(cluster: Cluster) -> None:
    """Bad input among good calls of one turn costs only itself."""
    events = await cluster.map()
    seen = Seen(events["k"], events.fire("k", 1))
    for call in (lambda: events.fire("k\n"), lambda: events.fire("k", object()), lambda: events.wait("k", timeout=-1)):
        with pytest.raises(InvalidInput):
            call()
    seen.watch(events.pulse("p", 2))
    await until(lambda: seen.count == 3)
    assert await events["k"] == 1
    assert seen.errors == []


BAD_NUMBERS: list[Any] = [0, -1, 1.0, True, False, "1", b"1", [1], float("nan"), 10**5000, -(10**5000)]


@pytest.mark.servers("memory")
@pytest.mark.parametrize(
    ("most", "call"),
    [
        (10**9, lambda events, n: events.count("k", n)),
        (10**15, lambda events, n: events.count("k", goal=n)),
        (10**15, lambda events, n: events.reaches("k", n)),
    ],
)
async def test_input_numbers_of_counters(cluster: Cluster, most: int, call: Callable[[EventMap, Any], Any]) -> None:
    """A bad number raises InvalidInput at the call, with the bounds; nothing is sent."""
    events = await cluster.map()
    for number in [*BAD_NUMBERS, most + 1, *([None] if most == 10**9 else [])]:
        with pytest.raises(InvalidInput, match=f"a whole number from 1 to {most}, not") as caught:
            call(events, number)
        assert len(str(caught.value)) < 200
    await _untouched(cluster, events)


@pytest.mark.servers("memory")
async def test_input_names_that_count_once(cluster: Cluster) -> None:
    """A name has the rules of a key, and its error says that it is one."""
    events = await cluster.map()
    for name in BAD_KEYS:
        if name is not None:
            with pytest.raises(InvalidKey, match=r"^who .*: a name "):
                events.count("k", who=name)
    await _untouched(cluster, events)
