"""What the user sees of each failure in docs/operations.md, "What happens when something breaks"."""

from __future__ import annotations

from time import monotonic
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.defer import Deferred

from coord import (
    AccessDenied,
    CaughtUp,
    Closed,
    Coordinator,
    CorruptRecord,
    EventMap,
    HistoryLost,
    LinkState,
    ServerRefused,
    Unconfirmed,
    Unreachable,
)
from coord.core.names import HEAD
from coord.link import link
from coord.link.link import Link
from support.cluster import HEARTBEAT, Cluster, Seen, failure_of, latched
from support.peers import Peer
from support.servers import Refused
from support.waiting import eventually, turn, until
from support.warned import Warned
from support.watcher import Watcher

RECORDS = "coord:{default/m}"


def _heard(node: Coordinator) -> list[tuple[LinkState, str]]:
    heard: list[tuple[LinkState, str]] = []
    node.on_link(lambda state, reason: heard.append((state, reason)))
    return heard


async def _watch_ends(events: EventMap, since: Any = "now") -> None:
    async with events.watch(since=since) as changes:
        async for _ in changes:
            pass


# Server away at start.


async def test_failures_server_away_at_start(cluster: Cluster) -> None:
    """Waits and calls are held, and made when the server comes."""
    await cluster.server.stop()
    node = cluster.node()
    heard = _heard(node)
    events = node.events("m")
    seen, calls = Seen(events["k"]), Seen(events.fire("k", 1), events.record("other"))
    # On a cluster, an attempt asks several servers, and has its reason when all have failed.
    await until(lambda: node.statistics().connection_attempts > 2 and node.reason != "not connected yet")
    assert node.link is LinkState.CONNECTING
    assert seen.count == calls.count == 0
    assert heard == []
    await cluster.server.start()
    await until(lambda: seen.count == 1 and calls.count == 2)
    assert seen.values == [1]
    assert [state for state, _ in heard] == [LinkState.CONNECTED]


async def test_failures_no_socket_there(cluster: Cluster) -> None:
    """A path without a socket is said in words, and tried again."""
    node = cluster.node(address="unix:///nonexistent/coord.sock")
    await until(lambda: node.statistics().connection_attempts > 2)
    assert "No such file" in node.reason
    assert node.link is LinkState.CONNECTING


@pytest.mark.parametrize(
    "word", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n", b"+OK\r\n", b"*-1\r\n", b"SSH-2.0-x\r\n"]
)
async def test_failures_not_a_redis_server(cluster: Cluster, word: bytes) -> None:
    """Whatever else answers there is left again, and tried again, without a line of error in the log."""
    peer = Peer(word)
    node = cluster.node(address=peer)
    waiting = node.events("m")["k"]
    await until(lambda: node.statistics().connection_attempts > 2)
    assert node.link is LinkState.CONNECTING
    waiting.cancel()
    assert isinstance(failure_of(waiting), Exception)
    if word[:1] not in b":+*":
        assert "Redis protocol" in node.reason


async def test_failures_a_server_that_only_listens(cluster: Cluster) -> None:
    """A peer that never says a word is left after two heartbeats."""
    peer = Peer(None)
    node = cluster.node(address=peer, heartbeat=0.05)
    await until(lambda: node.statistics().connection_attempts > 1)
    assert "no answer" in node.reason


async def test_failures_a_server_that_hangs_up(cluster: Cluster) -> None:
    """A peer that hangs up at once is tried again."""
    peer = Peer(b"")
    node = cluster.node(address=peer)
    await until(lambda: node.statistics().connection_attempts > 2)
    assert node.link is LinkState.CONNECTING
    assert node.reason != "LinkLost"


# Connections cut, server hung.


@pytest.mark.parametrize("which", ["all", "subscribers", "commands"])
async def test_failures_connection_cut(cluster: Cluster, which: Any) -> None:
    """Either connection cut: suspended, then connected, with a reason; waiters see nothing."""
    events = await cluster.map()
    node = cluster.of(events)
    heard = _heard(node)
    waiting = Seen(events["k"])
    await events.armed()
    await cluster.server.drop_connections(which)
    await until(lambda: len(heard) == 2)
    assert [state for state, _ in heard] == [LinkState.SUSPENDED, LinkState.CONNECTED]
    assert heard[0][1]
    assert waiting.count == 0
    await events.fire("k", 1)
    assert waiting.values == [1]


