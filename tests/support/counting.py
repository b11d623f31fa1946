"""A process that counts without a pause until its stdin ends; then it says how many counts were acknowledged, and not.

Arguments: the address, the name of the node, and how many counts it has under way.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol

import coord

reactor: Any = _reactor


class Counting(Protocol):
    """Counts on the key "done" of the map "m"; each call is made again under its name until it is acknowledged."""

    def __init__(self, node: coord.Coordinator) -> None:
        self._events = node.events("m")
        self._node = node.node
        self._made = self.acknowledged = self.repeated = 0
        self.over = False

    async def count(self) -> None:
        """Count until that is over."""
        while not self.over:
            self._made += 1
            name = f"{self._node}/{self._made}"
            while True:
                try:
                    await self._events.count("done", once=name) if self._made % 50 == 0 else await self._plain()
                except (coord.Unconfirmed, coord.Unreachable):
                    self.repeated += 1
                else:
                    break
            self.acknowledged += 1

    async def _plain(self) -> None:
        # Repeated by coord itself, over any number of links, as long as its deadline has not passed.
        await self._events.count("done", timeout=600)

    def connectionLost(self, reason: object = None) -> None:  # noqa: D102 - Twisted's
        self.over = True


async def _main(address: str, name: str, width: str) -> None:
    async with coord.connect(address, node=name, heartbeat=0.3, timeout=20.0) as node:
        counting = Counting(node)
        stdio.StandardIO(counting)
        await gatherResults([Deferred.fromCoroutine(counting.count()) for _ in range(int(width))])
        sys.stdout.write(f"{counting.acknowledged} {counting.repeated}\n")
        sys.stdout.flush()


counted = Deferred.fromCoroutine(_main(*sys.argv[1:]))
counted.addErrback(lambda failure: failure.printTraceback(sys.stderr)).addBoth(lambda _: reactor.stop())
reactor.run()
