"""What the peers share: for how long they work, what is as long for all, and the loop of one contender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from peers.base import now, read_command, say

__all__ = ["ENDS_AFTER", "SECONDS", "name_of", "play", "repeat", "start"]

SECONDS = 2.0
"""For how long the contenders take locks, or count."""

ENDS_AFTER = 4
"""Seconds from the last renewal until the server ends what a dead process had, in each system."""

Work = Callable[[str], Awaitable[float]]
"""Does it once for a contender, and returns when it was done, or when the lock was granted."""


def name_of(keys: list[str]) -> str:
    """Return what the contenders with these keys contend for."""
    return keys[0].rpartition(".")[0]


def start() -> float:
    """Wait until all processes are ready; return when to stop."""
    say(ready=True)
    read_command()
    return now() + SECONDS


async def repeat(work: Work, contender: str, end: float) -> list[float]:
    """Do it again and again; return when."""
    times = []
    while now() < end:
        times.append(await work(contender))
    return times


async def play(work: Work, keys: list[str]) -> None:
    """Play the contenders of one process with asyncio."""
    await work(keys[0])
    end = start()
    repeated: list[Coroutine[Any, Any, list[float]]] = [repeat(work, key, end) for key in keys]
    say(times=await asyncio.gather(*repeated))