async def test_failures_server_hangs(cluster: Cluster) -> None:
    """A hung server is noticed within two heartbeats."""
    node = await cluster.linked()
    heard = _heard(node)
    await cluster.server.hang()
    start = monotonic()
    await until(lambda: heard)
    assert monotonic() - start < 2 * HEARTBEAT + 0.5
    assert heard[0] == (LinkState.SUSPENDED, "the server has not answered for 0.5 s")
    await cluster.server.resume()
    await node.connected()


async def test_failures_a_short_stop_is_no_cut(cluster: Cluster) -> None:
    """A server that is away for less than a heartbeat is not left."""
    node = await cluster.linked(heartbeat=5)
    heard = _heard(node)
    await cluster.server.hang()
    asked = node.events("m").record("k")
    await cluster.server.resume()
    await asked
    assert heard == []


@pytest.mark.servers("redis", "valkey")
async def test_failures_node_reads_too_slowly(cluster: Cluster) -> None:
    """Redis drops a subscriber that does not read; its waiters miss nothing."""
    limit = "client-output-buffer-limit"
    (_, default) = await cluster.server.command("CONFIG", "GET", limit)
    await cluster.server.command("CONFIG", "SET", limit, "pubsub 1mb 1mb 1")
    try:
        here, gate = await cluster.gated("here", heartbeat=30)
        there = await cluster.map("there")
        # Small enough for Valkey to copy: larger ones it shares between its clients, and counts for none.
        keys = [f"k{number}" for number in range(300)]
        seen = Seen(*(here[key] for key in keys))
        await here.armed()
        gate.stall()
        before = await cluster.server.connections()
        fired = Seen(*(there.fire(key, [number, "x" * 12_000]) for number, key in enumerate(keys)))

        async def dropped() -> bool:
            return await cluster.server.connections() < before

        await eventually(dropped, "the server drops the subscriber")
        await until(lambda: fired.count == 300)
        gate.open()
        gate.resume()
        await until(lambda: seen.count == 300)
        assert sorted(value[0] for value in seen.values) == list(range(300))
        assert cluster.of(here).statistics().connection_attempts > 1
    finally:
        await cluster.server.command("CONFIG", "SET", limit, default)


# Data gone.


async def test_failures_flushed_under_us(cluster: Cluster) -> None:
    """Waiters stay, the live cache is dropped, a warning is logged; the next fire wakes everybody."""
    events, other = await cluster.map(heartbeat=0.1), await cluster.map("other")
    node = cluster.of(events)
    await other.fire("latched", 1)
    assert await events["latched"] == 1
    waiting = Seen(events["k"])
    await events.armed()
    # The first beat tells the node what there is to be lost.
    await until(lambda: node.statistics().cached == 1)
    with Warned() as warned:
        await cluster.server.flush()
        await until(lambda: node.statistics().cached == 0, "the cache is dropped")
        await until(lambda: warned.matching("lost"), "it is logged")
    again = Seen(events["latched"])
    await events.armed()
    assert waiting.count == again.count == 0
    await other.fire("k", 2)
    await other.fire("latched", 3)
    await until(lambda: waiting.count == again.count == 1)
    assert (waiting.values, again.values) == ([2], [3])


@pytest.mark.servers("redis", "valkey")
@pytest.mark.deadline(60)
async def test_failures_flushed_under_many_maps(cluster: Cluster) -> None:
    """A beat asks for many heads at once; the loss of each map is noticed, but for one whose head cannot be read."""
    node, count = await cluster.linked(), 700
    maps = [node.events(f"m{number}") for number in range(count)]
    fired = Seen(*(events.fire("k") for events in maps))
    await until(lambda: fired.count == count, patience=20)
    waiting = Seen(*(events["k"] for events in maps))
    await until(lambda: waiting.count == node.statistics().cached == count, patience=20)
    with (
        patch.object(Link, "ask", autospec=True, side_effect=Link.ask) as asked,
        patch.object(Link, "run_script", autospec=True, side_effect=Link.run_script) as run,
    ):
        await until(lambda: run.call_count >= 4, "two beats have gone by", patience=20)
    assert not asked.called
    assert [len(call.args[2]) for call in run.call_args_list[:2]] == [500, 200]
    await cluster.server.command("SET", "coord:{default/m7}", "junk")
    for number in range(count):
        if number != 7:
            await cluster.server.command("DEL", f"coord:{{default/m{number}}}")
    await until(lambda: node.statistics().cached == 1, "all but one are noticed", patience=20)


