"""Holds, locks and members over HTTP: under leases of the clients, at any gateway, by a clock that the tests move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from coord import Kind
from coord.testing import Cluster
from coord.web import leases
from coord.web.config import Config, Limits, Token
from coord.web.tokens import digest_of, make_token
from web.client import ALL, Connection, Response, Web

Make = Callable[..., Web]

ONE, OTHER = "1" * 32, "2" * 32
"""Leases."""


class Client:
    """A client with a lease, of any gateways; ``token`` is what it shows them."""

    def __init__(self, *gateways: Web, lease: str = ONE, token: str = "") -> None:
        self.gateways = gateways
        self.lease = lease
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, *, at: int = 0, body: object = None, **query: object) -> Response:
        """Return the answer of one of the gateways."""
        return self.gateways[at].request(method, self._target(path, query), body, self.headers)

    def begin(self, method: str, path: str, *, at: int = 0, **query: object) -> Connection:
        """Send a request, and do not wait for the answer."""
        return self.gateways[at].begin(method, self._target(path, query), headers=self.headers)

    def _target(self, path: str, query: dict[str, object]) -> str:
        if not path.startswith("leases"):
            query = {"key": "k", "lease": self.lease, **query}
        if path.startswith("members"):
            query.pop("key")
            return f"/v1/{path}?{urlencode(query)}"
        return f"/v1/maps/m/{path}?{urlencode(query)}"

    def lock(self, **query: Any) -> Response:
        """Ask for a lock, or renew it."""
        return self.ask("PUT", "lock", **query)

    def hold(self, **query: Any) -> Response:
        """Hold a key, or renew that."""
        return self.ask("PUT", "hold", **query)

    def renew(self, **query: Any) -> Response:
        """Renew the lease."""
        return self.ask("PUT", f"leases/{self.lease}", **query)


@pytest.fixture
def two(make_web: Make) -> tuple[Web, Web]:
    """Give two gateways."""
    return make_web(name="web1"), make_web(name="web2")


def problem(answer: Response) -> tuple[int, str]:
    """Return the status of a problem, and its name."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json["type"].rpartition(":")[2]


def stands(web: Web, key: str = "k") -> Any:
    """Return the record that stands."""
    return web.cluster.result(web.node.events("m").record(key))


def test_a_hold(two: tuple[Web, Web]) -> None:
    """It is held, renewed, changed and given up at any gateway; to do either twice is no harm."""
    client = Client(*two)
    held = client.hold(body={"at": 1})
    assert held.status == 200
    assert {**held.json, "record": None} == {"first": True, "record": None, "place": 1, "owner": True, "ttl": 20.0}
    record = held.json["record"]
    assert (record["value"], record["node"], record["held"]) == ({"at": 1}, "web1.anonymous", True)
    again = client.hold(at=1, body={"at": 1}).json
    assert (again["first"], again["record"]) == (False, record)
    changed = client.hold(at=1, body={"at": 2}).json
    assert (changed["first"], changed["record"]["value"], changed["record"]["passed"]) == (True, {"at": 2}, True)
    behind = Client(*two, lease=OTHER).hold(at=1).json
    assert (behind["first"], behind["place"], behind["owner"]) == (False, 2, False)
    assert client.ask("GET", f"leases/{ONE}").json == {
        "holds": [{"key": "k", "rule": "hold", "owner": True, "place": 1}]
    }
    given_up = client.ask("DELETE", "hold", at=1).json
    assert (given_up["first"], given_up["record"]["node"]) == (True, "web2.anonymous")
    assert client.ask("DELETE", "hold").json["first"] is False
    assert client.ask("GET", f"leases/{ONE}").json == {"holds": []}
    assert Client(*two, lease=OTHER).ask("DELETE", f"leases/{OTHER}").json == {"withdrawn": 1}
    assert stands(two[0]).kind is Kind.WITHDRAWN


