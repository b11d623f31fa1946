"""An answer that will pass is no refusal; what was forbidden for a moment is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from coord import AccessDenied, Closed, Coordinator, EventMap, LinkState, ServerRefused, Unconfirmed, Unreachable
from coord.link.replies import means_another_server, will_pass
from support.cluster import Cluster, Seen, failure_of
from support.waiting import turn, until
from support.warned import Warned
from support.watcher import Watcher

PASSING = ["busy", "masterdown", "tryagain", "loading"]


def _states(node: Coordinator) -> list[LinkState]:
    states: list[LinkState] = []
    node.on_link(lambda state, _: states.append(state))
    return states


def _asked(events: EventMap) -> list[Deferred[Any]]:
    """Ask for everything that a node can be asked for."""
    return [
        events["late"],
        events.wait("later", timeout=60),
        events.record("latched"),
        events.records(),
        events.subscribers(["latched"]),
        events.fire("called", 2),
        events.pulse("pulsed", 3),
    ]


# A busy server.


async def test_busy_ends_nothing(cluster: Cluster) -> None:
    """Waits, questions and calls go on when another client's slow script has ended; no link is lost over it."""
    events, other = await cluster.map(), await cluster.map("other")
    await other.fire("latched", 1)
    armed = Seen(events["late"], events["armed"])
    watcher = Watcher(events)
    await watcher.ready()
    await events.armed()
    states = _states(cluster.of(events))
    await cluster.server.set_busy(True)
    seen = Seen(*_asked(events))
    await until(lambda: "BUSY" in cluster.of(events).reason, "the reason says it")
    await turn(0.3)
    assert seen.count == armed.count == 0
    assert "BUSY" in cluster.of(events).statistics().reason
    await cluster.server.set_busy(False)
    await until(lambda: seen.count == 5, "questions and calls are answered")
    await events.armed()
    await other.fire("late", 4)
    await other.fire("later", 5)
    await other.fire("armed", 6)
    await until(lambda: seen.count == 7 and armed.count == 2)
    assert seen.errors == armed.errors == []
    assert states == []
    await until(lambda: watcher.values[-3:] == [4, 5, 6])
    watcher.stop()
    await until(lambda: cluster.of(events).reason == "connected", "and says when it is over")


async def test_busy_over_several_heartbeats_loses_no_link(cluster: Cluster) -> None:
    """The heartbeat that is answered BUSY is a sign of life, however long that lasts."""
    events, other = await cluster.map(heartbeat=0.1), await cluster.map("other", heartbeat=0.1)
    waiting = Seen(events["k"])
    await events.armed()
    states = _states(cluster.of(events))
    await cluster.server.set_busy(True)
    await turn(0.7)
    await cluster.server.set_busy(False)
    await other.fire("k", 1)
    await until(lambda: waiting.count == 1)
    assert states == []


async def test_busy_when_a_key_is_left(cluster: Cluster) -> None:
    """W5: an UNSUBSCRIBE that the server had no time for is sent again; one who comes back meanwhile is armed."""
    events, other = await cluster.map(), await cluster.map("other")
    left, back = [events[f"k{number}"] for number in range(10)], events["back"]
    await events.armed()
    await cluster.server.set_busy(True)
    for waiting in (*left, back):
        waiting.addErrback(lambda _: None)
        waiting.cancel()
    await turn(0.1)
    again = Seen(events["back"])
    await turn(0.1)
    await cluster.server.set_busy(False)
    await events.armed()
    await until(lambda: cluster.of(events).statistics().subscriptions == 1)
    channels = await cluster.server.channels()
    assert {channel for channel in channels if b"{default/m}" in channel} == {b"coord:0:{default/m}:back"}
    await other.fire("back", 1)
    await until(lambda: again.values == [1])


