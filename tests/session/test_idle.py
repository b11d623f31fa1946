"""When a session is idle."""

from __future__ import annotations

from coord.testing import Cluster
from support.watcher import Watcher


def test_a_session_is_idle_when_every_request_is_answered() -> None:
    """A wait, a call and a watch each make it busy until the server has answered, however long that takes."""
    with Cluster() as cluster:
        node = cluster.node("n")
        events = node.events("m")
        cluster.result(node.connected())

        def idle() -> bool:
            return node._session.idle

        assert idle()
        waiting = events["k"]
        assert not idle()
        cluster.settle()
        assert idle()
        cluster.server.hang()
        firing = events.fire("k", 1)
        cluster.settle()
        assert not idle()
        cluster.server.resume()
        assert cluster.result(firing).first
        assert cluster.result(waiting) == 1
        watcher = Watcher(events, since="start")
        cluster.advance(1)
        assert watcher.values == [1]
        assert idle()
        watcher.stop()
        cluster.server.hang()
        late = events["other"]
        cluster.settle()
        assert not idle()
        cluster.server.resume()
        cluster.settle()
        assert idle()
        late.cancel()
        late.addErrback(lambda _: None)
