"""Maps whose move stands still: what their nodes do while an operator is away, and find when one is back."""

from __future__ import annotations

from cluster.on_a_clock import timed_cluster
from support.cluster import Seen


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
