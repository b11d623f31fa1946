"""The data's identity on the server changes without a loss, or the process changes and the data stays, or has gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from coord import HistoryLost, LinkState, Record
from failover.nodes import Witness
from failover.pairs import Pair, Proxy, beaten, linked
from support.cluster import Seen
from support.waiting import eventually, until
from support.warned import Warned
from support.watcher import Watcher

pytestmark = pytest.mark.deadline(60)


@dataclass
class Scene:
    """Two nodes; one waits and watches, one calls, and both have seen some changes."""

    waiting: Witness
    calling: Witness
    waits: Seen
    watch: Watcher
    warned: Warned

    async def call(self, *keys: str) -> list[Record]:
        """Pulse each key, and see that each pulse is applied, once, and watched."""
        seen = len(self.watch.records)
        records = [(await self.calling.events.pulse(key, key)).record for key in keys]
        await until(lambda: self.watch.error or len(self.watch.records) >= seen + len(keys), "the watch goes on")
        assert self.watch.error is None
        assert self.watch.records[seen:] == records
        revisions = [record.revision for record in self.watch.records]
        assert revisions == sorted(set(revisions))
        return [record for record in records if record is not None]

    def nothing_was_lost(self) -> None:
        """See that nothing was taken for a loss."""
        assert self.warned.texts == []
        assert self.watch.error is None
        assert (self.waits.values, self.waits.errors) == ([], [])

    def no_link_was_dropped(self) -> None:
        """See that each link is the first one."""
        for node in (self.waiting, self.calling):
            assert [state for _, state, _ in node.states] == [LinkState.CONNECTED]

    async def wake(self) -> None:
        """Fire what is waited for."""
        await self.calling.events.fire("awaited", "now")
        await until(lambda: self.waits.count == 2, "the waiters are woken")
        assert self.waits.values == ["now", "now"]


@asynccontextmanager
async def _scene(pair: Pair, proxy: Proxy | None = None) -> AsyncIterator[Scene]:
    with Warned() as warned:
        async with linked(proxy or pair.url, proxy or pair.url) as (waiting, calling):
            watch = Watcher(waiting.events, since="start")
            scene = Scene(waiting, calling, Seen(waiting.events["awaited"], calling.events["awaited"]), watch, warned)
            await calling.events.fire("latched")
            assert await waiting.events["latched"] is True
            await waiting.events.armed()
            await calling.events.armed()
            await watch.ready()
            await until(lambda: watch.records, "the watch shows the first change")
            yield scene
            if watch.error is None:
                watch.stop()


async def test_w2_a_first_replica_attached_and_a_backlog_freed_lose_nothing(pair: Pair) -> None:
    """Each gives the data another id: no warning, no `HistoryLost`, no link is lost, each call is applied once."""
    await pair.heal()
    await pair.one.command("CONFIG", "SET", "repl-backlog-ttl", 1)
    # An earlier test's backlog is freed first: without one, the first replica brings a new id.
    await eventually(lambda: _has_no_backlog(pair), "there is no backlog")
    async with _scene(pair) as scene:
        first = await pair.identity(pair.one)
        await scene.call("a", "b")
        await pair.follow(pair.two, pair.one)
        second = await pair.identity(pair.one)
        assert second != first
        await beaten(pair.one, scene.waiting, scene.calling)
        scene.nothing_was_lost()
        await scene.call("a", "b", "c")
        await pair.lead(pair.two)

        await eventually(lambda: _has_no_backlog(pair), "the backlog is freed")
        assert await pair.identity(pair.one) != second
        await scene.call("a", "c")
        await beaten(pair.one, scene.waiting, scene.calling)
        await scene.call("a", "b", "c")
        scene.nothing_was_lost()
        scene.no_link_was_dropped()
        assert scene.waiting.node.statistics().cached == 1
        await scene.wake()


@pytest.mark.parametrize("calls", ["nobody calls there", "all call there"])
async def test_w2_a_failover_there_and_back_that_lost_nothing_is_not_taken_for_a_loss(pair: Pair, calls: str) -> None:
    """The second server had all when it was promoted, and the first one took over all of it: everything goes on."""
    await pair.heal()
    proxy = Proxy(pair.one)
    async with _scene(pair, proxy) as scene:
        await scene.call("a", "b")
        for leading, other in ((pair.one, pair.two), (pair.two, pair.one)):
            await pair.follow(other, leading)
            proxy.server = other
            await pair.lead(other)
            await pair.follow(leading, other)
            if calls == "all call there" or other is pair.one:
                await scene.call("a", "b", "c")
        await beaten(pair.one, scene.waiting, scene.calling)
        scene.nothing_was_lost()
        await scene.wake()


async def _has_no_backlog(pair: Pair) -> bool:
    replication = await pair.one.fields("INFO", "replication")
    return replication["connected_slaves"] == "0" and replication["repl_backlog_active"] == "0"


@pytest.mark.parametrize("kept_by", ["an append-only file", "a snapshot made at shutdown"])
async def test_w2_a_restart_that_keeps_the_data_loses_nothing(pair: Pair, kept_by: str) -> None:
    """The process and the replication id are others: the watch goes on, waiters stay, nothing is warned of."""
    await pair.heal()
    if kept_by == "an append-only file":
        # As it is switched on by hand: the file is there when that is done.
        await pair.one.command("CONFIG", "SET", "appendonly", "yes")
        await eventually(lambda: _rewritten(pair), "the file is written")
        settings = "appendonly yes\n"
    else:
        await pair.one.command("CONFIG", "SET", "save", "3600 1000000")
        settings = "save 3600 1000000\n"
    try:
        async with _scene(pair) as scene:
            before = await scene.call("a", "b")
            first = await pair.identity(pair.one)
            await pair.one.stop()
            await pair.restart(pair.one, settings)
            assert await pair.identity(pair.one) != first
            after = await scene.call("a", "b", "c")
            assert after[0].revision.generation > before[0].revision.generation
            await beaten(pair.one, scene.waiting, scene.calling)
            scene.nothing_was_lost()
            await scene.wake()
    finally:
        pair.forget(pair.one)


async def _rewritten(pair: Pair) -> bool:
    persistence = await pair.one.fields("INFO", "persistence")
    return persistence["aof_enabled"] == "1" and persistence["aof_rewrite_in_progress"] == "0"


async def test_a_restart_without_persistence_is_a_loss_that_is_told(pair: Pair) -> None:
    """The watch ends with `HistoryLost`, one warning a node, the cache is dropped; waiters stay and are woken."""
    await pair.heal()
    async with _scene(pair) as scene:
        (before,) = await scene.call("a")
        await pair.one.stop()
        await pair.restart(pair.one, "")
        await until(lambda: scene.watch.error, "the watch ends")
        assert isinstance(scene.watch.error, HistoryLost)
        await until(lambda: scene.warned.matching("was lost"), "it is warned of")
        await until(lambda: scene.waiting.node.statistics().cached == 0, "the cache is dropped")
        assert scene.waits.count == 0
        again = (await scene.calling.events.fire("a")).record
        assert again is not None
        assert again.revision > before.revision
        await scene.wake()
