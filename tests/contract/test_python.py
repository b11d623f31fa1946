"""The interface in Python that docs/python.md shows, sentence by sentence."""

from __future__ import annotations

import asyncio
import builtins
import re
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import pytest
from twisted.application.service import IService
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.python.failure import Failure

import coord
from coord import (
    AccessDenied,
    Applied,
    Closed,
    Coordinator,
    EventFailed,
    InvalidInput,
    InvalidName,
    InvalidTime,
    InvalidURL,
    Kind,
    LinkState,
    NotReplicated,
    Record,
    Revision,
    Statistics,
    TimedOut,
)
from coord.core.calls import CallQueue
from coord.core.records import NEVER
from support.cluster import Cluster, Seen, failure_of
from support.processes import Talker
from support.waiting import until


async def test_python_the_example(cluster: Cluster) -> None:
    """Wait, fire, reset, pulse and fail, on two nodes."""
    c, other = cluster.node("one"), cluster.node("two")
    on_mount = c.events("mount")
    hooray: list[Any] = []
    on_mount["abc"].addCallback(hooray.append)
    on_mount["abc"].addCallback(hooray.append)
    applied = await other.events("mount").fire("abc", {"at": "/mnt/abc"})
    assert applied.first
    await until(lambda: len(hooray) == 2)
    on_mount["abc"].addCallback(hooray.append)
    assert hooray == [{"at": "/mnt/abc"}] * 3
    assert (await on_mount.reset("abc")).first
    assert (await on_mount.pulse("abc", {"at": "/mnt/abc"})).first
    waiting = on_mount["abc"]
    assert (await on_mount.fail("abc", "disk on fire")).first
    with pytest.raises(EventFailed, match="abc failed: disk on fire"):
        await waiting
    await on_mount.reset("abc")
    with pytest.raises(TimedOut):
        await on_mount.wait("abc", timeout=0.02)
    values = on_mount.wait_all(["a", "b"])
    any_ = on_mount.wait_any(["c", "a", "b"])
    await on_mount.fire("b", 2)
    await on_mount.fire("a", 1)
    assert await values == {"a": 1, "b": 2}
    assert await any_ == ("b", 2)
    record = await on_mount.record("a")
    assert isinstance(record, Record)
    assert record.latched
    assert await on_mount.record("nothing") is None
    await on_mount.armed()
    assert c.link is LinkState.CONNECTED
    await c.connected(timeout=5)
    assert isinstance(c.statistics(), Statistics)
    await c.close()


