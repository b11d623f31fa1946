"""F4 on a clock: applied is applied at once; only the answer waits for the replicas, and holds up nothing."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from coord import NotReplicated
from memory import Cluster
from memory.commands import MemoryCommands
from support.cluster import Cluster as ServerCluster
from support.cluster import Seen
from support.waiting import until


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster in memory, on a clock that the test moves."""
    with Cluster() as cluster:
        yield cluster


def _map(memory: Cluster, name: str = "n") -> Any:
    node = memory.node(name)
    memory.result(node.connected())
    return node.events("m")


def test_f4_holds_up_no_other_call(memory: Cluster) -> None:
    """Behind a call that waits for a silent replica, calls on the same map are applied and answered at once."""
    events = _map(memory)
    slow = Seen(events.fire("slow", replicas=1, within=12))
    for number in range(20):
        assert memory.result(events.fire(f"ordinary-{number}"), within=0.05).first
    assert slow.count == 0
    # And it is applied: who waits for it need not wait for the replica.
    assert memory.result(events["slow"], within=0.05) is True
    memory.advance(12)
    assert [type(error) for error in slow.errors] == [NotReplicated]


def test_f4_many_maps_at_once(memory: Cluster) -> None:
    """25 maps at once with no replica: 25 times NotReplicated, within the time given, and all were applied."""
    node = memory.node("n")
    memory.result(node.connected())
    seen = Seen(*(node.events(f"m{number}").fire("k", number, replicas=1, within=2.0) for number in range(25)))
    memory.advance(2.05)
    assert [type(error) for error in seen.errors] == [NotReplicated] * 25
    assert [error.applied.first for error in seen.errors] == [True] * 25  # type: ignore[attr-defined]


def test_f4_a_short_wait_behind_a_long_one(memory: Cluster) -> None:
    """``within=1`` made after ``within=12`` takes a second."""
    events = _map(memory)
    long = Seen(events.fire("long", replicas=1, within=12))
    memory.advance(0.03)
    short = Seen(events.fire("short", replicas=1, within=1))
    memory.advance(1.01)
    assert [type(error) for error in short.errors] == [NotReplicated]
    assert long.count == 0
    memory.server.replicas = 1
    memory.advance(0.2)
    assert [applied.first for applied in long.values] == [True]


def test_f4_each_is_answered_by_what_it_wants(memory: Cluster) -> None:
    """One replica acknowledges who wants one, and not who wants two."""
    events = _map(memory)
    memory.server.replicas = 1
    two, one = Seen(events.fire("two", replicas=2, within=1)), Seen(events.fire("one", replicas=1, within=1))
    memory.advance(0.2)
    assert (one.count, two.count) == (1, 0)
    memory.advance(1)
    assert "1 of 2 replicas" in str(two.errors[0])


def test_f4_a_distant_replica(memory: Cluster) -> None:
    """A replica that takes longer than one WAIT acknowledges each call in turn, however many follow it."""
    events = _map(memory)
    memory.server.replicas = 1
    memory.server.lag = 0.35
    seen = Seen()
    for number in range(40):
        seen.watch(events.fire(f"k{number}", replicas=1, within=1.0))
        memory.advance(0.05)
    memory.advance(1)
    assert seen.errors == []
    assert len(seen.values) == 40


def test_f4_a_replica_that_attaches_meanwhile(memory: Cluster) -> None:
    """The first replica gives the data another name, and nothing is lost: who waits for one is answered."""
    events = _map(memory)
    seen = Seen(events.fire("k", replicas=1, within=5))
    memory.advance(0.3)
    memory.server.attach(1)
    memory.advance(0.3)
    assert [applied.first for applied in seen.values] == [True]


@pytest.mark.parametrize("whose", ["the same", "the data before it"])
def test_f4_a_lost_link(memory: Cluster, whose: str) -> None:
    """On the next link it is asked again, if the server has the same data still; else nobody knows, and is told so."""
    events = _map(memory)
    seen = Seen(events.fire("k", replicas=1, within=9))
    memory.advance(0.3)
    if whose != "the same":
        # There and back: a replica of another's data, and then promoted.
        memory.server.follow("1" * 40)
        memory.server.promote()
    memory.server.drop_connections()
    memory.server.replicas = 1
    memory.advance(3)
    assert [applied.first for applied in seen.values] == ([True] if whose == "the same" else [])
    assert [type(error) for error in seen.errors] == ([] if whose == "the same" else [NotReplicated])


