"""Looks at the server, again and again, while a command waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import coord

if TYPE_CHECKING:
    from coord.cli._job import Job

__all__ = ["looking"]

_EVERY: Final = 5.0
"""Seconds between two looks."""


@contextmanager
def looking(
    job: Job, ask: Callable[[], Awaitable[str]], tell: Callable[[str], None], *, after: float
) -> Iterator[None]:
    """Within this block ask the server for words, and tell what is new.

    :param after: seconds until the first look: most waits end soon.
    """
    from twisted.internet.task import LoopingCall

    told = ""
    over = False

    async def look() -> None:
        nonlocal told
        if job.coordinator.link != "connected":
            return
        # What is waited for needs no answer to this.
        with suppress(coord.Error):
            words = await ask()
            if words != told and not over:
                told = words
                tell(words)

    calling = LoopingCall(look)
    calling.clock = job.reactor
    start = job.reactor.callLater(after, calling.start, _EVERY)
    try:
        yield
    finally:
        over = True
        if start.active():
            start.cancel()
        if calling.running:
            calling.stop()
