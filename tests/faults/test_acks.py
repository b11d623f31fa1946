"""L13 on processes: acknowledgements while the server is killed, and of a member that is."""

from __future__ import annotations

import pytest
from twisted.internet.defer import gatherResults

import coord
from coord import Acks
from support.cluster import Cluster
from support.processes import Talker
from support.waiting import turn, until

pytestmark = [pytest.mark.deadline(60), pytest.mark.servers("valkey")]

TIMES = {"heartbeat": 0.3, "lease": 2.0, "grace": 1.0}


async def test_acks_of_members_of_which_one_is_killed(cluster: Cluster) -> None:
    """Each change is acknowledged through kills of the server; then a member dies, and is not waited for."""
    cluster.reconnect_quickly()
    events = await cluster.map("here", **TIMES)
    times = [str(TIMES[name]) for name in ("heartbeat", "lease", "grace")]
    n1, n2 = [Talker("acking.py", cluster.server.address(), *times, name) for name in ("n1", "n2")]
    await until(lambda: all("joined" in each.lines for each in (n1, n2)), "they have joined", patience=30)
    for number in range(4):
        record = (await events.fire(f"k{number}")).record
        assert record is not None
        waiting = events.acked(record, coord.MEMBERS, timeout=20)
        await turn(0.004 * number)
        await cluster.server.kill()
        await cluster.server.start("kept")
        assert await waiting == Acks(("n1", "n2"), (), ())
    n2.transport.signalProcess("KILL")
    record = (await events.fire("last")).record
    assert record is not None
    with pytest.raises(coord.Unacknowledged) as raised:
        await events.acked(record, coord.MEMBERS, timeout=TIMES["lease"] / 2)
    assert (raised.value.names, raised.value.missing) == (("n1",), ("n2",))
    assert await events.acked(record, ["n1", "n2"], timeout=20) == Acks(("n1",), (), ("n2",))
    await gatherResults([n1.hang_up(), n2.ended])
