"""A process whose tasks want one lock all the time, until it is killed or its stdin ends.

Arguments: the address, the node's name, the heartbeat, lease and grace times in seconds, and the file of a resource
that refuses a lower token than it has seen. A task says ``TOKEN VERB TIME`` when it has seen the lock valid, was
granted it, lost or released it, or was refused by the resource; TIME is a clock that all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

import coord

TASKS = 2
"""Two tasks of one process are two contenders."""


class _Input(Protocol):
    def connectionLost(self, reason: object = None) -> None:
        ensureDeferred(_close())


reactor: Any = _reactor
chance = Random()
nodes: list[coord.Coordinator] = []


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write(resource: Path, token: str) -> bool:
    """Write with a token; return whether the resource has taken it."""
    with resource.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.read() > token:
            return False
        file.seek(0)
        file.write(token)
        return True


def _look(lock: coord.Lock) -> bool:
    """Say that the lock is valid, if it is: whoever says so had looked at the time before."""
    time = monotonic()
    if lock.valid:
        _say(f"{lock.token} valid {time}")
    return lock.valid


async def _close() -> None:
    for node in nodes:
        await node.close()
    reactor.stop()


async def _work(lock: coord.Lock, resource: Path) -> None:
    for _ in range(chance.randrange(1, 12)):
        if not _look(lock):
            _say(f"{lock.token} lost {monotonic()}")
            break
        if not _write(resource, lock.token):
            _say(f"{lock.token} refused {monotonic()}")
        await deferLater(reactor, 0.01 * chance.random())


async def _contend(jobs: coord.EventMap, resource: Path) -> None:
    while True:
        try:
            lock = await jobs.lock("job")
            _say(f"{lock.token} granted {monotonic()}")
            await _work(lock, resource)
            _say(f"{lock.token} released {monotonic()}")
            await lock.release()
        except coord.Closed:
            return
        except coord.Error as error:
            _say(f"- {type(error).__name__} {monotonic()}")


def main(address: str, name: str, heartbeat: str, lease: str, grace: str, resource: str) -> None:
    """Run until stdin ends."""
    times = {"heartbeat": float(heartbeat), "lease": float(lease), "grace": float(grace)}
    node = coord.connect(address, node=name, **times)  # type: ignore[arg-type]
    nodes.append(node)
    stdio.StandardIO(_Input())
    for _ in range(TASKS):
        ensureDeferred(_contend(node.events("jobs"), Path(resource)))
    reactor.run()


main(*sys.argv[1:])