def test_two_gateways_renew_a_lease_in_turn(two: tuple[Web, Web]) -> None:
    """L3: it lives as long as one of them is asked in its time, and ends as *expired* when none is."""
    client = Client(*two)
    client.hold(key="event")
    token = client.lock().json["token"]
    gone = two[0].node.events("m").gone("event")
    for number in range(12):
        two[0].cluster.advance(15)
        at = number % 2
        answer = client.renew(at=at) if number % 3 else client.lock(at=at, token=token)
        assert (answer.status, answer.json["ttl"]) == (200, 20.0)
    assert client.renew(at=1).json["holds"] == [
        {"key": "event", "rule": "hold", "owner": True, "place": 1},
        {"key": "k", "rule": "lock", "owner": True, "place": 1, "token": token},
    ]
    assert not gone.called
    ended = two[0].cluster.result(gone, within=40)
    assert ended is not None
    assert ended.kind is Kind.EXPIRED


def test_a_renewal_that_comes_too_late(two: tuple[Web, Web]) -> None:
    """L5: it is told that all is lost, at either gateway, and the next owner has a higher token."""
    client, other = Client(*two), Client(*two, lease=OTHER)
    token = client.lock().json["token"]
    waiting = other.begin("PUT", "lock", at=1, wait=20)
    two[0].cluster.advance(19)
    other.renew()
    assert waiting.take() is None
    two[0].cluster.advance(1.1)
    refused = waiting.take()
    assert refused is not None
    assert problem(refused) == (408, "timed-out")
    assert (refused.json["queued"], refused.json["place"]) == (True, 2)
    assert refused.headers["retry-after"] == "1"
    granted = other.lock(wait=20, at=1).json
    assert granted["owner"]
    assert granted["token"] > token
    assert 9 < granted["waited"] < 20
    for at in (0, 1):
        late = client.renew(at=at)
        assert problem(late) == (410, "lease-ended")
        assert late.json["holds"] == []
        assert problem(client.lock(at=at, token=token)) == (410, "lost")


def test_an_answer_that_was_lost_with_its_gateway(two: tuple[Web, Web]) -> None:
    """L5: a client whose grant was not told asks another gateway, and is told the same token."""
    client = Client(*two)
    asked = client.begin("PUT", "lock")
    asked.transport.clear()
    two[0].close()
    record = stands(two[1])
    assert record.latched
    granted = client.lock(at=1)
    assert granted.json["token"] == record.token
    assert granted.json["record"]["revision"] == str(record.revision)


def test_a_request_whose_client_has_gone_is_dropped(two: tuple[Web, Web]) -> None:
    """A client that hung up before its request was sent to Redis wants nothing any more."""
    web = two[0]
    client = Client(*two)
    client.hold(key="other")
    web.cluster.networks["web1"].stall()
    asked = [client.begin("PUT", path, key=path) for path in ("lock", "hold")]
    asked.append(client.begin("PUT", "lock", wait=10, key="w"))
    for each in asked:
        each.hang_up()
    web.cluster.networks["web1"].unstall()
    web.cluster.advance(1)
    assert [each["key"] for each in client.renew().json["holds"]] == ["other"]


def test_who_waits_and_hangs_up_leaves_nothing_running(two: tuple[Web, Web]) -> None:
    """Its place is kept by its lease, for a while; the gateway waits no longer."""
    client, other = Client(*two), Client(*two, lease=OTHER)
    client.lock()
    waiting = other.begin("PUT", "lock", wait=20)
    assert two[0].node.statistics().waiters == 1
    waiting.hang_up()
    assert two[0].node.statistics().waiters == 0
    assert other.lock(at=1).json["place"] == 2
    client.ask("DELETE", "lock")
    assert other.lock(at=1).json["owner"] is True


def test_a_gateway_that_stops_tells_who_waits(two: tuple[Web, Web]) -> None:
    """It is answered 503, and keeps its place at the other gateway."""
    client, other = Client(*two), Client(*two, lease=OTHER)
    client.lock()
    waiting = other.begin("PUT", "lock", wait=20)
    two[0].close()
    answer = waiting.take()
    assert answer is not None
    assert problem(answer) == (503, "stopping")
    assert (answer.json["applied"], answer.headers["retry-after"]) == ("unknown", "1")
    assert other.lock(at=1).json["place"] == 2


