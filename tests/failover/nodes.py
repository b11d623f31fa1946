"""Nodes at a group, and when they were linked to which server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import coord
from coord import Coordinator, LinkState
from failover.group import Group
from support.waiting import eventually, until

__all__ = ["Witness", "run_id", "served_by", "witnesses"]


class Witness:
    """A node, and the states of its link: (monotonic time, state, reason)."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        self.node = coord.connect(url, node=name, **options)
        self.events = self.node.events("m")
        self.states: list[tuple[float, LinkState, str]] = []
        self.node.on_link(lambda state, reason: self.states.append((monotonic(), state, reason)))

    @property
    def linked_at(self) -> float:
        """When it was linked last."""
        return next(when for when, state, _ in reversed(self.states) if state is LinkState.CONNECTED)

    def since(self, start: float) -> list[LinkState]:
        """Return the states it went through from then on."""
        return [state for when, state, _ in self.states if when >= start]


@asynccontextmanager
async def witnesses(
    group: Group, count: int = 3, url: str | None = None, **options: Any
) -> AsyncIterator[list[Witness]]:
    """Give linked nodes at a whole group; close them at the end."""
    await group.heal()
    made = [Witness(url or group.url, f"node{number}", **options) for number in range(count)]
    try:
        for witness in made:
            await witness.node.connected(timeout=10)
        yield made
    finally:
        for witness in made:
            await witness.node.close()


async def run_id(node: Coordinator) -> str:
    """Return the run id of the server that answers this node."""
    answer: bytes = await node.execute("INFO", "server")
    fields = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    return fields["run_id"]


async def served_by(witness: Witness, process: str) -> float:
    """Return when this node was linked to the server with that run id, once it is."""

    async def there() -> bool:
        return witness.node.link is LinkState.CONNECTED and await run_id(witness.node) == process

    await until(lambda: witness.node.link is LinkState.CONNECTED, "linked")
    await eventually(there, f"{witness.node} is at the new primary")
    return witness.linked_at
