"""A process with nodes that hold keys, until it is killed or its stdin ends.

Arguments: the address, the heartbeat, lease and grace times in seconds, how many keys each node holds, and the names of
the nodes. It says "held" once all are held, and then "valid" or "not valid" whenever that changes for any hold.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall

import coord


class _Input(Protocol):
    def connectionLost(self, reason: object = None) -> None:
        ensureDeferred(_close())


reactor: Any = _reactor
nodes: list[coord.Coordinator] = []
holds: list[coord.Hold] = []


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _close() -> None:
    await gatherResults([node.close() for node in nodes])
    reactor.stop()


async def _hold(address: str, heartbeat: str, lease: str, grace: str, keys: str, *names: str) -> None:
    times = {"heartbeat": float(heartbeat), "lease": float(lease), "grace": float(grace)}
    nodes.extend(coord.connect(address, node=name, **times) for name in names)  # type: ignore[arg-type]
    wanted = [node.events("m").hold(f"{node.node}/{key}", key) for node in nodes for key in range(int(keys))]
    wanted += [node.events("m").hold("shared", node.node) for node in nodes]
    holds.extend(await gatherResults(wanted))
    _say("held")
    valid = True

    def look() -> None:
        nonlocal valid
        if all(hold.valid for hold in holds) is not valid:
            valid = not valid
            _say("valid" if valid else "not valid")

    await LoopingCall(look).start(0.02)


stdio.StandardIO(_Input())
ensureDeferred(_hold(*sys.argv[1:]))
reactor.run()