def test_two_principals_with_one_name_of_a_lease(make_web: Make) -> None:
    """They are two holders; neither can renew, end or take what is the other's."""
    secrets = {name: make_token() for name in ("ann", "bob")}
    tokens = tuple(Token(name=name, sha256=digest_of(secret), rights=ALL) for name, secret in secrets.items())
    webs = [make_web(Config(tokens=tokens), name=name) for name in ("web1", "web2")]
    ann, bob = (Client(*webs, token=secret) for secret in secrets.values())
    token = ann.lock().json["token"]
    assert bob.lock(token=token, at=1).json["type"].endswith(":lost")
    refused = bob.lock(at=1)
    assert problem(refused) == (408, "timed-out")
    assert "web1.ann" in refused.json["detail"]
    assert (refused.json["queued"], refused.json["place"]) == (False, None)
    assert bob.ask("DELETE", "lock").json["first"] is False
    assert bob.ask("DELETE", f"leases/{ONE}").json == {"withdrawn": 0}
    assert bob.renew().json["holds"] == []
    assert ann.lock(token=token, at=1).status == 200


def test_a_recovery(two: tuple[Web, Web]) -> None:
    """L6: after a restart of Redis nothing is granted; who has a lock keeps it, and says so by its token."""
    web = two[0]
    client, other = Client(*two), Client(*two, lease=OTHER)
    client.hold(key="event", body=1)
    token = client.lock().json["token"]
    web.cluster.server.stop()
    web.cluster.server.start()
    web.cluster.advance(6)
    ended = client.renew()
    assert problem(ended) == (410, "lease-ended")
    assert [(each["key"], each.get("token")) for each in ended.json["holds"]] == [("event", None), ("k", token)]
    kept = client.lock(token=token, at=1)
    assert (kept.status, kept.json["token"]) == (200, token)
    held = client.hold(key="event", body=1).json
    assert (held["first"], held["owner"]) == (False, True)
    assert client.renew().status == 200
    client.ask("DELETE", "lock")
    for wait in (0, 3):
        refused = other.lock(wait=wait, at=1)
        assert problem(refused) == (503, "recovering")
        assert refused.headers["retry-after"] == "1"
        assert refused.json["queued"] is bool(wait)
    for _ in range(4):
        answer = other.lock(wait=10, at=1)
        client.renew()
    assert answer.status == 200
    assert answer.json["token"] > token
    assert stands(web, "event").latched


def test_an_owner_that_was_evicted(two: tuple[Web, Web]) -> None:
    """Its renewals say that the lock is lost; it is given on once it cannot be taken for its own any more."""
    web = two[0]
    client, other = Client(*two), Client(*two, lease=OTHER)
    token = client.lock().json["token"]
    kept = client.lock(key="kept").json["token"]
    web.cluster.result(web.node.events("m").reset("k", evict=True))
    assert problem(client.lock(token=token)) == (410, "lost")
    assert [each.get("lost", False) for each in client.renew().json["holds"]] == [True, False]
    waiting = other.begin("PUT", "lock", wait=20, at=1)
    web.cluster.advance(19.5)
    assert waiting.take() is None
    client.lock(key="kept", token=kept)
    web.cluster.advance(1)
    other.lock(at=1, wait=20)
    assert stands(web).token > token
    assert client.lock(key="kept", token=kept).status == 200


