"""What is asked of a cluster just when a link is lost: none of it is asked again and again in one turn."""

from __future__ import annotations

import pytest

from cluster.on_a_clock import timed_cluster
from coord import LinkState


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_without_maps_is_linked_if_one_server_of_the_cluster_is_there(number: int) -> None:
    """It needs any of them, and the one that it has tried first may be gone for good."""
    with timed_cluster("n") as cluster:
        cluster.memory.servers[number].stop()
        cluster.advance(5.0)
        assert cluster.nodes[0].link is LinkState.CONNECTED
        assert len(cluster.nodes[0].links) <= 2
