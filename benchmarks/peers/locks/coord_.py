"""coord: `lock`, `count`, `hold` and `gone`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import coord
from peers.base import now, say
from peers.locks.base import ENDS_AFTER, Work, name_of, repeat, start

GRACE = 1.5
TIMES: Any = {"heartbeat": 0.5, "lease": ENDS_AFTER - GRACE, "grace": GRACE}


async def _play(c: coord.Coordinator, work: Work, keys: list[str]) -> None:
    await c.connected()
    await work(keys[0])
    end = start()
    say(times=await gatherResults([Deferred.fromCoroutine(repeat(work, key, end)) for key in keys]))


async def lock(url: str, keys: list[str]) -> None:
    """Queue for the lock, and release it."""
    async with coord.connect(url) as c:
        events, name = c.events("locks"), name_of(keys)

        async def work(_: str) -> float:
            async with events.lock(name):
                return now()

        await _play(c, work, keys)


async def count(url: str, keys: list[str]) -> None:
    """Count, each contender one at a time."""
    async with coord.connect(url) as c:
        events, name = c.events("counts"), name_of(keys)

        async def work(_: str) -> float:
            await events.count(name)
            return now()

        await _play(c, work, keys)


async def own(url: str, keys: list[str]) -> None:
    """Hold a key until killed."""
    async with coord.connect(url, **TIMES) as c:
        await c.events("held").hold(name_of(keys))
        say(owned=True)
        await Deferred()


async def notice(url: str, keys: list[str]) -> None:
    """Wait for the end of the key."""
    async with coord.connect(url, **TIMES) as c:
        events = c.events("held")
        gone = events.gone(name_of(keys))
        await events.armed()
        say(ready=True)
        await gone
        say(noticed=now())


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    react(lambda _: Deferred.fromCoroutine(globals()[role](url, keys)))
