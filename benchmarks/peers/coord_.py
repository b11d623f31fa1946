"""coord."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import coord
from peers.base import BATCH, chunks, now, read_command, say


async def wait_many(url: str, keys: list[str]) -> None:
    """Arm a Deferred with a callback of its own for each key."""
    async with coord.connect(url, node="waiter") as c:
        events = c.events("bench")
        await c.connected()
        left, done = len(keys), Deferred[None]()

        def woken(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.callback(None)

        started = now()
        for key in keys:
            events[key].addCallback(woken)
        await events.armed()
        say(armed=now() - started)
        await done
        say(woken=now())


async def fire_all(events: coord.EventMap, keys: list[str]) -> None:
    """Fire in chunks, two of them under way at a time, as a loop over a file would."""
    under_way: list[Deferred[dict[str, coord.Applied]]] = []
    for chunk in chunks(keys):
        under_way.append(events.fire_all(dict.fromkeys(chunk, "value")))
        if len(under_way) > 1:
            await under_way.pop(0)
    for firing in under_way:
        await firing


async def fire_many(url: str, keys: list[str]) -> None:
    """Fire them all."""
    async with coord.connect(url, node="firer") as c:
        events = c.events("bench")
        await c.connected()
        say(ready=True)
        read_command()
        started = now()
        await fire_all(events, keys)
        say(started=started, fired=now())


async def wait_one(url: str, keys: list[str]) -> None:
    """One key after the other: wait, armed, woken."""
    async with coord.connect(url, node="waiter") as c:
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
    async with coord.connect(url, node="firer") as c:
        events = c.events("bench")
        await c.connected()
        times = []
        say(ready=True)
        for key in keys:
            read_command()
            times.append(now())
            await events.fire(key, "value")
        say(times=times)


async def late(url: str, keys: list[str]) -> None:
    """Wait for keys that are fired already: first ever, then from the live cache."""
    async with coord.connect(url, node="late", cache_size=len(keys) + BATCH) as c:
        events = c.events("bench")
        await c.connected()
        for chunk in chunks(keys):
            await events.fire_all(dict.fromkeys(chunk, "value"))
        cold = await _seconds_each(events, keys)
        started = now()
        for key in keys:
            events[key].addCallback(lambda _: None)
        cached = (now() - started) / len(keys)
        say(cold=cold)
        say(cached=cached)


async def _seconds_each(events: coord.EventMap, keys: list[str]) -> float:
    started = now()
    for key in keys:
        await events[key]
    return (now() - started) / len(keys)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    react(lambda _: Deferred.fromCoroutine(globals()[role](url, keys)))
