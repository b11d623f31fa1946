"""Dead links: noticed, tried again with patience, and each fault is one suspended and one connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

import coord
from coord import Coordinator, LinkState, NotReplicated, TimedOut
from coord.link.backoff import backoff, spread
from memory import Cluster
from support.cluster import Cluster as ServerCluster
from support.cluster import Seen
from support.figures import figure
from support.waiting import until

SUSPENDED, CONNECTED = LinkState.SUSPENDED, LinkState.CONNECTED


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster in memory, on a clock that the test moves."""
    with Cluster() as cluster:
        yield cluster


def _states(node: Coordinator) -> list[LinkState]:
    states: list[LinkState] = []
    node.on_link(lambda state, _: states.append(state))
    return states


def _restart(cluster: Cluster) -> None:
    cluster.server.stop()
    cluster.advance(0.01)
    cluster.server.start()


def _away(cluster: Cluster) -> None:
    cluster.server.stop()
    cluster.advance(60)
    cluster.server.start()


def _hang(cluster: Cluster) -> None:
    cluster.server.hang()
    cluster.advance(25)
    cluster.server.resume()


def _stall(cluster: Cluster) -> None:
    cluster.networks["n"].stall()
    cluster.advance(60)
    cluster.networks["n"].unstall()


def _one_way(cluster: Cluster) -> None:
    cluster.networks["n"].stall("to client")
    cluster.advance(60)
    cluster.networks["n"].unstall()


def _load(cluster: Cluster) -> None:
    cluster.server.loading = True
    cluster.server.drop_connections()
    cluster.advance(30)
    cluster.server.loading = False


def _demote(cluster: Cluster) -> None:
    cluster.server.role = "slave"
    cluster.server.drop_connections()
    cluster.advance(30)
    cluster.server.role = "master"


