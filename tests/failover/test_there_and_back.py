"""A failover there and back: the first primary leads again, as the same process, with less than it had.

``one`` is at revision G.100 when ``two``, which has no more than G.50, is promoted; nobody calls on the map there;
``one`` takes over what ``two`` has, and is the primary again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.processes import Shell
from coord import HistoryLost, Revision
from failover.nodes import Witness
from failover.pairs import BEAT, Pair, linked
from support.cluster import Seen
from support.gate import Gate
from support.waiting import until
from support.watcher import Watcher

pytestmark = pytest.mark.deadline(60)

LATE = 60.0
"""A heartbeat that does not come within a test: nothing but the changes themselves tells of what happened."""


@dataclass
class Scene:
    """The first primary at G.100, the second at G.50; and who saw G.100."""

    pair: Pair
    gate: Gate
    waiting: Witness
    calling: Witness
    last: Revision
    given_out: set[Revision]

    async def there_and_back(self) -> None:
        """Have the second primary's data, and lead again."""
        await self.pair.follow(self.pair.one, self.pair.two)
        await self.pair.lead(self.pair.one)


@asynccontextmanager
async def _scene(pair: Pair, heartbeat: float) -> AsyncIterator[Scene]:
    await pair.heal()
    gate = Gate(pair.one.endpoint())
    async with linked(gate, pair.url, heartbeat=heartbeat) as (waiting, calling):
        given_out = {await _pulse(calling, f"k{number % 10}") for number in range(50)}
        await pair.follow(pair.two, pair.one)
        await pair.lead(pair.two)
        given_out |= {await _pulse(calling, f"k{number % 10}") for number in range(50)}
        yield Scene(pair, gate, waiting, calling, max(given_out), given_out)


async def _pulse(node: Witness, key: str, value: object = True) -> Revision:
    record = (await node.events.pulse(key, value)).record
    assert record is not None
    return record.revision


async def _blink(node: Witness, key: str, value: object) -> None:
    await node.events.fire(key, value)
    await node.events.reset(key)


@pytest.mark.parametrize("caller", ["the node that had called before", "another node"])
@pytest.mark.parametrize("links", ["cut", "up", "up, and no heartbeat comes"])
async def test_w2_armed_waiters_are_woken_by_what_comes_afterwards(pair: Pair, links: str, caller: str) -> None:
    """Armed at G.100, woken by a pulse and by fire and reset made on what went on from G.50; a watch is told."""
    async with _scene(pair, LATE if links.endswith("comes") else BEAT) as scene, linked(pair.url) as (other,):
        waits = Seen(scene.waiting.events["k1"], scene.waiting.events["k2"], scene.waiting.events["new"])
        watch = Watcher(scene.waiting.events, since=scene.last)
        await scene.waiting.events.armed()
        await watch.ready()
        if links == "cut":
            scene.gate.shut()
        await scene.there_and_back()
        caller_ = other if caller == "another node" else scene.calling
        await _pulse(caller_, "k1", "pulsed")
        await _blink(caller_, "k2", "blinked")
        await _blink(caller_, "new", "new")
        scene.gate.open()
        await until(lambda: waits.count == 3, "the waiters are woken")
        assert sorted(waits.values) == ["blinked", "new", "pulsed"]
        await until(lambda: watch.error, "the watch ends")
        assert isinstance(watch.error, HistoryLost)


@pytest.mark.parametrize("heartbeat", [BEAT, LATE])
async def test_no_revision_is_given_out_twice(pair: Pair, heartbeat: float) -> None:
    """Whoever calls first, a node that knew G.100 or one that knew nothing, begins another generation."""
    for first in (True, False):
        async with _scene(pair, heartbeat) as scene, linked(pair.url) as (other,):
            await scene.there_and_back()
            callers = (scene.calling, other) if first else (other, scene.calling)
            again = [await _pulse(caller, "k1") for caller in callers]
            assert not scene.given_out & set(again)
            assert scene.last < again[0] < again[1]


async def test_a_watch_that_comes_back_later_is_told_that_history_is_lost(pair: Pair, tmp_path: Path) -> None:
    """A watch from G.100 ends with `HistoryLost`, ``coord on`` with its cursor there with 4; one from G.50 goes on."""
    async with _scene(pair, BEAT) as scene, linked(pair.url) as (other,):
        cursor = tmp_path / "cursor"
        cursor.write_text(f"{scene.last}\n")
        await scene.there_and_back()
        for number in range(60):
            await _pulse(other, f"k{number % 10}")
        watch = Watcher(other.events, since=scene.last)
        await until(lambda: watch.error, "the watch ends")
        assert isinstance(watch.error, HistoryLost)
        kept = Watcher(other.events, since=Revision(scene.last.generation, scene.last.number - 50))
        await kept.ready()
        assert len(kept.records) == 60
        kept.stop()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
        shell = Shell({**clean, "COORD_URL": pair.url})
        try:
            ended = shell.run("on", "m", "--cursor", str(cursor), "--", "echo")
        finally:
            shell.end()
        assert (ended.status, ended.out) == (4, "")
        assert cursor.read_text() == f"{scene.last}\n"


async def test_a_latched_key_that_was_lost_is_pending_again(pair: Pair) -> None:
    """What was fired after G.50 has gone, from the live cache too; what was reset after G.50 stands again."""
    async with _scene(pair, BEAT) as scene:
        events = scene.calling.events
        await events.fire("reset later", "stands")
        await pair.follow(pair.two, pair.one)
        await pair.lead(pair.two)
        await events.reset("reset later")
        await events.fire("fired later", "lost")
        pending = Seen(scene.waiting.events["reset later"])
        assert await scene.waiting.events.wait("fired later", 5) == "lost"
        await scene.waiting.events.armed()
        assert pending.count == 0
        await scene.there_and_back()
        await until(lambda: pending.count, "the fire that stands again wakes the waiter")
        assert pending.values == ["stands"]
        await until(lambda: scene.waiting.node.statistics().cached <= 1, "the cache forgets what was lost")
        again = Seen(scene.waiting.events["fired later"])
        await scene.waiting.events.armed()
        assert again.count == 0
        await events.fire("fired later", "again")
        await until(lambda: again.count, "and it can be fired again")
        assert again.values == ["again"]
