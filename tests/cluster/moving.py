"""A slot on its way from a primary to another, step by step, on a real cluster or on one in memory."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, Protocol

__all__ = ["SLOTS", "Cluster", "Move", "Node", "Step", "slot_of"]

SLOTS: Final = 16384


def slot_of(name: str) -> int:
    """Return the slot of a key, or of a channel: that of its tag, if it has one."""
    _, brace, rest = name.partition("{")
    tag, end, _ = rest.partition("}")
    return crc_hqx((tag if brace and end and tag else name).encode(), 0) % SLOTS


class Step(IntEnum):
    """The steps in which a slot moves from its source to its target, as redis-cli takes them."""

    IMPORTING = 1
    """The target has been told."""
    MIGRATING = 2
    """The source has been told; it still has all keys."""
    FIRST_KEY = 3
    """One key of several is at the target."""
    LAST_KEY = 4
    """All keys are at the target; the slot is the source's."""
    NODE_AT_TARGET = 5
    """The target owns the slot; the source learns it from the target within milliseconds."""
    NODE_AT_SOURCE = 6
    """The source has been told that it does not own the slot."""
    TOLD = 7
    """Every other primary has been told."""


class Node(Protocol):
    """What a move asks of a server."""

    id: str
    port: int

    async def command(self, *words: Any) -> Any:
        """Send one command."""


class Cluster(Protocol):
    """What a move asks of the cluster."""

    async def primaries(self) -> Sequence[Any]:
        """Return the servers that are primaries."""


class Move:
    """A slot on its way; see `Step`. Nothing happens but what `to` or `call_off` does."""

    def __init__(self, cluster: Cluster, slot: int, source: Node, target: Node) -> None:
        self._cluster = cluster
        self.slot = slot
        self.source = source
        self.target = target
        self.step: int = 0

    async def to(self, step: int) -> None:
        """Go on until this step is done."""
        while self.step < step:
            await _DO[Step(self.step + 1)](self)
            self.step += 1

    async def finish(self) -> None:
        """Do the steps that are left."""
        await self.to(Step.TOLD)

    async def call_off(self) -> None:
        """Close the slot again at the source, give the keys back that have moved, close it at the target.

        What is called meanwhile at the source finds no data, if the data have moved: an operator's mistake.
        """
        await self._set(self.source, "STABLE")
        for key in await self.keys(self.target):
            await self.pass_on(key, self.target, self.source, "REPLACE")
        await self._set(self.target, "STABLE")

    async def keys(self, node: Node) -> list[bytes]:
        """Return the slot's keys that a server has; a map's hash is the first, and so the first to move."""
        keys: list[bytes] = await node.command("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        return sorted(keys)

    async def pass_on(self, key: bytes, source: Node, target: Node, *how: str) -> None:
        """Move one key."""
        await source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000, *how)

    async def _set(self, at: Node, *words: str) -> None:
        await at.command("CLUSTER", "SETSLOT", self.slot, *words)

    async def _importing(self) -> None:
        await self._set(self.target, "IMPORTING", self.source.id)

    async def _migrating(self) -> None:
        await self._set(self.source, "MIGRATING", self.target.id)

    async def _first_key(self) -> None:
        for key in (await self.keys(self.source))[:1]:
            await self.pass_on(key, self.source, self.target)

    async def _last_key(self) -> None:
        while keys := await self.keys(self.source):
            for key in keys:
                await self.pass_on(key, self.source, self.target)

    async def _node_at_target(self) -> None:
        # A call that came in between may have made a key at the source: there it would be lost.
        await self._last_key()
        await self._set(self.target, "NODE", self.target.id)

    async def _node_at_source(self) -> None:
        await self._set(self.source, "NODE", self.target.id)

    async def _told(self) -> None:
        for node in await self._cluster.primaries():
            await self._set(node, "NODE", self.target.id)


_DO: Final = {
    Step.IMPORTING: Move._importing,
    Step.MIGRATING: Move._migrating,
    Step.FIRST_KEY: Move._first_key,
    Step.LAST_KEY: Move._last_key,
    Step.NODE_AT_TARGET: Move._node_at_target,
    Step.NODE_AT_SOURCE: Move._node_at_source,
    Step.TOLD: Move._told,
}
