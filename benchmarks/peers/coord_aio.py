"""coord.aio."""

from __future__ import annotations

import asyncio

import coord.aio
from peers.base import chunks, now, read_command, say


async def wait_many(url: str, keys: list[str]) -> None:
    """A future with a callback of its own for each key."""
    async with coord.aio.connect(url, node="waiter") as c:
        events = c.events("bench")
        await c.connected()
        left, done = len(keys), asyncio.get_running_loop().create_future()

        def woken(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        started = now()
        for key in keys:
            events[key].add_done_callback(woken)
        await events.armed()
        say(armed=now() - started)
        await done
        say(woken=now())


async def fire_many(url: str, keys: list[str]) -> None:
    """Fire them all, a chunk in one go."""
    async with coord.aio.connect(url, node="firer") as c:
        events = c.events("bench")
        await c.connected()
        say(ready=True)
        read_command()
        started = now()
        for chunk in chunks(keys):
            await events.fire_all(dict.fromkeys(chunk, "value"))
        say(started=started, fired=now())


async def wait_one(url: str, keys: list[str]) -> None:
    """One key after the other: wait, armed, woken."""
    async with coord.aio.connect(url, node="waiter") as c:
        events = c.events("bench")
        await c.connected()
        times = []
        for key in keys:
            waiting = events[key]
            await events.armed()
            say(armed=key)
            await waiting
            times.append(now())
        say(times=times)


async def fire_one(url: str, keys: list[str]) -> None:
    """Fire a key as soon as it is waited for."""
    async with coord.aio.connect(url, node="firer") as c:
        events = c.events("bench")
        await c.connected()
        times = []
        say(ready=True)
        for key in keys:
            read_command()
            times.append(now())
            await events.fire(key, "value")
        say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