async def test_failures_flushed_and_fired_at_once(cluster: Cluster) -> None:
    """A fire right after the flush, long before a heartbeat, wakes those that were armed before it."""
    events, other = await cluster.map(heartbeat=30), await cluster.map("other", heartbeat=30)
    for round_ in range(20):
        await other.fire("latched", round_)
        assert await events["latched"] == round_
        waiting = Seen(events["k"])
        await events.armed()
        await cluster.server.flush()
        await other.fire("k", round_)
        await until(lambda waiting=waiting: waiting.count == 1)  # type: ignore[misc]
        assert waiting.values == [round_]
        await until(lambda: cluster.of(events).statistics().cached == 1, "what is gone is noticed")
        await other.reset("k")
        await until(lambda: cluster.of(events).statistics().cached == 0)


async def test_failures_server_comes_back_empty(cluster: Cluster) -> None:
    """Waiters stay, the live cache is dropped; a warning is logged."""
    events = await cluster.map()
    node = cluster.of(events)
    await events.fire("latched", 1)
    assert await events["latched"] == 1
    waiting = Seen(events["k"])
    await events.armed()
    with Warned() as warned:
        await cluster.server.kill()
        await cluster.state(node, LinkState.SUSPENDED)
        await cluster.server.start("empty")
        await node.connected()
        await events.armed()
        assert warned.matching("lost")
    assert waiting.count == 0
    assert not await latched(events, "latched")
    assert (await events.fire("latched", 2)).first
    assert (await events.fire("k", 3)).first
    assert waiting.values == [3]


@pytest.mark.servers("memory")
async def test_failures_failover_lost_an_acknowledged_fire(cluster: Cluster) -> None:
    """The key is pending again; whoever was woken stays woken; a watcher gets HistoryLost."""
    events = await cluster.map()
    await events.pulse("before", 0)
    snapshot = cluster.memory.snapshot()
    woken = Seen(events["k"])
    watcher = Watcher(events)
    await watcher.ready()
    await events.armed()
    assert (await events.fire("k", 1)).first
    assert woken.values == [1]
    await until(lambda: watcher.values == [1])
    cluster.memory.stop()
    cluster.memory.restore(snapshot)
    cluster.memory.start()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    await cluster.of(events).connected()
    again = Seen(events["k"])
    await events.armed()
    assert again.count == 0
    assert (await events.fire("k", 2)).first
    assert again.values == [2]
    assert woken.values == [1]
    await until(lambda: watcher.error)
    assert isinstance(watcher.error, HistoryLost)


# Access.


async def _denied(cluster: Cluster, node: Coordinator, said: str) -> None:
    """Check that before the first success everybody is told, in the server's words."""
    events = node.events("m")
    asked: dict[str, Deferred[Any]] = {
        "wait": events["k"],
        "wait with a deadline": events.wait("k2", timeout=50),
        "wait_all": events.wait_all(["a", "b"]),
        "wait_any": events.wait_any(["a", "b"]),
        "fire": events.fire("k"),
        "reset": events.reset("k"),
        "record": events.record("k"),
        "records": events.records(),
        "connected": node.connected(),
        "watch now": Deferred.fromCoroutine(_watch_ends(events)),
        "watch start": Deferred.fromCoroutine(_watch_ends(events, "start")),
    }
    settled = Seen(events.armed())
    for what, deferred in asked.items():
        seen = Seen(deferred)
        await until(lambda seen=seen: seen.count, what)  # type: ignore[misc]
        assert isinstance(seen.errors[0], AccessDenied), what
        assert said in str(seen.errors[0]), what
    await until(lambda: settled.count, "settled")
    assert node.link is LinkState.CONNECTING
    assert said in node.reason


