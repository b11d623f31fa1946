"""What is asked of a cluster just when a link is lost: none of it is asked again and again in one turn."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from cluster.on_a_clock import HEARTBEAT, timed_cluster
from coord import Closed, LinkState, Unreachable
from coord.core.slots import Address
from coord.link import topology
from support.cluster import Seen


def test_a_callback_may_ask_about_a_map_that_is_yet_to_be_told() -> None:
    """All maps of a server lose their link in one turn, one after the other; a user's code runs in between."""
    with timed_cluster("n") as cluster:
        names = cluster.maps_at(cluster.source)
        maps = [cluster.nodes[0].events(next(names)) for _ in range(3)]
        fired = Seen(*[each.fire("k", 1) for each in maps])
        cluster.advance(1.0)
        assert len(fired.values) == len(maps)
        answers = Seen()

        def ask(*_: object) -> None:
            for each in maps:
                answers.watch(each.record("k"))

        stop = cluster.nodes[0].on_link(ask)
        cluster.wires[0].cut()
        cluster.advance(1.0)
        stop()
        assert [record.value for record in answers.values] == 2 * [1, 1, 1], "when it was lost, and when it was made"


@pytest.mark.parametrize("moment", [0.0, 0.004])
def test_a_list_of_maps_goes_on_after_a_lost_link(moment: float) -> None:
    """Each server is asked again once there is a link to it."""
    with timed_cluster("n") as cluster:
        names = sorted((next(cluster.maps_at(cluster.source)), next(cluster.maps_at(cluster.target))))
        maps = [cluster.nodes[0].events(name) for name in names]
        fired = Seen(*[each.fire("k", 1) for each in maps])
        cluster.advance(1.0)
        assert len(fired.values) == len(maps)
        listed = Seen(cluster.nodes[0].maps())
        cluster.advance(moment)
        cluster.wires[0].cut()
        assert listed.count == 0
        cluster.advance(1.0)
        assert listed.values == [tuple(names)]


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_without_maps_is_linked_if_one_server_of_the_cluster_is_there(number: int) -> None:
    """It needs any of them, and the one that it has tried first may be gone for good."""
    with timed_cluster("n") as cluster:
        cluster.memory.servers[number].stop()
        cluster.advance(5.0)
        assert cluster.nodes[0].link is LinkState.CONNECTED
        assert len(cluster.nodes[0].links) <= 2


def test_links_say_in_words_that_one_is_on_its_way() -> None:
    """Before the first attempt has ended, and then why it failed."""
    with timed_cluster("n") as cluster:
        cluster.advance(1.0)
        cluster.source.hang()
        cluster.target.hang()
        for server in cluster.memory.servers:
            cluster.nodes[0].events(next(cluster.maps_at(server)))
        said = {each.reason for each in cluster.nodes[0].links}
        assert said == {"connected", "not connected yet"}
        cluster.advance(2 * HEARTBEAT + 0.5)
        assert all(each.reason.startswith(("no answer", "the server has not")) for each in cluster.nodes[0].links)
        for server in cluster.memory.servers:
            server.resume()


def test_a_node_with_maps_is_linked_once_they_have_their_servers() -> None:
    """At the first start, too: it is not linked and at once suspended while the servers come one after the other."""
    with timed_cluster("n") as cluster:
        node = cluster.nodes[0]
        heard: list[LinkState] = []
        node.on_link(lambda state, _: heard.append(state))
        for server in cluster.memory.servers:
            server.stop()
        maps = [node.events(next(cluster.maps_at(server))) for server in (cluster.source, cluster.target)]
        fired = Seen(*[each.fire("k", 1) for each in maps])
        cluster.advance(2 * HEARTBEAT)
        for server in cluster.memory.servers:
            assert node.link is LinkState.CONNECTING
            server.start()
            cluster.advance(6 * HEARTBEAT)
        assert heard == [LinkState.CONNECTED]
        assert len(fired.values) == 2


