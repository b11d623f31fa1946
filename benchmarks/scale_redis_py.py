"""redis-py's parts in scale.py: ``python benchmarks/scale_redis_py.py PART URL PREFIX NUMBER NUMBER``.

As in ``peers/redis_py.py``: SUBSCRIBE, then GET; pipelines of SET and PUBLISH. A client is a node.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import redis.asyncio as redis
from peers.base import now, on_stage, read_command, say
from peers.redis_py import fire_many, wait_many


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
        read_command()
        started = now()
        pipeline = client.pipeline(transaction=False)
        pipeline.set(f"{prefix}.{number}", "true")
        pipeline.publish(f"{prefix}.{number}", "true")
        await pipeline.execute()
        say(started=started)


async def wait_for_all(url: str, prefix: str, firers: int, keys: int) -> None:
    """Wait for the keys of several firers."""
    await wait_many(url, [f"{prefix}.{firer}.{number}" for firer in range(firers) for number in range(keys)])


async def fire_share(url: str, prefix: str, firer: int, keys: int) -> None:
    """Fire one's own share."""
    await fire_many(url, [f"{prefix}.{firer}.{number}" for number in range(keys)])


def main() -> None:
    """Play one part."""
    part, url, prefix, *numbers = sys.argv[1:]
    with on_stage():
        asyncio.run(globals()[part](url, prefix, *map(int, numbers)))


if __name__ == "__main__":
    main()
