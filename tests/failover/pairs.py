"""Two servers without sentinels: one follows the other, leads again, or stands alone, as a test says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from failover.nodes import Witness
from failover.processes import HOST, ServerProcess
from support.waiting import eventually

__all__ = ["BEAT", "NOWHERE", "Pair", "Proxy", "beaten", "linked"]

BEAT: Final = 0.3
"""Seconds between the nodes' beats."""

NOWHERE: Final = ("127.0.0.1", 1)
"""A primary that is not there."""

_SETTINGS: Final = """
save ""
appendonly no
repl-diskless-sync-delay 0
repl-diskless-load swapdb
repl-ping-replica-period 1
"""


class Pair:
    """Two servers of one kind, ``one`` and ``two``; each test finds both empty, and both primaries."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix="coord-p-"))
        self.one, self.two = self.servers = [ServerProcess(self.folder, name, kind=kind) for name in ("one", "two")]

    @property
    def url(self) -> str:
        """Where ``one`` is."""
        return f"redis://{HOST}:{self.one.port}"

    async def heal(self) -> None:
        """Undo whatever was done."""
        for server in self.servers:
            if not server.running:
                server.spawn(_SETTINGS)
                await server.ready()
        for server in self.servers:
            await server.commands(
                ("REPLICAOF", "NO", "ONE"), ("CONFIG", "SET", "repl-backlog-ttl", 3600), ("FLUSHALL",)
            )

    async def restart(self, server: ServerProcess, settings: str) -> None:
        """Start a server that has ended, with these lines of configuration on top."""
        server.spawn(_SETTINGS + settings)
        await server.ready()

    async def follow(self, replica: ServerProcess, primary: ServerProcess) -> None:
        """Make a server the other's replica, and return when it has all that the other has."""
        await replica.command("REPLICAOF", HOST, primary.port)

        async def level() -> bool:
            theirs = await replica.fields("INFO", "replication")
            ours = await primary.fields("INFO", "replication")
            return (
                theirs.get("master_link_status") == "up"
                and theirs["slave_repl_offset"] == ours["master_repl_offset"]
                and theirs["master_replid"] == ours["master_replid"]
            )

        await eventually(level, f"{replica} has all that {primary} has", patience=20)

    async def lead(self, server: ServerProcess) -> None:
        """Make a server a primary."""
        await server.command("REPLICAOF", "NO", "ONE")

    async def identity(self, server: ServerProcess) -> str:
        """Return the replication id of a server's data."""
        return (await server.fields("INFO", "replication"))["master_replid"]

    def forget(self, server: ServerProcess) -> None:
        """End a server, and remove the data that it kept in files."""
        server.end()
        (server.folder / "dump.rdb").unlink(missing_ok=True)
        shutil.rmtree(server.folder / "appendonlydir", ignore_errors=True)

    def close(self) -> None:
        """End both and remove what they wrote."""
        for server in self.servers:
            server.end()
        shutil.rmtree(self.folder)


@implementer(IStreamClientEndpoint)
class Proxy:
    """Takes new connections to ``server``, and leaves those that there are where they are."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803 - Twisted's
        """Connect."""
        return self.server.endpoint().connect(protocolFactory)  # type: ignore[no-any-return]


@asynccontextmanager
async def linked(*addresses: Any, **options: Any) -> AsyncIterator[list[Witness]]:
    """Give a linked node at each address; close them at the end."""
    options = {"heartbeat": BEAT, "timeout": 15.0, **options}
    made = [Witness(address, f"node{number}", **options) for number, address in enumerate(addresses)]
    try:
        for witness in made:
            await witness.node.connected(timeout=10)
        yield made
    finally:
        for witness in made:
            await witness.node.close()


async def beaten(server: ServerProcess, *nodes: Witness) -> None:
    """Return when these nodes, all that there are and now idle, have each had a heartbeat at this server or more."""

    async def published() -> int:
        words = (await server.fields("INFO", "commandstats")).get("cmdstat_publish", "calls=0")
        return int(words.split("calls=")[1].split(",")[0])

    enough = await published() + 3 * len(nodes)

    async def enough_beats() -> bool:
        return await published() >= enough

    await eventually(enough_beats, "the nodes' hearts beat")
