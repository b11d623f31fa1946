"""A real cluster: three primaries with a replica each, whose slots move step by step, and which fail over."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from twisted.internet.error import ConnectError

from cluster.moving import SLOTS, Move, Step
from failover.processes import HOST, ServerProcess
from support.servers import Refused
from support.waiting import eventually

__all__ = ["Node", "RealCluster"]

_SHARDS: Final = 3
_SETTINGS: Final = """
cluster-enabled yes
cluster-node-timeout 2000
cluster-replica-validity-factor 0
save ""
appendonly yes
appendfsync everysec
repl-diskless-sync-delay 0
repl-ping-replica-period 1
"""
_TROUBLES: Final = (ConnectionError, ConnectError, Refused)

_ORDERLY: Final = 8.0
"""Seconds after which an orderly failover has come, or was given up: Redis allows it five (CLUSTER_MF_TIMEOUT)."""


class Node(ServerProcess):
    """One of the six servers. Its ``id`` is what the others call it."""

    def __init__(self, folder: Path, name: str, kind: str, ports: tuple[int, int]) -> None:
        super().__init__(folder, name, kind=kind)
        self.port, self.bus = ports
        self.id = secrets.token_hex(20)

    def begin_with(self, settings: str) -> None:
        """Start it; what it knows of the others is in its folder."""
        self.spawn(f"{_SETTINGS}cluster-port {self.bus}\n{settings}")

    async def knows(self) -> list[list[str]]:
        """Return the lines of CLUSTER NODES in words."""
        reply: bytes = await self.command("CLUSTER", "NODES")
        return [line.split() for line in reply.decode().splitlines()]


class RealCluster:
    """Six servers of one kind.

    :param kind: ``valkey`` (that of the embedded server) or ``redis`` (Debian's).
    :param settings: more configuration for each.
    """

    def __init__(self, kind: str, settings: str = "cluster-require-full-coverage no\n") -> None:
        self.kind = kind
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="coord-c-", dir=memory if memory.is_dir() else None))
        self._settings = settings
        ports = _unused_ports(4 * _SHARDS)
        self.nodes = [
            Node(self.folder, f"n{number}", kind, (ports[2 * number], ports[2 * number + 1]))
            for number in range(2 * _SHARDS)
        ]

    @property
    def url(self) -> str:
        """The cluster's URL; its seeds are servers that run."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes if node.running) + "/"

    async def heal(self, *, flush: bool = True) -> None:
        """Have all servers running, empty, agreed, each primary with a replica, and no slot on the move.

        :param flush: if it is false, the data stays.
        """
        if not (self.folder / "begun").exists():
            self._introduce()
        await self._have_all_running()
        try:
            await self.settled(patience=15 if flush else 40)
        except AssertionError:
            if not flush:
                raise
            # On a busy machine it may take them minutes to get over what the last test did.
            await self._begin_anew()
        for node in await self.primaries():
            await self._close_slots(node)
            if flush:
                await node.commands(("SCRIPT", "FLUSH"), ("FLUSHALL",))

    async def _have_all_running(self) -> None:
        for node in self.nodes:
            await node.resume()
            if not node.running:
                node.begin_with(self._settings)
        for node in self.nodes:
            await node.ready()

    async def _begin_anew(self) -> None:
        """Have them forget everything."""
        for node in self.nodes:
            await node.kill()
            for file in (*node.folder.glob("*.rdb"), *node.folder.glob("*.conf")):
                file.unlink()
            shutil.rmtree(node.folder / "appendonlydir", ignore_errors=True)
        self._introduce()
        await self._have_all_running()
        await self.settled()

    def _introduce(self) -> None:
        """Write what each knows of the others before its first start: no meeting is needed."""
        bounds = [SLOTS * number // _SHARDS for number in range(_SHARDS + 1)]
        for own in self.nodes:
            lines = []
            for number, node in enumerate(self.nodes):
                shard = number % _SHARDS
                primary = self.nodes[shard]
                role, of = ("master", "-") if node is primary else ("slave", primary.id)
                slots = f" {bounds[shard]}-{bounds[shard + 1] - 1}" if node is primary else ""
                myself = "myself," if node is own else ""
                address = f"{HOST}:{node.port}@{node.bus}"
                lines.append(f"{node.id} {address} {myself}{role} {of} 0 0 {shard + 1} connected{slots}\n")
            (own.folder / "nodes.conf").write_text("".join(lines) + f"vars currentEpoch {_SHARDS} lastVoteEpoch 0\n")
        (self.folder / "begun").touch()

    async def settled(self, *, patience: float = 40.0) -> None:
        """Return once all agree, and each primary has a replica in step."""
        await eventually(self._settled, "the cluster is whole", patience=patience)

    async def _settled(self) -> bool:
        try:
            primaries = [node for node in self.nodes if await node.role() == "master"]
            if len(primaries) != _SHARDS:
                return False
            # One after the other: the error of a replica that loads its data is that error then.
            for node in self.nodes:
                if not await self._content(node):
                    return False
        except _TROUBLES:
            return False
        return True

    async def _content(self, node: Node) -> bool:
        """Return whether a server sees everybody, and is in step with its primary if it is a replica."""
        if (await node.fields("CLUSTER", "INFO"))["cluster_state"] != "ok":
            return False
        for words in await node.knows():
            if "fail" in words[2] or "handshake" in words[2] or words[7] != "connected":
                return False
        replication = await node.fields("INFO", "replication")
        if replication["role"] == "slave":
            return replication["master_link_status"] == "up"
        return replication["connected_slaves"] == "1"

    async def _close_slots(self, node: Node) -> None:
        own = next(words for words in await node.knows() if "myself" in words[2])
        for word in own[8:]:
            if word.startswith("["):
                await node.command("CLUSTER", "SETSLOT", word[1:].split("-")[0], "STABLE")

    # Who is who.

    async def primaries(self) -> list[Node]:
        """Return the servers that run as primaries."""
        return [node for node in self.nodes if node.running and await node.role() == "master"]

    async def owner(self, slot: int) -> Node:
        """Return the primary that says that it owns a slot."""
        for node in await self.primaries():
            for words in await node.knows():
                if "myself" in words[2] and any(_covers(word, slot) for word in words[8:]):
                    return node
        raise AssertionError(f"nobody owns slot {slot}")

    async def replica_of(self, primary: Node) -> Node:
        """Return a replica of a primary, as itself says."""
        for node in self.nodes:
            for words in await node.knows() if node.running and node is not primary else ():
                if "myself" in words[2] and words[3] == primary.id:
                    return node
        raise AssertionError(f"{primary} has no replica")

    # Verbs.

    async def move(self, slot: int, *, target: Node | None = None, pause_at: int = Step.TOLD) -> Move:
        """Move a slot to another primary, as far as a step; `Move` goes on from there."""
        source = await self.owner(slot)
        if target is None:
            target = next(node for node in await self.primaries() if node is not source)
        move = Move(self, slot, source, target)
        await move.to(pause_at)
        return move

    async def move_atomically(self, slot: int, target: Node) -> None:
        """Move a slot in one step (Valkey 9), and return when it has moved."""
        source = await self.owner(slot)
        await source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)

        async def moved() -> bool:
            # For a moment nobody says that it is the owner.
            with suppress(AssertionError):
                return await self.owner(slot) is target
            return False

        await eventually(moved, f"slot {slot} has moved", patience=20)

    async def failover(self, primary: Node, *how: str) -> Node:
        """Have a primary's replica take over, in order or by ``how``; return it once all servers know."""
        replica = await self.replica_of(primary)
        await replica.command("CLUSTER", "FAILOVER", *how)
        try:
            await self.promoted(replica, patience=_ORDERLY)
        except AssertionError:
            # It has given up; or it is the primary, and others do not know it yet.
            with suppress(Refused):
                await replica.command("CLUSTER", "FAILOVER", *how)
            await self.promoted(replica)
        return replica

    async def promoted(self, replica: Node, *, patience: float = 30.0) -> None:
        """Return once a replica is a primary, and every server that answers knows."""

        async def known() -> bool:
            # A server that loads what its new primary has does not say.
            with suppress(Refused):
                for node in self.nodes:
                    if node.running and not node.hung:
                        said = [words for words in await node.knows() if words[0] == replica.id]
                        if "master" not in said[0][2]:
                            return False
                return True
            return False

        await eventually(known, f"{replica} is promoted", patience=patience)

    async def end(self) -> None:
        """Leave them running for the next test."""

    def close(self) -> None:
        """End all servers and remove what they wrote."""
        for node in self.nodes:
            node.end()
        shutil.rmtree(self.folder)


def _covers(word: str, slot: int) -> bool:
    first, _, last = word.partition("-")
    return first.isdigit() and int(first) <= slot <= int(last or first)


def _unused_ports(count: int) -> Sequence[int]:
    """Return ports that nothing listens on now, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
