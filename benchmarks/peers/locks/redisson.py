"""Redisson's way, by hand with redis-py: SET NX PX of a token, and a message at the release.

As there, each process subscribes to the lock's channel and wakes one of its waiters for a message; whoever asks first
then has the lock. There is no queue and no fencing token. Redisson also renews the lock, and counts how often its owner
has taken it: neither is done here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

import redis.asyncio as redis

from peers.base import now
from peers.locks.base import ENDS_AFTER, name_of, play

RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', KEYS[2], 'released')
return 1
"""


class Latch:
    """Lets one waiter of this process go on for each message."""

    def __init__(self) -> None:
        self._semaphore = asyncio.Semaphore(0)

    async def listen(self, client: redis.Redis, channel: str) -> None:
        """Subscribe, and listen from then on."""
        pubsub = client.pubsub()
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=10)
        self._listening = asyncio.ensure_future(self._listen(pubsub))

    async def _listen(self, pubsub: redis.client.PubSub) -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                self._semaphore.release()

    async def wait(self, seconds: float) -> None:
        """Wait for a message, for so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._semaphore.acquire(), seconds)


async def lock(url: str, keys: list[str]) -> None:
    """Take the lock, and release it with a script."""
    client, name, latch = redis.from_url(url), name_of(keys), Latch()
    channel = f"released:{name}"
    await latch.listen(client, channel)
    release = client.register_script(RELEASE)

    async def work(_: str) -> float:
        token = uuid4().hex
        while not await client.set(name, token, nx=True, px=1000 * ENDS_AFTER):
            await latch.wait(max(await client.pttl(name), 1) / 1000)
        granted = now()
        await release(keys=[name, channel], args=[token])
        return granted

    await play(work, keys)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
