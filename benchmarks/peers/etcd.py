"""etcd with aetcd: one watch over the prefix, puts in flight 500 at a time."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aetcd

from peers.base import chunks, now, read_command, say


def _client(url: str) -> aetcd.Client:
    parts = urlsplit(url)
    return aetcd.Client(host=parts.hostname, port=parts.port)


def _prefix(keys: list[str]) -> bytes:
    return keys[0].rpartition(".")[0].encode()


async def wait_many(url: str, keys: list[str]) -> None:
    """A future with a callback of its own for each key, and one watch that resolves them."""
    async with _client(url) as client:
        left, done = len(keys), asyncio.get_running_loop().create_future()

        def woken(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        started = now()
        waiting = {}
        for key in keys:
            waiting[key.encode()] = asyncio.get_running_loop().create_future()
            waiting[key.encode()].add_done_callback(woken)
        watch = await client.watch_prefix(_prefix(keys))
        await client.get_prefix(_prefix(keys))
        say(armed=now() - started)

        async def listen() -> None:
            async for event in watch:
                waiting[event.kv.key].set_result(event.kv.value)

        listening = asyncio.ensure_future(listen())
        await done
        say(woken=now())
        listening.cancel()


async def fire_many(url: str, keys: list[str]) -> None:
    """Puts, 500 in flight."""
    async with _client(url) as client:
        await client.get(b"nothing")
        say(ready=True)
        read_command()
        started = now()
        for chunk in chunks(keys):
            await asyncio.gather(*(client.put(key.encode(), b"value") for key in chunk))
        say(started=started, fired=now())


async def wait_one(url: str, keys: list[str]) -> None:
    """One watch; one key after the other."""
    async with _client(url) as client:
        watch = aiter(await client.watch_prefix(_prefix(keys)))
        times = []
        for key in keys:
            say(armed=key)
            await anext(watch)
            times.append(now())
        say(times=times)


async def fire_one(url: str, keys: list[str]) -> None:
    """A put as soon as the key is waited for."""
    async with _client(url) as client:
        times = []
        say(ready=True)
        for key in keys:
            read_command()
            times.append(now())
            await client.put(key.encode(), b"value")
        say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
