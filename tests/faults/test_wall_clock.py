"""The wall clock of a running node is set, by hours, and nothing of coord notices."""

from __future__ import annotations

import os
from pathlib import Path
from time import time

import pytest

from support.cluster import Cluster
from support.on_a_clock import HEARTBEAT
from support.processes import Talker
from support.waiting import until
from support.wall_clock import WallClock

HOURS = 7200


@pytest.mark.servers("valkey")
@pytest.mark.skipif(WallClock.missing() is not None, reason=str(WallClock.missing()))
@pytest.mark.parametrize("step", [-HOURS, HOURS])
@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
async def test_a_stepped_clock_moves_no_deadline(cluster: Cluster, tmp_path: Path, step: int, reactor: str) -> None:
    """A wait ends in its time, the heartbeat notices a dead server, and the link comes back when the server does."""
    clock = WallClock(tmp_path / "clock")
    node = Talker("on_a_clock.py", cluster.server.address(), reactor, environment={**os.environ, **clock.environment})
    try:
        await until(lambda: "link connected" in node.lines, "it is linked", patience=20)
        node.say("wait 3")
        await until(lambda: "waiting" in node.lines, "it waits")
        clock.step(step)
        node.say("time")
        await until(lambda: _said(node, "time"), "it says the time")
        assert abs(float(_said(node, "time")) - time() - step) < HOURS / 2, "the clock was stepped"
        await cluster.server.hang()
        await until(lambda: "link suspended" in node.lines, "a dead server is noticed", patience=4 * HEARTBEAT + 1.5)
        await until(lambda: _said(node, "ended"), "the wait ends")
        seconds, error = _said(node, "ended").split()
        assert error == "TimedOut"
        assert 3.0 <= float(seconds) < 4.0
        await cluster.server.resume()
        node.say("fire k")
        await until(lambda: "fired" in node.lines, "the link is back, and calls are sent")
    finally:
        await node.hang_up()


def _said(node: Talker, word: str) -> str:
    return next((line.partition(" ")[2] for line in node.lines if line.startswith(f"{word} ")), "")