def test_a_semaphore(two: tuple[Web, Web]) -> None:
    """A slot, the same one if it is asked for again; it is renewed as the lock that it is, or as one of them."""
    leases = [str(number) * 20 for number in range(3)]
    clients = [Client(*two, lease=lease) for lease in leases]
    granted = [client.lock(slots=2, at=number).json for number, client in enumerate(clients[:2])]
    assert sorted(each["record"]["key"] for each in granted) == ["k/0", "k/1"]
    assert clients[0].lock(slots=2, at=1).json["token"] == granted[0]["token"]
    assert clients[0].lock(slots=2, token=granted[0]["token"]).status == 200
    assert clients[0].lock(key=granted[0]["record"]["key"], token=granted[0]["token"]).status == 200
    assert problem(clients[2].lock(slots=2)) == (408, "timed-out")
    waiting = clients[2].begin("PUT", "lock", slots=2, wait=20)
    assert clients[1].ask("DELETE", "lock", slots=2).json["record"]["key"] == granted[1]["record"]["key"]
    two[0].cluster.advance(1)
    answer = waiting.take()
    assert answer is not None
    assert answer.json["record"]["key"] == granted[1]["record"]["key"]
    assert [each["key"] for each in clients[2].renew().json["holds"]] == [granted[1]["record"]["key"]]


def test_each_slot_counts(make_web: Make) -> None:
    """A request for many locks makes as many calls: it takes as much of the rate."""
    web = make_web(Config(anonymous=ALL, limits=Limits(rate=1, burst=10)))
    client = Client(web)
    assert client.ask("DELETE", "lock", slots=60).status == 200
    assert problem(client.ask("DELETE", "lock", slots=60)) == (429, "too-many")
    assert client.ask("DELETE", "lock").status == 200
    web.cluster.advance(60)
    assert client.lock(slots=60).status == 200
    assert problem(client.lock(slots=60)) == (429, "too-many")


def test_each_slot_is_waited_for(make_web: Make) -> None:
    """Who waits for one of many locks waits for as many keys."""
    web = make_web(Config(anonymous=ALL, limits=Limits(waits_of_one=3)))
    client, other = Client(web), Client(web, lease=OTHER)
    assert client.lock(slots=1).status == 200
    assert problem(other.lock(slots=4, wait=1)) == (429, "too-many")
    assert other.lock(slots=3, wait=1).status == 200


def test_a_member(two: tuple[Web, Web]) -> None:
    """It joins under a name, says something of itself, and is a member until it leaves."""
    client = Client(*two)
    joined = client.ask("PUT", "members/n3", body={"address": "10.0.0.3"})
    assert joined.json["owner"]
    client.ask("PUT", "members/n3", at=1, body={"address": "10.0.0.4"})
    listed = two[1].get("/v1/members").json["members"]
    assert [(each["name"], each["value"]) for each in listed] == [("n3", {"address": "10.0.0.4"})]
    # Who is started again takes over at once: its predecessor may have died.
    restarted = Client(*two, lease=OTHER)
    assert restarted.ask("PUT", "members/n3", body={"address": "10.0.0.5"}).json["owner"] is True
    for each in (client, restarted):
        assert each.ask("DELETE", "members/n3", at=1).status == 200
    assert [each["kind"] for each in two[0].get("/v1/members").json["members"]] == ["withdrawn"]


def test_who_made_a_lease_long_ago_is_forgotten(make_web: Make) -> None:
    """Each address has a count of its own, which does not stay for ever."""
    web = make_web()
    seen = web.gateway.part(leases._Seen)
    for number in range(5):
        web.request("PUT", f"/v1/maps/m/hold?key=k&lease={ONE}", address=f"192.0.2.{number}")
    assert len(seen._of) == 5
    web.cluster.advance(100)
    web.request("PUT", f"/v1/maps/m/hold?key=k&lease={OTHER}", address="192.0.2.0")
    web.cluster.advance(100)
    web.request("PUT", f"/v1/maps/m/hold?key=k&lease={OTHER}", address="192.0.2.9")
    assert [*seen._of] == ["@192.0.2.0", "@192.0.2.9"]


