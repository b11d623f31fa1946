"""What stays on the server of what has been used and is used no more."""

from __future__ import annotations

import pytest

import coord
from failover.nodes import Witness
from failover.pairs import linked
from support.figures import figure

from .alone import LoneServer

pytestmark = pytest.mark.deadline(90)

CALLERS = 30
LARGE = "x" * 60_000


async def _size(server: LoneServer, *, history: bool = True) -> int:
    """Return the bytes of all keys, or all but the histories: as the server counts them, and all of it is looked at."""
    keys = [key for key in await server.command("KEYS", "coord:*") if history or not key.endswith(b":log")]
    sizes = await server.commands(*(("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)) if keys else []
    return sum(sizes)


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
