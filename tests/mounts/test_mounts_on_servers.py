"""The mount agent on each kind of server: hosts that die, agents and servers that are started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from coord import EventMap, Kind
from coord.mounts.agent import MountAgent
from mounts.mount_fakes import Table, history, latched
from support.cluster import Cluster
from support.waiting import eventually, turn

QUICK = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
ABC = "/mnt/abc"


class Host:
    """A host with a mount table, and nodes for its agents."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self._cluster = cluster
        self.name = name
        self.table = Table(folder / name)
        self.agent: MountAgent

    async def start(self) -> Host:
        """Start an agent on a new node."""
        self.node = await self._cluster.linked(self.name, **QUICK)
        self.agent = MountAgent(self.node.events("m"), self.name, mountinfo=self.table.path)
        await self.agent.start()
        return self

    async def stop(self) -> None:
        """End the agent and the node as ``coord mounts`` does by default."""
        await self.agent.stop()
        await self.node.close(withdraw=False)

    async def die(self) -> None:
        """Be gone without a word."""
        await self.agent.stop()
        self.node._session.holds._maps.clear()
        self.node._session.link.abandon("killed")


async def only(events: EventMap, *keys: str) -> None:
    """Wait until these keys are latched, and no others."""

    async def so() -> bool:
        return (await latched(events)).keys() == set(keys)

    await eventually(so, f"only {keys} are latched")


async def kinds(events: EventMap, *keys: str) -> list[Kind]:
    """Return what happened to these keys."""
    return [record.kind for record in await history(events, *keys)]


async def test_the_table_changes(cluster: Cluster, tmp_path: Path) -> None:
    """What is mounted, changed and unmounted is announced; a change is no end."""
    watcher, host = await cluster.map("watcher", **QUICK), Host(cluster, "n1", tmp_path)
    host.table.mount(ABC, "old")
    await host.start()
    assert (await latched(watcher)).keys() == {ABC, f"n1:{ABC}"}
    host.table.mount(ABC, "new")
    host.table.mount("/mnt/b")
    host.agent.refresh()
    await only(watcher, ABC, "/mnt/b", f"n1:{ABC}", "n1:/mnt/b")
    host.table.umount(ABC)
    host.agent.refresh()
    await only(watcher, "/mnt/b", "n1:/mnt/b")
    shown = await history(watcher, ABC)
    assert [record.kind for record in shown] == [Kind.FIRED, Kind.FIRED, Kind.WITHDRAWN]
    value = shown[1].value
    assert isinstance(value, dict)
    assert value["source"] == "new"
    await host.agent.stop(reset=True)
    assert await latched(watcher) == {}


async def test_a_host_dies(cluster: Cluster, tmp_path: Path) -> None:
    """Its keys expire; a mount point that another host has too passes, and its waiters are not woken."""
    watcher = await cluster.map("watcher", **QUICK)
    hosts = [Host(cluster, name, tmp_path) for name in ("n1", "n2")]
    for host in hosts:
        host.table.mount(ABC)
        await host.start()
    hosts[0].table.mount("/mnt/own")
    hosts[0].agent.refresh()
    await only(watcher, ABC, f"n1:{ABC}", f"n2:{ABC}", "/mnt/own", "n1:/mnt/own")
    gone, shared = watcher.gone(f"n1:{ABC}"), watcher.gone(ABC)
    await watcher.armed()
    await hosts[0].die()
    ended = await gone
    assert ended is not None
    assert (ended.kind, ended.node) == (Kind.EXPIRED, "n1")
    await only(watcher, ABC, f"n2:{ABC}")
    assert await kinds(watcher, ABC) == [Kind.FIRED, Kind.FIRED]
    assert await kinds(watcher, "/mnt/own") == [Kind.FIRED, Kind.EXPIRED]
    assert not shared.called
    await hosts[1].agent.stop(reset=True)
    ended = await shared
    assert ended is not None
    assert ended.kind is Kind.WITHDRAWN


@pytest.mark.parametrize("killed", [False, True])
async def test_an_agent_is_started_again(cluster: Cluster, tmp_path: Path, killed: bool) -> None:
    """Within the lease, nothing ends; what was unmounted meanwhile expires."""
    watcher, host = await cluster.map("watcher", **QUICK), Host(cluster, "n1", tmp_path)
    host.table.mount(ABC)
    host.table.mount("/mnt/gone")
    await host.start()
    gone = watcher.gone("n1:/mnt/gone")
    await watcher.armed()
    await (host.die() if killed else host.stop())
    host.table.umount("/mnt/gone")
    await host.start()
    ended = await gone
    assert ended is not None
    assert ended.kind is Kind.EXPIRED
    await only(watcher, ABC, f"n1:{ABC}")
    assert await kinds(watcher, ABC, f"n1:{ABC}") == [Kind.FIRED] * 4
    await host.agent.stop(reset=True)
    assert await kinds(watcher, f"n1:{ABC}") == [Kind.FIRED] * 2 + [Kind.WITHDRAWN]


async def test_an_agent_is_not_started_again(cluster: Cluster, tmp_path: Path) -> None:
    """What it left ends with its lease."""
    watcher, host = await cluster.map("watcher", **QUICK), Host(cluster, "n1", tmp_path)
    host.table.mount(ABC)
    await host.start()
    gone = watcher.gone(ABC)
    await watcher.armed()
    await host.stop()
    ended = await gone
    assert ended is not None
    assert ended.kind is Kind.EXPIRED
    await only(watcher)


async def test_a_server_is_started_again(cluster: Cluster, tmp_path: Path) -> None:
    """It was killed, and away for longer than the lease: nothing blinks, and what changed meanwhile is announced."""
    cluster.reconnect_quickly()
    watcher, host = await cluster.map("watcher", **QUICK), Host(cluster, "n1", tmp_path)
    host.table.mount(ABC)
    host.table.mount("/mnt/gone")
    await host.start()
    await cluster.server.kill()
    await turn(1.0)
    host.table.mount("/mnt/b")
    host.table.umount("/mnt/gone")
    host.agent.refresh()
    await cluster.server.start()
    await only(watcher, ABC, f"n1:{ABC}", "/mnt/b", "n1:/mnt/b")
    # Longer than a recovery.
    await turn(1.5)
    assert await kinds(watcher, ABC, f"n1:{ABC}") == [Kind.FIRED] * 2
    assert await kinds(watcher, "/mnt/gone") == [Kind.FIRED, Kind.WITHDRAWN]
    await host.agent.stop(reset=True)
