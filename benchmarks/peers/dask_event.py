"""dask.distributed's Event: one scheduler, an Event a key. It keeps no value.

A wait holds one of the 512 connections that a client has, so it cannot wait for more keys than that.
"""

from __future__ import annotations

import asyncio

from distributed import Client, Event

from peers.base import chunks, now, read_command, say


async def wait_many(url: str, keys: list[str]) -> None:
    """An Event's wait a key."""
    async with Client(url, asynchronous=True) as client:
        started = now()
        waits = [asyncio.ensure_future(Event(key, client=client).wait()) for key in keys]
        # A wait is a call to the scheduler that is answered when the event is set: all were sent once another
        # call, sent behind them, is answered.
        await asyncio.sleep(0)
        await client.scheduler.identity()
        say(armed=now() - started)
        await asyncio.gather(*waits)
        say(woken=now())


async def fire_many(url: str, keys: list[str]) -> None:
    """Sets, 500 in flight."""
    async with Client(url, asynchronous=True) as client:
        say(ready=True)
        read_command()
        started = now()
        for chunk in chunks(keys):
            await asyncio.gather(*(Event(key, client=client).set() for key in chunk))
        say(started=started, fired=now())


async def wait_one(url: str, keys: list[str]) -> None:
    """One key after the other."""
    async with Client(url, asynchronous=True) as client:
        times = []
        for key in keys:
            waiting = asyncio.ensure_future(Event(key, client=client).wait())
            await asyncio.sleep(0)
            await client.scheduler.identity()
            say(armed=key)
            await waiting
            times.append(now())
        say(times=times)


async def fire_one(url: str, keys: list[str]) -> None:
    """A set as soon as the key is waited for."""
    async with Client(url, asynchronous=True) as client:
        times = []
        say(ready=True)
        for key in keys:
            read_command()
            times.append(now())
            await Event(key, client=client).set()
        say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