async def test_failures_wrong_password_before_the_first_success(cluster: Cluster) -> None:
    """AccessDenied to every waiter and caller, naming what the server said; never the password."""
    await cluster.server.set_password("right")
    node = cluster.node(password="wrong-secret")
    await _denied(cluster, node, "WRONGPASS")
    assert "wrong-secret" not in node.reason
    assert "wrong-secret" not in repr(node)


@pytest.mark.unrestricted
async def test_failures_no_password(cluster: Cluster) -> None:
    """A server that asks for one says so."""
    await cluster.server.set_password("right")
    await _denied(cluster, cluster.node(), "NOAUTH")


@pytest.mark.unrestricted
async def test_failures_password_not_wanted(cluster: Cluster) -> None:
    """A password where the server has none is told in the server's words."""
    await _denied(cluster, cluster.node(password="superfluous"), "AUTH")


@pytest.mark.servers("memory", "redis", "valkey")
async def test_failures_wrong_database(cluster: Cluster) -> None:
    """A database that is not there."""
    await _denied(cluster, cluster.node(database=5_000), "DB index")


async def test_failures_right_password(cluster: Cluster) -> None:
    """With the right one all is well, and a node that was denied comes in when the password is right."""
    await cluster.server.set_password("right")
    node = await cluster.linked(password="right")
    assert (await node.events("m").fire("k", 1)).first
    self_patch(cluster, 0.05)
    late = cluster.node("late", password="later")
    with pytest.raises(AccessDenied):
        await late.connected()
    await cluster.server.set_password("later")
    await late.connected()
    assert await late.events("m")["k"] == 1


def self_patch(cluster: Cluster, seconds: float) -> None:
    """Have a node that was denied try again sooner."""
    cluster.case.patch(link, "_DENIED_RETRY", seconds)  # type: ignore[no-untyped-call]


async def test_failures_rotated_password(cluster: Cluster) -> None:
    """Later: calls get AccessDenied, waiters stay, it is logged and retried."""
    self_patch(cluster, 0.1)
    events, gate = await cluster.gated(password=None)
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    with Warned() as warned:
        await cluster.server.set_password("rotated")
        gate.cut()
        await cluster.state(node, LinkState.SUSPENDED)
        with pytest.raises(AccessDenied, match="NOAUTH"):
            await events.fire("k", 1)
        with pytest.raises(AccessDenied):
            await node.connected()
        attempts = node.statistics().connection_attempts
        await until(lambda: node.statistics().connection_attempts > attempts + 1, "it is tried again")
        assert warned.matching("NOAUTH")
    assert waiting.count == 0
    await cluster.server.set_password(None)
    # An attempt that was refused just before may still have to say so to whoever asks now.
    await cluster.state(node, LinkState.CONNECTED)
    await node.connected()
    assert (await events.fire("k", 2)).first
    assert waiting.values == [2]


async def _user(cluster: Cluster, *rules: str) -> dict[str, str]:
    await cluster.server.command("ACL", "SETUSER", "limited", "on", ">secret", "resetchannels", *rules)
    return {"username": "limited", "password": "secret"}


async def test_failures_unknown_user(cluster: Cluster) -> None:
    """A user that the server does not know."""
    await _denied(cluster, cluster.node(username="nobody", password="x"), "WRONGPASS")


@pytest.mark.servers("memory", "redis", "valkey")
async def test_failures_user_without_any_permission(cluster: Cluster) -> None:
    """A user that may not even ask who the server is."""
    user = await _user(cluster, "-@all", "+auth")
    await _denied(cluster, cluster.node(**user), "NOPERM")


@pytest.mark.servers("redis", "valkey")
async def test_failures_user_without_its_own_channel(cluster: Cluster) -> None:
    """A user that may not hear its own heartbeat can have no link."""
    user = await _user(cluster, "+@all", "~*")
    await _denied(cluster, cluster.node(**user), "NOPERM")


@pytest.mark.servers("redis", "valkey")
async def test_failures_user_without_a_key_pattern(cluster: Cluster) -> None:
    """A user that may not touch a map's data: its waiters and callers are told, each by its key."""
    user = await _user(cluster, "+@all", "~coord:{default/allowed}*", "~coord:{default/}:idle", "&*")
    node = await cluster.linked(**user)
    denied, allowed = node.events("m"), node.events("allowed")
    for asked in (denied["k"], denied.fire("k"), denied.record("k"), denied.records()):
        with pytest.raises(AccessDenied, match=r"NOPERM|permission|access"):
            await asked
    with pytest.raises(AccessDenied):
        await _watch_ends(denied)
    assert (await allowed.fire("k", 1)).first
    assert await allowed["k"] == 1


