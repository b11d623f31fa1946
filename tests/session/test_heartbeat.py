"""What parts of a session want done at each heartbeat, and on each link."""

from __future__ import annotations

from coord.testing import Cluster


def test_a_part_joins_the_heartbeat_and_each_link() -> None:
    """A registered task is called once at each heartbeat, or on each link as soon as requests can be sent."""
    with Cluster() as cluster:
        node = cluster.node("n")
        session = node._session
        called: list[str] = []
        session.heartbeat_tasks.append(lambda: called.append("heartbeat"))
        session.link_made_tasks.append(lambda: called.append(f"link {session.state}"))
        cluster.result(node.connected())
        assert called == ["link connected"]
        for _ in range(2):
            cluster.advance(session.node.settings.heartbeat)
        assert called == ["link connected", "heartbeat", "heartbeat"]
        cluster.server.drop_connections()
        cluster.settle()
        cluster.result(node.connected())
        assert called[3:] == ["link connected"]
