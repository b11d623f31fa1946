"""What a node with a waiter, or a watch, in each of many maps costs while nothing happens.

``python benchmarks/idle_maps.py [MAPS [wait|watch]]`` prints the part of a core that the node, and the server, take for
the heartbeats (the default one, every 5 s).
"""

from __future__ import annotations

import json
import re
import sys
from time import process_time
from typing import Any

from servers import server
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

import coord

BEATS = 4
HEARTBEAT = 5.0


async def hold(node: coord.Coordinator, names: list[str], kind: str) -> list[Any]:
    """Wait, or watch, in each of these maps; return what has to be held."""
    held = [node.events(name) for name in names]
    await gatherResults([events.fire("other") for events in held])
    if kind == "watch":
        watches = [events.watch() for events in held]
        await gatherResults([Deferred.fromCoroutine(caught_up(watch)) for watch in watches])
        for watch in watches:
            Deferred.fromCoroutine(watch.__anext__()).addErrback(lambda _: None)
        return watches
    for events in held:
        events["k"].addErrback(lambda _: None)
    await gatherResults([events.armed() for events in held])
    return held


async def caught_up(watch: coord.Watch) -> None:
    """Enter a watch, and pass its marker."""
    await watch.__aenter__()
    await watch.__anext__()


async def measure(reactor: Any, url: str, maps: int, kind: str) -> None:
    """Print the figures."""
    node = coord.connect(url)
    held = []
    for start in range(0, maps, 1_000):
        names = [f"map{number}" for number in range(start, min(maps, start + 1_000))]
        held += await hold(node, names, kind)
    await deferLater(reactor, 1.5 * HEARTBEAT)
    begun, server_begun = process_time(), await server_time(node)
    await deferLater(reactor, BEATS * HEARTBEAT)
    passed = BEATS * HEARTBEAT
    node_part, server_part = process_time() - begun, await server_time(node) - server_begun
    figures = {"maps": len(held), "node": node_part / passed, "server": server_part / passed}
    print(json.dumps({name: round(figure, 5) for name, figure in figures.items()}))
    await node.close()


async def server_time(node: coord.Coordinator) -> float:
    """Return the seconds of processor that the server has taken so far."""
    info = await node.execute("INFO", "cpu")
    return sum(float(found) for found in re.findall(rb"used_cpu_(?:user|sys):([0-9.]+)", info))


def main() -> None:
    """Measure."""
    maps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    kind = sys.argv[2] if len(sys.argv) > 2 else "wait"
    with server("redis") as url:
        react(lambda reactor: Deferred.fromCoroutine(measure(reactor, url, maps, kind)))


if __name__ == "__main__":
    main()
