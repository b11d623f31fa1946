"""A map's slot moves to another server, and stops at each step; all that users do goes on."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from cluster.moving import Step, slot_of
from cluster.nodes import nodes_of
from cluster.verbs import VERBS, Pair
from coord.clock import steady
from support.waiting import eventually, until

_reactor: Any = reactor
SLOT = slot_of("coord:{default/m}")
PATIENCE = 5.0
"""Seconds for what has to happen while the move stands still: a few heartbeats."""


async def _resolved(pair: Pair) -> None:
    await gatherResults(pair.begun, consumeErrors=True).addTimeout(PATIENCE, steady(reactor))
    pair.begun.clear()


def _guests(node: Any) -> int:
    """Return how often a map has come to a server that was about to get its slot."""
    number: int = node.statistics().guests
    return number


@pytest.mark.deadline(60)
async def test_a_move_stops_at(servers: Any, step: Step) -> None:
    """What is begun while the move stands still there has its result before it goes on, if the keys are together."""
    async with nodes_of(servers, "here", "there") as (here, there):
        pair = Pair(here, there)
        verbs = [verb(pair) for verb in VERBS]
        for verb in verbs:
            await anext(verb)
        move = await servers.move(SLOT, pause_at=step)
        for verb in verbs:
            await anext(verb)
        if step is Step.FIRST_KEY:
            # A map whose keys are at two servers is served by neither.
            assert not all(each.called for each in pair.begun)
            await move.to(Step.LAST_KEY)
        await _resolved(pair)
        await move.finish()
        for verb in verbs:
            with pytest.raises(StopAsyncIteration):
                await anext(verb)


@pytest.mark.deadline(60)
async def test_a_move_is_called_off(servers: Any) -> None:
    """Who has followed a map to a server that does not get it finds back, though it is told nothing."""
    async with nodes_of(servers, "here", "there") as (here, there):
        # A map without data is served by neither end; the nodes that use it have followed it.
        move = await servers.move(SLOT, pause_at=Step.MIGRATING)
        waiting = there.events("m").wait("k")
        await there.events("m").armed()
        fired = here.events("m").fire("k", 1)
        await until(lambda: _guests(there) == 1, "it is a guest of the target")
        await move.call_off()
        assert (await fired).first
        assert await waiting.addTimeout(PATIENCE, steady(_reactor)) == 1
        assert (await servers.owner(SLOT)) is move.source


@pytest.mark.deadline(60)
async def test_a_failover(servers: Any) -> None:
    """The map's replica takes over in order: nothing is lost, and who waited is woken by it."""
    async with nodes_of(servers, "here", "there") as (here, there):
        pair = Pair(here, there)
        verbs = [verb(pair) for verb in VERBS]
        for verb in verbs:
            await anext(verb)
        await servers.failover(await servers.owner(SLOT))
        for verb in verbs:
            await anext(verb)
        await _resolved(pair)
        for verb in verbs:
            with pytest.raises(StopAsyncIteration):
                await anext(verb)


@pytest.mark.deadline(60)
@pytest.mark.lasting
async def test_a_lock(servers: Any) -> None:
    """The owner keeps its lock over a move. For lease and grace after it nobody is granted one; then the next is."""
    async with nodes_of(servers, "here", "there", lease=2.5, grace=1.0) as (here, there):
        lock = await here.events("m").lock("job")
        queued = there.events("m").lock("job")

        async def waits() -> bool:
            return (await there.events("m").holders("job"))[0] == 2

        await eventually(waits, "the other one is in the queue")
        await (await servers.move(SLOT)).finish()
        await here.events("m").pulse("seen")
        await until(lambda: lock.valid, "the lock is valid")
        began = steady(_reactor).seconds()
        await lock.release()
        following = await queued
        assert steady(_reactor).seconds() - began > 1.5
        assert following.token > lock.token
        await following.release()
