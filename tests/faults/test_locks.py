"""A lock that many processes want, which are killed and stopped, on a server that is killed, restarted and hung."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from twisted.internet.defer import gatherResults

from support.cluster import Cluster
from support.figures import figure
from support.owners import Owners, contend
from support.waiting import turn, until

pytestmark = [pytest.mark.deadline(90), pytest.mark.servers("valkey")]

TIMES = HEARTBEAT, LEASE, GRACE = 0.3, 1.0, 0.7


async def test_never_two_owners(cluster: Cluster, tmp_path: Path) -> None:
    """L5, L6, L8: tokens rise, and no owner is seen valid once a later one was granted; after each fault it goes on."""
    resource = tmp_path / "resource"
    resource.touch()
    address = cluster.server.address()
    processes = [contend(address, f"n{number}", TIMES, resource) for number in range(5)]
    owners = Owners(processes)
    try:
        await _break_everything(cluster, owners)
    finally:
        living = [process for process in processes if not process.ended.called]
        for process in living:
            process.transport.signalProcess(signal.SIGCONT)
        await gatherResults([process.hang_up() for process in living])
    assert owners.check() == []
    granted, lost, refused = (owners.count(verb) for verb in ("granted", "lost", "refused"))
    figure(f"{cluster.server.kind}: {granted} grants, {lost} lost, {refused} writes refused for their token")


async def _break_everything(cluster: Cluster, owners: Owners) -> None:
    async def goes_on() -> None:
        before = owners.count("granted")
        await until(lambda: owners.count("granted") > before + 10, "it is granted again and again", patience=20)

    await goes_on()
    killed = owners.owner()
    killed.transport.signalProcess("KILL")
    await killed.ended
    await goes_on()
    # Owners are stopped for longer than their lease.
    for _ in range(3):
        process = owners.owner()
        process.transport.signalProcess("STOP")
        await turn(1.5 * (LEASE + GRACE))
        process.transport.signalProcess(signal.SIGCONT)
        await goes_on()
    await cluster.server.kill()
    await cluster.server.start("kept")
    await goes_on()
    await cluster.server.hang()
    await turn(LEASE)
    await cluster.server.resume()
    await goes_on()
