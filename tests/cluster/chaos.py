"""Waits and calls on many maps, while slots move key by key and primaries fail over or are stopped.

By hand: ``python tests/cluster/chaos.py KIND SECONDS FAULT...`` with the faults of `FAULTS`; it prints what came of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as TookTooLong

import coord
from cluster.moving import Move, Step, slot_of
from cluster.real import RealCluster
from coord.clock import steady
from support.servers import Refused
from support.waiting import eventually, turn

__all__ = ["FAULTS", "Chaos", "Outcome"]

MAPS: Final = 6
LANES: Final = 40
"""Waits that are pending for each map at any time."""
LATE: Final = 1.0
"""Seconds from the caller's answer to the wake after which a wait is named."""
PATIENCE: Final = 30.0
"""Seconds after which a wait whose call was answered counts as lost."""


@dataclass
class Outcome:
    """What came of it; ``late`` are the seconds from a caller's answer to a wake that came after it.

    While a primary is missed, the whole cluster refuses to answer: those seconds do not count.
    """

    waits: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        late = sorted(self.late)
        over = sum(seconds > 1 for seconds in late)
        longest = late[-1] if late else 0.0
        most = late[int(len(late) * 0.999)] if late else 0.0
        return (
            f"{self.waits} waits, {self.done}; lost {len(self.lost)}, wrong {len(self.wrong)}, doubled"
            f" {len(self.doubled)}, calls failed {len(self.failed)};"
            f" later than 1 s: {over}, 99.9 % within {most:.2f} s, longest {longest:.2f} s"
        )


