"""A server that closes connections which owe it too much reading: what is asked for comes in bites that it bears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import gatherResults

from failover.nodes import Witness
from failover.pairs import linked
from faults.alone import LoneServer
from support.cluster import Seen
from support.waiting import until

pytestmark = pytest.mark.deadline(90)

KEYS = [f"key{number}" for number in range(400)]
LARGE = "x" * 60_000
LIMIT = ("CONFIG", "SET", "client-output-buffer-limit", "normal 10mb 0 0")


async def _fill(calling: Witness) -> None:
    await gatherResults([calling.events.fire(key, LARGE) for key in KEYS])


async def _unrelated(waiting: Witness, calling: Witness, ask: Callable[[], Any]) -> Any:
    """Return what is asked for, while an unrelated armed waiter is woken."""
    unrelated = waiting.node.events("other")
    armed = Seen(unrelated["k"])
    await unrelated.armed()
    asked = ask()
    await calling.node.events("other").fire("k", "meanwhile")
    await until(lambda: armed.count, "the unrelated waiter is woken")
    assert armed.values == ["meanwhile"]
    return asked


def _few_attempts(node: Witness) -> None:
    # Each loss halves what is asked for at once.
    assert node.node.statistics().connection_attempts < 10


async def test_w2_late_waits_for_more_than_the_limit_are_answered(server: LoneServer) -> None:
    """400 late waits for 60 kB each, through a buffer of 10 MB; an unrelated armed wait is woken meanwhile."""
    await server.begin()
    async with linked(server.url) as (calling,):
        await _fill(calling)
        await server.command(*LIMIT)
        async with linked(server.url) as (waiting,):
            late = await _unrelated(waiting, calling, lambda: Seen(*(waiting.events[key] for key in KEYS)))
            await until(lambda: late.count == len(KEYS), "the late waiters are answered", patience=20)
            assert late.errors == []
            assert set(late.values) == {LARGE}
            _few_attempts(waiting)


async def test_a_listing_of_more_than_the_limit_is_answered(server: LoneServer) -> None:
    """A listing of 24 MB, through a buffer of 10 MB; an unrelated armed wait is woken meanwhile."""
    await server.begin()
    async with linked(server.url) as (calling,):
        await _fill(calling)
        await server.command(*LIMIT)
        async with linked(server.url) as (listing,):
            asked = await _unrelated(listing, calling, lambda: Seen(listing.events.records()))
            await until(lambda: asked.count, "the listing is answered", patience=20)
            assert asked.errors == []
            records = asked.values[0].records
            assert sorted(record.key for record in records) == sorted(KEYS)
            assert {record.value for record in records} == {LARGE}
            _few_attempts(listing)
