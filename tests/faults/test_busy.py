"""A script of another client's holds the server up, and it answers BUSY: that will pass, and refuses nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet.defer import gatherResults

from coord import LinkState, ServerRefused, Unreachable
from failover.pairs import BEAT, linked
from faults.alone import LoneServer
from support.cluster import Seen
from support.gate import Gate
from support.waiting import until
from support.watcher import Watcher

pytestmark = pytest.mark.deadline(60)

KEYS = [f"key{number}" for number in range(100)]


async def test_w2_what_waits_stays(server: LoneServer) -> None:
    """Waits, armed and late, reads and a watch outlast it; calls are applied when it is over, each once."""
    await server.begin()
    async with linked(server.url, server.url) as (waiting, calling):
        await calling.events.fire("latched", "stands")
        armed = Seen(*(waiting.events[key] for key in KEYS))
        watch = Watcher(waiting.events)
        await waiting.events.armed()
        await watch.ready()
        async with server.busy():
            late = Seen(*(waiting.events[f"late-{key}"] for key in KEYS), waiting.events["latched"])
            reads = Seen(waiting.events.record("latched"), waiting.events.records())
            calls = Seen(
                *(calling.events.fire(key, key) for key in KEYS), *(calling.events.pulse(f"late-{key}") for key in KEYS)
            )
            # Several heartbeats pass until this one's deadline.
            hurried = Seen(waiting.events.fire("hurried", timeout=4 * BEAT))
            await until(lambda: hurried.count, "the call in a hurry ends")
            assert isinstance(hurried.errors[0], ServerRefused | Unreachable), hurried.errors
            assert armed.count == late.count == reads.count == calls.count == 0
            assert watch.error is None
            assert [node.node.link for node in (waiting, calling)] == [LinkState.CONNECTED] * 2
            assert "BUSY" in waiting.node.reason
        await until(lambda: calls.count == 2 * len(KEYS), "the calls are answered")
        assert calls.errors == []
        assert all(applied.first for applied in calls.values)
        await until(lambda: armed.count == len(KEYS), "the armed waiters are woken")
        assert armed.values == KEYS
        await until(lambda: reads.count == 2, "the reads are answered")
        assert reads.errors == []
        await waiting.events.armed()
        await gatherResults([calling.events.pulse(f"late-{key}", "again") for key in KEYS])
        await until(lambda: late.count == len(KEYS) + 1, "the late waiters are woken")
        assert late.errors == []
        await until(lambda: len(watch.records) == 3 * len(KEYS), "the watch shows all")
        assert set(Counter(record.key for record in watch.records).values()) == {1, 2}
        assert await waiting.events.record("hurried") is None
        watch.stop()


@pytest.mark.parametrize(("when", "count"), [("it begins while they are made anew", 20_000), ("it lasts", 2_000)])
async def test_w2_many_armed_waits_survive_a_cut(server: LoneServer, when: str, count: int) -> None:
    """The link is cut while the server is busy, or right before: each armed wait is woken by a fire afterwards."""
    await server.begin()
    gate = Gate(server.endpoint())
    keys = [f"many{number}" for number in range(count)]
    async with linked(gate, server.url) as (waiting, calling):
        waits = Seen(*(waiting.events[key] for key in keys))
        await waiting.events.armed()
        if when == "it lasts":
            async with server.busy():
                gate.cut()
                attempts = gate.attempts
                await until(lambda: gate.attempts >= attempts + 4, "it is tried again")
        else:
            gate.cut()
            await until(lambda: waiting.node.link is not LinkState.CONNECTED, "the link is lost")
            await until(lambda: waiting.node.link is LinkState.CONNECTED, "the link is back")
            async with server.busy():
                seen = waiting.node.statistics()
                await until(lambda: "BUSY" in waiting.node.reason, "it is told")
                assert seen.waiters == count
        assert waits.count == 0
        await gatherResults([calling.events.fire(key, key) for key in keys])
        await until(lambda: waits.count == count, "all are woken", patience=20)
        assert waits.errors == []
        assert sorted(waits.values) == sorted(keys)
