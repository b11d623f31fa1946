"""Calls over HTTP, on a clock: what their answers show and to whom, and how often they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coord.session.sweeper import Sweeper
from coord.testing import Cluster
from coord.web import records
from coord.web.config import Config, Limits
from web.client import ALL, Response, Web


def _problem(told: Response) -> str:
    return str(told.json["type"].rpartition(":")[2])


@pytest.mark.parametrize(
    ("target", "body", "headers", "status"),
    [
        ("fire?key=k", 1, {}, 200),
        ("fire?key=k", 1, {"If-None-Match": "*"}, 412),
        ("fire?key=k&acks=a&ack_within=1", 1, {}, 408),
        ("fail?key=k", "no", {}, 200),
        ("renew?key=k&ttl=5", None, {}, 200),
        ("reset?key=k", None, {"If-Match": '"1.1"'}, 412),
        ("count?key=c&who=me", None, {}, 200),
    ],
)
def test_an_answer_shows_nothing_to_who_may_not_read(
    memory: Cluster, make_web: Callable[..., Web], target: str, body: object, headers: dict[str, str], status: int
) -> None:
    """No value and no node of what stands, which a fire would tell else; nor who has acknowledged it."""
    web = make_web(Config(anonymous=("write:m", "count:m")))
    other = memory.node("hidden").events("m")
    memory.result(other.fire("k", "secret"))
    memory.result(other.count("c", 2))
    told = web.request("POST", f"/v1/maps/m/{target}", body, headers)
    assert told.status == status
    record = told.json["record"]
    assert record["revision"]
    assert record["kind"]
    assert not {"value", "node", "goal", "token"} & {*record}
    assert not {"names", "missing", "left"} & {*told.json}
    assert b"secret" not in told.body
    assert b"hidden" not in told.body


def test_a_right_for_some_keys_is_for_no_change_of_others(make_web: Callable[..., Web]) -> None:
    """A revision of another key is neither acknowledged nor shown under a key that the right is for."""
    web = make_web(Config(anonymous=("ack:m/a*", "read:m/a*")))
    all_keys = make_web(name="web2")
    one, other, last = (
        all_keys.post(f"/v1/maps/m/{call}").json["record"]["revision"]
        for call in ("fire?key=a1", "fire?key=b1", "reset?key=a1")
    )
    for revision, status in ((one, 200), (other, 400), (last, 200), ("1.1", 400), ("0.0", 400), (f"{last}9", 400)):
        query = f"key=a1&revision={revision}"
        assert web.post(f"/v1/maps/m/ack?{query}").status == status, revision
        assert web.get(f"/v1/maps/m/acks?{query}").status == status, revision
    assert web.post(f"/v1/maps/m/ack?key=b1&revision={other}").status == 401
    assert all_keys.get(f"/v1/maps/m/acks?key=b1&revision={other}").json["names"] == []
    assert all_keys.post(f"/v1/maps/m/ack?key=a1&revision={other}").status == 200


def test_who_may_not_read_the_members_learns_no_name_of_one(make_web: Callable[..., Web]) -> None:
    """Nor by asking which of them have not acknowledged a change."""
    make_web().request("PUT", "/v1/members/hidden?lease=0123456789abcdef")
    web = make_web(Config(anonymous=("read:m", "fire:m")), name="web2")
    told = web.post("/v1/maps/m/fire?key=k&acks=members&ack_within=1")
    assert (told.status, b"hidden" in told.body) == (408, False)
    asked = f"/v1/maps/m/acks?key=k&revision={told.json['record']['revision']}"
    assert web.get(f"{asked}&by=members").status == 401
    assert web.get(asked).json == {"names": [], "missing": [], "left": []}
    web.gateway.configure(Config(anonymous=("read:*",)))
    assert web.get(f"{asked}&by=members").json["missing"] == ["hidden"]


def test_a_name_is_one_call_at_whichever_gateway(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """Repeated at another one, also with the answer of the first: it is applied once."""
    one, two = make_web(), make_web(name="web2")
    first = one.post("/v1/maps/m/pulse?key=k", 1, Idempotency_Key="job-7")
    again = two.post("/v1/maps/m/pulse?key=k", 1, Idempotency_Key='"job-7"')
    assert first.json == again.json
    assert first.json["record"]["node"] == "web1.anonymous"
    other = two.post("/v1/maps/m/pulse?key=k", 2, Idempotency_Key="job-7")
    assert (other.status, _problem(other), other.json["applied"]) == (422, "name-reused", False)
    assert two.post("/v1/maps/other/pulse?key=k", 2, Idempotency_Key="job-7").status == 200


def test_a_name_at_two_gateways_at_once(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """Both answer the same, and the counter has counted once."""
    one, two = make_web(), make_web(name="web2")
    connections = [
        web.begin("POST", "/v1/maps/m/count?key=c&by=5", headers={"Idempotency-Key": "n"}) for web in (one, two)
    ]
    memory.settle()
    answers = [connection.take() for connection in connections]
    assert [answer.json["count"] for answer in answers if answer is not None] == [5, 5]
    assert two.get("/v1/maps/m/count?key=c").json["count"] == 5


def test_a_gateway_dies_before_it_answers(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """The client repeats the call at another one, and is told what the first would have told."""
    one, two = make_web(), make_web(name="web2")
    memory.networks["web1"].stall()
    lost = one.begin("POST", "/v1/maps/m/pulse?key=k", 1, {"Idempotency-Key": "n"})
    told = two.post("/v1/maps/m/pulse?key=k", 1, Idempotency_Key="n")
    assert (told.status, told.json["first"]) == (200, True)
    memory.networks["web1"].unstall()
    memory.advance(1)
    first = lost.take()
    assert first is not None
    assert first.json == told.json


def test_names_have_a_limit(make_web: Callable[..., Web]) -> None:
    """As the server remembers each for an hour."""
    web = make_web(Config(anonymous=ALL, limits=Limits(named_of_one=1)))
    assert web.post("/v1/maps/m/pulse?key=k", Idempotency_Key="a").status == 200
    told = web.post("/v1/maps/m/pulse?key=k", Idempotency_Key="b")
    assert (told.status, told.json["applied"]) == (429, False)
    assert web.post("/v1/maps/m/pulse?key=k").status == 200


def test_an_eviction_needs_a_right_of_its_own(make_web: Callable[..., Web]) -> None:
    """As it ends what others hold."""
    web = make_web(Config(anonymous=("write:m",)))
    assert web.post("/v1/maps/m/reset?key=k").status == 200
    assert web.post("/v1/maps/m/reset?key=k&evict=true").status == 401


def test_redis_is_away(web: Web) -> None:
    """A call that was never sent was not applied; one that was sent may have been."""
    web.cluster.server.stop()
    web.cluster.advance(5)
    told = web.post("/v1/maps/m/fire?key=k")
    assert (told.status, _problem(told), told.json["applied"]) == (503, "unreachable", False)
    assert told.headers["retry-after"] == "1"
    web.cluster.server.start()
    web.cluster.advance(10)
    web.cluster.networks["web1"].stall("to client")
    connection = web.begin("POST", "/v1/maps/m/fire?key=k")
    web.cluster.advance(31)
    doubtful = connection.take()
    assert doubtful is not None
    assert (doubtful.status, _problem(doubtful), doubtful.json["applied"]) == (504, "unconfirmed", "unknown")
    web.cluster.networks["web1"].unstall()
    web.cluster.advance(10)


def test_a_call_of_a_client_that_has_gone_is_not_sent(web: Web) -> None:
    """If it waits for the link."""
    web.cluster.server.stop()
    web.cluster.advance(5)
    web.begin("POST", "/v1/maps/m/pulse?key=k").hang_up()
    web.cluster.server.start()
    web.cluster.advance(10)
    assert web.get("/v1/maps/m/record?key=k").json["kind"] is None


def test_a_listing_is_filtered(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """It shows what may be read, and no 403."""
    web = make_web(Config(anonymous=("read:m/a*", "write:m")))
    for key in ("a1", "a2", "b"):
        web.post(f"/v1/maps/m/fire?key={key}", key)
    page = web.get("/v1/maps/m/records").json
    assert sorted(record["key"] for record in page["records"]) == ["a1", "a2"]
    assert all(record["value"] for record in page["records"])
    short = web.get("/v1/maps/m/records?values=false&prefix=a2").json
    assert [(each["key"], "value" in each) for each in short["records"]] == [("a2", False)]


def test_all_pages_of_a_listing(web: Web) -> None:
    """Each key is in one of them, and `next` leads to the next; another server process ends them."""
    for number in range(50):
        web.post(f"/v1/maps/m/fire?key={number}")
    pages = _pages(web, "/v1/maps/m/records?limit=10")
    assert len(pages) > 1
    assert {record["key"] for page in pages for record in page["records"]} == {str(number) for number in range(50)}
    _start_the_server_again(web)
    told = web.get(f"/v1/maps/m/records?limit=10&next={pages[0]['next']}")
    assert (told.status, _problem(told)) == (410, "listing-lost")


def _pages(web: Web, path: str) -> list[Any]:
    """Return all pages of a listing."""
    pages = [web.get(path).json]
    while pages[-1]["next"]:
        pages.append(web.get(f"{path}&next={pages[-1]['next']}").json)
    return pages


def _start_the_server_again(web: Web) -> None:
    web.cluster.server.stop()
    web.cluster.advance(1)
    web.cluster.server.start()
    web.cluster.advance(10)


def test_who_waits_for_acknowledgements_waits(make_web: Callable[..., Web]) -> None:
    """It counts among the keys that one waits for, by the settings as they are now, and nothing is fired beyond."""
    web = make_web()
    limited = Config(anonymous=ALL, limits=Limits(waits_of_one=1))
    begun = web.begin("POST", "/v1/maps/m/fire?key=a&acks=x&ack_within=5")
    web.gateway.configure(limited)
    for target in ("fire?key=b&acks=x", "wait?key=b&wait=0"):
        told = web.request("POST" if "fire" in target else "GET", f"/v1/maps/m/{target}")
        assert (told.status, _problem(told)) == (429, "too-many")
    assert web.get("/v1/maps/m/record?key=b").json["kind"] is None
    web.cluster.advance(6)
    answer = begun.take()
    assert answer is not None
    assert answer.status == 408
    assert web.post("/v1/maps/m/fire?key=b&acks=x&ack_within=1").status == 408


def test_a_limit_of_listings_may_change(make_web: Callable[..., Web]) -> None:
    """After a reload the new one holds."""
    web = make_web()
    assert web.get("/v1/maps/m/records").status == 200
    web.gateway.part(records._listings).take("ci")
    web.gateway.configure(Config(anonymous=ALL, limits=Limits(listings=1)))
    assert web.get("/v1/maps/m/records").status == 429
    web.gateway.configure(Config(anonymous=ALL, limits=Limits(listings=2)))
    assert web.get("/v1/maps/m/records").status == 200


def test_one_listing_at_a_time(web: Web) -> None:
    """Of one principal."""
    web.cluster.networks["web1"].stall()
    first = web.begin("GET", "/v1/maps/m/records")
    told = web.get("/v1/maps/m/records")
    assert (told.status, _problem(told)) == (429, "too-many")
    web.cluster.networks["web1"].unstall()
    web.cluster.settle()
    answer = first.take()
    assert answer is not None
    assert answer.status == 200
    assert web.get("/v1/maps/m/records").status == 200


def test_maps(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """Those of which the principal may read anything; asked for once in 30 s, or named in the settings."""
    web = make_web(Config(anonymous=("read:a", "read:b/x*", "write:*")))
    for name in "abc":
        web.post(f"/v1/maps/{name}/fire?key=k")
    assert web.get("/v1/maps").json == {"maps": ["a", "b"]}
    memory.server.stop()
    memory.advance(20)
    assert web.get("/v1/maps").json == {"maps": ["a", "b"]}
    memory.server.start()
    memory.advance(20)
    named = make_web(Config(anonymous=ALL, maps=("z", "y")), name="web2")
    assert named.get("/v1/maps").json == {"maps": ["y", "z"]}


def test_members(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """Who is there, and who was."""
    web = make_web(Config(anonymous=("read:@members/a*",)))
    for name in ("a1", "a2", "b"):
        memory.result(memory.node(name).join({"of": name}))
    memory.result(memory.nodes[-2].close())
    told = web.get("/v1/members").json["members"]
    assert [(each["name"], each["kind"], each["value"]) for each in told] == [
        ("a1", "fired", {"of": "a1"}),
        ("a2", "withdrawn", None),
    ]
    assert make_web(Config(anonymous=("read:m",)), name="web2").get("/v1/members").status == 401


def test_all_pages_of_the_members(web: Web) -> None:
    """As of any listing: one reads some, of those whose names begin so, and goes on with `next`."""
    for number in range(50):
        web.request("PUT", f"/v1/members/n{number}?lease=0123456789abcdef")
    pages = _pages(web, "/v1/members?limit=10")
    assert len(pages) > 1
    names = [[each["name"] for each in page["members"]] for page in pages]
    assert {name for each in names for name in each} == {f"n{number}" for number in range(50)}
    assert names == [sorted(each) for each in names]
    assert web.get("/v1/members?prefix=n4").json["members"][0]["name"] == "n4"
    assert _problem(web.get("/v1/members?next=x")) == "invalid-parameter"
    _start_the_server_again(web)
    told = web.get(f"/v1/members?limit=10&next={pages[0]['next']}")
    assert (told.status, _problem(told)) == (410, "listing-lost")


def test_holders(memory: Cluster, web: Web) -> None:
    """By which rule, in which place, and since when."""
    nodes = [memory.node(name).events("m") for name in "ab"]
    for number, events in enumerate(nodes):
        memory.result(events.hold("k", number, need=2))
    memory.result(nodes[0].lock("l"))
    told = web.get("/v1/maps/m/holders?key=k").json
    assert (told["rule"], told["need"], told["count"]) == ("hold", 2, 2)
    assert [(each["place"], each["node"], each["value"]) for each in told["holders"]] == [(1, "a", 0), (2, "b", 1)]
    assert web.get("/v1/maps/m/holders?key=k&limit=1").json["count"] == 2
    locked = web.get("/v1/maps/m/record?key=l&holders=1").json
    assert locked["holders"]["rule"] == "lock"
    assert len(locked["token"]) == 33


def test_status(web: Web) -> None:
    """What the server says is asked for once a minute, and how the link is each time."""
    begun = [web.begin("GET", target) for target in ("/v1/maps/m/wait?key=a&key=b", "/v1/watch?map=m")]
    status: dict[str, Any] = web.get("/v1/status").json
    assert (status["link"], status["waits"], status["streams"]) == ("connected", 2, 1)
    for connection in begun:
        connection.hang_up()
    assert status["server"]["role"] == "primary"
    assert status["server"]["version"].startswith("Redis ")
    assert {"check", "text", "fix"} == {*status["server"]["warnings"][0]}
    web.cluster.server.stop()
    web.cluster.advance(5)
    away = web.get("/v1/status").json
    assert away["link"] == "suspended"
    assert away["reason"]
    assert away["server"]["role"] is None
    web.cluster.server.start()
    web.cluster.advance(10)


def test_nobody_without_rights_is_told_anything(make_web: Callable[..., Web]) -> None:
    """Of maps, members and the server."""
    web = make_web(Config(anonymous=()))
    assert [web.get(f"/v1/{path}").status for path in ("maps", "members", "status")] == [401, 401, 401]


def test_the_end_of_an_event_is_shown_though_nobody_has_announced_it(
    monkeypatch: pytest.MonkeyPatch, make_web: Callable[..., Web]
) -> None:
    """Its record has the revision of the event, but is another one: so it is no 304."""
    monkeypatch.setattr(Sweeper, "sweep", lambda _: None)
    web = make_web()
    web.post("/v1/maps/m/fire?key=k&ttl=5", 1)
    known = web.get("/v1/maps/m/record?key=k").headers["etag"]
    assert web.get("/v1/maps/m/record?key=k", If_None_Match=known).status == 304
    web.cluster.advance(6)
    told = web.get("/v1/maps/m/record?key=k", If_None_Match=known)
    assert (told.status, told.json["kind"], told.headers["etag"]) == (200, "expired", known)


def test_how_long_an_event_will_stand(web: Web) -> None:
    """Only the answer that is not cached says it."""
    web.post("/v1/maps/m/fire?key=k&ttl=5", 1)
    assert "expires_in" not in web.get("/v1/maps/m/record?key=k").json
    assert web.get("/v1/maps/m/record?key=k&holders=1").json["expires_in"] == 5.0
