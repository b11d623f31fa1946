"""Tells what coord's keys take in a server, in bytes: ``python benchmarks/server_memory.py [URL]``.

Without a URL it runs a server of its own. It goes by Redis' own count (``MEMORY USAGE``), so that it is the same every
time. The maps that it fills are deleted again.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

from servers import server
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import coord

CHUNK = 500

Operation = Callable[[coord.EventMap, str], Deferred[Any]]

ROWS: list[tuple[str, int, list[Operation]]] = [
    ("fired with true, then reset", 50_000, [lambda m, k: m.fire(k), lambda m, k: m.reset(k)]),
    ("fired with 100 bytes", 50_000, [lambda m, k: m.fire(k, "x" * 98)]),
    ("pulsed, then pulsed again", 50_000, [lambda m, k: m.pulse(k), lambda m, k: m.pulse(k)]),
    ("fired with 4 KB", 5_000, [lambda m, k: m.fire(k, "x" * 4_090)]),
    ("fired with 60 KB", 1_000, [lambda m, k: m.fire(k, "x" * 60_000)]),
]


async def bytes_a_key(
    c: coord.Coordinator, events: coord.EventMap, names: list[str], keys: int, operations: list[Operation]
) -> AsyncIterator[float]:
    """Tell how many more bytes a key takes after each operation."""
    before = 0
    for operation in operations:
        for start in range(0, keys, CHUNK):
            await gatherResults([operation(events, f"{number:020d}") for number in range(start, start + CHUNK)])
        usage = [await c.execute("MEMORY", "USAGE", name, "SAMPLES", 0) or 0 for name in names]
        yield (sum(usage) - before) / keys
        before = sum(usage)


async def tell(url: str) -> None:
    """Print a line a row."""
    async with coord.connect(url) as c:
        for title, keys, operations in ROWS:
            name = uuid4().hex
            names = [f"coord:{{default/{name}}}{suffix}" for suffix in ("", ":log", ":due")]
            found = [each async for each in bytes_a_key(c, c.events(name), names, keys, operations)]
            print(f"{title:30}" + "".join(f"{each:10,.0f}" for each in found))
            await c.execute("DEL", *names)


if __name__ == "__main__":
    with nullcontext(sys.argv[1]) if sys.argv[1:] else server("redis") as url:
        react(lambda _: Deferred.fromCoroutine(tell(url)))
