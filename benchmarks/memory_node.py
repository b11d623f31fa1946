"""The measured process of memory.py: ``python benchmarks/memory_node.py PART URL MAP COUNT``; Linux, for its /proc.

A part measures one thing at one size in a process that has done nothing else: what was freed before would be taken
again, and not be seen. What costs too little to be seen once is done many times, and the median counts.
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from peers.base import BATCH, chunks, now, say
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

import coord

Memory = Callable[[], int]

FIRST_CACHED = "first-cached"
"""Known before the others, so that no first time is measured."""


def resident() -> int:
    """Return the bytes of memory that this process has of the system."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def traced() -> int:
    """Return the bytes that Python's objects take; to be seen for a single one, too."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def handler(_: object) -> None:
    """Do what the user does with the event, or with its failure."""


def key(number: int) -> str:
    """Return a key of about 20 bytes."""
    return f"some/key/{number:010}"


def turns(count: int) -> int:
    """Return how often so many are made and cancelled."""
    return max(1, min(200, 10_000 // count))


def lots(count: int) -> list[range]:
    """Return the numbers of the keys to weigh: of one, many times one more, as a single one is lost in the noise."""
    return [range(start, start + count) for start in range(0, 20 if count == 1 else 1, count)]


async def ready(reactor: Any, c: coord.Coordinator, events: coord.EventMap) -> None:
    """Connect, wait once, and have all that only the first wait brings behind us."""
    await c.connected()
    for _ in range(3):
        waiting = events["first"].addErrback(handler)
        await events.armed()
        waiting.cancel()
        await nobody_left(reactor, c)
    gc.collect()
    gc.freeze()


async def nobody_left(reactor: Any, c: coord.Coordinator) -> None:
    """Wait until the last subscription is gone."""
    while c.statistics().subscriptions:
        await deferLater(reactor, 0.001)


async def at_rest(reactor: Any, events: coord.EventMap) -> None:
    """Wait until all is armed, and let go of what only the way there needed."""
    await events.armed()
    for _ in range(3):
        await deferLater(reactor, 0.001)


# Deferreds in a dict: what nobody can do without.


def make_bare(waiting: dict[str, Deferred[object]], numbers: range) -> None:
    """Put Deferreds with a callback and an errback into a dict."""
    for number in numbers:
        waiting[key(number)] = Deferred[object]().addCallbacks(handler, handler)


async def bare_times(_: Any, __: str, ___: str, count: int) -> None:
    """Tell microseconds to make and to cancel one."""
    gc.collect()
    gc.freeze()
    made, cancelled = [], []
    waiting: dict[str, Deferred[object]] = {}
    for _turn in range(turns(count)):
        started = now()
        make_bare(waiting, range(count))
        made.append(now() - started)
        started = now()
        while waiting:
            waiting.popitem()[1].cancel()
        cancelled.append(now() - started)
    say(found=[median(times) / count * 1e6 for times in (made, cancelled)])


async def bare_bytes(_: Any, memory: Memory, __: str, ___: str, count: int) -> float:
    """Return the bytes of one."""
    # The bytes of an empty dict are not a waiter's.
    waiting = {"first": Deferred[object]()}
    gc.freeze()
    found = []
    for numbers in lots(count):
        before = memory()
        make_bare(waiting, numbers)
        found.append((memory() - before) / count)
    return median(found)


# Waits.


async def wait_times(reactor: Any, url: str, name: str, count: int) -> None:
    """Tell microseconds to make, to arm and to cancel one of so many waits."""
    async with coord.connect(url, node="memory") as c:
        events = c.events(name)
        await ready(reactor, c, events)
        made, armed, cancelled = [], [], []
        for _turn in range(turns(count)):
            started = now()
            waiting = [events[key(number)].addCallbacks(handler, handler) for number in range(count)]
            made.append(now() - started)
            await events.armed()
            armed.append(now() - started - made[-1])
            started = now()
            for waiter in waiting:
                waiter.cancel()
            cancelled.append(now() - started)
            await nobody_left(reactor, c)
        say(found=[median(times) / count * 1e6 for times in (made, armed, cancelled)])


async def wait_bytes(reactor: Any, memory: Memory, url: str, name: str, count: int) -> float:
    """Return the bytes of one armed wait, its key included."""
    async with coord.connect(url, node="memory") as c:
        events = c.events(name)
        await ready(reactor, c, events)
        found = []
        for numbers in lots(count):
            before = memory()
            for number in numbers:
                events[key(number)].addCallbacks(handler, handler)
            await at_rest(reactor, events)
            found.append((memory() - before) / count)
        return median(found)


# Cached keys.


async def fire(_: Any, url: str, name: str, count: int) -> None:
    """Fire them, in a process of its own: its memory is not measured."""
    async with coord.connect(url, node="firer") as c:
        events = c.events(name)
        for chunk in chunks([FIRST_CACHED, *(key(number) for numbers in lots(count) for number in numbers)]):
            await gatherResults([events.fire(each) for each in chunk])
        say(found=[])


async def learn(events: coord.EventMap, numbers: range) -> None:
    """Wait for all once, a few at a time, so that the Deferreds do not count."""
    for start in range(0, len(numbers), BATCH):
        await gatherResults([events[key(number)] for number in numbers[start : start + BATCH]])


async def cached_times(reactor: Any, url: str, name: str, count: int) -> None:
    """Tell microseconds that a wait takes that the live cache answers."""
    async with coord.connect(url, node="memory", cache_size=count + BATCH) as c:
        events = c.events(name)
        await ready(reactor, c, events)
        await events[FIRST_CACHED]
        await learn(events, range(count))
        keys = [key(number) for number in range(count)]
        times = []
        for _turn in range(turns(count)):
            started = now()
            for each in keys:
                events[each].addCallback(handler)
            times.append(now() - started)
        assert c.statistics().cached == count + 1
        say(found=[median(times) / count * 1e6])


async def cached_bytes(reactor: Any, memory: Memory, url: str, name: str, count: int) -> float:
    """Return the bytes of one key of the live cache."""
    async with coord.connect(url, node="memory", cache_size=count + BATCH) as c:
        events = c.events(name)
        await ready(reactor, c, events)
        await events[FIRST_CACHED]
        await at_rest(reactor, events)
        found = []
        for numbers in lots(count):
            before = memory()
            await learn(events, numbers)
            await at_rest(reactor, events)
            found.append((memory() - before) / count)
        return median(found)


# A reconnect.


class Ticks:
    """A clock in the reactor that sees for how long it was kept waiting."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.longest = 0.0
        self.restart()

    def restart(self) -> None:
        """Count from now on; what has just happened is not counted."""
        self._last = now()
        self._next = self._reactor.callLater(0, self._tick)

    def stop(self) -> None:
        """Do not count what happens next."""
        self._tick()
        self._next.cancel()

    def _tick(self) -> None:
        if self._next.active():
            self._next.cancel()
        self.longest = max(self.longest, now() - self._last)
        self._last = now()
        self._next = self._reactor.callLater(0.001, self._tick)


