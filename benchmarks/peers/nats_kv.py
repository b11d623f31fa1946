"""NATS JetStream's key-value store with nats-py: one watch over the prefix, puts in flight 500 at a time.

Does less than coord: the watch has no handler a key until the user keeps one, and a put overwrites.
"""

from __future__ import annotations

import asyncio

import nats

from peers.base import chunks, now, read_command, say


async def _store(url: str, keys: list[str]):
    """Connect; a bucket for each task, as the watch gets slower with every key that its bucket has had."""
    client = await nats.connect(url)
    stream = client.jetstream()
    return client, await stream.create_key_value(bucket=_prefix(keys), history=1)


def _prefix(keys: list[str]) -> str:
    return keys[0].rpartition(".")[0]


async def wait_many(url: str, keys: list[str]) -> None:
    """A future with a callback of its own for each key, and one watch that resolves them."""
    client, store = await _store(url, keys)
    left, done = len(keys), asyncio.get_running_loop().create_future()

    def woken(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    started = now()
    waiting = {}
    for key in keys:
        waiting[key] = asyncio.get_running_loop().create_future()
        waiting[key].add_done_callback(woken)
    watcher = await store.watch(f"{_prefix(keys)}.*")
    await watcher.updates(timeout=10)  # None: the past is over
    say(armed=now() - started)

    async def listen() -> None:
        async for entry in watcher:
            if entry is not None:
                waiting[entry.key].set_result(entry.value)

    listening = asyncio.ensure_future(listen())
    await done
    say(woken=now())
    listening.cancel()
    await client.close()


async def fire_many(url: str, keys: list[str]) -> None:
    """Puts, 500 in flight."""
    client, store = await _store(url, keys)
    say(ready=True)
    read_command()
    started = now()
    for chunk in chunks(keys):
        await asyncio.gather(*(store.put(key, b"value") for key in chunk))
    say(started=started, fired=now())
    await client.close()


async def wait_one(url: str, keys: list[str]) -> None:
    """One watch; one key after the other."""
    client, store = await _store(url, keys)
    watcher = await store.watch(f"{_prefix(keys)}.*")
    await watcher.updates(timeout=10)
    times = []
    for key in keys:
        say(armed=key)
        await watcher.updates(timeout=10)
        times.append(now())
    say(times=times)
    await client.close()


async def fire_one(url: str, keys: list[str]) -> None:
    """A put as soon as the key is waited for."""
    client, store = await _store(url, keys)
    times = []
    say(ready=True)
    for key in keys:
        read_command()
        times.append(now())
        await store.put(key, b"value")
    say(times=times)
    await client.close()


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