async def test_busy_at_a_reconnect(cluster: Cluster) -> None:
    """A link that is lost while the server is busy comes back when it is not, and all who were armed are again."""
    events, gate = await cluster.gated()
    other = await cluster.map("other")
    armed = Seen(*(events[f"k{number}"] for number in range(700)))
    await events.armed()
    await cluster.server.set_busy(True)
    gate.cut()
    await until(lambda: "BUSY" in cluster.of(events).reason)
    assert cluster.of(events).link is LinkState.SUSPENDED
    await cluster.server.set_busy(False)
    await cluster.of(events).connected()
    await cluster.server.set_busy(True)
    await turn(0.3)
    await cluster.server.set_busy(False)
    await events.armed()
    fired = Seen(*(other.fire(f"k{number}") for number in range(700)))
    await until(lambda: armed.count == fired.count == 700)
    assert armed.errors == fired.errors == []


async def test_calls_keep_their_order_past_a_busy_server(cluster: Cluster) -> None:
    """Batches that were refused for a moment are sent again before any later one, in both lanes (F1)."""
    events, other = await cluster.map(heartbeat=5), await cluster.map("other", heartbeat=5)
    watcher = Watcher(other)
    await watcher.ready()
    sent = 0
    seen = Seen()
    for round_ in range(6):
        await cluster.server.set_busy(True)
        for _ in range(150):
            seen.watch(events.pulse("k", sent))
            sent += 1
            if sent % 40 == 0:
                await turn()
        await turn(0.05 * round_)
        await cluster.server.set_busy(False)
        for _ in range(100):
            seen.watch(events.pulse("k", sent))
            sent += 1
        await turn(0.03)
    await until(lambda: seen.count == sent)
    assert seen.errors == []
    await until(lambda: len(watcher.values) == sent)
    assert watcher.values == list(range(sent))
    watcher.stop()


async def test_a_call_that_was_put_off_is_not_applied_at_its_deadline(cluster: Cluster) -> None:
    """A call that the server had no time for until its deadline is known not to be applied, and never will be."""
    events = await cluster.map(heartbeat=5)
    await cluster.server.set_busy(True)
    short, long = events.pulse("short", timeout=0.3), events.pulse("long")
    with pytest.raises(Unreachable, match=r"BUSY .*not applied"):
        await short
    await cluster.server.set_busy(False)
    assert (await long).first
    assert await events.record("short") is None


async def test_a_call_in_doubt_stays_in_doubt_where_the_server_is_busy(cluster: Cluster) -> None:
    """A call whose answer was lost with a link, and whose repetition is put off until its deadline, is Unconfirmed."""
    events, gate = await cluster.gated(heartbeat=5)
    await events.reset("warm")
    gate.stall()
    sent = events.pulse("k", timeout=1.5)
    await turn(0.1)
    gate.open()
    gate.cut()
    await cluster.of(events).connected()
    await cluster.server.set_busy(True)
    with pytest.raises((Unconfirmed, Unreachable)) as raised:
        await sent
    await cluster.server.set_busy(False)
    record = await events.record("k")
    assert record is None or raised.type is Unconfirmed


@pytest.mark.parametrize("trouble", ["readonly", "loading"])
async def test_a_call_that_a_replica_refused_is_not_applied(cluster: Cluster, trouble: str) -> None:
    """A refusal that ends the link is a refusal: at its deadline the call is known not to be applied."""
    if trouble == "loading" and cluster.server.kind != "memory":
        return
    events = await cluster.map(heartbeat=5)
    turn_to = cluster.server.set_read_only if trouble == "readonly" else cluster.server.set_loading
    await turn_to(True)
    with pytest.raises(Unreachable, match="not applied"):
        await events.pulse("k", timeout=0.3)
    await turn_to(False)
    await cluster.of(events).connected()
    assert (await events.fire("other")).first
    assert await events.record("k") is None


