"""Access rules: everything works under the documented one, and two namespaces are out of each other's reach."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from twisted.internet.defer import Deferred

import coord
from coord import AccessDenied, CaughtUp, Coordinator, EventFailed, Kind, NotReplicated, Record
from security.rules import NEEDED, OPTIONAL, doctor_rule, rule
from support.cluster import Cluster, Seen
from support.servers import Refused
from support.waiting import until

pytestmark = [pytest.mark.servers("redis", "valkey"), pytest.mark.deadline(60)]

PASSWORD = "opensesame"

# Each version has its own words for what a script may not do.
_DENIALS = ("NOPERM", "ACL failure", "The user executing the script can't")


async def _user(cluster: Cluster, name: str, *words: str) -> None:
    await cluster.server.command("ACL", "SETUSER", name, *words)


async def _exercise(node: Coordinator) -> None:
    """Do everything that a node can do, once; errors come out."""
    await node.connected(timeout=10)
    events = node.events("m")
    assert not (await events.reset("nothing")).first
    waiting, failing = events["w"], events["x"]
    await events.armed()
    assert (await events.fire("w", 1)).first
    assert await waiting == 1
    seen = Seen(failing)
    await events.fail("x", "why")
    assert isinstance(seen.errors[0], EventFailed)
    pulsed = events.wait("p", 5)
    await events.pulse("p", 2)
    assert await pulsed == 2
    record = (await events.fire("r")).record
    assert record is not None
    assert (await events.reset("r", record.revision)).first
    await events.reset("w")
    assert (await events.count("n", goal=1, who="me")).count == 1
    assert (await events.record("r")).kind is Kind.RESET  # type: ignore[union-attr]
    assert {each.key for each in (await events.records()).records} == {"w", "x", "p", "r", "n"}
    assert await events.remove_foreign() == ()
    assert await events.subscribers(["none"]) == {"none": 0}
    async with events.watch(since="start") as changes:
        kinds = [change.kind async for change in _until_now(changes)]
    assert kinds[:4] == [Kind.FIRED, Kind.FAILED, Kind.PULSED, Kind.FIRED]
    with pytest.raises(NotReplicated) as raised:
        await events.fire("replicated", replicas=1, within=0.1)
    assert "0 of 1" in str(raised.value)
    cancelled = events["c"]
    await events.armed()
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    # The end of the last subscription of a pending key is confirmed, too.
    await until(lambda: node.statistics().subscriptions == node.statistics().cached, "it has left")


async def _until_now(changes: coord.Watch) -> AsyncIterator[Record]:
    async for change in changes:
        if isinstance(change, CaughtUp):
            return
        yield change


@pytest.mark.parametrize("database", [0, 3])
async def test_everything_works_under_the_documented_rule(cluster: Cluster, database: int) -> None:
    """The rule in the docs is enough: for all calls, in a database of its own, across a loss of the connections."""
    await _user(cluster, "shop", *rule("shop", PASSWORD, database=database))
    node = cluster.node(namespace="shop", username="shop", password=PASSWORD, database=database)
    await _exercise(node)
    attempts = node.statistics().connection_attempts
    await cluster.server.drop_connections()
    await until(lambda: node.statistics().connection_attempts > attempts, "it tries again")
    await node.events("m").pulse("p")


async def test_the_rule_has_no_word_too_many(cluster: Cluster) -> None:
    """Without any one of the commands it names, something is denied, and the error names the command."""
    cluster.may_leave_waiters()
    superfluous = [command for command in NEEDED if not await _denied_without(cluster, command)]
    # Waits that nobody was left to take care of.
    cluster.logged(AccessDenied)
    assert superfluous == []


async def _denied_without(cluster: Cluster, command: str) -> bool:
    await cluster.server.flush()
    await cluster.server.command("SCRIPT", "FLUSH")
    await _user(cluster, "shop", *rule("shop", PASSWORD, without=command))
    node = cluster.node(namespace="shop", username="shop", password=PASSWORD)
    try:
        await _exercise(node)
    except (AccessDenied, AssertionError) as error:
        # Without WAIT the call is applied, so it is NotReplicated.
        return isinstance(error, AccessDenied) or (command == "wait" and "wait" in str(error))
    finally:
        await node.close()
    return False


async def test_a_database_of_its_own_needs_select(cluster: Cluster) -> None:
    """Without that command, another database than 0 is denied, in words that name it."""
    await _user(cluster, "shop", *rule("shop", PASSWORD, without="select", database=3))
    node = cluster.node(namespace="shop", username="shop", password=PASSWORD, database=3)
    with pytest.raises(AccessDenied, match="select"):
        await node.connected(timeout=10)


async def test_the_list_of_maps_needs_a_word_more(cluster: Cluster) -> None:
    """Without the optional word it is denied, in words that name it, and all else works; with it the maps come."""
    await _user(cluster, "shop", *rule("shop", PASSWORD))
    node = cluster.node(namespace="shop", username="shop", password=PASSWORD)
    await node.events("m").fire("k")
    with pytest.raises(AccessDenied, match=r"list of maps: .*\+scan"):
        await node.maps()
    assert len((await node.events("m").records()).records) == 1
    await _user(cluster, "shop", *(f"+{command}" for command in OPTIONAL))
    assert await node.maps() == ("m",)


async def test_who_may_not_leave_a_channel_can_wait_again(cluster: Cluster) -> None:
    """Without UNSUBSCRIBE, a key that was waited for, and no longer, can be waited for once more."""
    await _user(cluster, "shop", *rule("shop", PASSWORD, without="unsubscribe"))
    node = cluster.node(namespace="shop", username="shop", password=PASSWORD)
    events = node.events("m")
    keys = [f"k{number}" for number in range(20)]
    for waiting in [events[key].addErrback(lambda _: None) for key in keys]:
        await events.armed()
        waiting.cancel()
    await until(lambda: node.statistics().subscriptions == 0, "it has left")
    seen = Seen(*(events[key] for key in keys))
    await events.armed()
    for key in keys:
        await events.pulse(key, key)
    assert seen.values == keys


async def test_a_namespace_is_out_of_anothers_reach(cluster: Cluster) -> None:
    """A node with one namespace's user can neither read, change, wake nor hear the other's."""
    for name in ("left", "right"):
        await _user(cluster, name, *rule(name, PASSWORD))
    left = cluster.node("left", namespace="left", username="left", password=PASSWORD)
    secret = left.events("m")["secret"]
    await left.events("m").fire("known", "to left only")
    await left.events("m").armed()
    trespasser = cluster.node("trespasser", namespace="left", username="right", password=PASSWORD)
    events = trespasser.events("m")
    await trespasser.connected(timeout=10)
    seen = Seen(
        events["secret"],
        events["known"],
        events.fire("secret", "forged"),
        events.pulse("secret"),
        events.fail("secret", "forged"),
        events.reset("known"),
        events.record("known"),
        events.records(),
        Deferred.fromCoroutine(_first_change(events)),
    )
    await until(lambda: seen.count == 9, "all are answered")
    assert seen.values == []
    assert {type(error) for error in seen.errors} == {AccessDenied}
    right = cluster.node("right", namespace="right", username="right", password=PASSWORD)
    await right.events("m").fire("secret", "right's own")
    waiting = Seen(secret)
    assert waiting.count == 0
    assert [each.key for each in (await left.events("m").records()).records] == ["known"]
    await left.events("m").fire("secret", "left's own")
    assert waiting.values == ["left's own"]


async def _first_change(events: coord.EventMap) -> object:
    async with events.watch(since="start") as changes:
        async for change in changes:
            return change
    return None


@pytest.mark.parametrize(
    "words",
    [
        ("PUBLISH", "coord:0:{left/m}:secret", '["fired",[9,9],9,"x"]\n1'),
        ("PUBLISH", "coord:0:{left/m}", "x"),
        ("SPUBLISH", "coord:0:{left/m}:secret", "x"),
        ("SUBSCRIBE", "coord:0:{left/m}:secret"),
        ("PSUBSCRIBE", "coord:*"),
        ("HGETALL", "coord:{left/m}"),
        ("HSCAN", "coord:{left/m}", "0"),
        ("HSET", "coord:{left/m}", "secret", "x"),
        ("XRANGE", "coord:{left/m}:log", "-", "+"),
        ("SET", "coord:{left/m}:log", "x"),
        ("DEL", "coord:{left/m}"),
        ("EVAL", "return redis.call('HGETALL', 'coord:{left/m}')", "0"),
        ("EVAL", "return redis.call('PUBLISH', 'coord:0:{left/m}:secret', 'x')", "0"),
        ("SCAN", "0"),
        ("KEYS", "*"),
        ("PUBSUB", "CHANNELS"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "GET", "masterauth"),
        ("CONFIG", "SET", "requirepass", "x"),
        ("ACL", "GETUSER", "default"),
        ("ACL", "LOG"),
        ("SLOWLOG", "GET"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("MIGRATE", "127.0.0.1", "1", "coord:{right/m}", "0", "10"),
        ("DUMP", "coord:{left/m}"),
        ("SYNC",),
        ("ACL", "LIST"),
        ("FLUSHALL",),
        ("SCRIPT", "FLUSH"),
        ("SHUTDOWN",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
async def test_nor_do_raw_commands_reach_it(cluster: Cluster, words: tuple[str, ...]) -> None:
    """What a user of one namespace sends by hand is refused as well, also from within a script."""
    await _user(cluster, "right", *rule("right", PASSWORD))
    with pytest.raises(Refused) as raised:
        await cluster.server.commands(("AUTH", "right", PASSWORD), words)
    said = str(raised.value)
    assert any(words in said for words in _DENIALS), said


@pytest.mark.parametrize(
    "words",
    [
        ("HGETALL", "coord:{shop/m}"),
        ("HSCAN", "coord:{shop/m}", "0"),
        ("DEL", "coord:{shop/m}"),
        ("DEL", "coord:{shop/coord-doctor2}"),
        ("PUBLISH", "coord:0:{shop/m}:k", "x"),
        ("SUBSCRIBE", "coord:0:{shop/m}:k"),
        ("EVAL", "return redis.call('HGETALL', 'coord:{shop/m}')", "0"),
        ("CONFIG", "SET", "requirepass", "x"),
        ("CONFIG", "REWRITE"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
async def test_the_doctor_reaches_no_events(cluster: Cluster, words: tuple[str, ...]) -> None:
    """Who may read the server's settings may read and change no map but the doctor's own."""
    await _user(cluster, "doctor", *doctor_rule("shop", PASSWORD))
    answers = await cluster.server.commands(("AUTH", "doctor", PASSWORD), ("CONFIG", "GET", "maxmemory-policy"))
    assert answers[-1] == [b"maxmemory-policy", b"noeviction"]
    with pytest.raises(Refused) as raised:
        await cluster.server.commands(("AUTH", "doctor", PASSWORD), words)
    assert any(denial in str(raised.value) for denial in _DENIALS), str(raised.value)
