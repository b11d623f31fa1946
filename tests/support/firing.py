"""A process that fires what it is told: `python firing.py URL NODE`.

A key a line comes in, 1 or 0 (first or not) goes out.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor, stdio
from twisted.internet.defer import Deferred
from twisted.protocols.basic import LineReceiver

import coord


class Firing(LineReceiver):
    """Its stdin and stdout."""

    delimiter = b"\n"

    def __init__(self, node: coord.Coordinator) -> None:
        self._node = node

    def connectionMade(self) -> None:
        """Say when the link is up."""
        self._node.connected().addCallback(lambda _: self._say(b"ready"))

    def lineReceived(self, line: bytes) -> None:
        """Fire."""
        Deferred.fromCoroutine(self._fire(line.decode()))

    def connectionLost(self, _: Any = None) -> None:
        """End."""
        end: Any = reactor
        self._node.close().addBoth(lambda _: end.stop())

    async def _fire(self, key: str) -> None:
        applied = await self._node.events("m").fire(key, self._node.node)
        self._say(b"%d" % applied.first)

    def _say(self, line: bytes) -> None:
        self.sendLine(line)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    stdio.StandardIO(Firing(coord.connect(sys.argv[1], node=sys.argv[2])))
    loop: Any = reactor
    loop.run()