async def cut_off(c: coord.Coordinator) -> None:
    """Have the server hang up on the one that listens, and on no other: the command may be repeated."""
    (line,) = (await c.execute("CLIENT", "LIST", "TYPE", "pubsub")).splitlines()
    await c.execute("CLIENT", "KILL", "ID", line.split()[0].partition(b"=")[2])


async def rearm(reactor: Any, url: str, name: str, count: int) -> None:
    """Tell, for so many waits, the seconds from a cut to the last one armed again, and the reactor's longest pause."""
    async with coord.connect(url, node="memory") as c:
        events = c.events(name)
        await ready(reactor, c, events)
        for number in range(count):
            events[key(number)].addCallbacks(handler, handler)
        await events.armed()
        gc.collect()
        ticks, cut = Ticks(reactor), Deferred[float]()
        c.on_link(lambda *_: None if cut.called else cut.callback(now()))
        await cut_off(c)
        lost = await cut
        await c.connected()
        # To ask for `armed` is to look at every wait once, which is the benchmark's doing and not a reconnect's.
        ticks.stop()
        settled = events.armed()
        ticks.restart()
        await settled
        seconds = now() - lost
        ticks.stop()
        assert c.statistics().unarmed == 0
        say(found=[seconds, ticks.longest * 1e3])


async def weigh(part: str, reactor: Any, url: str, name: str, count: int) -> None:
    """Play a part that measures bytes: ``traced`` or ``resident``, then what of."""
    way, _, what = part.partition("_")
    if way == "traced":
        tracemalloc.start()
    memory = traced if way == "traced" else resident
    say(found=[await globals()[what](reactor, memory, url, name, count)])


def main() -> None:
    """Play one part."""
    part, url, name, count = sys.argv[1:]

    async def play(reactor: Any) -> None:
        if part.endswith("_bytes"):
            await weigh(part, reactor, url, name, int(count))
        else:
            await globals()[part](reactor, url, name, int(count))

    react(lambda reactor: Deferred.fromCoroutine(play(reactor)))


if __name__ == "__main__":
    main()
