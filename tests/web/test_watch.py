"""The stream of changes over HTTP, in memory: what is written, from where on, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from coord import Record
from coord.testing import Cluster
from coord.web.config import Config, Limits
from coord.web.follower import Follower
from coord.web.watching import hub_of
from web.client import ALL, Connection, Web
from web.eventsource import Event, Parser

ND = {"Accept": "application/x-ndjson"}


class Listening:
    """A stream of server-sent events, and what an EventSource makes of it."""

    def __init__(self, web: Web, target: str, last: str = "") -> None:
        self._web = web
        self.parser = Parser(last)
        self.events: list[Event] = []
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        self.connection = web.begin("GET", f"/v1/watch?{target}", headers=headers)
        self.read()

    def read(self) -> list[Event]:
        """Return the events that are new."""
        self._web.cluster.settle()
        new = self.parser.feed(stream_of(self.connection))
        self.events += new
        return new

    @property
    def last(self) -> str:
        """What it would send as Last-Event-ID."""
        self.read()
        return self.parser.last_id

    def hang_up(self) -> str:
        """Hang up; return the last id."""
        last = self.last
        self.connection.hang_up()
        return last


def stream_of(connection: Connection) -> bytes:
    """Return what a stream has written since the last look, without the head and the chunks' sizes."""
    data = connection.written
    connection.transport.clear()
    if data.startswith(b"HTTP/1.1 "):
        head, _, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head + data
        if b"Content-Length" in head:
            return data
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


def values(events: list[Event]) -> list[Any]:
    """Return the values of the changes among some events."""
    return [event.json["value"] for event in events if event.type == "message"]


@pytest.fixture
def fire(web: Web) -> Callable[..., Record]:
    """Give a function that fires, and returns the record."""

    def fire(key: str, value: Any, name: str = "m") -> Record:
        record = web.cluster.result(web.node.events(name).fire(key, value)).record
        assert record is not None
        return record

    return fire


def test_a_stream_shows_changes_as_events_without_a_name(web: Web, fire: Any) -> None:
    """Each change is a message whose id is its revision; caught-up comes before what is new."""
    fire("a", 1)
    stream = Listening(web, "map=m")
    assert stream.parser.retry == 2000
    assert [event.type for event in stream.events] == ["caught-up"]
    assert stream.events[0].json == {"revision": stream.last}
    second = fire("b", {"two": "lines\r\n"})
    (event,) = stream.read()
    assert (event.type, event.id) == ("message", str(second.revision))
    assert event.json["key"] == "b"
    assert event.json["value"] == {"two": "lines\r\n"}


def test_lines_of_json(web: Web, fire: Any) -> None:
    """NDJSON has the same as an id, an event if it has a name, and data."""
    fire("a", 1)
    connection = web.begin("GET", "/v1/watch?map=m&since=start", headers=ND)
    assert b"application/x-ndjson" in connection.written
    lines = [json.loads(line) for line in stream_of(connection).splitlines()]
    assert [line.get("event") for line in lines] == [None, "caught-up"]
    assert lines[0]["data"]["value"] == 1
    assert {line["id"] for line in lines} == {lines[0]["data"]["revision"]}


def test_a_stream_goes_on_where_it_was(web: Web, fire: Any) -> None:
    """Last-Event-ID goes before since; nothing is missing, and nothing comes twice."""
    stream = Listening(web, "map=m")
    fire("a", 1)
    last = stream.hang_up()
    fire("b", 2)
    again = Listening(web, "map=m&since=now", last)
    fire("c", 3)
    again.read()
    assert values(again.events) == [2, 3]
    assert [event.type for event in again.events] == ["message", "caught-up", "message"]


def test_a_stream_of_several_maps(web: Web, fire: Any) -> None:
    """One id says where the stream is in each map, and brings it back there."""
    stream = Listening(web, "map=m&map=n&map=%40members")
    fire("a", 1)
    fire("a", 2, "n")
    last = stream.hang_up()
    assert values(stream.events) == [1, 2]
    fire("b", 3)
    fire("b", 4, "n")
    web.cluster.result(web.node.join("hello"))
    again = Listening(web, "map=%40members&map=n&map=m", last)
    assert sorted(map(str, values(again.events))) == ["3", "4", "hello"]
    assert {event.json["map"] for event in again.events if event.type == "message"} == {"m", "n", "@members"}


