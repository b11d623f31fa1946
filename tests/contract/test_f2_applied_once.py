"""F2 applied once: a call whose reply was lost is sent again, unchanged, and answered as before."""

from __future__ import annotations

from typing import Any

from coord import Applied, CaughtUp, EventMap, Kind, LinkState
from support.cluster import Cluster, Seen, latched
from support.gate import Gate
from support.waiting import eventually, until


async def _history(events: EventMap) -> list[tuple[Kind, Any]]:
    changes = []
    async with events.watch(since="start") as watch:
        async for change in watch:
            if isinstance(change, CaughtUp):
                break
            changes.append((change.kind, change.value))
    return changes


async def _warm(cluster: Cluster) -> tuple[EventMap, Gate, EventMap]:
    """Return a gated map, its gate and another node's map; the server knows the scripts."""
    here, gate = await cluster.gated("here", heartbeat=30)
    there = await cluster.map("there")
    await here.reset("warm")
    return here, gate, there


async def test_f2_applied_once_a_pulse(cluster: Cluster) -> None:
    """A pulse whose reply was lost is one pulse."""
    here, gate, there = await _warm(cluster)
    first, second = Seen(there["k"]), Seen()
    there["k"].addCallback(lambda _: second.watch(there["k"]))
    await there.armed()
    gate.stall()
    pulsing = here.pulse("k", 1)
    await until(lambda: first.count == 1)
    gate.open()
    gate.cut()
    assert (await pulsing).first
    await there.armed()
    assert second.count == 0
    assert await _history(there) == [(Kind.PULSED, 1)]
    await there.pulse("k")


async def test_f2_applied_once_a_fire_that_another_node_reset(cluster: Cluster) -> None:
    """The repeated fire does not fire again what another node reset meanwhile, and is still told that it was first."""
    here, gate, there = await _warm(cluster)
    gate.stall()
    firing = here.fire("k", 1)
    await eventually(lambda: latched(there, "k"), "it is applied")
    await there.reset("k")
    gate.open()
    gate.cut()
    applied: Applied = await firing
    assert applied.first
    assert applied.record is not None
    assert applied.record.value == 1
    assert not await latched(there, "k")
    assert await _history(there) == [(Kind.FIRED, 1), (Kind.RESET, None)]


async def test_f2_applied_once_a_reset_that_another_node_fired_after(cluster: Cluster) -> None:
    """The repeated reset does not erase what another node fired meanwhile."""
    here, gate, there = await _warm(cluster)
    await there.fire("k", 1)
    gate.stall()
    resetting = here.reset("k")

    async def reset() -> bool:
        return not await latched(there, "k")

    await eventually(reset, "it is applied")
    await there.fire("k", 2)
    gate.open()
    gate.cut()
    assert (await resetting).first
    assert await there["k"] == 2
    assert await here["k"] == 2


async def test_f2_applied_once_its_own_waits_do_not_see_the_past(cluster: Cluster) -> None:
    """The late answer of a repeated fire does not put into the cache what was reset since."""
    here, gate, there = await _warm(cluster)
    gate.stall()
    firing = here.fire("k", 1)
    await eventually(lambda: latched(there, "k"), "it is applied")
    await there.reset("k")
    gate.open()
    gate.cut()
    await cluster.state(cluster.of(here), LinkState.CONNECTED)
    await firing
    waiting = here["k"]
    await here.armed()
    later = Seen(waiting, here["k"])
    assert later.count <= 1, "at most the waiter that was there before the answer"
    await there.fire("k", 2)
    await until(lambda: later.count == 2)


async def test_f2_applied_once_over_a_server_crash(cluster: Cluster) -> None:
    """The outcome is kept with the data: a server that was killed and restarted answers the repeated call as before."""
    here, gate, there = await _warm(cluster)
    gate.stall()
    pulsing = here.pulse("k", 1)

    async def pulsed() -> bool:
        return await there.record("k") is not None

    await eventually(pulsed, "it is applied")
    await cluster.server.kill()
    await cluster.server.start()
    gate.open()
    gate.cut()
    assert (await pulsing).first
    assert await _history(there) == [(Kind.PULSED, 1)]


async def test_f2_applied_once_where_the_data_has_gone(cluster: Cluster) -> None:
    """A server that came back empty has neither the effect nor the outcome: the call is applied."""
    here, gate, there = await _warm(cluster)
    gate.stall()
    firing = here.fire("k", 1)
    await eventually(lambda: latched(there, "k"), "it is applied")
    await cluster.server.kill()
    await cluster.server.start("empty")
    gate.open()
    gate.cut()
    assert (await firing).first
    assert await latched(there, "k")


async def test_f2_applied_once_through_many_cuts(cluster: Cluster) -> None:
    """Of many nodes firing the same keys through cuts, exactly one is first for each; pulses are counted once."""
    gated = [await cluster.gated(f"n{number}") for number in range(4)]
    fires: dict[str, Seen] = {f"k{number}": Seen() for number in range(20)}
    pulses = Seen()
    for number, (key, seen) in enumerate(fires.items()):
        for events, gate in gated:
            seen.watch(events.fire(key, events.name))
            pulses.watch(events.pulse("p"))
            if number % 5 == 2:
                gate.cut()
        await until(lambda: pulses.count % 4 == 0)
    await until(lambda: pulses.count == 80 and all(seen.count == 4 for seen in fires.values()))
    assert [sum(applied.first for applied in seen.values) for seen in fires.values()] == [1] * 20
    history = await _history(gated[0][0])
    assert sorted(kind for kind, _ in history) == [Kind.FIRED] * 20 + [Kind.PULSED] * 80