def test_a_member_acknowledges(two: tuple[Web, Web]) -> None:
    """L13: under the lease with which it has joined, at any gateway; else its name is missing."""
    client, other = Client(*two), Client(*two, lease=OTHER)
    for each in (client, other):
        each.ask("PUT", "members/n3")
    revision = two[0].post("/v1/maps/m/fire?key=k").json["record"]["revision"]

    def acks() -> Any:
        return two[1].get(f"/v1/maps/m/acks?key=k&revision={revision}&by=members").json

    query = f"/v1/maps/m/ack?key=k&revision={revision}&member=n3"
    assert two[0].post(query).json["name"] == "n3"
    for at, lease in enumerate((ONE, OTHER)):
        assert (acks()["names"], acks()["missing"]) == ([], ["n3"])
        assert two[at].post(f"{query}&lease={lease}").status == 200
    assert (acks()["names"], acks()["missing"]) == (["n3"], [])


def test_rights(make_web: Make) -> None:
    """Each verb, by key; who may not read sees no value and no node; a name of a member needs a right of its own."""
    secrets = {"locker": make_token(), "holder": make_token(), "reader": make_token()}
    rights = {
        "locker": ("lock:m/k",),
        "holder": ("hold:m/k*", "join:n*", "read:@members"),
        "reader": ("read:m", "lock:m"),
    }
    tokens = tuple(Token(name=name, sha256=digest_of(secret), rights=rights[name]) for name, secret in secrets.items())
    web = make_web(Config(tokens=tokens, anonymous=()))
    locker, holder, reader = (Client(web, token=secret) for secret in secrets.values())
    assert Client(web).lock().status == 401
    assert holder.lock().status == 403
    assert locker.hold().status == 403
    assert locker.lock(key="other").status == 403
    assert locker.lock(slots=2).status == 403
    granted = locker.lock(body="secret").json
    assert "value" not in granted["record"]
    assert "node" not in granted["record"]
    refused = reader.lock().json
    assert "web1.locker" in refused["detail"]
    assert reader.ask("DELETE", "lock").json["record"]["value"] == "secret"
    held = holder.hold(key="k2", body="mine").json
    assert "value" not in held["record"]
    assert holder.ask("PUT", "members/n1").status == 200
    assert holder.ask("PUT", "members/other").status == 403
    assert locker.ask("PUT", "members/n1").status == 403
    assert locker.ask("POST", "ack", revision="1.1", member="n1").status == 403
    assert reader.lock(key="@x").status == 200
    assert web.request("PUT", f"/v1/maps/@members/hold?key=n1&lease={ONE}", headers=holder.headers).status == 403
    assert web.request("PUT", f"/v1/maps/@members/leases/{ONE}", headers=holder.headers).status == 200
    assert web.request("PUT", f"/v1/maps/@members/leases/{ONE}", headers=reader.headers).status == 404


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("PUT", f"maps/m/hold?key=k&lease={'x' * 15}", (400, "invalid-parameter")),
        ("PUT", f"maps/m/hold?key=k&lease={'x' * 15}%20", (400, "invalid-parameter")),
        ("PUT", "maps/m/hold?key=k", (400, "invalid-parameter")),
        ("PUT", f"maps/m/hold?key=k&lease={ONE}&ttl=9", (400, "invalid-parameter")),
        ("PUT", f"maps/m/hold?key=k&lease={ONE}&ttl=61", (400, "invalid-parameter")),
        ("PUT", f"maps/m/hold?key=k&lease={ONE}&need=0", (400, "invalid-parameter")),
        ("PUT", f"maps/m/hold?key=taken&lease={ONE}&need=2", (409, "in-use")),
        ("PUT", f"maps/m/hold?key=taken&lease={ONE}&ttl=30", (409, "other-ttl")),
        ("PUT", f"maps/m/hold?key=counter&lease={ONE}", (409, "in-use")),
        ("PUT", f"maps/m/hold?key=%07&lease={ONE}", (400, "invalid-key")),
        ("PUT", f"maps/m/lock?key=k&lease={ONE}&token=1.2", (400, "invalid-parameter")),
        ("PUT", f"maps/m/lock?key=k&lease={ONE}&wait=301", (400, "invalid-parameter")),
        ("PUT", f"maps/m/lock?key=k&lease={ONE}&slots=0", (400, "invalid-parameter")),
        ("PUT", f"maps/m/lock?key=taken&lease={ONE}", (409, "in-use")),
        ("PUT", f"maps/m/lock?key=taken&lease={ONE}&wait=1", (409, "in-use")),
        ("PUT", f"maps/m/lock?key=k&lease={ONE}&token={'9' * 16}.{'9' * 16}", (410, "lost")),
        ("PUT", f"maps/m/leases/{ONE}", (410, "lease-ended")),
        ("PUT", "maps/m/leases/short", (400, "invalid-name")),
        ("PUT", f"members/a%20b?lease={ONE}", (400, "invalid-name")),
        ("POST", f"maps/m/lock?key=k&lease={ONE}", (405, "method")),
    ],
)
def test_what_is_wrong(web: Web, method: str, target: str, expected: tuple[int, str]) -> None:
    """Each refusal says what it is, and nothing is held after it."""
    events = web.node.events("m")
    web.cluster.result(events.hold("taken"))
    web.cluster.result(events.count("counter"))
    assert problem(web.request(method, f"/v1/{target}")) == expected
    assert web.get(f"/v1/maps/m/leases/{ONE}").json == {"holds": []}


