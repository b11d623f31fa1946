"""Waits over HTTP, on a clock: how they end, and what each answer says of the next one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coord.testing import Cluster
from coord.web.config import Config, Limits
from web.client import ALL, Web


def _waiters(web: Web) -> tuple[int, int]:
    now = web.node.statistics()
    return now.waiters, now.subscriptions


def test_a_client_that_hangs_up_leaves_nothing(web: Web) -> None:
    """Neither a waiter nor a subscription; and it counts no more among those that wait."""
    connection = web.begin("GET", "/v1/maps/m/wait?key=a&key=b")
    assert _waiters(web) == (2, 2)
    connection.hang_up()
    web.cluster.settle()
    assert _waiters(web) == (0, 0)


def test_a_wait_ends_in_time(web: Web) -> None:
    """After 25 s, if the client does not say otherwise; the problem says when to come again, and from where on."""
    web.post("/v1/maps/m/pulse?key=other")
    connection = web.begin("GET", "/v1/maps/m/wait?key=k")
    web.cluster.advance(24.9)
    assert connection.take() is None
    web.cluster.advance(0.2)
    told = connection.take()
    assert told is not None
    assert (told.status, told.headers["retry-after"]) == (408, "1")
    assert told.json["revision"].endswith(".1")
    assert _waiters(web) == (0, 0)


def test_a_wake_ends_it(web: Web) -> None:
    """At once, by whichever node."""
    connection = web.begin("GET", "/v1/maps/m/wait?key=k")
    web.cluster.result(web.cluster.node("other").events("m").fire("k", {"a": 1}))
    told = connection.take()
    assert told is not None
    (event,) = told.json["events"]
    assert (told.status, event["value"], event["node"]) == (200, {"a": 1}, "other")
    assert told.json["revision"] == event["revision"]


def test_a_stop_ends_it(web: Web) -> None:
    """With a problem that passes, and says from where on to wait elsewhere."""
    connection = web.begin("GET", "/v1/maps/m/wait?key=k&since=5.7")
    web.close()
    told = connection.take()
    assert told is not None
    assert (told.status, told.json["type"].rpartition(":")[2]) == (503, "stopping")
    assert told.json["revision"] == "0.0"
    assert told.headers["retry-after"] == "1"


@pytest.mark.parametrize("since", ["", "&since=5.7"])
def test_a_lost_link_is_no_time_out(web: Web, since: str) -> None:
    """Nobody knows then whether the event came; the next wait goes on where this one began."""
    web.cluster.server.stop()
    web.cluster.advance(5)
    connection = web.begin("GET", f"/v1/maps/m/wait?key=k&wait=3{since}")
    web.cluster.advance(3)
    told = connection.take()
    assert told is not None
    assert (told.status, told.json["type"].rpartition(":")[2]) == (503, "unreachable")
    assert told.json.get("revision") == (since.partition("=")[2] or None)
    assert web.get("/v1/maps/m/wait?key=k&wait=0").status == 503
    web.cluster.server.start()
    web.cluster.advance(10)


def test_one_principal_waits_for_so_many_keys(make_web: Callable[..., Web]) -> None:
    """And all together for so many; those who go make room."""
    config = Config(anonymous=ALL, limits=Limits(waits=5, waits_of_one=3))
    web = make_web(config)
    first = web.begin("GET", "/v1/maps/m/wait?key=a&key=b")
    refused = web.get("/v1/maps/m/wait?key=c&key=d")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    first.hang_up()
    assert web.get("/v1/maps/m/wait?key=c&key=d&wait=0").status == 408


def test_a_failure_says_where_to_go_on(web: Web) -> None:
    """As each answer does."""
    web.post("/v1/maps/m/fail?key=k", "no disk")
    told = web.get("/v1/maps/m/wait?key=k&since=0.1")
    assert (told.status, told.json["reason"], told.json["key"]) == (424, "no disk", "k")
    assert told.json["revision"].endswith(".1")
    assert "retry-after" not in told.headers


def test_a_corrupt_record(web: Web) -> None:
    """A key that cannot be read is no time-out."""
    web.cluster.result(web.node.execute("HSET", "coord:{default/m}", "k", "rubbish"))
    told = web.get("/v1/maps/m/wait?key=k")
    assert (told.status, told.json["type"].rpartition(":")[2]) == (502, "corrupt-record")
    assert web.get("/v1/maps/m/records").json["corrupt"] == ["k"]


def test_keys_that_may_not_be_read(make_web: Callable[..., Web]) -> None:
    """Each key counts, in the query and in the body."""
    web = make_web(Config(anonymous=("read:m/a*",)))
    assert web.get("/v1/maps/m/wait?key=a1&wait=0").status == 408
    assert web.get("/v1/maps/m/wait?key=a1&key=b&wait=0").status == 401
    assert web.post("/v1/maps/m/wait?wait=0", {"keys": ["a1"]}).status == 408
    assert web.post("/v1/maps/m/wait?wait=0", {"keys": ["a1", "b"]}).status == 401
    assert web.post("/v1/maps/m/subscribers", {"keys": ["a1", "b"]}).status == 401


def test_a_lower_limit(make_web: Callable[..., Web]) -> None:
    """Of the gateway's settings."""
    web = make_web(Config(anonymous=ALL, limits=Limits(wait=10)))
    told = web.get("/v1/maps/m/wait?key=k&wait=11")
    assert (told.status, told.json["parameter"]) == (400, "wait")


def test_what_is_waited_for(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """The keys that nobody has fired, with how many nodes; the server is asked once in 5 s."""
    web = make_web()
    other = memory.node("other").events("m")
    waits = [other["never"], other["fired"]]
    polling = web.begin("GET", "/v1/maps/m/wait?key=never")
    memory.result(other.fire("fired"))
    memory.result(other.fail("x", "no"))
    memory.result(other.reset("x"))
    waits.append(other["x"])
    memory.settle()
    told = web.get("/v1/maps/m/waiting").json
    assert told["waiting"] == [
        {"key": "never", "subscribers": 2, "kind": None},
        {"key": "x", "subscribers": 1, "kind": "reset"},
    ]
    assert web.get("/v1/maps/m/waiting?prefix=x&limit=1").json["waiting"] == told["waiting"][1:]
    more = web.get("/v1/maps/m/waiting?limit=1").json
    assert (len(more["waiting"]), more["more"]) == (1, True)
    late = other["late"]
    memory.settle()
    assert web.get("/v1/maps/m/waiting").json == told
    memory.advance(5)
    assert [each["key"] for each in web.get("/v1/maps/m/waiting").json["waiting"]] == ["late", "never", "x"]
    polling.hang_up()
    for wait in (*waits, late):
        wait.addErrback(lambda _: None)
        wait.cancel()


def test_what_is_waited_for_needs_the_whole_map(make_web: Callable[..., Web]) -> None:
    """As the answer is shared."""
    assert make_web(Config(anonymous=("read:m/a*",))).get("/v1/maps/m/waiting").status == 401
