"""A node leaves a server that is no primary any more, and only such a one, though all it does there is wait."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from coord import Coordinator, LinkState, ServerRefused
from coord.link.replication import Replication
from coord.testing import MemoryEndpoint
from memory import MemoryServer
from support.cluster import Cluster, Seen, failure_of
from support.waiting import turn, until

SUSPENDED, CONNECTED = LinkState.SUSPENDED, LinkState.CONNECTED


def _states(node: Coordinator) -> list[LinkState]:
    states: list[LinkState] = []
    node.on_link(lambda state, _: states.append(state))
    return states


async def test_a_server_demoted_in_place_is_left(cluster: Cluster) -> None:
    """A node that only waits leaves a server that became a replica within a heartbeat or two."""
    events = await cluster.map(heartbeat=0.2)
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    await cluster.server.set_read_only(True)
    await cluster.state(node, SUSPENDED)
    assert "replica" in node.reason
    await cluster.server.set_read_only(False)
    await node.connected()
    await events.fire("k", 1)
    await until(lambda: waiting.count == 1)


@pytest.mark.servers("memory")
async def test_the_waiter_follows_to_the_new_primary(cluster: Cluster) -> None:
    """The old server goes on answering, as a replica; an address that moved leads the node to the new one."""
    events, gate = await cluster.gated(heartbeat=0.1)
    waiting = Seen(events["k"], events["pulsed"])
    await events.armed()
    new = MemoryServer(reactor)
    new.restore(cluster.memory.snapshot())
    cluster.memory.follow(new.replid)
    gate.lead(MemoryEndpoint(new, reactor))
    there = await _on(cluster, new)
    await there.events("m").fire("k", 1)
    await there.events("m").pulse("pulsed", 2)
    await until(lambda: waiting.count == 2)
    assert sorted(waiting.values) == [1, 2]


async def _on(cluster: Cluster, server: MemoryServer) -> Coordinator:
    node = cluster.node("new", address=MemoryEndpoint(server, reactor))
    await node.connected()
    return node


async def test_there_and_back_between_two_heartbeats(cluster: Cluster) -> None:
    """A server that was a replica for a moment is left too: what came to it as a copy was told to nobody."""
    events, other = await cluster.map(heartbeat=0.5), await cluster.map("other", heartbeat=30)
    node = cluster.of(events)
    waiting = Seen(events["k"])
    await events.armed()
    await other.reset("warm")
    states = _states(node)
    if cluster.server.kind == "memory":
        cluster.memory.follow("f" * 40)
        cluster.memory.promote()
    else:
        await cluster.server.set_read_only(True)
        await cluster.server.set_read_only(False)
    await until(lambda: states == [SUSPENDED, CONNECTED])
    assert waiting.count == 0
    await other.fire("k", 1)
    await until(lambda: waiting.count == 1)


@pytest.mark.servers("memory")
async def test_another_history_is_no_reason_to_leave(cluster: Cluster) -> None:
    """A first replica attached, or a backlog freed, gives the data another id; nothing is lost and no link is left."""
    events = await cluster.map(heartbeat=0.1)
    states = _states(cluster.of(events))
    cluster.memory.attach(1)
    await turn(0.4)
    cluster.memory.attach(0)
    cluster.memory.free_backlog()
    await turn(0.4)
    cluster.memory.attach(2)
    await turn(0.4)
    assert states == []
    assert (await events.fire("k")).first


@pytest.mark.servers("memory")
async def test_data_that_appears_without_a_message_is_read(cluster: Cluster) -> None:
    """A map that had no data and has some is read for those who wait: a copy of another server's tells no messages."""
    events = await cluster.map(heartbeat=0.1)
    filled = MemoryServer(reactor)
    filling = await _on(cluster, filled)
    waiting = Seen(events["fired"], events["pulsed"], events["pending"])
    await events.armed()
    await filling.events("m").fire("fired", 1)
    await filling.events("m").pulse("pulsed", 2)
    await filling.close()
    states = _states(cluster.of(events))
    cluster.memory.restore(filled.snapshot())
    await until(lambda: waiting.count == 2)
    assert sorted(waiting.values) == [1, 2]
    assert states == []
    await events.armed()
    await events.fire("pending", 3)
    assert sorted(waiting.values) == [1, 2, 3]


@pytest.mark.servers("memory")
@pytest.mark.parametrize("hidden", ["role", "run_id", "master_replid"])
async def test_a_server_that_hides_who_it_is(cluster: Cluster, hidden: str) -> None:
    """Without a field that coord rests on there is no link, and the error names it; with it, the node comes in."""
    shown = MemoryServer.info

    def info(server: MemoryServer) -> dict[str, dict[str, str]]:
        fields = shown(server)
        return {section: {k: v for k, v in those.items() if k != hidden} for section, those in fields.items()}

    cluster.case.patch(MemoryServer, "info", info)  # type: ignore[no-untyped-call]
    node = cluster.node()
    asked: list[Deferred[Any]] = [node.events("m").fire("k"), node.events("m")["k"], node.connected()]
    await until(lambda: all(one.called for one in asked))
    for one in asked:
        error = failure_of(one)
        assert isinstance(error, ServerRefused)
        assert re.search(rf"INFO does not tell {hidden}\b", str(error))
    assert node.link is LinkState.CONNECTING


def test_what_a_change_of_the_history_means() -> None:
    """A name of the history that changed is a promotion where the former name is kept."""
    was = Replication.of(b"# Replication\r\nrole:master\r\nmaster_replid:aa\r\nmaster_replid2:%b\r\n" % (b"0" * 40))
    assert (was.role, was.history) == (b"master", b"aa")
    assert not was.differs_from(None)
    assert not was.differs_from(was)
    assert not Replication(b"master", b"bb", b"0" * 40).differs_from(was)
    assert not Replication(b"master", b"bb", b"").differs_from(was)
    assert Replication(b"master", b"bb", b"aa").differs_from(was)
    assert "replica" in Replication(b"slave", b"aa", b"").differs_from(was)
    assert Replication(b"", b"aa", b"").differs_from(None)
