"""Compares coord's locks, counts and holds with what people would use instead, side by side in one run.

``python benchmarks/locks.py [--rounds 5] [--only etcd,zookeeper] [--json FILE]`` prints a table a figure and writes
JSON, as compare.py does:

- locks taken and given back a second, by one who is alone;
- locks handed on a second, from one owner to another, among eight contenders in two processes: who takes a lock that it
  has just given back hands on nothing;
- counts a second, by one, and by eight in two processes, on one counter, each one at a time;
- milliseconds from the kill -9 of an owner until all of three other processes know, where each system ends what a dead
  process had 4 s after its last renewal.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from random import random
from time import sleep, time_ns

import report
from compare import Peer, measure, part, table
from peers.base import now
from peers.locks.base import ENDS_AFTER, SECONDS

PEERS = [
    Peer("locks.coord_", "coord", "redis"),
    Peer("locks.redis_py", "redis-py", "redis"),
    Peer("locks.redisson", "Redisson's way by hand", "redis"),
    Peer("locks.etcd", "etcd (aetcd)", "etcd"),
    Peer("locks.zookeeper", "ZooKeeper (kazoo)", "zookeeper"),
]
NO_COUNTS = {"locks.redisson"}
"""It counts with the same command as redis-py."""
NO_LEASES = {"locks.redis_py", "locks.redisson"}
"""They tell nobody what has ended."""

PROCESSES, CONTENDERS, WATCHERS = 2, 4, 3


def played(peer: Peer, url: str, role: str, processes: int, contenders: int) -> list[list[float]]:
    """Have processes work at the same time; return when each contender did its work."""
    name = f"{role}{time_ns()}"
    with ExitStack() as stack:
        children = [stack.enter_context(part(peer, role, url, name, contenders)) for _ in range(processes)]
        for child in children:
            child.hear("ready")
        for child in children:
            child.go()
        return [times for child in children for times in child.hear("times")]


def changes(times: Iterable[list[float]]) -> int:
    """Return how often another contender did its work than the one before it."""
    order = sorted((at, contender) for contender, found in enumerate(times) for at in found)
    return sum(before[1] != after[1] for before, after in pairwise(order))


def locks(peer: Peer, url: str) -> dict[str, float]:
    """Take and give back a lock, alone and in turn."""
    alone = played(peer, url, "lock", 1, 1)
    contended = played(peer, url, "lock", PROCESSES, CONTENDERS)
    return {
        "locks a second, alone": len(alone[0]) / SECONDS,
        "locks handed on a second": changes(contended) / SECONDS,
    }


def counts(peer: Peer, url: str) -> dict[str, float]:
    """Count, alone and together."""
    if peer.module in NO_COUNTS:
        return {}
    alone = played(peer, url, "count", 1, 1)
    together = played(peer, url, "count", PROCESSES, CONTENDERS)
    return {
        "counts a second, alone": len(alone[0]) / SECONDS,
        "counts a second, eight on one": sum(map(len, together)) / SECONDS,
    }


def deaths(peer: Peer, url: str) -> dict[str, float]:
    """Kill an owner, at any time between two of its renewals."""
    if peer.module in NO_LEASES:
        return {}
    name = f"own{time_ns()}"
    with part(peer, "own", url, name, 1) as owner, ExitStack() as stack:
        owner.hear("owned")
        watchers = [stack.enter_context(part(peer, "notice", url, name, 1)) for _ in range(WATCHERS)]
        for watcher in watchers:
            watcher.hear("ready")
        sleep(random() * ENDS_AFTER / 3)
        killed = now()
        owner.process.kill()
        return {"ms from kill -9 to all knowing": 1000 * (max(one.hear("noticed") for one in watchers) - killed)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="modules of peers, with commas; coord is always there")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    wanted = {"coord_", *filter(None, options.only.split(","))}
    peers = [peer for peer in PEERS if not options.only or peer.module.removeprefix("locks.") in wanted]
    figures = measure(peers, options.rounds, (locks, counts, deaths))
    print(table(figures))
    if options.json is not None:
        report.write(options.json, figures)


if __name__ == "__main__":
    main()