@pytest.mark.servers("redis", "valkey")
async def test_failures_one_channel_of_many_refused(cluster: Cluster) -> None:
    """Of many waits made in one turn only the one that may not be heard is told; the others are armed."""
    channels = ["&coord:0:node:*", "&coord:0:{default/m}", "&coord:0:{default/m}:ok*"]
    user = await _user(cluster, "+@all", "~*", *channels)
    events, other = await cluster.map(**user), await cluster.map("other")
    allowed = Seen(*(events[f"ok{number}"] for number in range(10)))
    refused = events["not-ok"]
    allowed.watch(events["ok10"])
    with pytest.raises(AccessDenied, match="not-ok"):
        await refused
    await events.armed()
    assert allowed.count == 0
    for number in range(11):
        await other.fire(f"ok{number}", number)
    await until(lambda: allowed.count == 11)
    assert sorted(allowed.values) == list(range(11))


@pytest.mark.servers("redis", "valkey")
async def test_failures_no_permission_for_a_keys_channel(cluster: Cluster) -> None:
    """A fire that may be written and not published is undone, and the rest of its batch applies."""
    channels = ["&coord:0:node:*", "&coord:0:{default/m}", "&coord:0:{default/m}:ok*"]
    user = await _user(cluster, "+@all", "~*", *channels)
    events, other = await cluster.map(**user), await cluster.map("other")
    before, refused, after = events.fire("ok1"), events.fire("not-ok"), events.fire("ok2")
    assert (await before).first
    with pytest.raises(AccessDenied, match="not-ok"):
        await refused
    assert (await after).first
    assert await other.record("not-ok") is None
    keys = [record.key for record in (await other.records()).records]
    assert keys == ["ok1", "ok2"]
    async with other.watch(since="start") as changes:
        seen = [await changes.__anext__() for _ in range(3)]
    assert [getattr(change, "key", None) for change in seen] == ["ok1", "ok2", None]
    assert isinstance(seen[-1], CaughtUp)


@pytest.mark.servers("redis", "valkey")
async def test_failures_no_permission_for_the_doorbell(cluster: Cluster) -> None:
    """A watch that may not hear its doorbell is told; so is a fire that may not ring it, and nothing is written."""
    user = await _user(cluster, "+@all", "~*", "&coord:0:node:*", "&coord:0:{default/m}:*")
    events, other = await cluster.map(**user), await cluster.map("other")
    with pytest.raises(AccessDenied):
        await _watch_ends(events)
    with pytest.raises(AccessDenied):
        await events.fire("k")
    assert await other.record("k") is None
    waiting = events["k"]
    await events.armed()
    await other.fire("k", 1)
    assert await waiting == 1


# Refusals.


async def test_failures_out_of_memory(cluster: Cluster) -> None:
    """Calls get ServerRefused with the server's words; the link, waiters and questions are as before."""
    events, other = await cluster.map(), await cluster.map("other")
    await other.fire("latched", 1)
    heard = _heard(cluster.of(events))
    await cluster.server.set_out_of_memory(True)
    calls = [events.fire("k"), events.pulse("k"), events.fail("k", 1), events.reset("latched")]
    for asked in calls:
        with pytest.raises(ServerRefused, match="OOM"):
            await asked
    assert await events["latched"] == 1
    waiting = Seen(events["k"])
    await events.armed()
    await cluster.server.set_out_of_memory(False)
    assert heard == []
    assert (await events.fire("k", 2)).first
    assert waiting.values == [2]


async def test_failures_read_only(cluster: Cluster) -> None:
    """A primary that became a replica is left at the first call; the call is made when there is a primary again."""
    events = await cluster.map()
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    await cluster.server.set_read_only(True)
    firing = events.fire("k", 1)
    await cluster.state(node, LinkState.SUSPENDED)
    await until(lambda: "replica" in node.reason)
    assert waiting.count == 0
    await cluster.server.set_read_only(False)
    assert (await firing).first
    assert waiting.values == [1]


