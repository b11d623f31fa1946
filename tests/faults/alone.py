"""One server of each kind for the tests that have their nodes in their own process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from twisted.internet.defer import Deferred

from failover.processes import HOST, ServerProcess
from support.servers import Refused, kill_script
from support.waiting import eventually

__all__ = ["LoneServer"]


class LoneServer(ServerProcess):
    """A server without persistence; each test finds it empty, and as it was configured."""

    def __init__(self, kind: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="coord-a-")), kind, kind=kind)

    @property
    def url(self) -> str:
        """What nodes connect to."""
        return f"redis://{HOST}:{self.port}"

    async def begin(self) -> None:
        """Be running, empty and open to all."""
        await self.resume()
        if not self.running:
            self.spawn('save ""\nappendonly no\nlua-time-limit 20\n')
            await self.ready()
        users = [user for user in await self.command("ACL", "USERS") if user != b"default"]
        await self.commands(
            *([("ACL", "DELUSER", *users)] if users else []),
            ("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"),
            ("SCRIPT", "FLUSH"),
            ("FLUSHALL",),
        )

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Have a script of another client's run for as long as the block lasts."""
        running = Deferred.fromCoroutine(self.command("EVAL", "while true do end", 0))
        running.addErrback(lambda failure: failure.trap(Refused, ConnectionError))
        try:
            await eventually(self._says_busy, "the server says that it is busy")
            yield
        finally:
            await kill_script(self, running)

    async def _says_busy(self) -> bool:
        try:
            await self.command("PING")
        except Refused as error:
            return str(error).startswith("BUSY")
        return False

    def close(self) -> None:
        """End it and remove what it wrote."""
        self.end()
        shutil.rmtree(self.folder.parent)