class Chaos:
    """One run."""

    def __init__(
        self, servers: Any, seed: int, *, heartbeat: float = 1.0, maps: int = MAPS, lanes: int = LANES
    ) -> None:
        self.servers = servers
        self.outcome = Outcome()
        self.over = False
        self._chance = Random(seed)
        self._heartbeat = heartbeat
        self._pause = 0.5
        self._maps = [f"m{number}" for number in range(maps)]
        self._lanes = lanes
        self._made = 0
        self._began = 0.0
        # When a primary was stopped, and when another one was in its place.
        self._outages: list[tuple[float, float]] = []
        # What a watch of each map has seen of each call.
        self._seen: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    async def run(self, seconds: float, *faults: str) -> Outcome:
        """Run for so long; then wait for what is pending."""
        self._began = monotonic()
        options: Any = {"heartbeat": self._heartbeat, "timeout": 60.0}
        nodes = [coord.connect(self.servers.url, node=f"n{number}", **options) for number in range(4)]
        try:
            for node in nodes:
                await node.connected(timeout=10)
            watches = [Deferred.fromCoroutine(self._watch(nodes[-1].events(name))) for name in self._maps]
            lanes = [Deferred.fromCoroutine(self._lane(name, nodes)) for name in self._maps for _ in range(self._lanes)]
            ends = monotonic() + seconds
            while monotonic() < ends:
                for fault in faults:
                    began = monotonic() - self._began
                    await FAULTS[fault](self)
                    self.outcome.faults.append(f"{fault} {began:.1f} to {monotonic() - self._began:.1f}")
                    self.outcome.done[fault] = self.outcome.done.get(fault, 0) + 1
                    await turn(0.3 * self._chance.random())
            self.over = True
            await gatherResults(lanes)
            await self._all_seen()
            for watch in watches:
                watch.addErrback(lambda _: None).cancel()
        finally:
            for node in nodes:
                await node.close()
        return self.outcome

    # Waits and calls.

    async def _lane(self, name: str, nodes: list[coord.Coordinator]) -> None:
        while not self.over:
            there, here = self._chance.sample(nodes, 2)
            await self._once(there.events(name), here.events(name))
            await turn(self._pause * self._chance.random())

    async def _once(self, there: coord.EventMap, here: coord.EventMap) -> None:
        self._made += 1
        key = f"k{self._made}"
        woken: list[tuple[float, Any]] = []
        waiting = there.wait(key)
        ended = waiting.addCallback(lambda value: woken.append((monotonic(), value)))
        verb = self._chance.choice(("fire", "fire and reset", "pulse"))
        armed = verb != "fire" or self._chance.random() < 0.5
        if armed:
            await there.armed()
        what = f"{there.name} {key} {verb}{', armed' if armed else ''}"
        try:
            calls = [here.pulse(key, key)] if verb == "pulse" else [here.fire(key, key)]
            if verb == "fire and reset":
                calls.append(here.reset(key))
            self._asked[f"{there.name} {key}"] = len(calls)
            await calls[0]
            answered = monotonic()
            for call in calls[1:]:
                await call
        except coord.Error as error:
            self.outcome.failed.append(f"{what}: {error}")
            ended.addErrback(lambda _: None).cancel()
            return
        try:
            await ended.addTimeout(PATIENCE, steady(reactor))
        except TookTooLong:
            self.outcome.lost.append(what)
            return
        self.outcome.waits += 1
        ((at, value),) = woken
        if value != key:
            self.outcome.wrong.append(f"{what}: {value!r}")
        late = self._late(answered, at)
        self.outcome.late.append(late)
        if late > LATE:
            self.outcome.slow.append(f"{what}: {late:.2f} s, at {at - self._began:.1f}")

    def _late(self, answered: float, at: float) -> float:
        served = max([answered, *(end for begun, end in self._outages if begun < at and end > answered)])
        return max(0.0, at - served)

    async def _watch(self, events: coord.EventMap) -> None:
        async with events.watch() as changes:
            async for change in changes:
                if isinstance(change, coord.Record):
                    line = f"{events.name} {change.key}"
                    self._seen[line] = self._seen.get(line, 0) + 1

    async def _all_seen(self) -> None:
        """Have every call in the history as often as it was made."""

        async def complete() -> bool:
            return sum(self._seen.values()) >= sum(self._asked.values())

        with suppress(AssertionError):
            await eventually(complete, "the watches have seen all", patience=PATIENCE)
        self.outcome.doubled += [line for line, n in self._asked.items() if self._seen.get(line, 0) > n]

    # Faults.

    async def _move(self) -> None:
        """Move a map's slot key by key, in any order, with pauses."""
        slot = slot_of(f"coord:{{default/{self._chance.choice(self._maps)}}}")
        owner = await self.servers.owner(slot)
        target = self._chance.choice([node for node in await self.servers.primaries() if node is not owner])
        move: Move = await self.servers.move(slot, target=target, pause_at=Step.MIGRATING)
        try:
            while keys := await move.keys(move.source):
                self._chance.shuffle(keys)
                for key in keys:
                    await move.pass_on(key, move.source, move.target)
                    await turn(0.15 * self._chance.random() ** 2)
            await turn(2.0 * self._chance.random() ** 3)
            await move.finish()
        except Refused as error:
            # A failover has closed the slot: the move is over.
            if "MOVED" not in str(error):
                raise

    async def _atomic_move(self) -> None:
        """Move a slot as Valkey 9 does."""
        slot = slot_of(f"coord:{{default/{self._chance.choice(self._maps)}}}")
        owner = await self.servers.owner(slot)
        target = self._chance.choice([node for node in await self.servers.primaries() if node is not owner])
        await self.servers.move_atomically(slot, target)

    async def _failover(self) -> None:
        """Have a replica take over in order."""
        primary = self._chance.choice(await self.servers.primaries())
        await self.servers.failover(primary)
        await self.servers.settled()

    async def _stop(self) -> None:
        """Stop a primary until its replica has taken over, and then for a while."""
        primary = self._chance.choice(await self.servers.primaries())
        replica = await self.servers.replica_of(primary)
        begun = monotonic()
        self._outages.append((begun, inf))
        await primary.hang()
        await self.servers.promoted(replica)
        self._outages[-1] = begun, monotonic()
        await turn(1.0)
        await primary.resume()
        await self.servers.settled()


FAULTS: Final[dict[str, Callable[[Chaos], Coroutine[Any, Any, None]]]] = {
    "move": Chaos._move,
    "atomic": Chaos._atomic_move,
    "failover": Chaos._failover,
    "stop": Chaos._stop,
}


def _seconds(slow: str) -> float:
    return float(slow.rpartition(": ")[2].partition(" s")[0])


async def _main(kind: str, seconds: str, *faults: str) -> None:
    servers = RealCluster(kind)
    try:
        await servers.heal()
        outcome = await Chaos(servers, Random().randrange(2**32)).run(float(seconds), *faults)
        sys.stdout.write(f"{kind} {' '.join(faults)}: {outcome}\n")
        for problem in (
            *outcome.lost[:5],
            *outcome.wrong[:5],
            *outcome.failed[:5],
            *outcome.doubled[:5],
            *sorted(outcome.slow, key=_seconds, reverse=True)[:8],
        ):
            sys.stdout.write(f"  {problem}\n")
        if outcome.slow:
            sys.stdout.write(f"  {outcome.faults}\n")
    finally:
        servers.close()


if __name__ == "__main__":
    running: Any = reactor
    ended = Deferred.fromCoroutine(_main(*sys.argv[1:]))
    ended.addErrback(lambda failure: failure.printTraceback(sys.stderr)).addBoth(lambda _: running.stop())
    running.run()
