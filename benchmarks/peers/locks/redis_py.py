"""redis-py with asyncio and hiredis: its Lock, which asks for the lock each 0.1 s; HINCRBY and PUBLISH."""

from __future__ import annotations

import asyncio

import redis.asyncio as redis

from peers.base import now
from peers.locks.base import ENDS_AFTER, name_of, play


async def lock(url: str, keys: list[str]) -> None:
    """Take the lock as the documentation says. Nobody renews it."""
    client, name = redis.from_url(url), name_of(keys)

    async def work(_: str) -> float:
        async with client.lock(name, timeout=ENDS_AFTER):
            return now()

    await play(work, keys)
    await client.aclose()


async def count(url: str, keys: list[str]) -> None:
    """Count and tell it. A lost answer is counted twice."""
    client, name = redis.from_url(url), name_of(keys)

    async def work(_: str) -> float:
        pipeline = client.pipeline(transaction=False)
        pipeline.hincrby("counters", name, 1)
        pipeline.publish(f"counter:{name}", "1")
        await pipeline.execute()
        return now()

    await play(work, keys)
    await client.aclose()


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
