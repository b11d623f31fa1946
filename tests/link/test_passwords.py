"""A password that changes: a function or a file is asked for it at each login of each connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coord
from coord import Coordinator, InvalidURL, LinkState
from coord.link.urls import parse_target
from failover.fakes import FakeSentinel, loopback
from failover.processes import HOST
from support.cluster import Cluster
from support.waiting import until


async def _rotate(cluster: Cluster, node: Coordinator, password: str) -> None:
    """Change the server's password, and cut the node off."""
    await cluster.server.set_password(password)
    await cluster.server.drop_connections()
    await until(lambda: node.link is not LinkState.CONNECTED, "it is cut off")


@pytest.mark.servers("memory", "redis", "valkey")
async def test_a_changed_password_is_used_at_the_next_reconnect(cluster: Cluster, tmp_path: Path) -> None:
    """Rotated while the node is connected, it lets both connections in; an armed waiter stays."""
    file = tmp_path / "password"
    file.write_text("first")
    await cluster.server.set_password("first")
    node = await cluster.linked(password=file.read_text)
    waiter = node.events("m")["k"]
    await node.events("m").armed()
    file.write_text("second")
    await _rotate(cluster, node, "second")
    await node.connected(timeout=5)
    await node.events("m").fire("k", 1)
    assert await waiter == 1


@pytest.mark.servers("redis", "valkey")
async def test_the_third_connection_asks_too(cluster: Cluster) -> None:
    """The connection that counts replicas is made later, with the password of that time."""
    given = ["first"]
    await cluster.server.set_password("first")
    node = await cluster.linked(password=lambda: given[-1])
    given.append("second")
    await cluster.server.set_password("second")
    with pytest.raises(coord.NotReplicated):
        await node.events("m").fire("k", replicas=1, within=0.2)
    assert node.link is LinkState.CONNECTED
    assert node.statistics().link_losses == 0


@pytest.mark.servers("memory", "valkey")
async def test_a_password_that_cannot_be_had_is_the_reason(cluster: Cluster, tmp_path: Path) -> None:
    """A file that is missing at a reconnect is named, attempts go on, and it is used once it is back."""
    file = tmp_path / "password"
    file.write_text("first")
    await cluster.server.set_password("first")
    cluster.reconnect_quickly()
    node = await cluster.linked(password=file.read_text)
    waiter = node.events("m")["k"]
    await node.events("m").armed()
    file.unlink()
    await _rotate(cluster, node, "second")
    await until(lambda: str(file) in node.reason, "the reason names the file")
    attempts = node.statistics().connection_attempts
    await until(lambda: node.statistics().connection_attempts > attempts + 1, "it goes on trying")
    file.write_text("second")
    await node.connected(timeout=5)
    await node.events("m").fire("k", 1)
    assert await waiter == 1


@pytest.mark.servers("memory")
@pytest.mark.parametrize("bad", [b"cAnArY", 7, None, "cAnArY\ud800"])
async def test_a_function_that_returns_no_password(cluster: Cluster, bad: Any) -> None:
    """The reason says what is wanted, and not what was returned."""
    node = cluster.node(password=lambda: bad)
    await until(lambda: "a str of UTF-8 is wanted" in node.reason, "it is said")
    assert "cAnArY" not in node.reason
    assert node.link is LinkState.CONNECTING


async def test_a_sentinels_password_that_changes() -> None:
    """Both the connection that asks a sentinel and the one that listens to it log in with the present one."""
    given = ["first"]
    async with loopback() as (fakes, servers):
        _protect(fakes, "first")
        hosts = ",".join(f"{HOST}:{fake.port}" for fake in fakes)
        url = f"redis+sentinel://{hosts}/main"
        node = coord.connect(url, sentinel_password=lambda: given[-1], heartbeat=0.5)
        try:
            await node.connected(timeout=5)
            await until(lambda: all(fake.subscribers for fake in fakes), "it listens to all")
            given.append("second")
            _protect(fakes, "second")
            for fake in fakes:
                fake.drop()
            servers[0].memory.drop_connections()
            await until(lambda: node.link is not LinkState.CONNECTED, "it is cut off")
            await node.connected(timeout=5)
            await until(lambda: all(fake.subscribers for fake in fakes), "it listens to all again")
        finally:
            await node.close()


async def test_a_sentinels_password_that_cannot_be_had_is_the_reason(tmp_path: Path) -> None:
    """The reason names the file, and does not say that no sentinel answers."""
    file = tmp_path / "password"
    async with loopback() as (fakes, _):
        _protect(fakes, "secret")
        url = f"redis+sentinel://{HOST}:{fakes[0].port}/main"
        node = coord.connect(url, sentinel_password=file.read_text)
        try:
            await until(lambda: str(file) in node.reason, "the reason names the file")
            assert "no sentinel" not in node.reason
            file.write_text("secret")
            await node.connected(timeout=5)
        finally:
            await node.close()


def _protect(fakes: list[FakeSentinel], password: str) -> None:
    for fake in fakes:
        fake.password = password


def test_a_sentinels_password_needs_sentinels() -> None:
    """Given with another URL, it is refused at the call."""
    with pytest.raises(InvalidURL, match="sentinel_password"):
        coord.service("redis://h", sentinel_password="secret")


def test_the_keyword_wins_over_the_url() -> None:
    """As with the server's password, the argument overrules what is in the URL."""
    target = parse_target("redis+sentinel://h/main?sentinel_password=url", sentinel_password="keyword")
    assert target.resolver()._user[1] == "keyword"  # type: ignore[attr-defined]
