"""Maps whose move stands still: what their nodes do while an operator is away, and find when one is back."""

from __future__ import annotations

import pytest

from cluster.on_a_clock import HEARTBEAT, timed_cluster
from support.cluster import Seen

_LONG = 90.0
"""Seconds after which the link to a server is closed that no map uses."""


def test_w2_a_move_is_called_off_after_a_long_time_and_begun_anew() -> None:
    """W2, L10: the data are at the old server then, and whoever has followed finds them there, however late."""
    with timed_cluster("here", "there") as cluster:
        name = next(cluster.maps_at(cluster.source))
        here, there = (node.events(name) for node in cluster.nodes)
        other = cluster.nodes[0].events(next(cluster.maps_at(cluster.target)))
        fired = Seen(here.fire("stands"), other.fire("k"))
        cluster.advance(1.0)
        waiting, gone = Seen(here.wait("k")), Seen(here.gone("stands"))
        cluster.advance(1.0)
        cluster.begin_move(name)
        cluster.pass_on(name)
        cluster.advance(_LONG)
        assert (fired.errors, here._session.link.guest) == ([], True)
        cluster.call_off(name)
        cluster.begin_move(name)
        cluster.advance(2 * HEARTBEAT + 1.0)
        fired.watch(there.fire("k", 2))
        cluster.advance(1.0)
        assert (waiting.values, gone.count, len(fired.values)) == ([2], 0, 3)
        assert not here._session.link.guest


@pytest.mark.parametrize("hangs", [False, True])
def test_a_move_is_called_off_as_its_target_is_lost(hangs: bool) -> None:
    """A map that was sent to a server that nobody reaches is home within a heartbeat after the move is called off."""
    with timed_cluster("n") as cluster:
        name = next(cluster.maps_at(cluster.source))
        events = cluster.nodes[0].events(name)
        fired = Seen(events.fire("a"))
        cluster.advance(1.0)
        cluster.begin_move(name)
        cluster.pass_on(name)
        (cluster.target.hang if hangs else cluster.target.stop)()
        fired.watch(events.fire("b"))
        cluster.advance(10 * HEARTBEAT)
        assert (fired.count, events._session.link.guest) == (1, True)
        assert cluster.nodes[0].links[0].reason == "connected"
        (cluster.target.resume if hangs else cluster.target.start)()
        cluster.call_off(name)
        (cluster.target.hang if hangs else cluster.target.stop)()
        cluster.advance(2 * HEARTBEAT)
        assert len(fired.values) == 2
        if hangs:
            cluster.target.resume()


@pytest.mark.parametrize("end", [":idle", ":entries", ":due", ":log"])
def test_a_map_stays_while_another_of_its_keys_than_its_records_has_moved(end: str) -> None:
    """Its link is not lost for what is asked of such a key alone, and it follows when the records have moved."""
    with timed_cluster("here", "there") as cluster:
        name = next(cluster.maps_at(cluster.source))
        here, there = (node.events(name) for node in cluster.nodes)
        held = Seen(here.hold("h"))
        waiting = Seen(there.wait("k"))
        cluster.advance(1.0)
        before = [node.statistics() for node in cluster.nodes]
        cluster.begin_move(name)
        cluster.pass_on(name, end)
        cluster.advance(5 * HEARTBEAT)
        assert [node.statistics().link_losses for node in cluster.nodes] == [each.link_losses for each in before]
        cluster.pass_on(name)
        fired = Seen(here.fire("k", 1))
        cluster.advance(1.0)
        assert (len(held.values), len(fired.values), waiting.values) == (1, 1, [1])
        cluster.end_move(name)


def test_a_raw_command_about_another_map_moves_none() -> None:
    """Its user is told where the key is; it is not sent again and again, and the map's link is not lost for it."""
    with timed_cluster("n") as cluster:
        name, other = next(cluster.maps_at(cluster.source)), next(cluster.maps_at(cluster.target))
        node = cluster.nodes[0]
        fired = Seen(node.events(name).fire("k"))
        cluster.advance(1.0)
        said = Seen(node.execute("EXISTS", f"coord:{{default/{other}}}", at=name))
        cluster.advance(1.0)
        assert len(fired.values) == 1
        assert [f"MOVED {cluster.slot(other)}" in str(error) for error in said.errors] == [True]
        assert node.statistics().link_losses == 0
