"""The gateway answers: in memory, and as a process."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.request import urlopen

import pytest

from web.client import Web
from web.conftest import Process


def test_a_record_is_shown(web: Web) -> None:
    """What was fired is answered as JSON; a pending key is no error."""
    web.cluster.result(web.node.events("mount").fire("/mnt/a", 7))
    answer = web.get("/v1/maps/mount/record?key=%2Fmnt%2Fa")
    assert answer.status == 200
    assert answer.json["value"] == 7
    assert answer.json["kind"] == "fired"
    assert web.get("/v1/maps/mount/record?key=b").json["latched"] is False


def test_what_is_wrong_is_a_problem(web: Web) -> None:
    """Each refusal is a problem with a type, a status and the request's id."""
    for target, status, name in (
        ("/v1/nothing", 404, "not-found"),
        ("/v1/maps/mount/record", 400, "invalid-parameter"),
        ("/v1/maps/mount/record?key=a&key=b", 400, "invalid-parameter"),
        ("/v1/maps/mount/record?key=a&kez=b", 400, "invalid-parameter"),
        ("/v1/maps/mount/record?key=%ff", 400, "invalid-parameter"),
        ("/v1/maps/m%20t/record?key=a", 400, "invalid-name"),
        ("/v1/maps/mount/record?key=%00", 400, "invalid-key"),
    ):
        answer = web.get(target)
        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (status, name), target
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["instance"] == f"urn:uuid:{answer.headers['request-id']}"
    answer = web.post("/v1/maps/mount/record?key=a")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_the_process_serves(gateway_process: Process) -> None:
    """`coord web` says where it listens, and serves there."""
    with urlopen(f"{gateway_process.url}/v1/maps/mount/record?key=a") as answer:
        assert json.load(answer)["latched"] is False


def test_the_metrics_tell_of_requests(make_web: Callable[..., Web]) -> None:
    """Routes by template, how long they took, connections; waits and streams have no durations."""
    web = make_web()
    lines: list[str] = []
    web.gateway.log = lines.append
    web.cluster.networks["web1"].stall()
    slow = web.begin("GET", "/v1/maps/mount/record?key=a")
    web.cluster.advance(3)
    web.cluster.networks["web1"].unstall()
    web.cluster.settle()
    answer = slow.take()
    assert answer is not None
    assert "route=/v1/maps/{map}/record map=mount status=200 ms=3000.0 " in lines[0]
    assert web.get("/v1/maps/mount/wait?key=a&wait=1").status == 408
    assert web.get("/s3cret").status == 404
    text = web.get("/metrics").body.decode()
    for line in (
        'coord_web_requests_total{method="GET",route="/v1/maps/{map}/record",status="200"} 1.0',
        'coord_web_request_duration_seconds_bucket{le="2.5",route="/v1/maps/{map}/record"} 0.0',
        'coord_web_request_duration_seconds_bucket{le="5.0",route="/v1/maps/{map}/record"} 1.0',
        'coord_web_request_duration_seconds_sum{route="/v1/maps/{map}/record"} 3.0',
        'coord_web_requests_total{method="GET",route="-",status="404"} 1.0',
        "coord_web_waits 0.0",
        "coord_web_streams 0.0",
    ):
        assert f"\n{line}\n" in text
    assert 'duration_seconds_sum{route="/v1/maps/{map}/wait"}' not in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("1.0.0", "1.0.0"), ("0.0.1", None), ("2.0", "2.0"), ("", "1.0.0"), ("x", None), ("1.x", None),
        ('"1.0.0"', None), ("1.0.0.\x0b", None), ("1.0.0.\x7f", None), ("1.0.0.\xe9", None), ("1.0.0.1 a", None),
        ("9" * 5_000, None),
    ],
)  # fmt: skip
def test_a_client_does_not_write_the_type_of_the_metrics(web: Web, version: str, shown: str | None) -> None:
    """A version that is none is not shown, nor a fault: the metrics come in the format that is always taken."""
    answer = web.get("/metrics", Accept=f"application/openmetrics-text; version={version}, */*")
    assert answer.status == 200
    kind = f"application/openmetrics-text; version={shown}; " if shown else "text/plain; version=0.0.4; "
    assert answer.headers["content-type"].startswith(kind)


def test_a_stream_says_what_it_is(web: Web) -> None:
    """Its type, and the headers of every answer."""
    stream = web.begin("GET", "/v1/watch?map=m", headers={"Accept": "text/event-stream"})
    head = stream.written.partition(b"\r\n\r\n")[0]
    assert b"\r\nContent-Type: text/event-stream" in head
    assert b"\r\nCache-Control: no-store" in head


def test_a_head_of_a_stream_says_no_length(web: Web) -> None:
    """As the stream says none; the connection is good for the next request."""
    connection = web.begin("HEAD", "/v1/watch?map=m", headers={"Accept": "application/x-ndjson"})
    head, end, body = connection.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: application/x-ndjson" in head
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert (end, body) == (b"\r\n\r\n", b"")
    connection.transport.clear()
    answer = web.begin("GET", "/healthz", on=connection).take()
    assert answer is not None
    assert answer.status == 200
    assert not connection.closed


def test_the_map_of_members_is_read_as_any_other(web: Web) -> None:
    """Under its own name, which no map of a user can have; it is written by joining only."""
    assert web.get("/v1/maps/@members/record?key=web1").status == 200
    assert web.get("/v1/maps/@other/record?key=web1").json["type"].endswith(":invalid-name")
    assert web.post("/v1/maps/@members/fire?key=web1").status in (401, 403)