FAULTS: dict[str, Callable[[Cluster], None]] = {
    "cut": lambda cluster: cluster.networks["n"].cut(),
    "its subscriber dropped": lambda cluster: cluster.server.drop_connections("subscribers"),
    "its command connection dropped": lambda cluster: cluster.server.drop_connections("commands"),
    "the server restarted": _restart,
    "the server away for a minute": _away,
    "the server hung": _hang,
    "a silent network": _stall,
    "a network silent in one direction": _one_way,
    "the server loading its data": _load,
    "the server a replica for a while": _demote,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_suspended_and_one_connected(memory: Cluster, fault: str) -> None:
    """Whatever breaks, for however long, a watcher of the link sees two changes, and waits see nothing."""
    node = memory.node("n")
    memory.result(node.connected())
    waiting = Seen(*(node.events("m")[f"k{number}"] for number in range(5)))
    memory.result(node.events("m").armed())
    states = _states(node)
    FAULTS[fault](memory)
    memory.advance(30)
    assert states == [SUSPENDED, CONNECTED]
    for number in range(5):
        memory.result(node.events("m").fire(f"k{number}", number))
    assert waiting.values == list(range(5))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_made_meanwhile_is_applied_once(memory: Cluster, fault: str) -> None:
    """A pulse called just before the fault is answered after it, and is in the history once (F2)."""
    node = memory.node("n", timeout=120.0)
    memory.result(node.connected())
    pulsing = Seen(node.events("m").pulse("k", 1))
    FAULTS[fault](memory)
    memory.advance(30)
    assert [applied.first for applied in pulsing.values] == [True]
    assert memory.result(node.events("m").records()).revision.number == 1


def test_the_pauses_between_attempts() -> None:
    """They begin at a tenth of a second, grow by half each time up to five seconds, and are jittered downwards."""
    pause = backoff()
    for attempt in range(1, 60):
        full = min(5.0, 0.1 * 1.5 ** (attempt - 1))
        pauses = [pause(attempt) for _ in range(50)]
        assert all(full / 2 <= each <= full for each in pauses)
        assert len(set(pauses)) > 25


def test_the_time_that_many_clients_add() -> None:
    """A random time on top of each pause: up to 20 ms with 50 nodes, 4 s with 10,000, a minute at most."""
    for nodes, most in ((50, 0.02), (10_000, 4.0), (10_000_000, 60.0)):
        times = [spread(2 * nodes) for _ in range(400)]
        assert max(times) <= most
        assert min(times) < most / 10
        assert max(times) > most * 0.9
    assert spread(0) == 0


def test_a_server_with_many_clients_gets_them_back_slowly(memory: Cluster) -> None:
    """Nodes that lost a server of 20,000 connections come back over four seconds, whether it was away or not."""
    shown = memory.server.info

    def crowded() -> dict[str, dict[str, str]]:
        return shown() | {"clients": {"connected_clients": "20000"}}

    memory.server.info = crowded  # type: ignore[method-assign]
    nodes = [memory.node(f"n{number}") for number in range(50)]
    for node in nodes:
        memory.result(node.connected())
    _restart(memory)
    memory.advance(0.3)
    assert sum(node.link is CONNECTED for node in nodes) < 15
    memory.advance(2.0)
    assert 15 < sum(node.link is CONNECTED for node in nodes) < 45
    memory.advance(8.0)
    assert all(node.link is CONNECTED for node in nodes)


def test_links_that_die_young_are_made_ever_more_slowly(memory: Cluster) -> None:
    """A link that does not live for a heartbeat is another failure; one that does ends the series."""
    node = memory.node("n")
    memory.result(node.connected())
    memory.advance(6)
    pauses = []
    for _ in range(14):
        memory.networks["n"].cut()
        memory.settle()
        begun = memory.clock.seconds()
        memory.result(node.connected())
        pauses.append(memory.clock.seconds() - begun)
    assert pauses[0] < 0.15
    assert all(2.5 <= pause < 5.1 for pause in pauses[-3:])
    memory.advance(6)
    memory.networks["n"].cut()
    memory.settle()
    begun = memory.clock.seconds()
    memory.result(node.connected())
    assert memory.clock.seconds() - begun < 0.15


def test_nodes_do_not_come_back_together(memory: Cluster) -> None:
    """Fifty nodes that lost a server together try again at times of their own."""
    nodes = [memory.node(f"n{number}") for number in range(50)]
    for node in nodes:
        memory.result(node.connected())
    memory.server.stop()
    tried: list[float] = []
    counts = [node.statistics().connection_attempts for node in nodes]
    for _ in range(400):
        memory.advance(0.01)
        for number, node in enumerate(nodes):
            if node.statistics().connection_attempts > counts[number]:
                counts[number] = node.statistics().connection_attempts
                tried.append(round(memory.clock.seconds(), 2))
    busiest = max(tried.count(moment) for moment in set(tried))
    assert len(tried) > 250
    # The first attempts come within a twentieth of a second; later ones are spread over seconds.
    assert busiest <= 25
    late = [moment for moment in tried if moment > tried[0] + 1.5]
    assert max(late.count(moment) for moment in set(late)) <= 8
    memory.server.start()
    memory.advance(6)
    assert all(node.link is CONNECTED for node in nodes)


def test_a_time_out_during_auth_is_no_end(memory: Cluster) -> None:
    """A server that takes the connection and never answers AUTH is tried again, and used when it answers."""
    memory.server.set_password("secret")
    memory.server.hang()
    node = memory.node("n", password="secret")
    for _ in range(3):
        before = node.statistics().connection_attempts
        memory.advance(16)
        assert node.statistics().connection_attempts > before
    assert "no answer within 10 s" in node.reason
    memory.server.resume()
    memory.result(node.connected(), within=16)
    assert memory.result(node.events("m").fire("k")).first


def test_a_hung_server_is_noticed_within_two_beats(memory: Cluster) -> None:
    """With the default heartbeat of 5 s, silence is noticed after 10 s at most."""
    node = memory.node("n")
    memory.result(node.connected())
    memory.advance(2.5)
    states = _states(node)
    memory.server.hang()
    memory.advance(10)
    assert states == [SUSPENDED]
    assert "has not answered" in node.reason
    memory.server.resume()
    memory.advance(15)
    assert states == [SUSPENDED, CONNECTED]


@pytest.mark.parametrize("seconds", [8, 60])
def test_a_node_that_was_away_does_not_judge(memory: Cluster, seconds: float) -> None:
    """A node that could not read what came meanwhile takes that for no silence of the server's."""
    node = memory.node("n", heartbeat=5)
    memory.result(node.connected())
    states = _states(node)
    # The word goes out. When the node is back, a reactor calls what is due before it reads what has come.
    memory.networks["n"].stall("to client")
    memory.advance(5)
    memory.clock.callLater(5, memory.networks["n"].unstall)
    memory.clock.advance(seconds)
    memory.advance(20)
    assert states == []


def test_a_server_that_begins_to_load_under_us(memory: Cluster) -> None:
    """LOADING in answer to a call suspends the link; the call is held, and applied when the data is there."""
    node = memory.node("n")
    memory.result(node.connected())
    states = _states(node)
    memory.server.loading = True
    firing = Seen(node.events("m").fire("k"))
    memory.advance(5)
    assert states == [SUSPENDED]
    assert "loading" in node.reason
    memory.server.loading = False
    memory.advance(6)
    assert states == [SUSPENDED, CONNECTED]
    assert [applied.first for applied in firing.values] == [True]


def test_a_server_that_loads_is_left_by_who_only_waits(memory: Cluster) -> None:
    """What refuses a heartbeat because its data is not there is left at once, though no call is made."""
    node = memory.node("n", heartbeat=5)
    memory.result(node.connected())
    states = _states(node)
    memory.server.loading = True
    memory.advance(6)
    assert states == [SUSPENDED]
    assert "loading" in node.reason
    memory.server.loading = False
    memory.advance(6)
    assert states == [SUSPENDED, CONNECTED]


def test_a_flapping_server_leaves_no_doubt(memory: Cluster) -> None:
    """Cut again and again while the link is being made, a node ends connected and counts each loss once."""
    node = memory.node("n")
    memory.result(node.connected())
    states = _states(node)
    waiting: Deferred[Any] = node.events("m")["k"]
    for step in range(40):
        memory.networks["n"].cut()
        memory.advance(0.004 * step)
    memory.advance(10)
    assert states[-1] is CONNECTED
    assert states == [SUSPENDED, CONNECTED] * (len(states) // 2)
    memory.result(node.events("m").fire("k", 1))
    assert memory.result(waiting) == 1


@pytest.mark.parametrize("direction", ["to server", "to client"])
def test_a_dead_connection_for_replicated_calls_is_noticed(memory: Cluster, direction: Any) -> None:
    """Where only the third connection went silent, the caller is told in time, and the link is made anew."""
    memory.server.replicas = 1
    node = memory.node("n")
    memory.result(node.events("m").pulse("k", replicas=1))
    third = memory.networks["n"].connections[-1]
    states = _states(node)
    third.stall(direction)
    with pytest.raises(NotReplicated):
        memory.result(node.events("m").pulse("k", replicas=1, within=3.0), within=3)
    memory.advance(12)
    assert states == [SUSPENDED, CONNECTED]
    assert memory.result(node.events("m").pulse("k", replicas=1)).first
    assert memory.result(node.events("m").records()).revision.number == 3
    third.unstall(direction)


def test_a_long_wait_is_no_dead_connection(memory: Cluster) -> None:
    """A replica may take its time: the link stays while WAIT holds up the third connection."""
    node = memory.node("n")
    memory.result(node.connected())
    states = _states(node)
    with pytest.raises(NotReplicated):
        memory.result(node.events("m").pulse("k", replicas=1, within=50.0))
    assert states == []


def test_why_there_is_no_link_is_in_the_error(memory: Cluster) -> None:
    """Who waits for the link in vain is told what the last attempt ended with."""
    memory.server.stop()
    node = memory.node("n")
    with pytest.raises(TimedOut, match="refused"):
        memory.result(node.connected(timeout=3))


@pytest.mark.servers("redis", "valkey")
@pytest.mark.deadline(60)
async def test_a_hundred_nodes_come_back(cluster: ServerCluster) -> None:
    """A server with a hundred nodes of fifty waits each is killed and started: all are armed again, and soon."""
    address = cluster.server.address()
    nodes = [coord.connect(address, node=f"n{number}", heartbeat=5.0) for number in range(100)]
    try:
        await gatherResults([node.connected(timeout=30) for node in nodes])
        waiting = Seen(*(node.events("m")[f"{node.node}-{key}"] for node in nodes for key in range(50)))
        await gatherResults([node.events("m").armed() for node in nodes])
        attempts = sum(node.statistics().connection_attempts for node in nodes)
        await cluster.server.kill()
        await until(lambda: all(node.link is SUSPENDED for node in nodes), "all have noticed")
        await cluster.server.start()
        begun = monotonic()
        await gatherResults([node.connected(timeout=30) for node in nodes])
        linked = monotonic() - begun
        await gatherResults([node.events("m").armed() for node in nodes])
        armed = monotonic() - begun
        attempts = sum(node.statistics().connection_attempts for node in nodes) - attempts
        firing = nodes[0].events("m")
        await gatherResults([firing.fire(f"n{number}-{key}", key) for number in range(100) for key in range(50)])
        await until(lambda: waiting.count == 5_000, "all waiters are woken")
        assert waiting.errors == []
        figure(
            f"{cluster.server.kind}, 100 nodes of 50 waits each in one process: all linked {linked:.2f} s after its "
            f"start, all armed after {armed:.2f} s, with {attempts} attempts"
        )
        assert armed < 15
    finally:
        await gatherResults([node.close() for node in nodes])