async def test_closed_while_the_server_is_busy(cluster: Cluster) -> None:
    """close() ends what is put off, and leaves no timer behind."""
    events = await cluster.map()
    await cluster.server.set_busy(True)
    asked = _asked(events)
    await until(lambda: "BUSY" in cluster.of(events).reason)
    await cluster.of(events).close()
    for one in asked:
        # A call that is just being sent again is in doubt.
        assert isinstance(failure_of(one), Closed | Unconfirmed)
    await cluster.server.set_busy(False)


@pytest.mark.servers("memory")
@pytest.mark.parametrize("trouble", PASSING)
async def test_whatever_passes_ends_nothing(cluster: Cluster, trouble: str) -> None:
    """Each answer that will pass leaves waits, questions and calls where they are."""
    events, other = await cluster.map(), await cluster.map("other")
    await other.fire("latched", 1)
    armed = Seen(events["armed"])
    await events.armed()
    cluster.memory.trouble = trouble
    cluster.memory.drop_connections("subscribers")
    seen = Seen(*_asked(events))
    await turn(0.5)
    # How many listen is nothing that a slot on the move keeps from being told.
    assert seen.count == (trouble == "tryagain")
    assert armed.count == 0
    cluster.memory.trouble = ""
    await until(lambda: seen.count == 5)
    await events.armed()
    for key in ("late", "later", "armed"):
        await other.fire(key)
    await until(lambda: seen.count == 7 and armed.count == 1)
    assert seen.errors == armed.errors == []


@pytest.mark.servers("memory")
@pytest.mark.parametrize("trouble", ["noreplicas", "oom", "misconf"])
async def test_what_refuses_to_write_ends_calls_at_once(cluster: Cluster, trouble: str) -> None:
    """A server that does not take writes for now: callers know at once that it is not applied; waits go on."""
    events, other = await cluster.map(), await cluster.map("other")
    waiting = Seen(events["k"])
    await events.armed()
    states = _states(cluster.of(events))
    cluster.memory.trouble = trouble
    with pytest.raises(ServerRefused, match=trouble.upper()):
        await events.fire("k", 0)
    late = Seen(events["late"])
    await turn(0.6)
    cluster.memory.trouble = ""
    assert (waiting.count, late.count, states) == (0, 0, [])
    await other.fire("k", 1)
    await other.fire("late", 2)
    await until(lambda: waiting.count == late.count == 1)
    assert (waiting.values, late.values) == ([1], [2])


