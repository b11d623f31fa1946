"""A process that is a member and acknowledges each change of the map "m", until it is killed or its stdin ends.

Arguments: the address, the heartbeat, lease and grace times in seconds, and the name of the node. It says "joined".
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

import coord

reactor: Any = _reactor


class _Input(Protocol):
    def __init__(self, node: coord.Coordinator) -> None:
        self._node = node

    def connectionLost(self, reason: object = None) -> None:
        self._node.close()


async def _main(address: str, heartbeat: str, lease: str, grace: str, name: str) -> None:
    node = coord.connect(
        address, node=name, heartbeat=float(heartbeat), lease=float(lease), grace=float(grace), timeout=60.0
    )
    stdio.StandardIO(_Input(node))
    events = node.events("m")
    try:
        async with events.watch() as changes, node.join():
            sys.stdout.write("joined\n")
            sys.stdout.flush()
            async for change in changes:
                if isinstance(change, coord.Record):
                    await events.ack(change)
    except coord.Closed:
        pass


done = Deferred.fromCoroutine(_main(*sys.argv[1:]))
done.addErrback(lambda failure: failure.printTraceback(sys.stderr)).addBoth(lambda _: reactor.stop())
reactor.run()
