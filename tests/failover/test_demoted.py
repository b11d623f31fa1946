"""W2 on a server that is made a replica in place: its connections stay, so nothing but asking tells."""

from __future__ import annotations

from time import monotonic

import pytest

from coord import LinkState
from failover.pairs import BEAT, NOWHERE, Pair, Proxy, linked
from support.cluster import Seen
from support.figures import figure
from support.waiting import until
from support.watcher import Watcher

pytestmark = pytest.mark.deadline(60)

KEYS = [f"key{number}" for number in range(60)]
FIRED, RESET, PULSED = KEYS[:20], KEYS[20:40], KEYS[40:]


@pytest.mark.parametrize("into", ["a replica of the new primary", "a replica of nothing"])
async def test_w2_a_node_that_only_waits_leaves_a_demoted_server(pair: Pair, into: str) -> None:
    """It writes nothing, so nothing is refused; within a heartbeat the link is given up, and all waiters are woken."""
    await pair.heal()
    proxy = Proxy(pair.one)
    async with linked(proxy, proxy) as (waiting, calling):
        waits = Seen(*(waiting.events[key] for key in KEYS))
        watch = Watcher(waiting.events)
        await waiting.events.armed()
        await watch.ready()
        await calling.events.pulse("warm")
        await pair.follow(pair.two, pair.one)
        await pair.lead(pair.two)
        proxy.server = pair.two
        start = monotonic()
        if into == "a replica of nothing":
            await pair.one.command("REPLICAOF", *NOWHERE)
        else:
            await pair.follow(pair.one, pair.two)
        # Whoever writes is told at once, and is at the new primary now.
        for key in RESET:
            await calling.events.fire(key, key)
        for key in RESET:
            await calling.events.reset(key)
        for key in FIRED:
            await calling.events.fire(key, key)
        for key in PULSED:
            await calling.events.pulse(key, key)
        await until(lambda: LinkState.SUSPENDED in waiting.since(start), "the link is given up")
        given_up = next(when for when, state, _ in waiting.states if when >= start and state is LinkState.SUSPENDED)
        figure(f"{pair.kind}: {into}: given up after {given_up - start:.2f} s, with a heartbeat of {BEAT} s")
        # A beat, its answer, and what a busy machine is late by.
        assert given_up - start < 2 * BEAT + 1.0
        await until(lambda: waits.count == len(KEYS), "all are woken")
        assert sorted(waits.values) == sorted(KEYS)
        await until(lambda: len(watch.records) == 1 + 2 * len(RESET) + len(FIRED) + len(PULSED), "the watch goes on")
        watch.stop()


async def test_w2_a_key_fired_before_a_late_demotion_is_noticed_wakes_its_waiter(pair: Pair) -> None:
    """A wait made on a server that is a replica already is armed at the primary, and is woken there."""
    await pair.heal()
    proxy = Proxy(pair.one)
    async with linked(proxy, proxy) as (waiting, calling):
        await pair.one.command("REPLICAOF", *NOWHERE)
        proxy.server = pair.two
        late = Seen(*(waiting.events[key] for key in KEYS))
        for key in KEYS:
            await calling.events.fire(key, key)
        await until(lambda: late.count == len(KEYS), "all are woken")
        assert sorted(late.values) == sorted(KEYS)
