"""redis-py's parts in scale.py: ``python benchmarks/scale_redis_py.py PART URL PREFIX NUMBER NUMBER``.

As in ``peers/redis_py.py``: SUBSCRIBE, then GET; pipelines of SET and PUBLISH. A client is a node.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import redis.asyncio as redis
from peers.base import chunks, ears, now, say


async def nodes_that_wait(url: str, prefix: str, nodes: int, keys: int) -> None:
    """Wait for the same keys on many clients, one key after the other; tell when the last client has it."""
    clients = [redis.from_url(url) for _ in range(nodes)]
    cluster = [(client, client.pubsub()) for client in clients]
    for number in range(keys):
        await asyncio.gather(*(arm(client, pubsub, f"{prefix}.{number}") for client, pubsub in cluster))
        say(armed=number)
        await asyncio.gather(*(pubsub.get_message(timeout=10) for _, pubsub in cluster))
        say(last=now())


async def arm(client: Any, pubsub: Any, key: str) -> None:
    """Subscribe, and look."""
    await pubsub.subscribe(key)
    await pubsub.get_message(timeout=10)
    await client.get(key)


async def fire_one_by_one(url: str, prefix: str, _: int, keys: int) -> None:
    """Fire one key whenever told to."""
    client = redis.from_url(url)
    await client.ping()
    say(ready=True)
    for number in range(keys):
        ears()
        started = now()
        await fire_all(client, [f"{prefix}.{number}"])
        say(started=started)


async def fire_all(client: Any, keys: list[str]) -> None:
    """Set and publish."""
    for chunk in chunks(keys):
        pipeline = client.pipeline(transaction=False)
        for key in chunk:
            pipeline.set(key, "true")
            pipeline.publish(key, "true")
        await pipeline.execute()


async def wait_for_all(url: str, prefix: str, firers: int, keys: int) -> None:
    """Wait for the keys of several firers, with a future for each key."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    waiting = {
        f"{prefix}.{firer}.{number}".encode(): asyncio.get_running_loop().create_future()
        for firer in range(firers)
        for number in range(keys)
    }
    for chunk in chunks([key.decode() for key in waiting]):
        await pubsub.subscribe(*chunk)
        for _ in chunk:
            await pubsub.get_message(timeout=10)
        await client.mget(chunk)
    say(armed=True)
    listening = asyncio.ensure_future(listen(pubsub, waiting))
    await asyncio.gather(*waiting.values())
    say(last=now())
    listening.cancel()


async def listen(pubsub: Any, waiting: dict[bytes, asyncio.Future[bytes]]) -> None:
    """Resolve the futures."""
    async for message in pubsub.listen():
        if message["type"] == "message":
            waiting[message["channel"]].set_result(message["data"])


async def fire_share(url: str, prefix: str, firer: int, keys: int) -> None:
    """Fire one's own share."""
    client = redis.from_url(url)
    await client.ping()
    say(ready=True)
    ears()
    say(started=now())
    await fire_all(client, [f"{prefix}.{firer}.{number}" for number in range(keys)])


def main() -> None:
    """Play one part."""
    part, url, prefix, *numbers = sys.argv[1:]
    # As in play.py.
    gc.collect()
    asyncio.run(globals()[part](url, prefix, *map(int, numbers)))


if __name__ == "__main__":
    main()
