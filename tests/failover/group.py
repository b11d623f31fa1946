"""A primary, a replica and three sentinels, with a failover as a verb."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from twisted.internet.error import ConnectError as TwistedConnectError

from failover.processes import HOST, ServerProcess
from support.servers import Refused
from support.waiting import eventually, turn

__all__ = ["SERVICE", "Group"]

SERVICE: Final = "main"

_DATA: Final = """
save ""
appendonly yes
appendfsync everysec
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-ping-replica-period 1
"""

# Milliseconds. Sentinels meet every 2 s and look at replicas every 10 s by default: that is how long the tests would
# wait for a group to be whole again. What a failover itself takes is not changed by these. (PING-PERIOD is left
# alone: a replica whose INFO is older than five of it is not promoted, and INFO comes once a second then.)
_QUICK: Final = {
    "INFO-PERIOD": 500,
    "ASK-PERIOD": 100,
    "PUBLISH-PERIOD": 200,
    "TILT-TRIGGER": 8_000,
    "TILT-PERIOD": 1_000,
    "MIN-LINK-RECONNECT-PERIOD": 500,
}


class Group:
    """One service.

    :param down_after: milliseconds after which a sentinel takes a silent server for dead.
    :param quick: whether the sentinels look more often than by default; see ``_QUICK``.
    :param settings: more configuration for both data servers.
    """

    def __init__(
        self,
        *,
        down_after: int = 1_500,
        quick: bool = True,
        settings: Mapping[str, str] | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="coord-s-"))
        self.servers = [ServerProcess(self.folder, name) for name in ("one", "two")]
        self.sentinels = [ServerProcess(self.folder, f"s{number}", sentinel_password) for number in range(3)]
        self._down_after = down_after
        self._quick = quick
        self._settings = "".join(f"{name} {value}\n" for name, value in (settings or {}).items())
        self._sentinel_password = sentinel_password
        self._primary = self.servers[0]

    @property
    def primary(self) -> ServerProcess:
        """The server that was the primary when this was last looked at (`heal`, `promoted`)."""
        return self._primary

    @property
    def replica(self) -> ServerProcess:
        """The other one."""
        return next(server for server in self.servers if server is not self._primary)

    @property
    def url(self) -> str:
        """The service's URL."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        query = f"?sentinel_password={self._sentinel_password}" if self._sentinel_password else ""
        return f"redis+sentinel://{hosts}/{SERVICE}{query}"

    async def heal(self) -> None:
        """Have everything running, in sync and known to all sentinels, whatever was done before."""
        if not self.sentinels[0].running:
            await self._begin()
        for process in (*self.servers, *self.sentinels):
            await process.resume()
        await eventually(self._agreed, "the sentinels agree on a primary")
        if not self.replica.running:
            await self.restart(self.replica)
        for sentinel in self.sentinels:
            if not sentinel.running:
                self._spawn_sentinel(sentinel)
                await sentinel.ready()
                await self._hasten(sentinel)
        await eventually(self.whole, "the group is whole", patience=40)

    async def _begin(self) -> None:
        self._spawn(self.primary, None)
        await self.primary.ready()
        self._spawn(self.replica, self.primary)
        await self.replica.ready()
        for sentinel in self.sentinels:
            self._spawn_sentinel(sentinel)
        for sentinel in self.sentinels:
            await sentinel.ready()
            await self._hasten(sentinel)

    def _spawn(self, server: ServerProcess, primary: ServerProcess | None) -> None:
        follow = "" if primary is None else f"replicaof {HOST} {primary.port}\n"
        server.spawn(f"{_DATA}{self._settings}{follow}")

    async def restart(self, server: ServerProcess, *, as_primary: bool = False) -> None:
        """Start a dead server again: as the replica that it has to be, or as the primary that it was."""
        self._spawn(server, None if as_primary else self.primary)
        await server.ready()

    def _spawn_sentinel(self, sentinel: ServerProcess) -> None:
        others = [other for other in self.sentinels if other is not sentinel]
        lines = [
            f"sentinel myid {_id(sentinel)}",
            f"sentinel monitor {SERVICE} {HOST} {self.primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {self._down_after}",
            f"sentinel failover-timeout {SERVICE} 3000",
            f"sentinel known-replica {SERVICE} {HOST} {self.replica.port}",
            *(f"sentinel known-sentinel {SERVICE} {HOST} {other.port} {_id(other)}" for other in others),
        ]
        if self._sentinel_password:
            lines += [f"requirepass {self._sentinel_password}", f"sentinel sentinel-pass {self._sentinel_password}"]
        sentinel.spawn("\n".join(lines) + "\n", "--sentinel")

    async def _hasten(self, sentinel: ServerProcess) -> None:
        if self._quick:
            await sentinel.command("SENTINEL", "DEBUG", *(word for pair in _QUICK.items() for word in pair))

    async def _agreed(self) -> bool:
        try:
            return await self._agree()
        except (ConnectionError, TwistedConnectError, Refused):
            return False

    async def _agree(self) -> bool:
        ports = set()
        for sentinel in self.sentinels:
            if sentinel.running:
                reply = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                ports.add(int(reply[1]))
        if len(ports) != 1:
            return False
        self._primary = next(server for server in self.servers if server.port in ports)
        return await self._primary.role() == "master"

    async def whole(self) -> bool:
        """Whether a failover could begin now, and would find a replica that has everything."""
        try:
            return await self._whole()
        except (ConnectionError, TwistedConnectError, Refused):
            # Somebody does not answer, or not yet.
            return False

    async def _whole(self) -> bool:
        if not await self._agreed() or await self.replica.role() != "slave":
            return False
        replication = await self.replica.fields("INFO", "replication")
        if (replication.get("master_link_status"), replication.get("master_port")) != ("up", str(self.primary.port)):
            # Also where it has become a primary since it was asked for its role.
            return False
        for sentinel in self.sentinels:
            if not await self._sees(sentinel):
                return False
        return True

    async def _sees(self, sentinel: ServerProcess) -> bool:
        primary = await sentinel.fields("SENTINEL", "MASTER", SERVICE)
        if primary["flags"] != "master" or primary["num-other-sentinels"] != "2":
            return False
        replicas = await sentinel.command("SENTINEL", "REPLICAS", SERVICE)
        for words in replicas:
            texts = [word.decode() for word in words]
            seen = dict(zip(texts[::2], texts[1::2], strict=True))
            if seen["port"] == str(self.replica.port):
                return bool(seen["flags"] == "slave") and seen["master-link-status"] == "ok"
        return False

    # Failovers.

    async def failover(self, *how: str) -> None:
        """Begin a planned one."""
        await self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE, *how)

    async def promoted(self, *, patience: float = 30.0) -> float:
        """Return the monotonic time at which the replica was seen to be the primary; from then on it is `primary`."""
        candidate = self.replica
        end = monotonic() + patience
        while await candidate.role() != "master":
            assert monotonic() < end, f"{candidate} was not promoted: {self.words()}"
            await turn(0.002)
        self._primary = candidate
        return monotonic()

    def words(self) -> str:
        """Return what the sentinels said last."""
        return "\n".join(f"{each}:\n{each.log[-3_000:]}" for each in self.sentinels)

    def close(self) -> None:
        """End all processes and remove what they wrote."""
        for process in (*self.sentinels, *self.servers):
            process.end()
        shutil.rmtree(self.folder)


def _id(sentinel: ServerProcess) -> str:
    return f"{sentinel.port:040x}"
