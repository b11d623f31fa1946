"""What stays on the server of what has been used and is used no more."""

from __future__ import annotations

import pytest
from twisted.internet.defer import gatherResults

import coord
from failover.nodes import Witness
from failover.pairs import linked
from faults.alone import LoneServer
from support.figures import figure
from support.waiting import eventually, turn

pytestmark = pytest.mark.deadline(90)

CALLERS = 30
MAPS = 300
LARGE = "x" * 60_000


async def _size(server: LoneServer, *, history: bool = True) -> int:
    """Return the bytes of all keys, or all but the histories: as the server counts them, and all of it is looked at."""
    keys = [key for key in await server.command("KEYS", "coord:*") if history or not key.endswith(b":log")]
    sizes = await server.commands(*(("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)) if keys else []
    # One that was forgotten meanwhile has none.
    return sum(size or 0 for size in sizes)


@pytest.mark.parametrize("what", ["fire what is latched", "pulse", "reset"])
async def test_a_short_lived_caller_leaves_little(server: LoneServer, what: str) -> None:
    """Whatever the value's size, what is kept of a call that was answered is less than 500 bytes."""
    await server.begin()
    async with linked(server.url) as (other,):
        await _leaves_little(server, what, other)


async def _leaves_little(server: LoneServer, what: str, other: Witness) -> None:
    async def call_once(number: int) -> None:
        async with coord.connect(server.url, node=f"caller{number}", heartbeat=1.0) as node:
            events = node.events("m")
            if what == "pulse":
                await events.pulse("k", LARGE)
            elif what == "fire what is latched":
                await events.fire("k", LARGE)
            else:
                await other.events.fire("k", LARGE)
                await events.reset("k")

    # So that what stands of the key is there before and after.
    for number in range(2):
        await call_once(number)
    # The history has a bound of its own.
    before = await _size(server, history=False)
    for number in range(CALLERS):
        await call_once(2 + number)
    left = (await _size(server, history=False) - before) / CALLERS
    figure(f"{server.kind}: a short-lived caller ({what}, 60 kB) leaves {left:.0f} bytes")
    assert left < 500


async def test_maps_that_were_used_once_are_forgotten(server: LoneServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retention, at most 200 bytes stay of each of hundreds of maps, though no call comes there any more.

    Of each hundred, one key was latched: that stays, with its value.
    """
    for module in ("call_sender", "commands"):
        # An hour, as the retention is.
        monkeypatch.setattr(f"coord.session.{module}.OUTCOMES_KEPT", 1_000)
    await server.begin()
    options = {"heartbeat": 0.2, "retention": 1.0}
    async with linked(server.url, **options) as (node,):
        maps = [node.node.events(f"job{number}") for number in range(MAPS)]
        await gatherResults([events.pulse("done", {"at": number}) for number, events in enumerate(maps)])
        await gatherResults([events.fire("kept", number) for number, events in enumerate(maps[::100])])
    once = await _size(server) / MAPS
    async with linked(server.url, **options) as (node,):

        async def forgotten() -> bool:
            # To ask is dear.
            await turn(0.2)
            return bool(await server.command("EXISTS", "coord:{default/}:idle") == 0)

        # Maps whose sweep was cut off by a loss of the link, which beats so fast, have their turn ten seconds later.
        await eventually(forgotten, "the maps are forgotten", patience=60)
        left = await _size(server) / MAPS
        assert left <= 200
        figure(f"{server.kind}: a map that was used once takes {once:.0f} bytes, and {left:.0f} after the retention")
        kept = [await node.node.events(f"job{number}").record("kept") for number in range(0, MAPS, 100)]
        assert [record and record.value for record in kept] == [*range(MAPS // 100)]
        assert await node.node.events("job1").record("done") is None
