"""coord's nodes on a cluster, for tests that move its slots under them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import coord

__all__ = ["BEAT", "nodes_of"]

BEAT: Final = 0.5
"""Seconds between heartbeats."""


@asynccontextmanager
async def nodes_of(servers: Any, *names: str, **options: Any) -> AsyncIterator[list[coord.Coordinator]]:
    """Heal a cluster, and give nodes of these names that are connected to it; close them at the end."""
    await servers.heal()
    options = {"heartbeat": BEAT, "timeout": 20.0, **options}
    nodes = [coord.connect(servers.url, node=name, **options) for name in names]
    try:
        for node in nodes:
            await node.connected(timeout=10)
        yield nodes
    finally:
        for node in nodes:
            await node.close()
        await servers.end()