def test_python_importing_installs_no_reactor() -> None:
    """Nor does it load txredisapi, which would."""
    script = (
        "import sys, coord; "
        "c = coord.Revision(1, 2); "
        "assert 'twisted.internet.reactor' not in sys.modules; assert 'txredisapi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_python_a_service_installs_no_reactor() -> None:
    """coord.service() may be called in a .tac file, before the reactor is chosen."""
    script = (
        "import sys, coord; coord.service('redis://localhost:1'); "
        "assert 'twisted.internet.reactor' not in sys.modules; assert 'txredisapi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_python_views_raise(cluster: Cluster) -> None:
    """A waiter is a view: callback, errback and assignment raise and name fire and reset; the waiter still waits."""
    events = await cluster.map()
    waiting = events["k"]
    with pytest.raises(TypeError, match=r"fire.*reset"):
        waiting.callback(1)
    with pytest.raises(TypeError, match=r"fail.*reset"):
        waiting.errback(Failure(Exception()))
    with pytest.raises(TypeError, match=r"fire.*reset"):
        events["k"] = 1
    with pytest.raises(TypeError, match="reset"):
        del events["k"]
    for view in (events.wait("k", timeout=50), events["k"].addCallback(lambda value: value)):
        with pytest.raises(TypeError):
            view.callback(1)
        seen = Seen(view)
        view.cancel()
        assert isinstance(seen.errors[0], CancelledError)
    await events.fire("k", 1)
    assert await waiting == 1


async def test_python_looks_raise(cluster: Cluster) -> None:
    """in, iteration, len() and bool() raise and name the right call; they create nothing."""
    node = await cluster.linked()
    events = node.events("m")
    looks: list[tuple[Any, str]] = [
        (lambda: "k" in events, "record"),
        (lambda: list(events), "records"),
        (lambda: len(events), "records"),
        (lambda: bool(events), "records"),
        (lambda: [*events], "records"),
    ]
    for look, named in looks:
        with pytest.raises(TypeError, match=named):
            look()
    assert node.statistics().subscriptions == 0
    assert "m" in repr(events)
    assert "n" in repr(node)


async def test_python_maps_are_the_same_object(cluster: Cluster) -> None:
    """events(name) answers with the same map each time, and maps are apart from each other."""
    node = await cluster.linked()
    assert node.events("m") is node.events("m")
    assert node.events("m").name == "m"
    await node.events("m").fire("k", 1)
    assert await node.events("other").record("k") is None


@pytest.mark.unrestricted
@pytest.mark.servers("memory", "redis", "valkey")
async def test_python_namespaces_are_apart(cluster: Cluster) -> None:
    """Two namespaces on one server share nothing; neither do two databases."""
    one = await cluster.map("one", namespace="one")
    two = await cluster.map("two", namespace="two")
    three = await cluster.map("three", namespace="one", database=3)
    pending = Seen(two["k"], three["k"])
    await two.armed()
    await three.armed()
    await one.fire("k", 1)
    same = await cluster.map("same", namespace="one")
    assert await same["k"] == 1
    assert await two.record("k") is None
    assert await three.record("k") is None
    await two.fire("k", 2)
    await three.fire("k", 3)
    await until(lambda: pending.count == 2)
    assert sorted(pending.values) == [2, 3]


async def test_python_many_maps_with_difficult_names(cluster: Cluster) -> None:
    """Keys with colons, braces, spaces, slashes and any script do not meet each other."""
    node = await cluster.linked()
    names = ["m", "m.1", "M", "-", "a_b"]
    keys = ["k", "{k}", "k:1", "a b", "/mnt/ä/日本", "*", "[a]", "k\\", "'\"", "log", "head", "🎉" * 128]
    for name in names:
        events = node.events(name)
        seen = {key: Seen(events[key]) for key in keys}
        await events.armed()
        for key in keys:
            await events.fire(key, [name, key])
        assert {key: one.values for key, one in seen.items()} == {key: [[name, key]] for key in keys}
        assert sorted(record.key for record in (await events.records()).records) == sorted(keys)


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**70,
    10**400,
    1.5,
    -0.0,
    1e308,
    "",
    "007",
    "true",
    "é\u2028\x00\ud7ff\U0010ffff",
    [],
    {},
    [[], {}, None],
    {"": {"a": [1, "2", 3.5, None, True]}},
    "x" * 65_534,
    list(range(2_000)),
]


async def test_python_values_come_back_as_they_went(cluster: Cluster) -> None:
    """JSON values round-trip on every path: waiter, record, listing, watch; strings stay strings."""
    here, there = await cluster.map("here"), await cluster.map("there")
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    values = [*VALUES, nested]
    waiting = [there[f"k{number}"] for number in range(len(values))]
    await there.armed()
    for number, value in enumerate(values):
        await here.fire(f"k{number}", value)
    for number, value in enumerate(values):
        for got in (await waiting[number], await here[f"k{number}"]):
            assert (type(got), got) == (type(value), value)
        record = await there.record(f"k{number}")
        assert record is not None
        assert record.value == value
    listing = await there.records()
    assert {record.key: record.value for record in listing.records} == {f"k{n}": v for n, v in enumerate(values)}


async def test_python_a_failure_will_do_as_the_reason(cluster: Cluster) -> None:
    """fail() takes a Failure or an exception; the reason is its type and text."""
    events = await cluster.map()
    for reason in (Failure(ValueError("bad disk")), ValueError("bad disk")):
        waiting = events["k"]
        await events.fail("k", reason)
        with pytest.raises(EventFailed) as caught:
            await waiting
        assert caught.value.reason == "ValueError: bad disk"
        await events.reset("k")
    await events.fail("json", {"code": 5})
    with pytest.raises(EventFailed) as caught:
        await events["json"]
    assert (caught.value.key, caught.value.reason) == ("json", {"code": 5})
    record = await events.record("json")
    assert record is not None
    assert (record.kind, record.value, record.latched) == (Kind.FAILED, {"code": 5}, True)


async def test_python_wait_all(cluster: Cluster) -> None:
    """{key: value} in the order asked for; fails as soon as one failed; repeated keys count once; none is nothing."""
    events = await cluster.map()
    assert await events.wait_all([]) == {}
    waiting = events.wait_all(["b", "a", "b"])
    await events.fire("a", 1)
    await events.fire("b", 2)
    values = await waiting
    assert list(values.items()) == [("b", 2), ("a", 1)]
    failing = events.wait_all(iter(["a", "x", "y"]))
    await events.fail("x", "no")
    with pytest.raises(EventFailed, match="x failed"):
        await failing
    assert await events.wait_all(["a", "b"], timeout=5) == {"a": 1, "b": 2}


async def test_python_wait_any(cluster: Cluster) -> None:
    """The first resolved, failure included."""
    events = await cluster.map()
    waiting = events.wait_any(["a", "b"])
    await events.fire("b", 2)
    assert await waiting == ("b", 2)
    assert await events.wait_any(["a", "b"]) == ("b", 2)
    failing = events.wait_any(["x", "y"])
    await events.fail("y", "no")
    with pytest.raises(EventFailed, match="y failed"):
        await failing
    with pytest.raises(InvalidInput):
        events.wait_any([])


async def test_python_waiters_compose(cluster: Cluster) -> None:
    """A waiter may be awaited, gathered, chained into another, and returned from a callback."""
    events = await cluster.map()
    both = gatherResults([events["a"], events["b"]])
    listed = DeferredList([events["a"], events["b"]])
    chained: Deferred[Any] = events["a"].addCallback(lambda _: events["b"])

    async def in_a_row() -> list[Any]:
        return [await events["a"], await events["b"]]

    row = Deferred.fromCoroutine(in_a_row())
    await events.fire("a", 1)
    await events.fire("b", 2)
    assert await both == [1, 2]
    assert await listed == [(True, 1), (True, 2)]
    assert await chained == 2
    assert await row == [1, 2]


async def test_python_a_chained_waiter_can_be_cancelled(cluster: Cluster) -> None:
    """Cancelling what waits for a waiter cancels the waiter."""
    events = await cluster.map()
    chained: Deferred[Any] = events["a"].addCallback(lambda _: events["b"])
    await events.fire("a")
    assert cluster.of(events).statistics().waiters == 1
    seen = Seen(chained)
    chained.cancel()
    assert isinstance(seen.errors[0], CancelledError)
    assert cluster.of(events).statistics().waiters == 0


async def test_python_own_add_timeout(cluster: Cluster) -> None:
    """Twisted's own addTimeout works on a waiter as on any Deferred."""
    from twisted.internet import reactor

    events = await cluster.map()
    with pytest.raises(defer.TimeoutError):
        await events["k"].addTimeout(0.02, reactor)
    assert cluster.of(events).statistics().waiters == 0


async def test_python_timed_out_is_everybodys(cluster: Cluster) -> None:
    """TimedOut is coord's, Python's and Twisted's time-out; asyncio's, too."""
    events = await cluster.map()
    waiting = events.wait("k", timeout=0.01)
    with pytest.raises(TimedOut) as caught:
        await waiting
    for kind in (coord.Error, builtins.TimeoutError, defer.TimeoutError, asyncio.TimeoutError):
        assert isinstance(caught.value, kind)
    assert issubclass(InvalidInput, ValueError)
    errors = [getattr(coord, name) for name in coord.__all__ if isinstance(getattr(coord, name), type)]
    for error in errors:
        if issubclass(error, BaseException):
            assert issubclass(error, coord.Error)


async def test_python_timeout_zero(cluster: Cluster) -> None:
    """A wait with no time at all still sees what the live cache has."""
    events = await cluster.map()
    await events.fire("k", 1)
    assert await events["k"] == 1
    assert await events.wait("k", timeout=0) == 1
    with pytest.raises(TimedOut):
        await events.wait("pending", timeout=0)


async def test_python_connected(cluster: Cluster) -> None:
    """connected() is called back when the link is up, at once where it is, and ends with TimedOut."""
    await cluster.server.stop()
    node = cluster.node()
    with pytest.raises(TimedOut):
        await node.connected(timeout=0.02)
    waiting = node.connected()
    dropped = Seen(node.connected())
    given_up = node.connected()
    dropped.watch(given_up)
    given_up.cancel()
    assert dropped.count == 1
    await cluster.server.start()
    await waiting
    assert Seen(node.connected()).values == [None]
    await until(lambda: dropped.count == 2)


async def test_python_on_link(cluster: Cluster) -> None:
    """Each change of the link comes with a reason; a callback that raises hurts nobody; stop() ends it."""
    node = cluster.node()
    heard: list[tuple[LinkState, str]] = []
    stopped: list[LinkState] = []
    ends: list[Any] = []

    def raises(_: LinkState, __: str) -> None:
        raise ZeroDivisionError

    def once(state: LinkState, _: str) -> None:
        stopped.append(state)
        ends[0]()

    node.on_link(raises)
    ends.append(node.on_link(once))
    node.on_link(lambda state, reason: heard.append((state, reason)))
    await node.connected()
    await cluster.server.drop_connections()
    await until(lambda: len(heard) == 3)
    await node.close()
    states = [state for state, _ in heard]
    assert states == [LinkState.CONNECTED, LinkState.SUSPENDED, LinkState.CONNECTED, LinkState.CLOSED]
    assert all(reason for _, reason in heard)
    assert stopped == [LinkState.CONNECTED]
    assert len(cluster.logged(ZeroDivisionError)) == 4
    ends[0]()


async def test_python_statistics_count(cluster: Cluster) -> None:
    """Waits, wakes, calls and losses are counted from the beginning; what the live cache answered is no wake."""
    events, gate = await cluster.gated()
    node = cluster.of(events)
    for key in ("a", "b"):
        events[key].addCallback(lambda _: None)
        await events.armed()
        await events.fire(key)
    await events["a"]
    gate.cut()
    await until(lambda: node.link is LinkState.SUSPENDED)
    await node.connected()
    now = node.statistics()
    assert (now.waits, now.wakes, now.cache_hits) == (3, 2, 1)
    assert (now.calls_answered, now.batches, now.link_losses) == (2, 2, 1)
    await events.pulse("a")


async def test_python_statistics(cluster: Cluster) -> None:
    """A frozen snapshot of what the node holds."""
    events = await cluster.map()
    node = cluster.of(events)
    await events.fire("latched")
    await events["latched"]
    waiting = [events["a"], events["a"], events["b"]]
    now = node.statistics()
    assert (now.waiters, now.unarmed, now.cached, now.pending_calls, now.link) == (3, 3, 1, 0, LinkState.CONNECTED)
    await events.armed()
    now = node.statistics()
    assert (now.waiters, now.unarmed, now.subscriptions) == (3, 0, 3)
    firing = events.fire("a")
    assert node.statistics().pending_calls == 1
    assert now.pending_calls == 0
    with pytest.raises(AttributeError):
        now.pending_calls = 5  # type: ignore[misc]
    await firing
    waiting[2].cancel()
    seen = Seen(*waiting)
    assert seen.count == 3


async def test_python_settled(cluster: Cluster) -> None:
    """Called back when every wait made so far is armed or resolved; at once where there is none."""
    events = await cluster.map()
    assert Seen(events.armed()).count == 1
    waiting = [events[f"k{number}"] for number in range(1_200)]
    settled = Seen(events.armed())
    assert settled.count == 0
    await until(lambda: settled.count)
    assert cluster.of(events).statistics().unarmed == 0
    for waiter in waiting:
        seen = Seen(waiter)
        waiter.cancel()
        assert seen.count == 1


async def test_python_settled_in_its_own_callbacks(cluster: Cluster) -> None:
    """A callback of armed() may ask again, wait, cancel and close."""
    events = await cluster.map()
    waiting = [events["a"], events["b"]]
    seen = Seen()

    def again(_: object) -> None:
        seen.watch(events.armed())
        waiting[0].cancel()

    first, second, third = events.armed(), events.armed(), events.armed()
    waiting[0].addErrback(lambda _: None)
    first.addCallback(again)
    second.addCallback(again)
    seen.watch(third)
    await until(lambda: seen.count == 3)
    waiting[1].addErrback(lambda _: None)
    waiting[1].cancel()


async def test_python_settled_when_its_waits_are_cancelled(cluster: Cluster) -> None:
    """Without a server, cancelling the last wait settles."""
    await cluster.server.stop()
    node = cluster.node()
    events = node.events("m")
    waiting = events["k"]
    settled = Seen(events.armed())
    assert settled.count == 0
    seen = Seen(waiting)
    waiting.cancel()
    assert (settled.count, seen.count) == (1, 1)


async def test_python_subscribers(cluster: Cluster) -> None:
    """Counts the nodes that wait for a key or cache it."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await here.fire("k")
    await here["k"]
    await there["k"]
    waiting = [here["p"], here["p"]]
    await here.armed()
    assert await there.subscribers(["k", "p", "nobody"]) == {"k": 2, "p": 1, "nobody": 0}
    assert await there.subscribers([]) == {}
    for waiter in waiting:
        waiter.addErrback(lambda _: None)
        waiter.cancel()


@pytest.mark.unrestricted
@pytest.mark.servers("memory", "redis", "valkey")
async def test_python_execute(cluster: Cluster) -> None:
    """One raw command, for diagnosis; the reply comes as Redis gives it."""
    node = await cluster.linked()
    assert await node.execute("SET", "a", 7) == b"OK"
    assert await node.execute("GET", b"a") == b"7"
    assert await node.execute("INCR", "n") == 1
    assert await node.execute("GET", "nothing") is None
    assert await node.execute("MGET", "a", "nothing") == [b"7", None]
    with pytest.raises(coord.Error, match="NOSUCH"):
        await node.execute("NOSUCH")


async def test_python_service(cluster: Cluster) -> None:
    """Connects at startService, closes at stopService, can be started again, each time as a new node."""
    service = coord.service(cluster.server.address(), heartbeat=0.5)
    assert IService.providedBy(service)
    with pytest.raises(RuntimeError, match="running"):
        service.coordinator.events("m")
    incarnations = set()
    for _ in range(2):
        service.startService()
        node: Coordinator = service.coordinator
        incarnations.add(node.incarnation)
        await node.connected()
        waiting = Seen(node.events("m")["k"])
        await service.stopService()
        assert isinstance(waiting.errors[0], Closed)
        assert node.link is LinkState.CLOSED
    assert len(incarnations) == 2
    with pytest.raises(RuntimeError):
        service.coordinator.events("m")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"address": "http://x"}, InvalidURL),
        ({"namespace": "no spaces"}, InvalidName),
        ({"node": ""}, InvalidName),
        ({"heartbeat": -1}, InvalidTime),
        ({"database": -1}, InvalidURL),
        ({"cache_size": 0}, InvalidInput),
        ({"hartbeat": 5}, TypeError),
    ],
)
def test_python_service_refuses_bad_arguments_when_made(options: dict[str, Any], error: type[Exception]) -> None:
    """Bad arguments raise at coord.service(), not when the service is started."""
    with pytest.raises(error):
        coord.service(**options)


async def test_python_service_stopped_and_never_started(cluster: Cluster) -> None:
    """Stopping what is not running is nothing."""
    service = coord.service(cluster.server.address())
    await service.stopService()


async def test_python_close_is_a_context(cluster: Cluster) -> None:
    """Async with coord.connect(...) closes at the end."""
    async with cluster.node() as node:
        await node.events("m").fire("k")
    assert node.link is LinkState.CLOSED


async def test_python_nodes_have_names(cluster: Cluster) -> None:
    """The node's name is in its records; by default it is the host's; each life has an incarnation of its own."""
    named, unnamed = cluster.node("my-node.1"), cluster.node(None)  # type: ignore[arg-type]
    record = (await named.events("m").fire("k")).record
    assert record is not None
    assert record.node == "my-node.1" == named.node
    assert re.fullmatch(r"[A-Za-z0-9._-]+", unnamed.node)
    assert named.incarnation != unnamed.incarnation
    assert named.namespace == "default"


async def test_python_reentrant_everything(cluster: Cluster) -> None:
    """Callbacks that wait, cancel, call and ask in all directions: everything ends, nothing is called twice."""
    events, other = await cluster.map(), await cluster.map("other")
    seen = Seen()
    made: list[Deferred[Any]] = []

    def storm(value: Any) -> Any:
        if isinstance(value, int) and value > 0:
            made.append(events["k"].addCallback(storm))
            dropped = events["k"]
            dropped.addErrback(lambda _: None)
            dropped.cancel()
            seen.watch(events.pulse("k", value - 1))
            seen.watch(events.armed())
            seen.watch(events.record("k"))
        return value

    for _ in range(3):
        made.append(events["k"].addCallback(storm))
    await events.armed()
    await other.pulse("k", 3)
    await until(lambda: made and all(deferred.called for deferred in made) and seen.count == 3 * (len(made) - 3))
    assert seen.errors == []


@pytest.mark.skipif(not hasattr(coord, "launch"), reason="coord.launch is not there yet")
async def test_python_launch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """launch() starts the embedded server and answers with a coordinator; close() ends both."""
    node = await coord.launch()
    events = node.events("m")
    waiting = events["k"]
    await events.fire("k", 1)
    assert await waiting == 1
    await node.close()
    assert isinstance(failure_of(events["k"]), Closed)


def test_python_applied_is_frozen() -> None:
    """What calls answer with cannot be changed by its reader."""
    applied = Applied(None, first=True)
    with pytest.raises(AttributeError):
        applied.first = False  # type: ignore[misc]
    assert str(Revision(5, 17)) == "5.17"
    assert Revision.parse("5.17") == Revision(5, 17) < Revision(6, 0)
    assert AccessDenied().args == ()


async def test_python_on_link_in_order(cluster: Cluster) -> None:
    """A callback that closes the node leaves nobody behind with an older state; who stopped is not called."""
    node = cluster.node()
    heard: list[LinkState] = []
    stopped: list[LinkState] = []
    closing: list[Deferred[None]] = []

    def close(state: LinkState, _: str) -> None:
        stop()
        if state is LinkState.CONNECTED:
            closing.append(node.close())

    node.on_link(close)
    stop = node.on_link(lambda state, _: stopped.append(state))
    node.on_link(lambda state, _: heard.append(state))
    await until(lambda: closing)
    await closing[0]
    assert heard[-1] is LinkState.CLOSED
    assert stopped == []


@pytest.mark.servers("redis", "valkey")
async def test_python_on_another_reactor(cluster: Cluster) -> None:
    """Whoever runs Twisted on asyncio's loop awaits waiters there: coord takes the reactor that it finds."""
    program = Talker("on_asyncio.py", cluster.server.address())
    await program.ended
    assert program.lines == ["on asyncio"]


async def test_other_maps_cost_a_call_nothing(cluster: Cluster) -> None:
    """However many maps a node calls, a call has it look at the queue of its own map only."""
    node = await cluster.linked("n")
    await gatherResults([node.events(f"m{number}").fire("k") for number in range(50)])
    with patch.object(CallQueue, "next", autospec=True, side_effect=CallQueue.next) as looked:
        await node.events("m7").fire("late")
    queues = {id(queue) for (queue,), _ in looked.call_args_list}
    assert len(queues) == 1


@pytest.mark.parametrize("options", [{}, {"replicas": 1, "within": 0.001}])
async def test_what_a_calls_answer_leads_to_is_sent_with_it(cluster: Cluster, options: Any) -> None:
    """It tells of a generation that is new to a node that waits; the map's head is asked for before the next beat."""
    node = await cluster.linked("n", heartbeat=60.0)
    events = node.events("m")
    waiting = events["other"]
    await events.armed()
    state = events._session.map("m")
    assert state.head == NEVER
    fired = events.fire("k", **options).addErrback(lambda failure: failure.trap(NotReplicated))
    await until(lambda: state.head != NEVER)
    await events.fire("other")
    await waiting
    await fired
