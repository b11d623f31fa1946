"""Connections: what is refused before it is kept, deadlines by the clock, and how many there may be."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from coord.web.addresses import Address
from coord.web.config import Config, Limits, Token
from coord.web.tokens import digest_of, make_token
from web.client import ALL, Connection, Response, Web

SECRET = make_token()
CLOSED = Config(
    anonymous=(), tokens=(Token(name="ci", sha256=digest_of(SECRET), rights=("write:*",)),), behind_proxy=("10.0.0.1",)
)
FIRE = b"POST /v1/maps/m/fire?key=a HTTP/1.1\r\nHost: localhost\r\n"
BEARER = b"Authorization: Bearer " + SECRET.encode() + b"\r\n"
GET = b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n"

Make = Callable[..., Web]


def answered(connection: Connection, status: int) -> Response:
    """Return the answer, which is there, and has this status."""
    answer = connection.take()
    assert answer is not None
    assert answer.status == status, answer.body
    return answer


@pytest.mark.parametrize(
    ("head", "status", "name"),
    [
        (FIRE + b"Content-Length: 400000000\r\n\r\n", 413, "too-large"),
        (FIRE + BEARER + b"Content-Length: 1048577\r\n\r\n", 413, "too-large"),
        (FIRE + b"Content-Length: 100000\r\n\r\n", 401, "unauthorized"),
        (FIRE + b"Transfer-Encoding: chunked\r\n\r\n", 401, "unauthorized"),
        (FIRE + b"Authorization: Bearer x\r\nContent-Length: 1048576\r\n\r\n", 401, "unauthorized"),
        (FIRE.replace(b"fire", b"record") + BEARER + b"Content-Length: 100000\r\n\r\n", 405, "method"),
        (FIRE.replace(b"fire", b"x") + BEARER + b"Content-Length: 100000\r\n\r\n", 404, "not-found"),
        (FIRE.replace(b"localhost", b"evil.com") + BEARER + b"Content-Length: 100000\r\n\r\n", 421, "wrong-host"),
        (FIRE + b"Origin: http://evil.com\r\n" + BEARER + b"Content-Length: 100000\r\n\r\n", 403, "cross-origin"),
    ],
)
def test_a_body_is_refused_before_it_comes(make_web: Make, head: bytes, status: int, name: str) -> None:
    """The answer is there when the headers end; what comes then is dropped, and the connection is closed."""
    web = make_web(CLOSED)
    connection = web.connection()
    connection.send(head)
    answer = answered(connection, status)
    assert answer.json["type"].endswith(f":{name}")
    assert answer.headers["connection"] == "close"
    for _ in range(50):
        connection.send(b"x" * 65_536)
    assert connection.written == b""
    web.cluster.advance(2.1)
    assert connection.closed


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\n", b"Content-Length: 100000\r\n\r\n", b"Content-Length: 2000000\r\n\r\n",
        b"X-A\r\n\r\n", b"X-A: " + 17_000 * b"x", b"Content-Length: 5\r\n\r\nhe", b"X-A: ",
    ],
)  # fmt: skip
def test_a_refusal_of_a_head_has_no_body(make_web: Make, rest: bytes) -> None:
    """Whatever is wrong with it, and whenever that is seen: else the body would be taken for the next answer."""
    web = make_web(CLOSED)
    connection = web.connection()
    connection.send(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n" + rest)
    web.cluster.advance(31)
    head, end, body = connection.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4")
    assert b"\r\nConnection: close\r\n" in head
    assert (end, body) == (b"\r\n\r\n", b"")


def test_a_small_body_costs_no_connection(make_web: Make) -> None:
    """It is dropped, and the next request is answered on the same connection."""
    connection = make_web(CLOSED).connection()
    connection.send(FIRE + b"Content-Length: 5\r\n\r\nhello")
    answered(connection, 401)
    connection.send(GET)
    answered(connection, 200)
    assert not connection.closed


def test_nobody_is_told_to_go_on_in_vain(make_web: Make) -> None:
    """A client that asks before it sends a body is told the refusal instead."""
    connection = make_web(CLOSED).connection()
    expect = b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
    connection.send(FIRE + expect)
    assert connection.written.startswith(b"HTTP/1.1 401 ")
    connection = make_web(CLOSED, name="web2").connection()
    connection.send(FIRE + BEARER + expect)
    assert connection.written == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_body_in_chunks_is_counted(make_web: Make) -> None:
    """Of a body without a length, no more than the limit is kept."""
    web = make_web(CLOSED)
    connection = web.connection()
    connection.send(FIRE + BEARER + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    for _ in range(16):
        connection.send(chunk)
    assert connection.written == b""
    connection.send(b"1\r\nx\r\n")
    answered(connection, 413)
    for _ in range(10):
        connection.send(chunk)
    assert connection.channel.requests[0].content.tell() <= 1 << 20


def test_a_whole_body_at_the_limit_is_taken(make_web: Make) -> None:
    """A value of its own limit passes, however it is escaped."""
    web = make_web(Config(anonymous=ALL))
    body = b'"' + b"\\u0416" * 32_000 + b'"'
    assert web.post("/v1/maps/m/fire?key=a", body).status == 200
    assert web.post("/v1/maps/m/fire?key=b", b'"' + b"x" * 70_000 + b'"').json["type"].endswith(":invalid-value")
    assert web.post("/v1/maps/m/fire?key=b", b" " * (1 << 20)).status == 400


@pytest.mark.parametrize(
    ("first", "rest", "seconds", "status"),
    [
        # A header line every 2 s would renew Twisted's time-out for ever.
        (b"GET /v1/me HTTP/1.1\r\n", b"X-A: b\r\n", 10, 408),
        (b"G", b"E", 10, 408),
        (FIRE + BEARER + b"Content-Length: 100\r\n\r\n", b"x", 30, 408),
        (FIRE + BEARER + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 30, 408),
    ],
)
def test_deadlines_are_by_the_clock(make_web: Make, first: bytes, rest: bytes, seconds: int, status: int) -> None:
    """A byte now and then renews nothing."""
    web = make_web(CLOSED)
    connection = web.connection()
    connection.send(first)
    for _ in range(seconds // 2 - 1):
        web.cluster.advance(2)
        connection.send(rest)
    web.cluster.advance(1.5)
    assert connection.written == b""
    web.cluster.advance(1)
    answer = answered(connection, status)
    assert answer.json["type"].endswith(":slow-request")
    web.cluster.advance(2.1)
    assert connection.closed


@pytest.mark.parametrize("rest", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nx\r\n"])
def test_a_request_whose_body_is_refused_is_counted_once(make_web: Make, rest: bytes) -> None:
    """As what it is, and under the id of the answer; a call may be made again then, as it says."""
    web = make_web(CLOSED)
    lines: list[str] = []
    web.gateway.log = lines.append
    connection = web.connection()
    connection.send(FIRE + BEARER + rest)
    web.cluster.advance(31)
    taken = connection.take()
    assert taken is not None
    answer = taken.json
    assert answer["applied"] is False
    connection.hang_up()
    assert [answer["instance"].removeprefix("urn:uuid:") in line for line in lines] == [True]
    route = "/v1/maps/{map}/fire"
    assert web.gateway.tally.requests == {(route, "POST", answer["status"]): 1}


def test_an_idle_connection_is_closed(web: Web) -> None:
    """After an answer there are 75 s for the next request, and then as long again."""
    connection = web.connection()
    for _ in range(3):
        web.cluster.advance(70)
        connection.send(GET)
        answered(connection, 200)
    web.cluster.advance(76)
    assert connection.closed


def test_a_wait_outlives_all_deadlines(web: Web) -> None:
    """Who waits for an answer is not idle."""
    connection = web.begin("GET", "/v1/maps/m/wait?key=a&wait=290")
    web.cluster.advance(280)
    assert not connection.closed
    web.cluster.result(web.node.events("m").fire("a"))
    web.cluster.settle()
    answered(connection, 200)


def test_requests_that_come_together_are_answered_in_order(web: Web) -> None:
    """Pipelined requests wait for those before them, and have deadlines of their own."""
    connection = web.connection()
    connection.send(GET + GET.replace(b"/me", b"/nothing") + b"GET /v1/me HTTP/1.1\r\nHost: loc")
    answered(connection, 200)
    answered(connection, 404)
    connection.send(b"alhost\r\n\r\n")
    answered(connection, 200)
    connection.send(GET + b"GET /v1/me HTTP/1.1\r\nX: y\r\n")
    answered(connection, 200)
    web.cluster.advance(11)
    answered(connection, 408)


@pytest.mark.parametrize("path", [b"me", b"maps/m/record?key=a"])
def test_who_reads_nothing_is_answered_nothing_more(web: Web, path: bytes) -> None:
    """Requests that came together wait until the client has read the answer of the one before."""
    connection = web.connection()
    write = connection.transport.write

    def written_in_vain(data: bytes) -> None:
        write(data)
        connection.transport.producer.pauseProducing()

    connection.transport.write = written_in_vain
    connection.send(3 * GET.replace(b"me", path))
    for answers in (1, 2, 3):
        web.cluster.settle()
        assert connection.written.count(b"HTTP/1.1 200") == answers
        assert connection.transport.producerState == "paused"
        connection.transport.producer.resumeProducing()
    assert connection.transport.producerState == "producing"
    connection.send(GET)
    assert connection.written.count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize("status", [200, 401])
def test_a_body_and_the_next_request_come_together(make_web: Make, status: int) -> None:
    """What follows a body in the same packet is a request of its own, whatever became of the first one."""
    web = make_web(CLOSED)
    connection = web.connection()
    head = FIRE + (BEARER if status == 200 else b"") + b"Content-Length: 1\r\n\r\n1"
    connection.send(head + GET + head)
    answered(connection, status)
    answered(connection, 200)
    answered(connection, status)


def test_long_lines_are_refused_in_words(web: Web) -> None:
    """A first line or headers of more than 16 KiB get an answer, and not a closed connection."""
    long = b"y" * 9_000
    for request in (b"GET /" + 2 * long, b"GET / HTTP/1.1\r\nX: " + long + b"\r\nZ: " + long):
        connection = web.connection()
        connection.send(request + b"\r\n\r\n")
        assert answered(connection, 431).json["type"].endswith(":headers-too-large")
    connection = web.connection()
    connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 501 + b"\r\n")
    answered(connection, 400)


def test_connections_are_counted(make_web: Make) -> None:
    """One address cannot take all, except a proxy that is listed; what is closed can be opened anew."""
    web = make_web(Config(behind_proxy=("10.0.0.1",), limits=Limits(connections=6, connections_of_one=2)))

    def opens(address: str) -> bool:
        from twisted.internet.address import IPv4Address

        return web.site.buildProtocol(IPv4Address("TCP", address, 1)) is not None

    first, _ = web.connection("192.0.2.1"), web.connection("192.0.2.1")
    assert not opens("192.0.2.1")
    for _ in range(3):
        web.connection("10.0.0.1")
    first.hang_up()
    web.connection("192.0.2.1")
    web.connection("192.0.2.2")
    assert not opens("192.0.2.3")
    assert web.gateway.limits.connections.taken == 6
    web.close()
    assert web.gateway.limits.connections.taken == 0


def test_nothing_is_left_of_a_client_that_hangs_up(web: Web) -> None:
    """Its wait is cancelled, whenever it goes; the log has a line without a status."""
    lines: list[str] = []
    web.gateway.log = lines.append
    for target in ("/v1/maps/m/wait?key=a&wait=60", "/v1/watch?map=m"):
        connection = web.begin("GET", target)
        assert len(web.gateway.exchanges) == 1
        connection.hang_up()
        assert not web.gateway.exchanges
    web.cluster.advance(40)
    assert web.node.statistics().waiters == 0
    assert [" status=- " in line for line in lines] == [True, True]


def test_a_map_that_was_asked_for_is_forgotten(web: Web) -> None:
    """Any number of names of maps takes no memory, once nobody waits, listens or calls."""
    for number in range(30):
        for target in ("record?key=a", "wait?key=a&wait=0", "records", "holders?key=a"):
            web.get(f"/v1/maps/m{number}/{target}")
    web.cluster.advance(61)
    gc.collect()
    assert len(web.node._session.table.maps) == 0


def test_the_end_is_orderly(make_web: Make) -> None:
    """Waits are answered 503, streams are told, calls finish, connections are closed; then it listens no more."""
    web = make_web(Config(anonymous=ALL))
    waiting = web.begin("GET", "/v1/maps/m/wait?key=a&wait=60")
    stream = web.begin("GET", "/v1/watch?map=m", headers={"Accept": "text/event-stream"})
    idle = web.connection()
    idle.send(GET)
    answered(idle, 200)
    web.cluster.networks["web1"].stall()
    calling = web.begin("POST", "/v1/maps/m/fire?key=b")
    from twisted.internet.defer import Deferred

    stopped = Deferred.fromCoroutine(web.server.stop())
    web.cluster.settle()
    assert answered(waiting, 503).headers["connection"] == "close"
    assert calling.take() is None
    ready = web.connection()
    ready.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answered(ready, 503).json["status"] == "stopping"
    assert web.request("GET", "/v1/me").status == 503
    web.cluster.advance(1)
    assert not stopped.called
    web.cluster.networks["web1"].unstall()
    web.cluster.settle()
    assert answered(calling, 200).json["first"]
    web.cluster.result(stopped, within=3)
    assert b"retry: " in stream.written
    assert all(each.closed for each in (waiting, stream, idle, calling))


def test_the_end_has_an_end(make_web: Make) -> None:
    """A call that is not answered within the time of grace is given up, and its client told."""
    web = make_web(Config(anonymous=ALL, limits=Limits(grace=5)))
    web.cluster.networks["web1"].stall()
    calling = web.begin("POST", "/v1/maps/m/fire?key=b")
    from twisted.internet.defer import Deferred

    stopped = Deferred.fromCoroutine(web.server.stop())
    web.cluster.advance(4.9)
    assert calling.take() is None
    web.cluster.advance(0.2)
    assert stopped.called
    assert answered(calling, 503).json["applied"] == "unknown"
    web.cluster.networks["web1"].unstall()


def test_who_listens_on_a_unix_socket_has_no_address(make_web: Make) -> None:
    """Such connections count together, and get no limit of one."""
    web = make_web(Config(limits=Limits(connections_of_one=1)), listener=Address(path="/run/x"))
    for _ in range(3):
        connection = web.connection("")
        connection.send(GET)
        answered(connection, 200)
