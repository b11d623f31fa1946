"""Who is let in, and what for: tokens, cookies, hosts and origins against a gateway in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from coord.web.addresses import Address
from coord.web.config import Config, Limits, Token
from coord.web.tokens import digest_of, make_token
from web.client import NOW, Web

READER, DEPLOYER, SHORT = make_token(), make_token(), make_token()

TOKENS = (
    Token(name="reader", sha256=digest_of(READER), rights=("read:mount", "read:deploy/build-*")),
    Token(name="deployer", sha256=digest_of(DEPLOYER), rights=("fire:deploy/build-*", "metrics")),
)
CONFIG = Config(tokens=TOKENS, anonymous=(), cors=("https://app.example.com",), hosts=("coord.example.com",))

Make = Callable[..., Web]


@pytest.fixture
def closed(make_web: Make) -> Web:
    """Give a gateway where nobody may do anything without a token."""
    return make_web(CONFIG)


def bearer(token: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "target", "status", "reader", "deployer"),
    [
        ("GET", "/v1/maps/mount/record?key=a", 401, 200, 404),
        ("GET", "/v1/maps/deploy/record?key=build-1", 401, 200, 403),
        ("GET", "/v1/maps/deploy/record?key=other", 401, 403, 403),
        ("GET", "/v1/maps/secret/record?key=a", 401, 404, 404),
        ("POST", "/v1/maps/mount/fire?key=a", 401, 403, 404),
        ("POST", "/v1/maps/deploy/fire?key=build-1", 401, 403, 200),
        ("POST", "/v1/maps/deploy/fire?key=other", 401, 403, 403),
        ("POST", "/v1/maps/deploy/pulse?key=build-1", 401, 403, 403),
        ("POST", "/v1/maps/deploy/reset?key=build-1", 401, 403, 403),
        ("POST", "/v1/maps/deploy/reset?key=build-1&evict=true", 401, 403, 403),
        ("POST", "/v1/maps/deploy/count?key=build-1&who=a", 401, 403, 403),
        ("GET", "/v1/maps/deploy/records", 401, 200, 403),
        ("GET", "/v1/maps/deploy/subscribers?key=other", 401, 403, 403),
        ("GET", "/v1/maps/deploy/wait?key=build-1&key=other&wait=0", 401, 403, 403),
        ("GET", "/v1/watch?map=mount&follow=false", 401, 200, 404),
        ("GET", "/v1/watch?map=deploy&follow=false", 401, 200, 403),
        ("GET", "/v1/maps", 401, 200, 200),
        ("GET", "/v1/status", 401, 200, 200),
        ("GET", "/v1/me", 200, 200, 200),
        ("GET", "/v1/nothing", 404, 404, 404),
        ("GET", "/metrics", 401, 403, 200),
        ("GET", "/healthz", 200, 200, 200),
        ("GET", "/readyz", 200, 200, 200),
    ],
)
def test_rights(closed: Web, method: str, target: str, status: int, reader: int, deployer: int) -> None:
    """Each token may do what its rights say; without one there is 401, and a map without any right is not there."""
    for headers, expected in (({}, status), (bearer(READER), reader), (bearer(DEPLOYER), deployer)):
        answer = closed.request(method, target, headers=headers)
        assert answer.status == expected, (headers, answer.body)
        if expected == 401:
            assert answer.headers["www-authenticate"] == "Bearer"


def test_an_answer_shows_no_value_to_who_may_not_read(closed: Web) -> None:
    """A token that may only fire cannot read what stands by firing it."""
    closed.cluster.result(closed.node.events("deploy").fire("build-1", "the secret"))
    for headers in ({}, {"If-None-Match": "*"}):
        answer = closed.request("POST", "/v1/maps/deploy/fire?key=build-1", headers=bearer(DEPLOYER) | headers)
        assert b"the secret" not in answer.body
        assert b'"web1"' not in answer.body
        assert b"revision" in answer.body
    assert b"the secret" in closed.request(
        "GET", "/v1/maps/deploy/record?key=build-1", headers=bearer(READER)
    ).body  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {READER}"}, 200),
        ({"Authorization": f"bearer {READER}"}, 200),
        ({"Authorization": f"Bearer {READER[:-1]}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"Basic {READER}"}, 401),
        ({"Authorization": READER}, 401),
        ({"Cookie": "coord-80=COOKIE"}, 200),
        ({"Cookie": "a=b; coord-80=COOKIE; c=d"}, 200),
        ({"Cookie": "coord-80=stale; coord-80=COOKIE"}, 200),
        ({"Cookie": "coord-81=COOKIE"}, 401),
        ({"Cookie": "__Host-coord-80=COOKIE"}, 401),
        ({"Cookie": "coord-80=COOKIEx"}, 401),
        ({"Cookie": "coord-80="}, 401),
        # What is said by Authorization counts, also if it is wrong.
        ({"Cookie": "coord-80=COOKIE", "Authorization": "Bearer wrong"}, 401),
        # The cookie does not count for a page of another origin, though that is in cors.
        ({"Cookie": "coord-80=COOKIE", "Origin": "https://app.example.com"}, 401),
        ({"Origin": "https://app.example.com", **bearer(READER)}, 200),
    ],
)
def test_tokens_and_cookies(closed: Web, headers: dict[str, str], status: int) -> None:
    """A token counts, and a cookie of this gateway's own port; whatever else is shown is nobody's."""
    login = closed.post("/v1/session", {"token": READER})
    cookie = login.headers["set-cookie"].partition(";")[0].partition("=")[2]
    sent = {name: value.replace("COOKIE", cookie) for name, value in headers.items()}
    answer = closed.request("GET", "/v1/maps/mount/record?key=a", headers=sent)
    assert answer.status == status


SAFE_FETCH = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:8181"}, 200),
        ({"Host": "coord.example.com"}, 200),
        ({"Host": "evil.example.com"}, 421),
        ({"Host": "evil.example.com", **SAFE_FETCH}, 421),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.com"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize(("method", "target"), [
    ("GET", "/v1/maps/m/record?key=a"), ("GET", "/v1/watch?map=m&follow=false"), ("POST", "/v1/maps/m/fire?key=a"),
    ("GET", "/v1/maps/m/wait?key=b&wait=0"),
])  # fmt: skip
def test_hosts_and_origins(make_web: Make, method: str, target: str, headers: dict[str, str], status: int) -> None:
    """A page that is not the gateway's own cannot use a browser's way to it, by no method."""
    web = make_web(Config(anonymous=("read:*", "write:*"), cors=CONFIG.cors, hosts=CONFIG.hosts))
    if status == 200 and "/wait" in target:
        status = 408
    assert web.request(method, target, headers=headers).status == status


@pytest.mark.parametrize("path", ["/%761/maps/m/fire", "/v%31/maps/m/fire", "/%76%31/maps/m/%66ire"])
def test_an_escaped_path_is_let_in_by_the_same_rules(make_web: Make, path: str) -> None:
    """A page of another origin fires nothing by a path of which a part is escaped; nor does who has no rights."""
    web = make_web(Config(anonymous=("read:*", "write:*")))
    assert web.post(f"{path}?key=a", Sec_Fetch_Site="cross-site").status == 403
    assert web.post(f"{path}?key=a", Origin="https://evil.example.com").status == 403
    assert web.get("/v1/maps/m/record?key=a").json["kind"] is None
    assert web.post(f"{path}?key=a", Sec_Fetch_Site="same-origin").status == 200
    assert make_web(CONFIG, name="web2").get("/%761/status").json["detail"] == "send Authorization: Bearer TOKEN"


def test_a_foreign_page_cannot_log_in(closed: Web) -> None:
    """Logging a browser in as somebody else is refused as everything is."""
    answer = closed.post("/v1/session", {"token": READER}, Origin="https://evil.example.com")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v1/me HTTP/1.1\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example.com/v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET evil HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /v1/me\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(closed: Web, request_: bytes) -> None:
    """Exactly one Host, a path and no other form of it, one length of the body; each refusal is a problem."""
    connection = closed.connection()
    connection.send(request_)
    answer = connection.take()
    assert answer is not None
    assert answer.status == 400
    assert answer.json["type"].endswith(":invalid-request")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_each_answer_has_the_headers(closed: Web) -> None:
    """A refusal, an answer and a stream can be kept by no cache, used by no other page, and taken for nothing else."""
    for target in ("/v1/maps/mount/record?key=a", "/v1/nothing", "/v1/watch?map=mount&follow=false", "/healthz"):
        for headers in ({}, bearer(READER)):
            answer = closed.request("GET", target, headers=headers)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["vary"] == "Origin"


def test_cors(closed: Web) -> None:
    """A page of an origin in cors may read answers, without credentials; OPTIONS asks for no token."""
    app = {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    asked = closed.request("OPTIONS", "/v1/maps/m/fire?key=a", headers=app)
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "Idempotency-Key" in asked.headers["access-control-allow-headers"]
    answer = closed.request("GET", "/v1/maps/mount/record?key=a", headers=app | bearer(READER))
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = closed.request("GET", "/v1/maps/mount/record?key=a", headers=app)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example.com"
    evil = {"Origin": "https://evil.example.com"}
    assert "access-control-allow-origin" not in closed.request("OPTIONS", "/v1/me", headers=evil).headers


@pytest.mark.parametrize(("length", "status"), [(5, 401), (100_000, 401), (2_000_000, 413)])
def test_a_page_may_read_why_its_body_is_refused(closed: Web, length: int, status: int) -> None:
    """Also if that is said before the body comes."""
    connection = closed.connection()
    head = f"POST /v1/maps/m/fire?key=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    connection.send(f"{head}Origin: https://app.example.com\r\n\r\nhello".encode())
    answer = connection.take()
    assert answer is not None
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["vary"] == "Origin"


def test_a_file_that_is_kept_is_kept_for_one_origin(closed: Web) -> None:
    """A cache may give it to another page only if that has the same origin, and takes the same coding."""
    answer = closed.get("/", Origin="https://app.example.com")
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["vary"] == "Origin, Accept-Encoding"
    assert closed.get("/").headers["vary"] == "Origin, Accept-Encoding"


def test_the_cookie_says_what_browsers_need(make_web: Make) -> None:
    """No script sees it, no other site sends it; by https its name keeps it to this host."""
    web = make_web(Config(tokens=TOKENS, behind_proxy=("10.0.0.1",)))
    answer = web.post("/v1/session", {"token": READER}, Host="localhost:8181")
    name, _, words = answer.headers["set-cookie"].partition("=")
    assert (answer.status, name) == (204, "coord-8181")
    assert words.partition("; ")[2] == "Max-Age=43200; Path=/; HttpOnly; SameSite=Strict"
    https = {"Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    answer = web.request("POST", "/v1/session", {"token": READER}, https, address="10.0.0.1")
    assert answer.headers["set-cookie"].startswith("__Host-coord-443=")
    assert answer.headers["set-cookie"].endswith("; Secure")
    forged = web.request("POST", "/v1/session", {"token": READER}, https)
    assert "Secure" not in forged.headers["set-cookie"]
    assert web.post("/v1/session", {"token": "wrong"}).status == 401
    assert web.request("DELETE", "/v1/session").headers["set-cookie"].startswith("coord-80=; Max-Age=0;")


def test_me(closed: Web) -> None:
    """What is said of who asks is enough for a page to know its buttons, and no secret."""
    me = closed.request("GET", "/v1/me", headers=bearer(READER)).json
    assert me["name"] == "reader"
    assert me["rights"] == ["read:mount", "read:deploy/build-*"]
    assert (me["expires"], me["session"], me["anonymous"]) == (None, "", False)
    assert closed.get("/v1/me").json["anonymous"] is True
    cookie = closed.post("/v1/session", {"token": READER}).headers["set-cookie"].partition(";")[0]
    me = closed.request("GET", "/v1/me", headers={"Cookie": cookie}).json
    assert me["session"]
    assert me["session"] not in cookie
    assert me["expires"] == NOW + 43_200


@pytest.mark.parametrize(
    ("listener", "address", "forwarded", "reads", "writes"),
    [
        (Address("127.0.0.1", 80), "127.0.0.1", "", True, False),
        (Address("::1", 80), "127.0.0.1", "", True, False),
        (Address("0.0.0.0", 80), "192.0.2.1", "", False, False),
        (Address("0.0.0.0", 80), "127.0.0.1", "", False, False),
        # A proxy of this machine lets in anybody.
        (Address("127.0.0.1", 80), "127.0.0.1", "192.0.2.1", False, False),
        (Address(path="/run/x"), "", "192.0.2.1", False, False),
        (Address(path="/run/x"), "", "", False, False),
        (Address(path="/run/x"), "", "unix:", False, False),
    ],
)
def test_anonymous(make_web: Make, listener: Address, address: str, forwarded: str, reads: bool, writes: bool) -> None:
    """Without a token, who is on this machine may read, and who may open the socket may write; nobody else may."""
    web = make_web(Config(tokens=TOKENS, plain=True, behind_proxy=("127.0.0.1", "unix:")), listener=listener)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    read = web.request("GET", "/v1/maps/m/record?key=a", headers=headers, address=address)
    write = web.request("POST", "/v1/maps/m/fire?key=a", headers=headers, address=address)
    evict = web.request("POST", "/v1/maps/m/reset?key=a&evict=true", headers=headers, address=address)
    assert (read.status, write.status) == (200 if reads else 401, 200 if writes else 401)
    assert evict.status == 401


def test_who_opens_the_socket_may_write(make_web: Make) -> None:
    """Where no proxy uses the socket, only its owner can open it."""
    web = make_web(Config(), listener=Address(path="/run/x"))
    assert web.request("POST", "/v1/maps/m/fire?key=a", address="").status == 200
    assert web.request("POST", "/v1/maps/m/reset?key=a&evict=true", address="").status == 401


def test_who_comes_past_the_proxy_is_refused(make_web: Make) -> None:
    """Beyond this machine tokens come through the proxy that ends TLS; a probe asks for health all the same."""
    web = make_web(Config(tokens=TOKENS, behind_proxy=("10.0.0.1",)), listener=Address("0.0.0.0", 80))
    headers = bearer(READER)
    target = "/v1/maps/mount/record?key=a"
    assert web.request("GET", target, headers=headers, address="10.0.0.1").status == 200
    assert web.request("GET", target, headers=headers, address="192.0.2.1").status == 403
    assert web.request("GET", "/healthz", headers={"Host": "kubelet"}, address="192.0.2.1").status == 200


def test_a_token_ends_a_wait_and_a_stream(make_web: Make) -> None:
    """When the token expires, a wait is answered 401, and a stream says so at its end."""
    short = Token(
        name="short", sha256=digest_of(SHORT), rights=("read:*",), expires=datetime.fromtimestamp(NOW + 20, UTC)
    )
    web = make_web(Config(tokens=(short,)))
    waiting = web.begin("GET", "/v1/maps/m/wait?key=a&wait=25", headers=bearer(SHORT))
    stream = web.begin("GET", "/v1/watch?map=m", headers=bearer(SHORT) | {"Accept": "text/event-stream"})
    web.cluster.advance(18)
    assert waiting.take() is None
    assert b"event: end" not in stream.written
    web.cluster.advance(4)
    answer = waiting.take()
    assert answer is not None
    assert answer.status == 401
    assert "expired" in answer.json["detail"]
    assert b"event: end" in stream.written
    assert b"unauthorized" in stream.written
    assert web.request("GET", "/v1/maps/m/record?key=a", headers=bearer(SHORT)).status == 401


def test_other_settings_end_what_they_no_longer_allow(make_web: Make) -> None:
    """After a reload, who has other rights is ended; who has the same goes on; broken settings change nothing."""
    web = make_web(CONFIG)
    target = "/v1/maps/mount/wait?key=a&wait=60"
    other = Token(name="other", sha256=digest_of(SHORT), rights=("read:mount",))
    web.gateway.configure(Config(tokens=(*TOKENS, other), anonymous=()))
    kept = web.begin("GET", target, headers=bearer(SHORT))
    ended = web.begin("GET", target, headers=bearer(READER))
    broken = Config(tokens=(Token(name="x", sha256="short", rights=()),))
    with pytest.raises(ValueError, match="sha256"):
        web.gateway.configure(broken)
    assert ended.take() is None
    web.gateway.configure(Config(tokens=(other,), anonymous=()))
    web.cluster.settle()
    answer = ended.take()
    assert answer is not None
    assert answer.status == 401
    assert kept.take() is None
    assert web.request("GET", "/v1/maps/mount/record?key=a", headers=bearer(READER)).status == 401
    web.cluster.result(web.node.events("mount").fire("a", 1))
    web.cluster.settle()
    answer = kept.take()
    assert answer is not None
    assert answer.status == 200


def test_a_changed_token_ends_what_its_old_text_began(make_web: Make) -> None:
    """Who changes a token, as its text has leaked, ends the waits and streams of the old text, and of its cookies."""
    web = make_web(CONFIG)
    cookie = web.post("/v1/session", {"token": READER}).headers["set-cookie"].partition(";")[0]
    begun = [web.begin("GET", "/v1/watch?map=mount", headers=each) for each in (bearer(READER), {"Cookie": cookie})]
    both = Token(name="reader", sha256=(digest_of(SHORT), digest_of(READER)), rights=TOKENS[0].rights)
    web.gateway.configure(Config(tokens=(both,), anonymous=()))
    kept = web.begin("GET", "/v1/watch?map=mount", headers=bearer(SHORT))
    web.cluster.settle()
    assert not any(b"event: end" in each.written for each in begun)
    new = Token(name="reader", sha256=digest_of(SHORT), rights=TOKENS[0].rights)
    web.gateway.configure(Config(tokens=(new,), anonymous=()))
    web.cluster.settle()
    assert all(b"event: end" in each.written for each in begun)
    assert b"event: end" not in kept.written


def test_a_token_that_shall_end_earlier_ends_what_it_began(make_web: Make) -> None:
    """The time at which it expires holds for what has begun before the settings said so."""
    web = make_web(CONFIG)
    stream = web.begin("GET", "/v1/watch?map=mount", headers=bearer(READER))
    at = datetime.fromtimestamp(NOW + web.cluster.clock.seconds() + 20, UTC)
    short = Token(name="reader", sha256=digest_of(READER), rights=TOKENS[0].rights, expires=at)
    web.gateway.configure(Config(tokens=(short,), anonymous=()))
    web.cluster.advance(18)
    assert b"event: end" not in stream.written
    web.cluster.advance(4)
    assert b"the token has expired" in stream.written


def test_a_proxy_whose_clients_may_nothing_any_more(make_web: Make) -> None:
    """What comes through it is ended, though who is on this machine may still read."""
    config = Config(behind_proxy=("127.0.0.1",), anonymous=("read:*",))
    web = make_web(config)
    far = web.begin("GET", "/v1/watch?map=m", headers={"X-Forwarded-For": "192.0.2.1"})
    near = web.begin("GET", "/v1/watch?map=m")
    web.gateway.configure(Config(behind_proxy=("127.0.0.1",)))
    web.cluster.settle()
    assert b"event: end" in far.written
    assert b"event: end" not in near.written


def test_a_request_that_ends_after_its_token(make_web: Make) -> None:
    """Its headers came while the token was good, and its body does not any more: then it does nothing."""
    web = make_web(CONFIG)
    late = web.begin("POST", "/v1/maps/deploy/fire?key=build-1", headers=bearer(DEPLOYER) | {"Content-Length": "1"})
    stream = web.begin("GET", "/v1/watch?map=mount", headers=bearer(READER) | {"Transfer-Encoding": "chunked"})
    web.gateway.configure(Config(anonymous=()))
    late.send(b"1")
    stream.send(b"0\r\n\r\n")
    for each in (late, stream):
        answer = each.take()
        assert answer is not None
        assert answer.status == 401
    assert web.cluster.result(web.node.events("deploy").record("build-1")) is None


def test_a_rate_is_for_each_principal(make_web: Make) -> None:
    """429 says when to come again; whoever shows no token is told apart by address, and health is free."""
    web = make_web(Config(tokens=TOKENS, anonymous=("read:*",), limits=Limits(rate=1, burst=5)))
    for headers, address in ((bearer(READER), "127.0.0.1"), ({}, "127.0.0.1"), ({}, "127.0.0.2")):
        found = [web.request("GET", "/v1/me", headers=headers, address=address) for _ in range(6)]
        assert [answer.status for answer in found] == [200] * 5 + [429]
        assert found[-1].headers["retry-after"] == "1"
        assert found[-1].json["type"].endswith(":too-many")
    assert web.get("/healthz").status == 200
    stream = web.request("GET", "/v1/watch?map=m", headers={"Accept": "text/event-stream"})
    assert stream.status == 200, "an EventSource gives up at any other status"
    assert re.match(rb"retry: \d+\n\nevent: end\ndata: {", stream.body)
    wait = web.request("GET", "/v1/maps/m/wait?key=a", headers={"Accept": "text/event-stream"})
    assert wait.status == 429, "what stands behind a wait must not begin"
    web.cluster.advance(2)
    assert web.get("/v1/me").status == 200


def test_the_log_has_no_secret(make_web: Make) -> None:
    """A line has the principal, the route and the map; no token, cookie, key, query, header or value."""
    web = make_web(CONFIG)
    lines: list[str] = []
    web.gateway.log = lines.append
    cookie = web.post("/v1/session", {"token": READER}).headers["set-cookie"].partition(";")[0]
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    for headers in ({}, bearer(READER), bearer(DEPLOYER), {"Cookie": cookie}, bearer("s3cret"), {"X": "s3cret"}):
        for target in ("/v1/maps/mount/record?key=s3cret", "/v1/maps/deploy/fire?key=build-s3cret", "/s3cret",
                       "/v1/me?token=s3cret", "/v1/maps/s3cret!/record?key=a", "/v1/maps/mount/s3cret"):  # fmt: skip
            more = {"traceparent": trace, "Request-Id": "s3cret value", "Idempotency-Key": "s3cret"}
            web.request("GET", target, headers={**headers, "traceparent": trace})
            web.request("POST", target, json.dumps("s3cret").encode(), headers | more)
    log = "\n".join(lines)
    assert len(lines) == 1 + 6 * 6 * 2
    for secret in (READER, DEPLOYER, cookie.partition("=")[2], "s3cret", "build-"):
        assert secret not in log
    assert "principal=deployer method=POST route=/v1/maps/{map}/fire map=deploy status=200 " in log
    assert "principal=reader method=POST route=/v1/maps/{map}/fire map=- status=403 " in log
    assert f"traceparent={trace}" in log
    assert all(len(line.split()) in (8, 9) for line in lines)


def test_a_renewal_passes_where_a_call_does_not(make_web: Make) -> None:
    """To refuse it would cost a lock; but nobody may ask without end."""
    web = make_web(Config(anonymous=("hold:*", "lock:*"), limits=Limits(rate=1, burst=2)))
    renewal = "/v1/maps/m/leases/lease-0123456789abcdef"
    assert [web.get("/v1/me").status for _ in range(3)] == [200, 200, 429]
    found = [web.request("PUT", renewal).status for _ in range(21)]
    assert 429 not in found[:20]
    assert found[20] == 429
