"""What a fire costs each server of a cluster as more shards are used: linear, or not.

Three primaries without replicas on this machine. New maps on one, two and three of them are fired at once, each with
the same number of keys, while another node waits for all of them; redis-py's cluster client does the same by hand, with
SET in pipelines, and SPUBLISH. It prints the median processor time of each server: in microseconds a fire for the
servers that are fired at, and in milliseconds a second for those without a map, and for all while nothing is fired.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

import coord
from coord.core.slots import slot_of, tag_of
from coord.embedded import EmbeddedCluster

SHARDS = 3


def processor_time(pid: int) -> float:
    """Return the seconds that a process has used, of all its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def name_on(shard: int, name: Callable[[int], str], tag: Callable[[str], bytes]) -> str:
    """Return a name whose slot is in this third of the slots."""
    return next(each for each in map(name, range(1000)) if slot_of(tag(each)) * SHARDS // 16384 == shard)


async def fire(caller: coord.Coordinator, waiter: coord.Coordinator, maps: list[str], keys: range) -> None:
    """Wait for the keys of each map on one node, and fire them on another."""
    waits = []
    for name in maps:
        events = waiter.events(name)
        waits += [events.wait(f"k{key}") for key in keys]
        await events.armed()
    fires = [caller.events(name).fire(f"k{key}", key) for key in keys for name in maps]
    await gatherResults(fires + waits)


def by_hand(port: int, tags: list[str], keys: range) -> None:
    """Set and publish with redis-py's cluster client."""
    from redis.cluster import RedisCluster

    client: Any = RedisCluster(host="127.0.0.1", port=port)
    for start in range(0, len(keys), 250):
        pipeline = client.pipeline()
        for key in keys[start : start + 250]:
            for tag in tags:
                pipeline.set(f"{{{tag}}}:{key}", key)
        pipeline.execute()
        for key in keys[start : start + 250]:
            for tag in tags:
                client.spublish(f"{{{tag}}}:{key}", key)
    client.close()


async def measured(cluster: EmbeddedCluster, shards: int, count: int, work: Callable[[], Deferred[Any]]) -> list[float]:
    """Return the processor time of each server: microseconds a fire; of those without a map, milliseconds a second."""
    before = [processor_time(pid) for pid in cluster.pids]
    began = time.monotonic()
    await work()
    seconds = time.monotonic() - began
    used = [processor_time(pid) - spent for pid, spent in zip(cluster.pids, before, strict=True)]
    return [1e6 * each / count if shard < shards else 1e3 * each / seconds for shard, each in enumerate(used)]


async def main(reactor: Any, options: argparse.Namespace) -> None:
    """Measure, round by round."""
    cluster = EmbeddedCluster(primaries=SHARDS, settings={"appendonly": "no"}, reactor=reactor)
    await cluster.start()
    nodes = [coord.connect(cluster.url, node=name, reactor=reactor) for name in ("caller", "waiter")]
    found: dict[tuple[str, int], list[list[float]]] = {}
    try:
        await gatherResults([node.connected() for node in nodes])
        for number in range(options.rounds):
            for shards in range(SHARDS + 1):
                for who, work in ways(reactor, cluster, nodes, f"{number}.{shards}", shards, range(options.keys)):
                    used = await measured(cluster, shards, options.keys, work)
                    found.setdefault((who, shards), []).append(used)
    finally:
        await gatherResults([node.close() for node in nodes])
        await cluster.stop()
    for (who, shards), rounds in found.items():
        medians = [median(each) for each in zip(*rounds, strict=True)]
        cells = "".join(f"{each:8.1f} {'us  ' if shard < shards else 'ms/s'}" for shard, each in enumerate(medians))
        sys.stdout.write(f"{who:9} {shards} of {SHARDS} shards: {cells}\n")


def ways(
    reactor: Any,
    cluster: EmbeddedCluster,
    nodes: list[coord.Coordinator],
    new: str,
    shards: int,
    keys: range,
) -> Iterator[tuple[str, Callable[[], Deferred[Any]]]]:
    """Return who is measured, each with what it does on new maps of so many shards."""
    if not shards:
        yield "nobody", lambda: deferLater(reactor, 1.0)
        return
    maps = [name_on(shard, f"{new}.{{}}".format, lambda name: tag_of("default", name)) for shard in range(shards)]
    tags = [name_on(shard, f"{new}.{{}}".format, str.encode) for shard in range(shards)]
    yield "coord", lambda: Deferred.fromCoroutine(fire(*nodes, maps, keys))
    yield "redis-py", lambda: deferToThread(by_hand, cluster.ports[0], tags, keys)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000, help="fires on each map")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, arguments)))
