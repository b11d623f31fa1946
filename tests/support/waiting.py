"""Waiting for a condition; nothing in these tests waits for time to pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from coord.clock import steady

__all__ = ["PATIENCE", "eventually", "turn", "until"]

PATIENCE: Final = 6.0
"""Seconds after which a condition is taken for one that will never be met."""

_STEP: Final = 0.002


def turn(seconds: float = 0.0) -> Deferred[None]:
    """Let the reactor take its next turn, and coord send what was asked for in this one."""
    return deferLater(steady(reactor), seconds)


async def until(condition: Callable[[], object], what: str = "", *, patience: float = PATIENCE) -> None:
    """Return once ``condition`` holds; raise `AssertionError`, naming ``what``, where it never does."""
    end = monotonic() + patience
    while not condition():
        assert monotonic() < end, f"it never came: {what or condition}"
        await turn(_STEP)


async def eventually(condition: Callable[[], Awaitable[object]], what: str, *, patience: float = PATIENCE) -> None:
    """Do the same with a condition that is asked for."""
    end = monotonic() + patience
    while not await condition():
        assert monotonic() < end, f"it never came: {what}"
        await turn(_STEP)