async def test_failures_a_replica_from_the_start(cluster: Cluster) -> None:
    """A replica is no server to link to; what is asked waits, or ends with Unreachable."""
    await cluster.server.set_read_only(True)
    node = cluster.node()
    waiting = Seen(node.events("m")["k"])
    with pytest.raises(Unreachable):
        await node.events("m").fire("k", 0, timeout=0.05)
    assert "replica" in node.reason
    await cluster.server.set_read_only(False)
    assert (await node.events("m").fire("k", 1)).first
    assert waiting.values == [1]


@pytest.mark.servers("memory")
async def test_failures_loading(cluster: Cluster) -> None:
    """A server that is loading its data is as one that is away."""
    events = await cluster.map()
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    cluster.memory.loading = True
    firing = events.fire("k", 1)
    await cluster.state(node, LinkState.SUSPENDED)
    await until(lambda: "loading" in node.reason)
    cluster.memory.loading = False
    assert (await firing).first
    assert waiting.values == [1]


async def test_failures_scripts_forgotten(cluster: Cluster) -> None:
    """A server that has forgotten the scripts is told them again, in the middle of everything."""
    events, other = await cluster.map(), await cluster.map("other")
    for round_ in range(20):
        waiting = Seen(other[f"k{round_}"])
        firing: list[Deferred[Any]] = [events.fire(f"k{round_}", round_), events.record("k0"), events.records()]
        await cluster.server.command("SCRIPT", "FLUSH")
        for asked in firing:
            await asked
        await until(lambda waiting=waiting: waiting.count == 1)  # type: ignore[misc]


# Foreign junk.


async def test_failures_junk_on_our_channels(cluster: Cluster) -> None:
    """What anybody publishes on a key's, a map's or a node's channel disturbs nothing."""
    events, other = await cluster.map(), await cluster.map("other")
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    heard = _heard(node)
    ends = Deferred.fromCoroutine(_watch_ends(events))
    channels = (f"coord:0:node:{node.incarnation}", "coord:0:{default/m}", "coord:0:{default/m}:k")
    for junk in (
        b"",
        b"junk",
        b'["fired",[1,2],3,"n"]',
        b'["fired",[1,2],3,"n"]\nnot json',
        b"\xff\xfe",
        b"x" * 100_000,
    ):
        for channel in channels:
            await cluster.server.command("PUBLISH", channel, junk)
    await events.armed()
    await until(lambda: waiting.count or node.statistics().unarmed == 0)
    assert heard == []
    if waiting.count == 0:
        await other.fire("k", 1)
        await until(lambda: waiting.count == 1)
        assert waiting.values == [1]
    else:
        # One of them was a record with a value that is not JSON: whoever waits is told.
        assert isinstance(waiting.errors[0], CorruptRecord)
    ends.addErrback(lambda _: None)
    ends.cancel()


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"junk",
        b'["fired",[1,2]]',
        b'["other",[1,2],3,"n"]\ntrue',
        b'["fired",[1,2],3,"n"]\n{not json',
        b'["fired",[1,2],3,"n o]\ntrue',
        b"\x00\xff" * 50,
    ],
)
async def test_failures_a_broken_record(cluster: Cluster, junk: bytes) -> None:
    """Its waiters and callers get CorruptRecord, no other key notices, and a reset repairs it."""
    events, other = await cluster.map(), await cluster.map("other")
    await other.fire("fine", 1)
    await cluster.server.command("HSET", "coord:{default/m}", "k", junk)
    waiting = [events["k"], events["fine"], events["pending"]]
    for asked in (waiting[0], events.record("k")):
        with pytest.raises(CorruptRecord, match=r"k: .*reset"):
            await asked
    if b"\n{" in junk:
        assert not (await _outcome(events.fire("k"))), "a record whose header is right stands"
    else:
        with pytest.raises(CorruptRecord, match="k"):
            await events.fire("k")
    assert await waiting[1] == 1
    listing = await events.records()
    assert [record.key for record in listing.records] == ["fine"]
    assert listing.corrupt == ("k",)
    assert (await events.reset("k")).first
    again = events["k"]
    await events.armed()
    assert (await other.fire("k", 2)).first
    assert await again == 2
    await other.fire("pending", 3)
    assert await waiting[2] == 3


