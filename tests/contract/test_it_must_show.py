"""The large demonstrations: many processes, many waiters, many faults, and chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from coord import Coordinator, EventMap, LinkState
from support.cluster import HEARTBEAT, Cluster, Seen
from support.processes import Talker
from support.waiting import turn, until

PROCESSES = 12
ROUNDS = 200


@pytest.mark.servers("redis", "valkey")
@pytest.mark.deadline(60)
async def test_it_must_show_one_first_of_twelve_processes(cluster: Cluster) -> None:
    """Two hundred times, twelve processes fire one key together: each time exactly one says first."""
    processes = Talker("firing.py", cluster.server.address(), str(PROCESSES))
    names = {f"p{number}" for number in range(PROCESSES)}
    try:
        await until(lambda: len(processes.lines) == PROCESSES, "all are ready", patience=30)
        for round_ in range(1, ROUNDS + 1):
            processes.say(f"k{round_}")
            told = PROCESSES * round_
            await until(lambda told=told: len(processes.lines) == told + PROCESSES, "all say it", patience=20)  # type: ignore[misc]
            said = [line.split() for line in processes.lines[told:]]
            assert {name for name, _ in said} == names
            assert sorted(first for _, first in said) == ["0"] * (PROCESSES - 1) + ["1"], round_
    finally:
        await processes.hang_up()


NODES = 4
KEYS = 100
Change = Callable[[EventMap, str, Any], "list[Deferred[Any]]"]


def _fire(events: EventMap, key: str, value: Any) -> list[Deferred[Any]]:
    return [events.fire(key, value, timeout=60)]


def _pulse(events: EventMap, key: str, value: Any) -> list[Deferred[Any]]:
    return [events.pulse(key, value, timeout=60)]


def _fire_and_reset(events: EventMap, key: str, value: Any) -> list[Deferred[Any]]:
    return [events.fire(key, value, timeout=60), events.reset(key, timeout=60)]


@pytest.mark.deadline(60)
@pytest.mark.parametrize("change", [_fire, _pulse, _fire_and_reset])
async def test_it_must_show_four_hundred_waiters(cluster: Cluster, change: Change, full_hang: bool) -> None:
    """While the server is cut, killed, restarted and hung: 400 woken, each once, with the right values."""
    options: dict[str, Any] = {"heartbeat": 5.0 if full_hang else HEARTBEAT}
    nodes: list[Coordinator] = [await cluster.linked(f"n{number}", **options) for number in range(NODES)]
    firing = (await cluster.linked("firing", **options)).events("m")
    seen = {(node.node, key): Seen(node.events("m")[f"k{key}"]) for node in nodes for key in range(KEYS)}
    for node in nodes:
        await node.events("m").armed()
    calls, made = Seen(), 0

    async def change_some(keys: range) -> None:
        nonlocal made
        for key in keys:
            for call in change(firing, f"k{key}", [key]):
                calls.watch(call)
                made += 1
            if key % 5 == 0:
                await turn()

    # Cut, again and again, while a quarter is fired.
    for start in range(0, 25, 5):
        await change_some(range(start, start + 5))
        await cluster.server.drop_connections()
    # Killed in the middle of the second, and restarted with its data.
    await change_some(range(25, 38))
    await cluster.server.kill()
    await change_some(range(38, 50))
    await cluster.server.start()
    # Hung for longer than the heartbeat.
    await until(lambda: all(node.link is LinkState.CONNECTED for node in nodes))
    await change_some(range(50, 60))
    await cluster.server.hang()
    await change_some(range(60, 75))
    if full_hang:
        await turn(12)
    await until(lambda: all(node.link is LinkState.SUSPENDED for node in nodes), "all have noticed")
    await cluster.server.resume()
    await change_some(range(75, 100))
    await until(lambda: calls.count == made, "every call is answered", patience=30)
    await until(lambda: all(one.count for one in seen.values()), "every waiter is woken", patience=30)
    assert calls.errors == []
    assert all(applied.first for applied in calls.values)
    assert {where: one.values for where, one in seen.items()} == {(name, key): [[key]] for name, key in seen}
    assert not any(one.errors for one in seen.values())


@pytest.mark.deadline(60)
@pytest.mark.parametrize("seed", range(3))
async def test_it_must_show_chance(cluster: Cluster, seed: int) -> None:
    """Rounds of waits, cancels and changes with connections killed at random: nobody is lost or called twice."""
    cluster.reconnect_quickly()
    chance = random.Random(seed)
    nodes = [await cluster.map(f"n{number}") for number in range(3)]
    for round_ in range(35):
        await _round(cluster, chance, nodes, round_)


async def _round(cluster: Cluster, chance: random.Random, nodes: list[EventMap], round_: int) -> None:
    keys = [f"k{number}" for number in range(4)]
    waiters: list[tuple[str, Deferred[Any], Seen]] = []
    dropped: list[Seen] = []
    for _ in range(chance.randrange(4, 24)):
        key = chance.choice(keys)
        waiter = chance.choice(nodes)[key]
        seen = Seen(waiter)
        if chance.random() < 0.3:
            if chance.random() < 0.5:
                await turn()
            waiter.cancel()
            dropped.append(seen)
        else:
            waiters.append((key, waiter, seen))
        if chance.random() < 0.1:
            await cluster.server.drop_connections(chance.choice(["all", "subscribers", "commands"]))
    for events in nodes:
        await events.armed()
    assert not any(seen.count for _, _, seen in waiters), "nothing was changed yet"
    assert all(seen.count == 1 and isinstance(seen.errors[0], CancelledError) for seen in dropped)

    allowed: dict[str, list[Any]] = {key: [] for key in keys}
    calls = Seen()
    made = 0
    for key in keys:
        events = chance.choice(nodes)
        for step in range(chance.randrange(1, 4)):
            value = [round_, key, step]
            allowed[key].append(value)
            operation = chance.choice([events.fire, events.pulse])
            calls.watch(operation(key, value))
            calls.watch(events.reset(key))
            made += 2
            if chance.random() < 0.2:
                await cluster.server.drop_connections(chance.choice(["all", "subscribers", "commands"]))
    await until(lambda: calls.count == made)
    await until(lambda: all(seen.count for _, _, seen in waiters), "every armed waiter is woken")
    assert calls.errors == []
    for key, _, seen in waiters:
        assert len(seen.values) == 1
        assert seen.values[0] in allowed[key], (key, seen.values)