def test_lost_history_is_said(web: Web, fire: Any) -> None:
    """An EventSource gets an event and goes on at the head; who can read a status gets 410."""
    head = fire("a", 1).revision
    stream = Listening(web, "map=m&since=1.1")
    lost, caught_up = stream.events
    assert (lost.type, lost.id) == ("lost", str(head))
    assert lost.json == {"map": "m", "asked": "1.1", "head": str(head)}
    assert caught_up.type == "caught-up"
    fire("b", 2)
    assert values(stream.read()) == [2]
    assert web.request("GET", "/v1/watch?map=m&since=1.1", headers=ND).status == 410
    assert web.get("/v1/watch?map=m&since=1.1&follow=false").status == 410


def test_a_stream_that_does_not_follow_ends(web: Web, fire: Any) -> None:
    """It shows the past, and is over: then the connection can be used again."""
    fire("a", 1)
    answer = web.get("/v1/watch?map=m&since=start&follow=false", Accept="application/x-ndjson")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line.get("event") for line in lines] == [None, "caught-up"]
    assert len(hub_of(web.gateway)) == 0


def test_the_past_is_what_the_server_has(web: Web, memory: Cluster, fire: Any) -> None:
    """A change that was acknowledged is in it, though the gateway has not heard of it yet."""
    web.gateway.slow = memory.node("slow")
    memory.settle()
    follow, events = Listening(web, "map=m"), memory.node("other").events("m")
    fire("a", 1)
    assert values(follow.read()) == [1]
    memory.networks["web1"].stall("to client")
    memory.result(events.fire("b", 2))
    for since, shown in (("start", [1, 2]), (follow.last, [2]), ("now", [])):
        past = web.get(f"/v1/watch?map=m&since={since}&follow=false")
        assert values(Parser().feed(past.body)) == shown, since
    memory.networks["web1"].unstall()
    assert values(follow.read()) == [2]


@pytest.mark.parametrize(
    ("target", "headers", "status", "name"),
    [
        ("", {}, 400, "invalid-parameter"),
        ("map=m&map=m", {}, 400, "invalid-parameter"),
        ("map=m&since=yesterday", {}, 400, "invalid-parameter"),
        ("map=m&map=n&since=1.1", {}, 400, "invalid-parameter"),
        ("map=m", {"Last-Event-ID": "x"}, 400, "invalid-header"),
        ("map=m&prefix=%00", {}, 400, "invalid-key"),
        ("map=m%20m", {}, 400, "invalid-name"),
        ("map=m", {"Accept": "text/html"}, 406, "not-acceptable"),
        ("&".join(f"map=m{number}" for number in range(17)), {}, 400, "invalid-parameter"),
    ],
)
def test_what_cannot_be_watched(web: Web, target: str, headers: dict[str, str], status: int, name: str) -> None:
    """Bad requests are refused before anything is written."""
    answer = web.request("GET", f"/v1/watch?{target}", headers=headers)
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (status, name)


def test_a_stream_shows_what_may_be_read(make_web: Callable[..., Web], memory: Cluster) -> None:
    """Keys are filtered by right and prefix; the id moves on over what is not shown."""
    web = make_web(Config(anonymous=("read:m/open/*", "fire:n")))
    stream = Listening(web, "map=m&prefix=open%2Fa")
    for key in ("open/a", "open/b", "shut"):
        last = memory.result(web.node.events("m").fire(key, key)).record
    assert last is not None
    assert values(stream.read()) == ["open/a"]
    memory.advance(16)
    assert stream.last == str(last.revision)
    assert stream.events[-1].json["key"] == "open/a"
    assert web.get("/v1/watch?map=n").status == 401
    assert web.get("/v1/watch?map=o").status == 401


def test_a_stream_gives_signs_of_life(web: Web, fire: Any) -> None:
    """Every 15 s a line comes, even if there is no server; NDJSON says where it is."""
    stream, lines = Listening(web, "map=m"), web.begin("GET", "/v1/watch?map=m", headers=ND)
    stream_of(lines)
    web.cluster.server.stop()
    web.cluster.advance(30)
    stream.read()
    assert stream.parser.comments == 2
    assert stream_of(lines) == b'{"id":"0.0"}\n' * 2


def test_a_stream_waits_for_the_server(web: Web, fire: Any) -> None:
    """An EventSource does not see that there is none; who can read a status gets 503 after 10 s."""
    web.cluster.server.stop()
    web.cluster.settle()
    stream = Listening(web, "map=m")
    assert stream.events == []
    answer = web.request("GET", "/v1/watch?map=m", headers=ND)
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (503, "unreachable")
    assert answer.headers["retry-after"] == "1"
    web.cluster.server.start()
    web.cluster.advance(10)
    fire("a", 1)
    assert [event.type for event in stream.read()] == ["caught-up", "message"]


