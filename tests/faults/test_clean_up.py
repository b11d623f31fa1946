"""A test that was given up in the middle of a fault leaves a server that the next one can use."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from faults.alone import LoneServer
from support.cluster import Cluster
from support.waiting import turn


@pytest.mark.servers("redis", "valkey")
@pytest.mark.parametrize("left", ["busy", "hung", "busy and hung", "busy and killed"])
async def test_the_shared_server(cluster: Cluster, left: str) -> None:
    """A script that runs without end is killed, and a process that was stopped continues."""
    server = cluster.server
    if "busy" in left:
        await server.set_busy(True)
    if "hung" in left:
        await server.hang()
    if "killed" in left:
        await server.kill()
    await server.begin()
    assert await server.command("PING") == b"PONG"
    # A fault that is over is not undone once more.
    await server.begin()
    await server.set_busy(True)
    await server.set_busy(False)


@pytest.mark.servers("redis", "valkey")
async def test_a_script_that_has_not_begun_when_the_test_is_given_up(cluster: Cluster) -> None:
    """The script is killed even if it begins after the test has ended."""
    making = Deferred.fromCoroutine(cluster.server.set_busy(True))
    making.addErrback(lambda _: None)
    making.cancel()
    await cluster.server.begin()
    assert await cluster.server.command("PING") == b"PONG"


async def test_the_server_of_the_faults(server: LoneServer) -> None:
    """It is idle again when it is begun with, wherever a test in its block was given up, and continues."""
    await server.begin()
    for turns in range(4):

        async def busy() -> None:
            async with server.busy():
                await Deferred()

        running = Deferred.fromCoroutine(busy())
        running.addErrback(lambda _: None)
        for _ in range(turns):
            await turn()
        running.cancel()
        await running
        await server.begin()
    await server.hang()
    await server.begin()
    await server.hang()
    await server.stop()
    assert not server.running
