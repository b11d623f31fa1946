"""What a user does while a slot moves: each verb in three parts, before the move, at one of its steps, and after it.

A verb is a generator of two stops. What it began at the step has its result when it is resumed behind the second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from coord import Coordinator, EventMap, Hold, Record
from support.waiting import until

__all__ = ["VERBS", "Pair"]

MAP: Final = "m"


class Pair:
    """Two nodes: ``here`` calls, ``there`` waits. ``begun`` is what has to have a result while the slot moves."""

    def __init__(self, here: Coordinator, there: Coordinator) -> None:
        self.here: EventMap = here.events(MAP)
        self.there: EventMap = there.events(MAP)
        self.begun: list[Deferred[Any]] = []

    async def waiting(self, key: str) -> Deferred[Any]:
        """Return an armed wait of the other node."""
        waiting = self.there.wait(key)
        await self.there.armed()
        return waiting

    def begin(self, *asked: Deferred[Any]) -> None:
        """Have these resolved before the verb goes on."""
        self.begun.extend(asked)


Verb = Callable[[Pair], AsyncGenerator[None, None]]


async def fire(pair: Pair) -> AsyncGenerator[None, None]:
    """An armed wait gets the value; the fire is the first."""
    waiting = await pair.waiting("fire")
    yield
    fired = pair.here.fire("fire", 1)
    pair.begin(fired, waiting)
    yield
    assert (await fired).first
    assert await waiting == 1


async def pulse(pair: Pair) -> AsyncGenerator[None, None]:
    """An armed wait gets the value, and nothing stands afterwards."""
    waiting = await pair.waiting("pulse")
    yield
    pulsed = pair.here.pulse("pulse", 2)
    pair.begin(pulsed, waiting)
    yield
    assert await waiting == 2
    record = await pair.there.record("pulse")
    assert record is None or not record.latched


async def fire_and_reset(pair: Pair) -> AsyncGenerator[None, None]:
    """The wait gets what was fired, although it was reset at once."""
    waiting = await pair.waiting("both")
    yield
    pair.begin(pair.here.fire("both", 3), pair.here.reset("both"), waiting)
    yield
    assert await waiting == 3
    record = await pair.there.record("both")
    assert record is not None
    assert not record.latched


async def wait(pair: Pair) -> AsyncGenerator[None, None]:
    """A wait that begins at the step is woken as any other, and one for what stands gets it."""
    await pair.here.fire("stands", "x")
    yield
    fresh, stands = pair.there.wait("fresh"), pair.there.wait("stands")
    fired = pair.here.fire("fresh", 4)
    pair.begin(fresh, stands, fired)
    yield
    assert [await fresh, await stands] == [4, "x"]


async def cancel(pair: Pair) -> AsyncGenerator[None, None]:
    """A wait that is cancelled at the step is not woken; one that takes its place is, once."""
    first = await pair.waiting("cancelled")
    woken: list[Any] = []
    yield
    first.cancel()
    ended = first.addCallbacks(lambda _: "woken", lambda failure: failure.type)
    second = pair.there.wait("cancelled").addCallback(woken.append)
    pair.begin(ended, second, pair.here.fire("cancelled", 5))
    yield
    assert await ended is CancelledError
    assert woken == [5]


async def watch(pair: Pair) -> AsyncGenerator[None, None]:
    """A watch has each change in the order of the calls, none twice, and no gap."""
    async with pair.there.watch("w/") as changes:

        async def read() -> list[Any]:
            seen: list[Any] = []
            async for change in changes:
                if isinstance(change, Record):
                    seen.append(change.value)
                if len(seen) == 5:
                    break
            return seen

        reading = Deferred.fromCoroutine(read())
        yield
        pair.begin(reading, *[pair.here.fire(f"w/{number}", number) for number in range(5)])
        yield
        assert await reading == [0, 1, 2, 3, 4]


async def count(pair: Pair) -> AsyncGenerator[None, None]:
    """Each count is counted once, and who waits for the number is woken."""
    await pair.here.count("n")
    reached = pair.there.reaches("n", 11)
    await pair.there.armed()
    yield
    asked = [events.count("n") for _ in range(5) for events in (pair.here, pair.there)]
    pair.begin(gatherResults(asked), reached)
    yield
    await reached
    assert (await pair.here.count("n")).count == 12


async def hold(pair: Pair) -> AsyncGenerator[None, None]:
    """What was held stays held, what is held at the step is latched, and what is let go of ends."""
    old: Hold = await pair.here.hold("old")
    seen = pair.there.wait("new")
    await pair.there.armed()
    yield
    asked = pair.here.hold("new")
    pair.begin(asked, seen)
    yield
    new: Hold = await asked
    # While its link is away, a hold is not certainly valid.
    await until(lambda: old.valid and new.valid, "both holds are valid")
    gone: list[Deferred[Any]] = [pair.there.gone(key) for key in ("old", "new")]
    await gatherResults([old.withdraw(), new.withdraw(), *gone])


VERBS: Final[tuple[Verb, ...]] = (fire, pulse, fire_and_reset, wait, cancel, watch, count, hold)
