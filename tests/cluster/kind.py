# ruff: noqa: D102 - what a verb does is said once, in Server.
"""A real cluster as one more kind of server, for the tests that run on any kind.

What is done to a single server, and has no counterpart on a cluster, skips the test that asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NoReturn

import pytest
from twisted.internet.defer import Deferred, gatherResults

from cluster.real import Node, RealCluster
from coord.core.slots import slot_of
from support.servers import Refused, Server, Which, Word

__all__ = ["ClusterKind"]

_SETTINGS: Final = "cluster-require-full-coverage no\nappendfsync always\n"
_TYPES: Final = {"all": ("normal", "pubsub"), "subscribers": ("pubsub",), "commands": ("normal",)}


class ClusterKind(Server):
    """Six servers, shared by all tests that run on them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.real = RealCluster(kind.removesuffix("-cluster"), _SETTINGS)
        self.version = ""
        self.url = ""

    def address(self) -> str:
        return self.url

    def endpoint(self) -> NoReturn:
        pytest.skip("a cluster has no one endpoint")

    async def begin(self) -> None:
        await self.real.heal()
        self.url = self.real.url

    async def start(self, data: Literal["kept", "empty"] = "kept") -> None:
        if data == "empty":
            pytest.skip("a cluster's servers know their slots by their folders")
        await self.kill()
        await self.real.heal(flush=False)

    async def stop(self) -> None:
        await self._each(lambda node: node.stop())

    async def kill(self) -> None:
        await self._each(lambda node: node.kill())

    async def hang(self) -> None:
        await self._each(lambda node: node.hang())

    async def resume(self) -> None:
        await self._each(lambda node: node.resume())

    async def _each(self, verb: Any) -> None:
        running = [node for node in self.real.nodes if node.running]
        await gatherResults([Deferred.fromCoroutine(verb(node)) for node in running])

    async def drop_connections(self, which: Which = "all") -> None:
        for node in self.real.nodes:
            await node.commands(*(("CLIENT", "KILL", "TYPE", each) for each in _TYPES[which]))

    async def set_password(self, password: str | None) -> NoReturn:
        pytest.skip("a cluster's servers log in to each other")

    async def set_out_of_memory(self, on: bool) -> None:
        for node in self.real.nodes:
            await node.command("CONFIG", "SET", "maxmemory", int(on))

    async def set_read_only(self, on: bool) -> NoReturn:
        pytest.skip("a cluster's server becomes a replica by a failover")

    async def set_busy(self, on: bool) -> NoReturn:
        pytest.skip("a cluster's server that is busy is replaced")

    async def set_loading(self, on: bool) -> NoReturn:
        pytest.skip("a cluster's server that is loading is replaced")

    async def connections(self) -> int:
        clients: list[bytes] = [await node.command("CLIENT", "LIST") for node in self.real.nodes]
        return sum(b" name=coord:" in line for each in clients for line in each.splitlines())

    async def channels(self) -> set[bytes]:
        found: set[bytes] = set()
        for node in self.real.nodes:
            for word in ("CHANNELS", "SHARDCHANNELS"):
                found.update(await node.command("PUBSUB", word))
        return found

    async def flush(self) -> None:
        for node in await self.real.primaries():
            await node.command("FLUSHALL")

    async def command(self, *words: Word) -> Any:
        return (await self.commands(words))[-1]

    async def commands(self, *commands: Sequence[Word]) -> list[Any]:
        """Send each to the server of the first key that it names; what names none, to all primaries."""
        answers = []
        for words in commands:
            node = await self._server_of(words)
            if node is not None:
                answers.append(await node.command(*words))
            else:
                answers += [await each.command(*words) for each in await self.real.primaries()][-1:]
        return answers

    async def _server_of(self, words: Sequence[Word]) -> Node | None:
        for word in words[1:]:
            text = word if isinstance(word, bytes) else str(word).encode()
            tag = text.partition(b"{")[2].partition(b"}")[0]
            if tag:
                with suppress(Refused):
                    return await self.real.owner(slot_of(tag))
        return None

    def close(self) -> None:
        """End all servers and remove what they wrote."""
        self.real.close()
