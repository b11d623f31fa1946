"""Compares coord with what people would use instead, side by side in one run.

``python benchmarks/compare.py [--rounds 5] [--only redis_py,nats_kv] [--json FILE]`` prints a table a task and writes
JSON. The rounds alternate: each does every peer once, so that a machine whose speed drifts is the same for all. A peer
whose server or library is missing is left out, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import time_ns

import report
from children import Child
from servers import server

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """One peer: its module in `peers`, its server, and how many keys it gets (the slow ones fewer)."""

    module: str
    name: str
    server: str
    keys: int = 0
    singles: int = 0


Task = Callable[[Peer, str], dict[str, float]]
"""Measures a peer on the server with this address, and returns its figures."""


PEERS = [
    Peer("coord_", "coord", "redis", 20_000, 1_000),
    Peer("coord_aio", "coord.aio", "redis", 20_000, 1_000),
    Peer("coord_blocking", "coord.blocking", "redis", 20_000, 1_000),
    Peer("redis_py", "redis-py", "redis", 20_000, 1_000),
    Peer("redis_py_blocking", "redis-py, blocking", "redis", 20_000, 1_000),
    Peer("txredisapi_", "txredisapi by hand", "redis", 20_000, 1_000),
    Peer("nats_kv", "NATS JetStream KV", "nats", 10_000, 1_000),
    Peer("etcd", "etcd (aetcd)", "etcd", 5_000, 500),
    Peer("zookeeper", "ZooKeeper (kazoo)", "zookeeper", 3_000, 500),
    Peer("dask_event", "dask Event", "dask", 400, 200),
]


def part(peer: Peer, role: str, url: str, prefix: str, count: int) -> Child:
    """Start one process of a peer."""
    return Child("play.py", peer.module, role, url, prefix, count)


def wakeups(peer: Peer, url: str) -> dict[str, float]:
    """Arm N waiters in one process, fire N keys in another, all woken."""
    prefix = f"b{time_ns()}"
    with (
        part(peer, "wait_many", url, prefix, peer.keys) as waiter,
        part(peer, "fire_many", url, prefix, peer.keys) as firer,
    ):
        armed = waiter.hear("armed")
        firer.hear("ready")
        firer.go()
        started = firer.hear("started")
        seconds = waiter.hear("woken") - started
        return {
            "keys woken a second": peer.keys / seconds,
            "waits armed a second": peer.keys / armed,
        }


def latency(peer: Peer, url: str) -> dict[str, float]:
    """One key at a time, from the call of fire to the waiter's callback."""
    prefix = f"l{time_ns()}"
    with (
        part(peer, "wait_one", url, prefix, peer.singles) as waiter,
        part(peer, "fire_one", url, prefix, peer.singles) as firer,
    ):
        firer.hear("ready")
        for _ in range(peer.singles):
            waiter.hear("armed")
            firer.go()
        fired, woken = firer.hear("times"), waiter.hear("times")
    # The first ones warm up.
    warm = peer.singles // 100
    each = [after - before for before, after in zip(fired, woken, strict=True)][warm:]
    return {"median latency, us": median(each) * 1e6, "p99 latency, us": quantiles(each, n=100)[98] * 1e6}


def late(peer: Peer, url: str) -> dict[str, float]:
    """Waits for what is fired already."""
    if peer.module not in ("coord_", "redis_py"):
        return {}
    with part(peer, "late", url, f"t{time_ns()}", peer.singles) as late_one:
        cold, cached = late_one.hear("cold"), late_one.hear("cached")
    return {"late wait, cold, us": cold * 1e6, "late wait, cached (redis-py: GET), us": cached * 1e6}


def measure(peers: list[Peer], rounds: int, tasks: Sequence[Task]) -> dict[str, dict[str, list[float]]]:
    """Return every figure of every round, by figure and peer."""
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for peer in list(peers):
            try:
                if peer.server not in urls:
                    urls[peer.server] = stack.enter_context(server(peer.server))
            except FileNotFoundError as error:
                print(f"left out: {peer.name}: {error}", file=sys.stderr)
                peers.remove(peer)
        for number in range(rounds):
            for task in tasks:
                for peer in list(peers):
                    print(f"round {number + 1}: {task.__name__}: {peer.name}", file=sys.stderr)
                    try:
                        found = task(peer, urls[peer.server])
                    except RuntimeError as error:
                        print(f"left out: {peer.name}: {error}", file=sys.stderr)
                        peers.remove(peer)
                        continue
                    for figure, value in found.items():
                        figures.setdefault(figure, {}).setdefault(peer.name, []).append(value)
    return figures


def table(figures: dict[str, dict[str, list[float]]]) -> str:
    """Return the medians, and coord's ratio to each peer: of the pairs of one round, the median."""
    lines = []
    for figure, by_peer in figures.items():
        lines += [f"{figure}", f"  {'':24}{'median':>12}{'min':>12}{'max':>12}{'coord is':>12}"]
        ours = by_peer.get("coord", [])
        for name, values in by_peer.items():
            ratios = [mine / other for mine, other in zip(ours, values, strict=False)]
            ratio = f"{median(ratios):.2f} x" if ratios and name != "coord" else ""
            lines.append(f"  {name:24}{median(values):12,.1f}{min(values):12,.1f}{max(values):12,.1f}{ratio:>12}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="modules of peers, with commas; coord is always there")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    wanted = {"coord_", *filter(None, options.only.split(","))}
    peers = [peer for peer in PEERS if not options.only or peer.module in wanted]
    figures = measure(peers, options.rounds, (wakeups, latency, late))
    print(table(figures))
    if options.json is not None:
        report.write(options.json, figures)


if __name__ == "__main__":
    main()
