"""The cluster that users' tests have: what is done to its server, networks and clock, and what nodes make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred

import coord
from coord import LinkState
from coord.testing import Cluster, Delivery
from support.watcher import Watcher


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster, which leaves nothing behind."""
    with Cluster() as cluster:
        yield cluster


def test_a_fire_on_one_node_wakes_a_waiter_on_another(memory: Cluster) -> None:
    """The first example of the class, with the reset, the pulse and the failure beside it."""
    alice, bob = memory.node("alice").events("mount"), memory.node("bob").events("mount")
    waiting = bob["abc"]
    assert memory.result(alice.fire("abc", 7)).first
    assert memory.result(waiting) == 7
    assert not memory.result(bob.fire("abc", 8)).first
    assert memory.result(alice.reset("abc")).first
    again = bob["abc"]
    memory.settle()
    memory.result(alice.pulse("abc", 9))
    assert memory.result(again) == 9
    failing = bob["def"]
    memory.settle()
    memory.result(alice.fail("def", "no disk"))
    with pytest.raises(coord.EventFailed, match="no disk"):
        memory.result(failing)


@pytest.mark.parametrize("fault", ["stopped", "hung", "dropped", "cut", "stalled", "stalled to client"])
def test_what_was_fired_meanwhile_is_known_afterwards(memory: Cluster, fault: str) -> None:
    """Whatever is done to the server or to a network, a waiter has its value once that is over."""
    alice, bob = memory.node("alice"), memory.node("bob")
    waiting = bob.events("m")["k"]
    memory.settle()
    server, network = memory.server, memory.networks["bob"]
    faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "stopped": (server.stop, server.start),
        "hung": (server.hang, server.resume),
        "dropped": (server.drop_connections, memory.settle),
        "cut": (network.cut, memory.settle),
        "stalled": (network.stall, network.unstall),
        "stalled to client": (partial(network.stall, "to client"), partial(network.unstall, "to client")),
    }
    begin, end = faults[fault]
    begin()
    firing = alice.events("m").fire("k", 1)
    memory.advance(60 if "stalled" in fault else 5)
    end()
    assert memory.result(firing).first
    assert memory.result(waiting) == 1
    assert [node.link for node in (alice, bob)] == [LinkState.CONNECTED] * 2


@pytest.mark.parametrize("lost", ["flushed", "started empty"])
def test_a_server_that_lost_its_data(memory: Cluster, lost: str) -> None:
    """A key that was fired is pending again, and can be fired again."""
    events = memory.node("n").events("m")
    memory.result(events.fire("k", 1))
    if lost == "flushed":
        memory.server.flush()
    else:
        memory.server.start("empty")
    memory.advance(30)
    assert memory.result(events.record("k")) is None
    assert memory.result(events.fire("k", 2)).first


def test_replicas_are_as_many_as_the_test_says(memory: Cluster) -> None:
    """A call that wants one is answered when there is one, and is told of its lack at its end."""
    events = memory.node("n").events("m")
    with pytest.raises(coord.NotReplicated):
        memory.result(events.fire("a", replicas=1, within=2))
    memory.server.replicas = 1
    assert memory.result(events.fire("b", replicas=1, within=2)).first


def test_time_passes_on_the_server_too(memory: Cluster) -> None:
    """The retention of a pulse ends when the test's clock says so."""
    events = memory.node("n", retention=60).events("m")
    memory.result(events.pulse("k", 1))
    before = memory.server.now()
    memory.advance(3)
    assert memory.server.now() == before + 3
    assert memory.result(events.record("k")) is not None
    memory.advance(61)
    memory.result(events.pulse("other", 1))
    assert memory.result(events.record("k")) is None


def test_a_watch_goes_on_over_a_restart(memory: Cluster) -> None:
    """Everything that happens on a map comes once, in order."""
    alice, bob = memory.node("alice").events("m"), memory.node("bob").events("m")
    watcher = Watcher(bob)
    memory.advance(1)
    for number in range(3):
        memory.result(alice.pulse("k", number))
        memory.server.start()
        memory.advance(5)
    assert watcher.values == [0, 1, 2]
    watcher.stop()


def test_a_network_is_as_slow_as_the_test_says(memory: Cluster) -> None:
    """A delivery that takes 0.2 s each way makes a call of 0.4 s."""
    events = memory.node("n").events("m")
    memory.result(events.fire("quick"))

    def slowly(delivery: Delivery) -> float:
        return 0.2

    memory.networks["n"].deliver = slowly
    memory.networks["n"].cut()
    memory.advance(30)
    before = memory.clock.seconds()
    memory.result(events.fire("slow"))
    assert memory.clock.seconds() - before == pytest.approx(0.4)


def test_a_result_that_never_comes_is_an_error(memory: Cluster) -> None:
    """`result` lets so much time pass and no more."""
    never: Deferred[None] = Deferred()
    with pytest.raises(AssertionError, match="no result within 5 s"):
        memory.result(never, within=5)
    assert memory.clock.seconds() == 5


def test_what_a_test_leaves_behind_is_an_error() -> None:
    """A timer, or a connection, that is left when all nodes are closed fails the test."""
    cluster = Cluster()
    cluster.node("n")
    cluster.settle()
    left: Any = cluster.clock.callLater(1, lambda: None)
    with pytest.raises(AssertionError, match="left behind"):
        cluster.close()
    left.cancel()
    cluster.close()


@pytest.mark.parametrize("fault", ["slow", "stalled", "cut", "hung", "stopped"])
def test_a_cluster_closes_in_the_middle_of_a_fault(fault: str) -> None:
    """A test may end as it likes: what is under way arrives, and nothing is left."""
    with Cluster() as cluster:
        node = cluster.node("n")
        cluster.settle()
        network, server = cluster.networks["n"], cluster.server
        network.deliver = lambda _: 0.2
        faults = {"stalled": network.stall, "cut": network.cut, "hung": server.hang, "stopped": server.stop}
        faults.get(fault, network.cut)()
        cluster.advance(0.3)
        pending = node.events("m").fire("k")
        pending.addErrback(lambda failure: failure.trap(coord.Closed, coord.Unconfirmed, coord.Unreachable))
    assert cluster.networks["n"].connections == ()


def test_messages_go_out_in_the_order_of_subscription(memory: Cluster) -> None:
    """Every run of a test tells the waiters in the same order."""
    nodes = [memory.node(f"n{number}") for number in range(20)]
    woken: list[int] = []
    for number, node in enumerate(nodes):

        def wake(_: object, number: int = number) -> None:
            woken.append(number)

        node.events("m")["k"].addCallback(wake)
        memory.settle()
    memory.result(nodes[0].events("m").fire("k"))
    memory.settle()
    assert woken == list(range(20))