async def test_failures_a_call_that_finds_a_value_that_is_not_json(cluster: Cluster) -> None:
    """The call's own error says so: it is not left to whoever looks at the record."""
    events = await cluster.map()
    await events.fire("other")
    junk = '["fired",[1,2],3,"n"]\n{'
    await cluster.server.command("HSET", "coord:{default/m}", "k", junk)
    for call in (events.fire, events.fail):
        with pytest.raises(CorruptRecord, match="reset repairs it"):
            await call("k", "value")
    assert (await events.reset("k")).first
    assert (await events.fire("k", 1)).first


async def _outcome(call: Any) -> bool:
    try:
        return bool((await call).first)
    except CorruptRecord:
        return False


@pytest.mark.parametrize("suffix", ["", ":log", ":due"])
async def test_failures_a_wrong_type_in_our_names(cluster: Cluster, suffix: str) -> None:
    """Something of another type in a map's place: a clear error for that map, and all is well in the next one."""
    name = "coord:{default/m}" + suffix
    await cluster.server.command(*(("SADD", name, "x") if suffix != ":x" else ("SET", name, "x")))
    events = await cluster.map()
    node = cluster.of(events)
    waiting, firing = Seen(events["k"]), Seen(events.pulse("k"))
    await until(lambda: firing.count)
    if suffix != ":due" or firing.errors:
        assert isinstance(firing.errors[0], CorruptRecord)
    if suffix == "":
        await until(lambda: waiting.count)
        assert isinstance(waiting.errors[0], CorruptRecord)
    fine = node.events("fine")
    assert (await fine.fire("k", 1)).first
    assert await fine["k"] == 1
    await cluster.server.command("DEL", name)
    again = Seen(events["k"])
    assert (await events.fire("k", 2)).first
    await until(lambda: again.count == 1)
    await until(lambda: waiting.count == 1)


@pytest.mark.parametrize("junk", [b"", b"junk", b"1 2", b"a b c 0 0", b"-1 2 p 0 0"])
async def test_failures_a_broken_head(cluster: Cluster, junk: bytes) -> None:
    """Whoever waits or calls gets CorruptRecord naming the head; without it the map works again."""
    await cluster.server.command("HSET", RECORDS, HEAD, junk)
    events = await cluster.map()
    waiting = events["k"]
    for asked in (waiting, events.fire("k"), events.records()):
        with pytest.raises(CorruptRecord, match="head"):
            await asked
    with pytest.raises(CorruptRecord, match="head"):
        await _watch_ends(events)
    await cluster.server.command("HDEL", RECORDS, HEAD)
    assert (await events.fire("k", 1)).first
    assert await events["k"] == 1


async def test_failures_a_head_broken_under_us(cluster: Cluster) -> None:
    """A head that breaks while waiters are armed disturbs them only when somebody fires; others go on."""
    events = await cluster.map(heartbeat=0.1)
    node = cluster.of(events)
    await events.pulse("k")
    waiting = events["k"]
    await events.armed()
    heard = _heard(node)
    await cluster.server.command("HSET", RECORDS, HEAD, "junk")
    with pytest.raises(CorruptRecord):
        await events.fire("k")
    with pytest.raises(CorruptRecord):
        await events["new"]
    await cluster.server.command("HDEL", RECORDS, HEAD)
    await events.fire("k", 2)
    assert await waiting == 2
    assert heard == []


async def test_failures_junk_in_the_calls_place(cluster: Cluster) -> None:
    """Junk where a node's last outcome is kept does not keep it from calling."""
    events = await cluster.map()
    node = cluster.of(events)
    await events.pulse("k", 1)
    for parity in (0, 1):
        await cluster.server.command("HSET", RECORDS, f"\0call:{node.incarnation}:{parity}", "junk")
    assert (await events.pulse("k", 2)).first


