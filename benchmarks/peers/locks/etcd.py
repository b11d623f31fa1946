"""etcd with aetcd: the queue of etcd's own recipe (concurrency.Mutex), a transaction a count, and leases.

aetcd's Lock is not used: it makes a lease for each grant, and knows no order. Most of the time that a lock is handed on
in goes to a watch that begins at a revision of the past: the server lets such watches catch up each 0.1 s.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import aetcd
from aetcd.rtypes import EventKind
from aetcd.utils import prefix_range_end

from peers.base import now, say
from peers.locks.base import ENDS_AFTER, name_of, play

SESSION = 60
"""Seconds of the lease of a process that takes locks: etcd's own, and longer than a run, so nobody renews it."""


def _client(url: str) -> aetcd.Client:
    parts = urlsplit(url)
    return aetcd.Client(host=parts.hostname, port=parts.port)


async def lock(url: str, keys: list[str]) -> None:
    """Queue with a key under the lock's prefix, and wait until all that were made before it are deleted."""
    async with _client(url) as client:
        prefix, process = f"{name_of(keys)}/".encode(), uuid4().hex
        lease, do = await client.lease(SESSION), client.transactions
        queue = do.get(prefix, prefix_range_end(prefix))

        async def work(contender: str) -> float:
            key = prefix + f"{process}.{contender}".encode()
            _, (_, found) = await client.transaction(
                compare=[do.create(key) == 0], success=[do.put(key, b"", lease=lease), queue], failure=[]
            )
            waiting = [each for _, each in found]
            mine = next(each.create_revision for each in waiting if each.key == key)
            revision = mine
            while before := [each for each in waiting if each.create_revision < mine]:
                last = max(before, key=lambda each: each.create_revision)
                await client.watch_once(last.key, start_revision=revision + 1, kind=EventKind.DELETE)
                answer = await client.get_prefix(prefix)
                revision, waiting = answer.header.revision, list(answer)
            granted = now()
            await client.delete(key)
            return granted

        await play(work, keys)


async def count(url: str, keys: list[str]) -> None:
    """Read, and write in a transaction if nobody else has."""
    async with _client(url) as client:
        key, do = name_of(keys).encode(), client.transactions

        async def work(_: str) -> float:
            done = False
            while not done:
                was = await client.get(key)
                number, revision = (int(was.value), was.mod_revision) if was else (0, 0)
                done, _ = await client.transaction(
                    compare=[do.mod(key) == revision], success=[do.put(key, b"%d" % (number + 1))], failure=[]
                )
            return now()

        await play(work, keys)


async def own(url: str, keys: list[str]) -> None:
    """Renew the lease of a key, as often as etcd's own clients do, until killed."""
    async with _client(url) as client:
        lease = await client.lease(ENDS_AFTER)
        await client.put(name_of(keys).encode(), b"value", lease=lease)
        say(owned=True)
        while True:
            await lease.refresh()
            await asyncio.sleep(ENDS_AFTER / 3)


async def notice(url: str, keys: list[str]) -> None:
    """Watch the key."""
    async with _client(url) as client:
        watch = await client.watch(name_of(keys).encode(), kind=EventKind.DELETE)
        say(ready=True)
        await anext(aiter(watch))
        say(noticed=now())


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    asyncio.run(globals()[role](url, keys))
