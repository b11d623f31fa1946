"""A Valkey or Redis cluster on one machine, for trying what runs on many: primaries without replicas."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults

from coord.embedded.configuration import check_address
from coord.embedded.nodes import BUS_OFFSET, write_nodes
from coord.embedded.program import Program, find_program
from coord.embedded.server import EmbeddedServer
from coord.errors import InvalidInput, InvalidURL, ServerRefused

__all__ = ["EmbeddedCluster"]

_FOLDER: Final = "primary-"
# One server's data may be needed when another server has ended: the maps of the others go on.
_DEFAULTS: Final = {"cluster-require-full-coverage": "no", "cluster-node-timeout": "5000"}
_OURS: Final = frozenset({"cluster-config-file", "cluster-enabled", "cluster-port"})
_TRIES: Final = 100


class _Primary(EmbeddedServer):
    """One of the servers. It is ready when it knows that every slot has a server, not when it listens."""

    ready_words = b"Cluster state changed: ok"


class EmbeddedCluster:
    """Servers of one cluster that live and die with this process: for trying, and for tests.

    They listen on ``port`` of 127.0.0.1 and the ports after it, and talk to each other at ports that
    are 10000 higher. Without a ``port``, unused ones are chosen. Each has its part of the slots and
    keeps its data in a folder of its own in ``data_dir`` (by default a temporary folder, removed by
    ``stop()``). No server has a replica: what one has acknowledged is on no other, and while one is
    away its maps are, too. The other arguments are those of `EmbeddedServer`.

    :param primaries: how many servers, from 2 to 16.
    :raises InvalidURL: for a bad port.
    :raises InvalidInput: for a bad number, a reserved setting, or a password of several lines.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        primaries: int = 3,
        port: int | None = None,
        password: str | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        reactor: Any = None,
    ) -> None:
        if isinstance(primaries, bool) or not isinstance(primaries, int) or not 2 <= primaries <= 16:
            raise InvalidInput(f"primaries={primaries!r}: a cluster on one machine has 2 to 16")
        self._host = "127.0.0.1"
        self.ports = _ports(self._host, port, primaries)
        self._temporary = data_dir is None
        self.data_dir = _temporary_name() if data_dir is None else Path(data_dir).absolute()
        self._folders = [self.data_dir / f"{_FOLDER}{number}" for number in range(1, primaries + 1)]
        if reserved := _OURS & {name.lower() for name in settings}:
            raise InvalidInput(f"the setting {min(reserved)!r} is reserved: an embedded cluster sets it itself")
        chosen = {**_DEFAULTS, **settings, "cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
        self.servers: tuple[EmbeddedServer, ...] = tuple(
            _Primary(folder, port=each, password=password, settings=chosen, reactor=reactor)
            for folder, each in zip(self._folders, self.ports, strict=True)
        )

    @property
    def url(self) -> str:
        """The cluster's address, without the password, for `coord.connect`; known before the start."""
        return "redis+cluster://" + ",".join(f"{self._host}:{port}" for port in self.ports) + "/"

    @property
    def program(self) -> Program | None:
        """The file that the last start has run; see `EmbeddedServer.program`."""
        return self.servers[0].program

    @property
    def pids(self) -> list[int]:
        """The pids of the servers that run, in the order of their ports."""
        return [server.pid for server in self.servers if server.pid is not None]

    def start(self, timeout: float = 60.0) -> Deferred[None]:
        """Start the servers; called back when each knows that the cluster is whole, which takes two seconds.

        If one does not start, none is left running. Cancelling kills them.

        :raises NoEmbeddedServer: if there is no server to run, or it does not run here.
        :raises ServerRefused: with the server's message; or if the folder holds other data.
        """
        return Deferred.fromCoroutine(self._start(timeout))

    def stop(self) -> Deferred[None]:
        """Shut the servers down; called back when all have ended. It can be called at any time."""
        return Deferred.fromCoroutine(self._stop())

    def exited(self) -> Deferred[str | None]:
        """Wait for the end of the first server that ends, and return how it ended; see `EmbeddedServer.exited`."""
        first: Deferred[tuple[str | None, int]] = DeferredList(
            [server.exited() for server in self.servers], fireOnOneCallback=True, consumeErrors=True
        )
        return first.addCallback(self._named)

    def _named(self, ended: tuple[str | None, int]) -> str | None:
        how, number = ended
        return None if how is None else f"port {self.ports[number]}: {how}"

    async def _start(self, timeout: float) -> None:
        new = not self.data_dir.exists()
        self._check_folder()
        write_nodes(self._folders, self._host, self.ports, named_shards=find_program().named_shards)
        try:
            await gatherResults([server.start(timeout) for server in self.servers], consumeErrors=True)
        except FirstError as error:
            await gatherResults([server.stop() for server in self.servers])
            if new:
                shutil.rmtree(self.data_dir, ignore_errors=True)
            error.subFailure.raiseException()

    async def _stop(self) -> None:
        await gatherResults([server.stop() for server in self.servers])
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def _check_folder(self) -> None:
        """Refuse data that these servers would leave out."""
        if (self.data_dir / "appendonlydir").exists() or (self.data_dir / "dump.rdb").exists():
            raise ServerRefused(f"{self.data_dir} holds the data of one server: a cluster would ignore it")
        there = len(list(self.data_dir.glob(f"{_FOLDER}*")))
        if there not in (0, len(self._folders)):
            raise ServerRefused(f"{self.data_dir} holds a cluster of {there}, not of {len(self._folders)}")


def _temporary_name() -> Path:
    return Path(tempfile.gettempdir()) / f"coord-{secrets.token_hex(8)}"


def _ports(host: str, first: int | None, count: int) -> Sequence[int]:
    """Return the ports for clients; those for the servers must be ports, too."""
    if first is None:
        return _unused(host, count)
    check_address(host, first)
    if first + count - 1 + BUS_OFFSET > 65535:
        highest = 65535 - BUS_OFFSET - count + 1
        raise InvalidURL(
            f"{first}: {count} servers of a cluster need ports up to {BUS_OFFSET} higher: {highest} at most"
        )
    return range(first, first + count)


def _unused(host: str, count: int) -> Sequence[int]:
    """Return consecutive ports that nobody listens on now, nor on those of the bus.

    Below those that a kernel gives to connections by itself, which would come in between.
    """
    for _ in range(_TRIES):
        first = 10_000 + secrets.randbelow(12_000 - count)
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    for each in (port, port + BUS_OFFSET):
                        held.enter_context(socket.create_server((host, each), reuse_port=False))
            except OSError:
                continue
        return range(first, first + count)
    raise ServerRefused(f"no {count} ports of {host} are free for a cluster")