def test_a_header_that_would_mean_something_else(web: Web) -> None:
    """These requests can be repeated as they are; the name of a call would be another holder."""
    answer = web.request("PUT", f"/v1/maps/m/lock?key=k&lease={ONE}", headers={"Idempotency-Key": "x"})
    assert problem(answer) == (400, "invalid-header")


def test_browsers_need_no_error(two: tuple[Web, Web]) -> None:
    """With `Prefer: handling=lenient`, who does not get the lock is answered 200."""
    Client(*two).lock()
    target = f"/v1/maps/m/lock?key=k&lease={OTHER}&wait=1"
    answer = two[0].request("PUT", target, headers={"Prefer": "handling=lenient"})
    assert answer.status == 200
    assert answer.json == {"owner": False, "queued": True, "place": 2}
    assert answer.headers["preference-applied"] == "handling=lenient"


def test_limits(make_web: Make) -> None:
    """Requests for locks are counted, and leases; renewals and withdrawals never fail for a limit."""
    web = make_web(Config(anonymous=ALL, limits=Limits(rate=1, burst=4, leases_of_one=2)))
    client = Client(web)
    token = client.lock().json["token"]
    assert client.hold(key="h").status == 200
    assert Client(web, lease=OTHER).hold(key="h").status == 200
    assert problem(Client(web, lease="3" * 16).hold(key="h")) == (429, "too-many")
    assert problem(client.lock(key="other")) == (429, "too-many")
    for _ in range(10):
        assert client.lock(token=token).status == 200
        assert client.renew().status == 200
    assert client.ask("DELETE", "hold", key="h").status == 200
    assert client.ask("DELETE", "lock").status == 200
    assert client.ask("DELETE", f"leases/{ONE}").status == 200


def test_a_map_of_its_own_ttl(two: tuple[Web, Web]) -> None:
    """The first lease of a map may say how long it is; others take that, or are told what it is."""
    client, other = Client(*two), Client(*two, lease=OTHER)
    assert client.lock(ttl=45).json["ttl"] == 45
    assert other.hold(key="h", at=1).json["ttl"] == 45
    refused = other.hold(key="h", ttl=20, at=1)
    assert problem(refused) == (409, "other-ttl")
    assert refused.json["ttl"] == 45
    two[0].cluster.advance(50)
    assert client.renew(at=1).json["ttl"] == 45


def test_redis_is_away(two: tuple[Web, Web], memory: Cluster) -> None:
    """503 or 504, with what is known of the call; what is repeated is applied once Redis is back."""
    client = Client(*two)
    token = client.lock().json["token"]
    memory.server.stop()
    memory.advance(1)
    asked = client.begin("PUT", "lock", token=token)
    memory.advance(5)
    memory.server.start()
    memory.advance(10)
    answer = asked.take()
    assert answer is not None
    assert (answer.status, answer.json["token"]) == (200, token)
    memory.server.stop()
    refused = client.renew()
    assert problem(refused) == (503, "unreachable")
    memory.server.start()
