"""redis-py with asyncio and hiredis: SUBSCRIBE, then GET; SET and PUBLISH."""

from __future__ import annotations

import asyncio

import redis.asyncio as redis

from peers.base import chunks, now, read_command, say


async def wait_many(url: str, keys: list[str]) -> None:  # noqa: C901 - told in one piece, as a user would write it
    """A future with a callback of its own for each key."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    left, done = len(keys), asyncio.get_running_loop().create_future()

    def woken(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    started = now()
    for chunk in chunks(keys):
        for key in chunk:
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            future.add_done_callback(woken)
            waiting[key.encode()] = future
        await pubsub.subscribe(*chunk)
        for _ in chunk:
            await pubsub.get_message(timeout=10)
    subscribed = now() - started
    for chunk in chunks(keys):
        for key, value in zip(chunk, await client.mget(chunk), strict=True):
            if value is not None:
                waiting[key.encode()].set_result(value)
    # Without the GETs: that is what coord's arming is compared with.
    say(armed=subscribed)

    async def listen() -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                waiting[message["channel"]].set_result(message["data"])

    listening = asyncio.ensure_future(listen())
    await done
    say(woken=now())
    listening.cancel()
    await client.aclose()


async def fire_many(url: str, keys: list[str]) -> None:
    """Pipelines of SET and PUBLISH."""
    client = redis.from_url(url)
    await client.ping()
    say(ready=True)
    read_command()
    started = now()
    for chunk in chunks(keys):
        pipeline = client.pipeline(transaction=False)
        for key in chunk:
            pipeline.set(key, "value")
            pipeline.publish(key, "value")
        await pipeline.execute()
    say(started=started, fired=now())
    await client.aclose()


async def wait_one(url: str, keys: list[str]) -> None:
    """SUBSCRIBE, GET, and the message."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    times = []
    for key in keys:
        await pubsub.subscribe(key)
        await pubsub.get_message(timeout=10)
        await client.get(key)
        say(armed=key)
        await pubsub.get_message(timeout=10)
        times.append(now())
    say(times=times)
    await client.aclose()


async def fire_one(url: str, keys: list[str]) -> None:
    """SET and PUBLISH in one round trip."""
    client = redis.from_url(url)
    await client.ping()
    times = []
    say(ready=True)
    for key in keys:
        read_command()
        times.append(now())
        pipeline = client.pipeline(transaction=False)
        pipeline.set(key, "value")
        pipeline.publish(key, "value")
        await pipeline.execute()
    say(times=times)
    await client.aclose()


async def late(url: str, keys: list[str]) -> None:
    """SUBSCRIBE and GET what is there; and GET alone, which is what stands against a cached wait."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    for chunk in chunks(keys):
        await client.mset(dict.fromkeys(chunk, "value"))
    started = now()
    for key in keys:
        await pubsub.subscribe(key)
        await pubsub.get_message(timeout=10)
        await client.get(key)
    cold = (now() - started) / len(keys)
    started = now()
    for key in keys:
        await client.get(key)
    cached = (now() - started) / len(keys)
    say(cold=cold)
    say(cached=cached)
    await client.aclose()


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
