"""Too large an answer is not asked for again for ever."""

from __future__ import annotations

import pytest

from coord.session.window import Window
from support.cluster import Cluster, Seen
from support.waiting import until
from support.warned import Warned

LIMIT = "client-output-buffer-limit"


async def _limit(cluster: Cluster, limit: int | None) -> None:
    """Have the server hang up on who is owed more than ``limit`` bytes by a command connection."""
    if cluster.server.kind == "memory":
        cluster.memory.reply_limit = limit
    else:
        await cluster.server.command("CONFIG", "SET", LIMIT, f"normal {limit or 0} 0 0")


@pytest.mark.deadline(60)
async def test_reads_get_smaller_until_they_pass(cluster: Cluster) -> None:
    """Four hundred late waits for 20 kB each, and a server that hangs up at 1 MB: all are answered, and soon.

    An unrelated wait is woken meanwhile or right after, and the log says what the cause may be.
    """
    events, other = await cluster.map(heartbeat=2), await cluster.map("other", heartbeat=2)
    keys = [f"k{number}" for number in range(400)]
    fired = Seen()
    for number, key in enumerate(keys):
        fired.watch(other.fire(key, [number, "x" * 20_000]))
        if number % 20 == 19:
            await until(lambda number=number: fired.count == number + 1)  # type: ignore[misc]
    unrelated = Seen(events["unrelated"])
    await events.armed()
    await _limit(cluster, 1_000_000)
    try:
        with Warned() as warned:
            seen = Seen(*(events[key] for key in keys))
            await until(lambda: cluster.of(events).statistics().connection_attempts > 1)
            unrelated_call = other.fire("unrelated", 1)
            await until(lambda: seen.count == 400, patience=20)
            await until(lambda: unrelated.count == 1)
            await unrelated_call
        assert seen.errors == []
        assert sorted(value[0] for value in seen.values) == list(range(400))
        assert cluster.of(events).statistics().connection_attempts < 12
        assert warned.matching(LIMIT)
    finally:
        await _limit(cluster, None)


def test_the_window() -> None:
    """It is halved from what was asked for, down to one key, and grows by a quarter with each heartbeat."""
    window = Window()
    assert (window.room(0), window.room(1_900), window.room(2_000)) == (500, 100, 0)
    assert window.link_lost(0) == ""
    assert window.room(0) == 500
    assert window.link_lost(300) == ""
    assert window.room(0) == 150
    assert "client-output-buffer-limit" in window.link_lost(150)
    for _ in range(20):
        window.link_lost(1_000)
    assert (window.room(0), window.room(1)) == (1, 0)
    window.heartbeat()
    assert window.room(0) == 2
    assert window.link_lost(2) == ""
    for _ in range(60):
        window.heartbeat()
    assert (window.room(0), window.room(1_999)) == (500, 1)