def test_f4_cancelled_and_closed(memory: Cluster) -> None:
    """Closing is no doubt for what is known to be applied; a cancelled one leaves nothing behind."""
    events = _map(memory)
    cancelled = events.fire("cancelled", replicas=1, within=100)
    seen = Seen(events.fire("k", replicas=1, within=100))
    memory.advance(0.3)
    cancelled.cancel()
    cancelled.addErrback(lambda _: None)
    memory.advance(0.3)
    node = memory.nodes[0]
    assert node.statistics().pending_calls == 1
    memory.result(node.close())
    assert [type(error) for error in seen.errors] == [NotReplicated]
    assert node.statistics().pending_calls == 0


def test_f4_thousands_at_once(memory: Cluster) -> None:
    """Their replicas are counted together: a few times, whatever their number."""
    events = _map(memory)
    memory.server.replicas = 1
    asked = 0
    count = memory.server.acknowledged

    def acknowledged(offset: int) -> int:
        nonlocal asked
        asked += 1
        return count(offset)

    memory.server.acknowledged = acknowledged  # type: ignore[method-assign]
    seen = Seen(*(events.fire(f"k{number}", replicas=1) for number in range(3_000)))
    memory.advance(0.2)
    assert (len(seen.values), seen.errors) == (3_000, [])
    assert asked < 100


def test_f4_a_wait_that_is_answered_at_once(memory: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before a server may answer WAIT without waiting: it is asked ten times a second, not without end."""
    asked = 0

    def wait(*_: object) -> int:
        nonlocal asked
        asked += 1
        return 0

    events = _map(memory)
    monkeypatch.setattr(MemoryCommands, "wait", wait)
    with pytest.raises(NotReplicated):
        memory.result(events.fire("k", replicas=1, within=2), within=2)
    assert asked <= 25


@pytest.mark.servers("redis", "valkey")
async def test_f4_on_a_server_without_replicas(cluster: ServerCluster) -> None:
    """25 maps at once, and again behind calls that wait for longer: each is told within its time, and not sooner."""
    node = await cluster.linked()
    long = Seen(node.events("m0").fire("long", replicas=1, within=20))
    for _ in range(2):
        begun = monotonic()
        seen = Seen(*(node.events(f"m{number}").fire("k", replicas=1, within=0.6) for number in range(25)))
        assert (await node.events("m0").pulse("ordinary")).first
        assert seen.count == 0
        await until(lambda seen=seen: seen.count == 25, "all are told")  # type: ignore[misc]
        assert 0.6 <= monotonic() - begun < 10
        assert [type(error) for error in seen.errors] == [NotReplicated] * 25
    assert long.count == 0
    await node.close()
    assert [type(error) for error in long.errors] == [NotReplicated]


@pytest.mark.servers("redis", "valkey")
async def test_f4_a_server_with_no_room_for_another_connection(cluster: ServerCluster) -> None:
    """Only the calls that need the connection fail, with the reason; it is made once there is room."""
    node = await cluster.linked()
    events = node.events("m")
    # On its own connection: there will be no room for ours.
    ask = node._session.link.ask
    (_, most) = await ask(b"CONFIG", b"GET", b"maxclients")
    await ask(b"CONFIG", b"SET", b"maxclients", b"1")
    try:
        # A server that closes before we write is not heard.
        with pytest.raises(
            NotReplicated, match=r"could not be made: (.*max number of clients|the server has closed it)"
        ):
            await events.fire("k", replicas=1, within=0.6)
        assert (await events.pulse("ordinary")).first
    finally:
        await ask(b"CONFIG", b"SET", b"maxclients", most)
    with pytest.raises(NotReplicated, match="0 of 1 replicas have it"):
        await events.fire("later", replicas=1, within=0.6)
    assert node.statistics().connection_attempts == 1
