"""coord's parts in scale.py: ``python benchmarks/scale_coord.py PART URL PREFIX NUMBER NUMBER``."""

from __future__ import annotations

import gc
import sys
from time import process_time
from typing import Any
from urllib.parse import urlsplit

from peers.base import chunks, now, on_stage, read_command, say
from peers.coord_ import fire_all, fire_many, wait_many
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater, react
from zope.interface import implementer

import coord

MAP = "scale"


# Fan-out.


async def nodes_that_wait(_: Any, url: str, prefix: str, nodes: int, keys: int) -> None:
    """Wait for the same keys on many nodes, one key after the other; tell when the last node has it."""
    cluster = [coord.connect(url, node=f"n{number}") for number in range(nodes)]
    maps = [c.events(MAP) for c in cluster]
    await gatherResults([c.connected() for c in cluster])
    for number in range(keys):
        waits = [events[f"{prefix}.{number}"] for events in maps]
        await gatherResults([events.armed() for events in maps])
        say(armed=number)
        await gatherResults(waits)
        say(last=now())
    await gatherResults([c.close() for c in cluster])


async def fire_one_by_one(_: Any, url: str, prefix: str, __: int, keys: int) -> None:
    """Fire one key whenever told to."""
    async with coord.connect(url, node="firer") as c:
        events = c.events(MAP)
        await c.connected()
        say(ready=True)
        for number in range(keys):
            read_command()
            started = now()
            await events.fire(f"{prefix}.{number}")
            say(started=started)


# Several that fire.


async def wait_for_all(_: Any, url: str, prefix: str, firers: int, keys: int) -> None:
    """Wait for the keys of several firers."""
    await wait_many(url, [f"{prefix}.{firer}.{number}" for firer in range(firers) for number in range(keys)])


async def fire_share(_: Any, url: str, prefix: str, firer: int, keys: int) -> None:
    """Fire one's own share."""
    await fire_many(url, [f"{prefix}.{firer}.{number}" for number in range(keys)])


# A node that does not wait for what is fired.


@implementer(IStreamClientEndpoint)
class Metered:
    """An endpoint that counts what arrives on its connections."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self.bytes = self.chunks = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803 - Twisted's
        """Connect, and put the meter before the protocol."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._meter)

    def _meter(self, protocol: Any) -> Any:
        receive = protocol.dataReceived

        def counted(data: bytes) -> None:
            self.bytes += len(data)
            self.chunks += 1
            receive(data)

        protocol.dataReceived = counted
        return protocol

    def reading(self) -> tuple[int, int, float]:
        """Return what has arrived so far, in bytes and in pieces, and the processor's microseconds so far."""
        return self.bytes, self.chunks, process_time() * 1e6


async def bystander(reactor: Any, url: str, prefix: str, keys: int, _: int) -> None:
    """Wait for keys; tell what it cost to hear nothing, to let others be fired, and to be woken by one's own."""
    parts = urlsplit(url)
    metered: Any = Metered(TCP4ClientEndpoint(reactor, parts.hostname or "", parts.port or 6379))
    # The heartbeat is the same whatever is fired; here it would only blur what is.
    async with coord.connect(metered, node="bystander", heartbeat=3_000.0) as c:
        events = c.events(MAP)
        marks = [events[f"{prefix}.mark.{number}"] for number in range(4)]
        for number in range(keys):
            events[f"{prefix}.never.{number}"].addErrback(lambda _: None)
            events[f"{prefix}.own.{number}"].addCallback(lambda _: None)
        await events.armed()
        say(armed=True)
        await marks[0]
        costs = []
        for mark in marks[1:]:
            before = metered.reading()
            await mark
            costs.append([after - first for after, first in zip(metered.reading(), before, strict=True)])
        say(costs=costs)


async def fire_beside(reactor: Any, url: str, prefix: str, keys: int, _: int) -> None:
    """Fire nothing, then keys that the bystander does not wait for, then those that it does; a mark after each."""
    async with coord.connect(url, node="firer") as c:
        events = c.events(MAP)
        await events.fire(f"{prefix}.mark.0")
        for number, kind in enumerate(("", "other", "own"), 1):
            # The bystander reads its meter meanwhile: what is fired next may not arrive together with the mark.
            await deferLater(reactor, 0.1)
            await fire_all(events, [f"{prefix}.{kind}.{key}" for key in range(keys)] if kind else [])
            await events.fire(f"{prefix}.mark.{number}")
        say(done=True)


# History and maps.


async def fire_with_history(_: Any, url: str, prefix: str, lines: int, keys: int) -> None:
    """Tell what a fire costs on a map that has so many lines of history."""
    async with coord.connect(url, node="firer") as c:
        events = c.events(prefix)
        for chunk in chunks([""] * lines):
            await gatherResults([events.pulse("filler") for _ in chunk])
        await warm_up(c, prefix)
        say(costs=await cost(c, [(events, f"k{number}") for number in range(keys)]))


async def fire_among_maps(_: Any, url: str, prefix: str, maps: int, keys: int) -> None:
    """Tell what a fire costs a node that uses so many maps: all into one of them, and one after the other."""
    async with coord.connect(url, node="firer") as c:
        every = [c.events(f"{prefix}.{number}") for number in range(maps)]
        await fire_pairs([(events, "first") for events in every])
        await warm_up(c, prefix)
        into_one = await cost(c, [(every[0], f"one.{number}") for number in range(keys)])
        spread = await cost(c, [(every[number % maps], f"spread.{number}") for number in range(keys)])
        say(costs=[*into_one, *spread])


async def fire_pairs(pairs: list[tuple[coord.EventMap, str]]) -> None:
    """Fire keys of several maps in chunks, each made while the one before it is under way.

    Calls of a map are answered in order, so once the last one of a chunk is answered, all are.
    """
    under_way: list[Deferred[coord.Applied]] = []
    for chunk in chunks(pairs):
        made = [events.fire(key) for events, key in chunk]
        for firing in reversed(under_way):
            await firing
        under_way = made
    for firing in reversed(under_way):
        await firing


async def warm_up(c: coord.Coordinator, prefix: str) -> None:
    """Fire for nothing, so that no first time is measured."""
    await fire_all(c.events(f"{prefix}.warm"), [str(number) for number in range(500)])
    # A full collection in the middle of so short a measurement would look like a cost of its size.
    gc.collect()
    gc.freeze()


async def cost(c: coord.Coordinator, pairs: list[tuple[coord.EventMap, str]]) -> list[float]:
    """Return microseconds a fire, and those of them that the server spent in scripts."""
    before, started = await script_time(c), now()
    await fire_pairs(pairs)
    seconds = now() - started
    return [seconds / len(pairs) * 1e6, (await script_time(c) - before) / len(pairs)]


async def script_time(c: coord.Coordinator) -> int:
    """Return the microseconds that the server has spent in scripts since it was started."""
    lines = (await c.execute("INFO", "commandstats")).decode().splitlines()
    return sum(int(line.partition("usec=")[2].partition(",")[0]) for line in lines if line.startswith("cmdstat_eval"))


def main() -> None:
    """Play one part."""
    part, url, prefix, *numbers = sys.argv[1:]
    with on_stage():
        react(lambda reactor: Deferred.fromCoroutine(globals()[part](reactor, url, prefix, *map(int, numbers))))


if __name__ == "__main__":
    main()
