"""How many counts a second: ``python benchmarks/counts.py [--rounds 5] [--counts 20000]``.

One process, and eight, count on one key, one count at a time and 100 at a time. Beside coord, in the same run and
alternating, redis-py does by hand what comes nearest: HINCRBY and PUBLISH. That counts twice if an answer is lost, has
no goal and no names, and tells nobody who was away. It prints both rates, and coord's as a share of redis-py's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack
from statistics import median
from time import time_ns

from children import Child
from peers.base import now, on_stage, read_command, say
from servers import server

PEERS = ("coord", "redis-py")
CASES = [(processes, width) for processes in (1, 8) for width in (1, 100)]


# The processes.


async def by_hand(url: str, key: str, counts: int, width: int) -> None:
    """Count with pipelines of redis-py."""
    import redis.asyncio as redis

    client = redis.from_url(url)
    await client.ping()
    say(ready=True)
    read_command()
    for _ in range(counts // width):
        pipeline = client.pipeline(transaction=False)
        for _ in range(width):
            pipeline.hincrby("counters", key, 1)
            pipeline.publish(f"counter:{key}", "1")
        await pipeline.execute()
    say(done=now())
    await client.aclose()


async def with_coord(url: str, key: str, counts: int, width: int) -> None:
    """Count with coord."""
    from twisted.internet.defer import gatherResults

    import coord

    async with coord.connect(url) as node:
        await node.connected()
        events = node.events("counters")
        say(ready=True)
        read_command()
        for _ in range(counts // width):
            await gatherResults([events.count(key) for _ in range(width)])
        say(done=now())


def play(peer: str, url: str, key: str, counts: int, width: int) -> None:
    """Be one process of a peer."""
    if peer == "redis-py":
        asyncio.run(by_hand(url, key, counts, width))
        return
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    react(lambda _: Deferred.fromCoroutine(with_coord(url, key, counts, width)))


# The run.


def rate(peer: str, url: str, processes: int, width: int, counts: int) -> float:
    """Return the counts a second of so many processes, which share ``counts``."""
    each = counts // processes // width * width
    with ExitStack() as stack:
        words = (peer, url, f"c{time_ns()}", each, width)
        children = [stack.enter_context(Child("counts.py", "--child", *words)) for _ in range(processes)]
        for child in children:
            child.hear("ready")
        started = now()
        for child in children:
            child.go()
        return each * processes / (max(child.hear("done") for child in children) - started)


def measure(url: str, rounds: int, counts: int) -> None:
    """Print a line for each case."""
    print(f"{'processes':>10}{'at a time':>11}" + "".join(f"{peer + ', a second':>24}" for peer in PEERS) + "   share")
    for processes, width in CASES:
        some = counts if width > 1 else counts // 10
        found: dict[str, list[float]] = {peer: [] for peer in PEERS}
        for _ in range(rounds):
            for peer in PEERS:
                found[peer].append(rate(peer, url, processes, width, some))
        share = median(ours / theirs for ours, theirs in zip(*found.values(), strict=True))
        print(f"{processes:10}{width:11}" + "".join(f"{median(found[it]):24,.0f}" for it in PEERS) + f"{share:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, address, key = sys.argv[2:5]
        with on_stage():
            play(name, address, key, *map(int, sys.argv[5:7]))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--counts", type=int, default=20_000)
        options = parser.parse_args()
        with server("redis") as address:
            measure(address, options.rounds, options.counts)