@pytest.mark.servers("redis", "valkey")
async def test_too_few_replicas_end_calls_at_once(cluster: Cluster) -> None:
    """NOREPLICAS of a real server: ServerRefused, nothing applied, and the next call may go."""
    events = await cluster.map()
    await cluster.server.command("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(ServerRefused, match="NOREPLICAS"):
            await events.fire("k", 0)
    finally:
        await cluster.server.command("CONFIG", "SET", "min-replicas-to-write", 0)
    assert (await events.fire("k", 1)).first


def test_what_the_words_mean() -> None:
    """A code counts at the beginning, or where Redis 6 puts it in a script's error; never where a key has its name."""
    for code in ("BUSY", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"):
        for words in (f"{code} x", f"-{code} x", f"ERR Error running script (call to f_1): @user_script:1: -{code} x"):
            assert will_pass(words, writing=False)
            assert will_pass(words, writing=True)
    for code in ("OOM", "MISCONF"):
        assert will_pass(f"{code} x", writing=False)
        assert not will_pass(f"{code} x", writing=True)
    for words in ("BUSYGROUP x", "BUSYKEY x", "NOREPLICAS x", "ERR x", "", "NOPERM x (coord:0:{default/m}:a: BUSY b)"):
        assert not will_pass(words, writing=False)
    assert means_another_server("READONLY x")
    assert not means_another_server("NOPERM no permissions (coord:0:{default/m}:x: LOADING y)")
    assert not means_another_server("ERR unknown command, with args beginning with: 'coord', 'x: READONLY y'")


# A permission that is withdrawn for a moment.


async def _withdrawn(cluster: Cluster, rules: str, *, again: str) -> None:
    """Check that armed waits outlast the loss of a permission, and that others are told."""
    user = "limited"
    full = ["+@all", "~*", "&*"]
    await cluster.server.command("ACL", "SETUSER", user, "on", ">secret", "resetchannels", *full)
    events, gate = await cluster.gated(username=user, password="secret")
    other = await cluster.map("other")
    armed = Seen(*(events[f"k{number}"] for number in range(20)))
    await events.armed()
    await cluster.server.command("ACL", "SETUSER", user, *rules.split())
    with Warned() as warned:
        gate.cut()
        await until(lambda: cluster.of(events).statistics().connection_attempts > 1)
        await cluster.of(events).connected()
        with pytest.raises(AccessDenied):
            await events["new"]
        await until(lambda: warned.matching("permission"), "it is logged")
    await other.fire("k0", 0)
    await turn(0.3)
    await cluster.server.command("ACL", "SETUSER", user, *again.split())
    await until(lambda: armed.values == [0], "what was fired meanwhile wakes, when it may be read again at the latest")
    for number in range(1, 20):
        await other.fire(f"k{number}", number)
    await until(lambda: armed.count == 20)
    assert sorted(armed.values) == list(range(20))


@pytest.mark.unrestricted
@pytest.mark.servers("redis", "valkey")
async def test_a_channel_forbidden_for_a_moment(cluster: Cluster) -> None:
    """Armed waits stay where their keys may not be heard for now, and are armed again; a new one is told."""
    await _withdrawn(cluster, "resetchannels &coord:0:node:*", again="&*")


@pytest.mark.unrestricted
@pytest.mark.servers("redis", "valkey")
async def test_reading_forbidden_for_a_moment(cluster: Cluster) -> None:
    """The same where the keys may be heard and not read."""
    await _withdrawn(cluster, "-hmget", again="+hmget")


@pytest.mark.unrestricted
@pytest.mark.servers("redis", "valkey")
async def test_data_forbidden_for_a_moment(cluster: Cluster) -> None:
    """The same where the map's data may not be touched."""
    await _withdrawn(cluster, "resetkeys", again="~*")


@pytest.mark.unrestricted
@pytest.mark.servers("redis", "valkey")
async def test_a_forbidden_map_hides_no_other(cluster: Cluster) -> None:
    """While one map's data may not be touched, the loss of another one's is noticed all the same."""
    user = ("ACL", "SETUSER", "limited", "on", ">secret")
    await cluster.server.command(*user, "resetchannels", "+@all", "~*", "&*")
    events = await cluster.map(username="limited", password="secret", heartbeat=0.1)
    node = cluster.of(events)
    armed = Seen(events["k"])
    await node.events("allowed").fire("latched")
    assert await node.events("allowed")["latched"]
    await events.armed()
    await until(lambda: node.statistics().cached == 1)
    await cluster.server.command(*user, "resetkeys", "~coord:{default/allowed}*")
    states = _states(node)
    await turn(0.3)
    await cluster.server.flush()
    await until(lambda: node.statistics().cached == 0, "the loss is noticed")
    await cluster.server.command(*user, "~*")
    await events.fire("k", 1)
    await until(lambda: armed.values == [1])
    assert states == []


@pytest.mark.servers("memory")
@pytest.mark.parametrize("trouble", ["no reads", "no subscribing"])
async def test_a_command_forbidden_for_a_moment(cluster: Cluster, trouble: str) -> None:
    """The same on the server in memory, by the command."""
    events, other = await cluster.map(), await cluster.map("other")
    armed, cancelled = Seen(events["k"]), events["cancelled"]
    await events.armed()
    cluster.memory.trouble = trouble
    cluster.memory.drop_connections()
    await turn(0.3)
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    assert armed.count == 0
    cluster.memory.trouble = ""
    await events.armed()
    await other.fire("k", 1)
    await until(lambda: armed.count == 1)
    assert armed.values == [1]
