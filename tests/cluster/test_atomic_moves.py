"""A slot moves in one step, as Valkey 9 does it, and there and back again; all that users do goes on."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from cluster.moving import slot_of
from cluster.nodes import nodes_of
from cluster.real import RealCluster
from cluster.verbs import VERBS, Pair
from coord.clock import steady
from support.waiting import eventually

_reactor: Any = reactor
SLOT = slot_of("coord:{default/m}")
LEASE, GRACE = 2.5, 1.0


@pytest.fixture
def valkey(real: RealCluster) -> RealCluster:
    """Return a real cluster that moves slots in one step."""
    if real.kind != "valkey":
        pytest.skip("this server moves slots key by key only")
    return real


async def _move(servers: RealCluster) -> None:
    owner = await servers.owner(SLOT)
    target = next(node for node in await servers.primaries() if node is not owner)
    await servers.move_atomically(SLOT, target)


@pytest.mark.deadline(60)
async def test_what_is_begun_before_and_under_a_move(valkey: RealCluster) -> None:
    """What waited before the move is woken after it, and what is called under it is applied once."""
    async with nodes_of(valkey, "here", "there") as (here, there):
        pair = Pair(here, there)
        verbs = [verb(pair) for verb in VERBS]
        for verb in verbs:
            await anext(verb)
        moving = Deferred.fromCoroutine(_move(valkey))
        for verb in verbs:
            await anext(verb)
        await gatherResults([moving, *pair.begun], consumeErrors=True)
        for verb in verbs:
            with pytest.raises(StopAsyncIteration):
                await anext(verb)


@pytest.mark.deadline(60)
async def test_calls_go_on_all_the_time(valkey: RealCluster) -> None:
    """While the slot moves there and back, each pulse wakes the wait that was armed for it, and counts add up."""
    async with nodes_of(valkey, "here", "there") as (here, there):
        calls, waits = here.events("m"), there.events("m")
        moving: list[Deferred[None]] = [Deferred.fromCoroutine(_move(valkey))]
        moving[0].addCallback(lambda _: Deferred.fromCoroutine(_move(valkey)))
        number = 0
        while not moving[0].called or number < 20:
            number += 1
            woken = waits.wait("k")
            await waits.armed()
            await calls.pulse("k", number)
            assert await woken == number
            assert (await calls.count("n")).count == number
        await moving[0]


@pytest.mark.deadline(60)
async def test_no_lock_is_granted_for_lease_and_grace(valkey: RealCluster) -> None:
    """The owner keeps its lock over the move; when it releases it, the next one waits until the time is over."""
    async with nodes_of(valkey, "here", "there", lease=LEASE, grace=GRACE) as (here, there):
        lock = await here.events("m").lock("job")
        queued = there.events("m").lock("job")

        async def waits() -> bool:
            return (await there.events("m").holders("job"))[0] == 2

        await eventually(waits, "the other one is in the queue")
        before = steady(_reactor).seconds()
        await _move(valkey)
        await here.events("m").pulse("seen")
        assert lock.valid
        await lock.release()
        following = await queued
        assert steady(_reactor).seconds() - before >= LEASE + GRACE
        assert following.token > lock.token
        await following.release()