@pytest.mark.parametrize("how", ["gone", "down"])
def test_a_node_is_not_linked_while_a_new_map_has_no_server(how: str) -> None:
    """It says so, and why: what waits for that map would wait without a reason."""
    with timed_cluster("n") as cluster:
        node = cluster.nodes[0]
        fired = Seen(node.events(next(cluster.maps_at(cluster.source))).fire("k"))
        cluster.advance(1.0)
        heard: list[tuple[LinkState, str]] = []
        node.on_link(lambda *what: heard.append(what))
        if how == "gone":
            cluster.target.stop()
        cluster.target.slots.down = True
        new = node.events(next(cluster.maps_at(cluster.target)))
        waiting = Seen(new.wait("k"))
        cluster.advance(2 * HEARTBEAT)
        refused = f"{cluster.target.slots.own}: Connection was refused by other side."
        why = refused if how == "gone" else "CLUSTERDOWN The cluster is down"
        assert heard == [(LinkState.SUSPENDED, f"1 of 2 maps: {why}")]
        assert (node.link, node.reason) == heard[0]
        cluster.target.slots.down = False
        if how == "gone":
            cluster.target.start()
        cluster.advance(6 * HEARTBEAT)
        assert [state for state, _ in heard] == [LinkState.SUSPENDED, LinkState.CONNECTED]
        fired.watch(new.fire("k", 1))
        cluster.advance(1.0)
        assert (len(fired.values), waiting.values) == (2, [1])


@pytest.mark.parametrize("linked", [True, False])
def test_a_list_of_maps_ends_in_time_if_a_server_is_lost(linked: bool) -> None:
    """It waits for the server as long as any request does, and says why: before there was a link, or after it."""
    with timed_cluster("n", timeout=5.0) as cluster:
        names = [next(cluster.maps_at(server)) for server in cluster.memory.servers]
        fired = Seen(*[cluster.nodes[0].events(name).fire("k") for name in names if linked])
        cluster.advance(1.0)
        assert len(fired.values) == 2 * linked
        if not linked:
            cluster.target.stop()
            cluster.advance(5.0)
            assert cluster.nodes[0].link is LinkState.CONNECTED
        listed = Seen(cluster.nodes[0].maps())
        cluster.target.stop()
        cluster.advance(5.0 + HEARTBEAT)
        assert [type(error) for error in listed.errors] == [Unreachable]
        assert "refused" in str(listed.errors[0])


def test_a_list_of_maps_uses_the_links_to_servers_without_a_map() -> None:
    """Such a link is closed after a minute; not under a list that takes as long, or that is asked for again."""
    with timed_cluster("n") as cluster:
        node = cluster.nodes[0]
        fired = Seen(node.events(next(cluster.maps_at(cluster.source))).fire("k"))
        cluster.advance(1.0)
        listed = Seen(node.maps())
        cluster.advance(1.0)
        for _ in range(10):
            cluster.advance(10.0)
            assert len(node.links) == 2
            listed.watch(node.maps())
        cluster.advance(1.0)
        assert (len(fired.values), len(listed.values)) == (1, 11)
        cluster.advance(70.0)
        assert len(node.links) == 1


def test_w6_a_list_of_maps_ends_with_its_node() -> None:
    """W6: what waits for a server is told that there will be no answer."""
    with timed_cluster("n") as cluster:
        node: Any = cluster.nodes[0]
        cluster.advance(1.0)
        listed = Seen(node.maps())
        node.close()
        cluster.advance(1.0)
        assert [type(error) for error in listed.errors] == [Closed]


def test_a_map_that_was_sent_to_a_server_that_hangs_is_asked_for_again() -> None:
    """Who has named that one had not heard of a failover: the next heartbeat of any server has another one asked."""

    def ask_the_late_one_first(nodes: list[Address]) -> None:
        nodes.sort(key=lambda node: node.port != 7002)

    with patch.object(topology, "shuffle", ask_the_late_one_first), timed_cluster("n", heartbeat=5.0) as cluster:
        cluster.memory.add_replica(cluster.source, 7003)
        events, *others = (cluster.nodes[0].events(next(cluster.maps_at(each))) for each in cluster.memory.servers[:2])
        fired = Seen(*[each.fire("k") for each in (events, *others)])
        cluster.advance(1.0)
        cluster.memory.bus_delay = None
        promoted = cluster.memory.fail_over(cluster.source)
        fired.watch(events.fire("l"))
        # By then the link to the old primary is lost.
        cluster.advance(12.0)
        assert (len(fired.values), events._session.link.shard.address.port) == (3, 7003)
        cluster.source.hang()
        promoted.drop_connections()
        cluster.advance(2.0)
        assert events._session.link.shard.address.port == 7001
        cluster.memory.gossip(promoted, now=True)
        cluster.advance(5.0 + 1.5)
        assert events._session.link.up
        cluster.source.resume()
