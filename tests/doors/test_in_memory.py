"""coord.testing for the other two doors: a server in memory, in real time."""

from __future__ import annotations

import asyncio
from concurrent import futures

import pytest

from coord import LinkState
from coord.testing import AioCluster, BlockingCluster
from doors.left import nothing_left


def test_for_asyncio() -> None:
    """Nodes wait for each other, through a stop of the server and a cut of one network."""

    async def main() -> None:
        async with AioCluster() as cluster:
            alice, bob = cluster.node("alice"), cluster.node("bob", heartbeat=0.5)
            mine, theirs = alice.events("m"), bob.events("m")
            waiting = theirs["k"]
            await theirs.armed()
            cluster.server.stop()
            fired = mine.fire("k", 7)
            await asyncio.sleep(0.01)
            assert alice.link is LinkState.SUSPENDED
            cluster.server.start()
            assert (await fired).first
            assert await waiting == 7
            cluster.networks["bob"].cut()
            await asyncio.sleep(0.01)
            assert bob.link is LinkState.SUSPENDED
            await bob.connected(10)

    with nothing_left():
        asyncio.run(main())


def test_for_threads() -> None:
    """The same; the server belongs to coord's thread."""
    with nothing_left(), BlockingCluster() as cluster, futures.ThreadPoolExecutor() as pool:
        alice, bob = cluster.node("alice"), cluster.node("bob")
        waiting = bob.events("m")["k"]
        bob.events("m").armed()
        cluster.call(cluster.server.stop)
        fired = pool.submit(alice.events("m").fire, "k", 7)
        cluster.call(cluster.server.start)
        assert fired.result(10).first
        assert waiting.result(10) == 7
        with pytest.raises(ZeroDivisionError):
            cluster.call(lambda: 1 // 0)