async def test_failures_a_forged_outcome(cluster: Cluster) -> None:
    """An outcome that nobody can understand ends the call; the link goes on and so do the others."""
    events = await cluster.map(heartbeat=30)
    node = cluster.of(events)
    await events.pulse("k", 1)
    (queue,) = events._session.call_sender._queues.values()
    number = queue._number + 1
    field = f"\0call:{node.incarnation}:{number % 2}"
    await cluster.server.command("HSET", RECORDS, field, f"{number}\nwhat is this")
    forged = events.pulse("k", 2)
    await turn()
    behind = events.pulse("k", 4)
    with pytest.raises(CorruptRecord):
        await forged
    assert (await behind).first
    assert (await node.events("other").fire("k", 1)).first
    await eventually(lambda: latched(node.events("other"), "k"), "other maps go on")
    assert (await events.pulse("k", 3)).first


@pytest.mark.servers("redis", "valkey")
async def test_failures_too_many_clients(cluster: Cluster) -> None:
    """A server that takes no more connections is tried again, and its word does no harm."""
    (_, most) = await cluster.server.command("CONFIG", "GET", "maxclients")
    await cluster.server.command("CONFIG", "SET", "maxclients", 1)
    try:
        node = cluster.node()
        await until(lambda: node.statistics().connection_attempts > 2)
        assert node.link is LinkState.CONNECTING
    finally:
        await eventually(lambda: _accepted(cluster, most.decode()), "the limit is lifted")
    await node.connected()


async def _accepted(cluster: Cluster, most: str) -> bool:
    try:
        await cluster.server.command("CONFIG", "SET", "maxclients", most)
    except (Refused, ConnectionError):
        return False
    return True


async def test_failures_closed_while_the_server_hangs(cluster: Cluster) -> None:
    """close() does not wait for a server that says nothing, connected or connecting."""
    events = await cluster.map(heartbeat=30)
    await events.reset("warm")
    await cluster.server.hang()
    asked: list[Deferred[Any]] = [events["k"], events.record("k"), events.records()]
    asked.append(cluster.of(events).execute("PING", at="m"))
    sent = events.fire("k")
    connecting = cluster.node("connecting", heartbeat=30)
    asked += [connecting.events("m")["k"], connecting.connected()]
    for _ in range(5):
        await turn()
    start = monotonic()
    await cluster.of(events).close()
    await connecting.close()
    assert monotonic() - start < 2
    for one in asked:
        assert isinstance(failure_of(one), Closed)
    assert isinstance(failure_of(sent), Unconfirmed)
    await cluster.server.resume()


async def test_failures_cancelled_questions_shift_no_answers(cluster: Cluster) -> None:
    """A question that was given up after it was sent does not leave its answer to the next one."""
    events = await cluster.map()
    for number in range(20):
        await events.fire(f"k{number}", number)
    for _ in range(10):
        asked = [events.record(f"k{number}") for number in range(20)]
        await turn()
        for number in range(0, 20, 3):
            asked[number].addErrback(lambda _: None)
            asked[number].cancel()
        for number in range(20):
            if number % 3:
                record: Any = await asked[number]
                assert record.value == number


async def test_failures_ten_thousand_waits_over_a_cut(cluster: Cluster) -> None:
    """Subscriptions and reads are paced, and the pace survives a cut in their middle."""
    events, gate = await cluster.gated()
    other = await cluster.map("other")
    count = 10_000 if cluster.server.kind != "memory" else 2_000
    seen = Seen(*(events[f"k{number}"] for number in range(count)))
    for _ in range(3):
        await turn(0.01)
        gate.cut()
    await events.armed()
    statistics = cluster.of(events).statistics()
    assert (statistics.waiters, statistics.unarmed) == (count, 0)
    fired = Seen(*(other.pulse(f"k{number}", number) for number in range(count)))
    await until(lambda: seen.count == fired.count == count, patience=30)
    assert sorted(seen.values) == list(range(count))


@pytest.mark.servers("memory")
async def test_failures_a_flush_under_a_clock_that_went_back(cluster: Cluster) -> None:
    """What a node's own calls were answered goes into the next generation, though it waits for none of their keys."""
    events = await cluster.map()
    before = [(await events.fire(key)).record for key in ("a", "b")]
    cluster.memory.step_clock(-3_600)
    await cluster.server.command("FLUSHALL")
    after = (await events.fire("c")).record
    assert after is not None
    assert all(record is not None and record.revision < after.revision for record in before)