def test_a_client_that_does_not_read_is_cut(web: Web, fire: Any) -> None:
    """While it does not read nothing is written; after 30 s it is cut, and its id brings it back."""
    stream = Listening(web, "map=m")
    stream.connection.transport.producer.pauseProducing()
    for number in range(3):
        fire(str(number), number)
    assert stream.read() == []
    stream.connection.transport.producer.resumeProducing()
    assert values(stream.read()) == [0, 1, 2]
    stream.connection.transport.producer.pauseProducing()
    fire("last", 3)
    web.cluster.advance(32)
    assert stream.connection.closed
    assert values(stream.read()) == []
    assert hub_of(web.gateway).counts.ends == {"slow": 1}
    assert values(Listening(web, "map=m", stream.last).events) == [3]


def test_too_many_streams_are_refused(make_web: Callable[..., Web]) -> None:
    """Beyond the limit there is a 429; an EventSource would give up at it, so it gets an event."""
    web = make_web(Config(anonymous=ALL, limits=Limits(streams_of_one=2)))
    one, two = Listening(web, "map=m"), Listening(web, "map=m")
    assert web.request("GET", "/v1/watch?map=m", headers=ND).status == 429
    refused = Listening(web, "map=m")
    assert [(event.type, event.json["status"]) for event in refused.events] == [("end", 429)]
    assert 500 <= (refused.parser.retry or 0) <= 5_000
    one.hang_up()
    Listening(web, "map=m").hang_up()
    two.hang_up()


def test_streams_end_when_the_gateway_stops(web: Web, fire: Any) -> None:
    """Each is told when to come back, at times of their own, and that it is the gateway's end."""
    streams = [Listening(web, "map=m") for _ in range(20)]
    web.close()
    for stream in streams:
        (end,) = stream.read()
        assert (end.type, end.json["status"]) == ("end", 503)
        assert 500 <= (stream.parser.retry or 0) <= 5_000
    assert len({stream.parser.retry for stream in streams}) > 10


def test_all_streams_of_a_map_are_one_watch(web: Web, fire: Any) -> None:
    """The server is asked once for a change, and no more 30 s after the last stream has gone."""
    streams = [Listening(web, "map=m") for _ in range(5)]
    doorbells = web.node._session.doorbells.callbacks
    assert [len(watchers) for watchers in doorbells.values()] == [1]
    fire("a", 1)
    assert [values(stream.read()) for stream in streams] == [[1]] * 5
    for stream in streams:
        stream.hang_up()
    web.cluster.advance(29)
    assert doorbells
    web.cluster.advance(3)
    assert not doorbells


def test_a_value_that_is_nested_too_deep_is_left_out(web: Web, fire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have written it; it ends no stream."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    stream = Listening(web, "map=m")
    with monkeypatch.context() as patched:
        patched.setattr("coord.core.records.decode", lambda _: deep)
        fire("a", 1)
    (event,) = stream.read()
    assert event.json["value_omitted"] is True
    assert "value" not in event.json
    fire("b", 2)
    assert values(stream.read()) == [2]


def test_a_fault_in_one_stream_ends_no_other(web: Web, fire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is told that the gateway has a fault."""
    streams = [Listening(web, "map=m") for _ in range(3)]
    broken = list(hub_of(web.gateway)._owners)[1]
    advance = Follower._advance

    def fail(follower: Follower, place: Any) -> bool:
        if follower is broken:
            raise ZeroDivisionError
        return advance(follower, place)

    monkeypatch.setattr(Follower, "_advance", fail)
    fire("a", 1)
    assert [[event.type for event in stream.read()] for stream in streams] == [["message"], ["end"], ["message"]]
    assert streams[1].events[-1].json["status"] == 500


def test_few_maps_are_watched_for_nobody(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that names one map after the other does not leave them all behind."""
    monkeypatch.setattr("coord.web.hub._LINGERING", 3)
    for number in range(10):
        Listening(web, f"map=m{number}").hang_up()
    assert len(web.node._session.doorbells.callbacks) == 3


def test_a_stream_that_is_over_is_forgotten(web: Web, fire: Any) -> None:
    """Also if its connection says afterwards that it does not read."""
    stream = Listening(web, "map=m")
    producer = stream.connection.transport.producer
    follower = next(iter(hub_of(web.gateway)._owners))
    stream.hang_up()
    producer.pauseProducing()
    follower.pause()
    follower.resume()
    assert follower.over
    assert not hub_of(web.gateway)._paused
    assert len(hub_of(web.gateway)) == 0
