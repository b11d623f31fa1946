"""Fires through failover after failover, and counts what was acknowledged and is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

import coord
from coord import EventMap
from failover.group import Group
from failover.nodes import Witness, witnesses
from support.figures import figure
from support.waiting import turn, until

__all__ = ["COORDINATED", "FAULTS", "Losses", "count_losses"]

_WORKERS = 8
_SOME = 100
"""Acknowledged fires of each node before a fault, and after it."""


@dataclass
class Losses:
    """What became of the fires."""

    failovers: int = 0
    acknowledged: int = 0
    lost: int = 0
    lost_by: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        by = ", ".join(f"{number} {fault}" for fault, number in sorted(self.lost_by.items()) if number) or "none"
        others = ", ".join(f"{number} {name}" for name, number in sorted(self.others.items())) or "none"
        return (
            f"{self.failovers} failovers, {self.acknowledged} fires acknowledged, {self.lost} of them lost ({by}); "
            f"not acknowledged: {others}"
        )


async def _kill(group: Group) -> None:
    await group.primary.kill()


async def _hang(group: Group) -> None:
    await group.primary.hang()


async def _plan(group: Group) -> None:
    await group.failover()


async def _coordinate(group: Group) -> None:
    await group.failover("COORDINATED")


Fault = Callable[[Group], Awaitable[None]]
FAULTS: dict[str, Fault] = {"killed": _kill, "hung": _hang, "planned": _plan}
COORDINATED: dict[str, Fault] = {"coordinated": _coordinate}
"""Valkey 9's: the primary takes no writes from the moment at which its replica begins to be one."""


class _Firing:
    """Fires the keys of a map, each once, until it is stopped; remembers which were acknowledged."""

    def __init__(self, events: EventMap, options: dict[str, Any], others: Counter[str]) -> None:
        self.events = events
        self.acknowledged: set[str] = set()
        self._options = options
        self._others = others
        self._keys = count()
        self._on = True
        self._workers = [Deferred.fromCoroutine(self._work()) for _ in range(_WORKERS)]

    async def _work(self) -> None:
        while self._on:
            key = str(next(self._keys))
            try:
                await self.events.fire(key, **self._options)
            except coord.Error as error:
                self._others[type(error).__name__] += 1
                # What fails at once must not keep the reactor from everything else.
                await turn()
            else:
                self.acknowledged.add(key)

    async def more(self) -> None:
        """Return when some more were acknowledged."""
        enough = len(self.acknowledged) + _SOME
        await until(lambda: len(self.acknowledged) >= enough, "fires are acknowledged", patience=60)

    async def stop(self) -> None:
        """Return when the last fires are answered."""
        self._on = False
        await DeferredList(self._workers, fireOnOneErrback=True)

    async def lost(self) -> set[str]:
        """Return which of the acknowledged fires the server does not know."""
        listing = await self.events.records()
        return self.acknowledged - {record.key for record in listing.records}


async def count_losses(
    group: Group, failovers: int, how: str, kinds: dict[str, Fault] = FAULTS, **options: Any
) -> Losses:
    """Fire with these options, through so many failovers: of each kind in turn; print what became of it."""
    tally = Losses()
    faults = list(kinds.items())
    try:
        async with witnesses(group, 2, heartbeat=1.0) as nodes:
            for number in range(failovers):
                fault, begin = faults[number % len(faults)]
                await _once(group, nodes, f"f{number}", fault, begin, tally, options)
    finally:
        figure(f"{how}: {tally}")
    return tally


async def _once(
    group: Group,
    nodes: list[Witness],
    name: str,
    fault: str,
    begin: Callable[[Group], Awaitable[None]],
    tally: Losses,
    options: dict[str, Any],
) -> None:
    await group.heal()
    firing = [
        _Firing(witness.node.events(f"{name}.{number}"), options, tally.others) for number, witness in enumerate(nodes)
    ]
    try:
        for each in firing:
            await each.more()
        await begin(group)
        await group.promoted()
        await group.heal()
        for each in firing:
            await each.more()
    finally:
        for each in firing:
            await each.stop()
    tally.failovers += 1
    for each in firing:
        lost = len(await each.lost())
        tally.acknowledged += len(each.acknowledged)
        tally.lost += lost
        tally.lost_by[fault] += lost
    # A hundred of these would be a long time in loading.
    await group.primary.flush()
