"""What is said while a command waits for a lock: who has it, and how many are before us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import coord
from coord.cli._durations import spell
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import EventMap, Holder
    from coord.cli._job import Job

__all__ = ["queueing"]

# Seconds until the first look, and between two looks.
_PATIENCE: Final = 1.0
_EVERY: Final = 5.0
# Of so many at most it asks who they are, as every one that waits asks.
_MOST: Final = 100


@contextmanager
def queueing(job: Job, events: EventMap, key: str, slots: int | None, *, quiet: bool) -> Iterator[None]:
    """Within this block say on stderr what it waits for, after a moment and whenever that changes."""
    if quiet:
        yield
        return
    from twisted.internet.task import LoopingCall

    words = _Words(job, events, key, slots)
    looking = LoopingCall(words.look)
    looking.clock = job.reactor
    # Not now: most locks are free.
    start = job.reactor.callLater(_PATIENCE, looking.start, _EVERY)
    try:
        yield
    finally:
        words.over = True
        if start.active():
            start.cancel()
        if looking.running:
            looking.stop()


class _Words:
    def __init__(self, job: Job, events: EventMap, key: str, slots: int | None) -> None:
        self._job, self._events, self._key, self._slots = job, events, key, slots
        self._said = ""
        self._asked_at: float | None = None
        self._recovers_from: float | None = None
        self.over = False

    async def look(self) -> None:
        """Ask the server, and say what is new."""
        if self._job.coordinator.link != "connected":
            return
        with suppress(coord.Error):
            words = await (self._slots_words() if self._slots is not None else self._lock_words())
            if words != self._said and not self.over:
                self._said = words
                say(f"waiting for {quoted(self._key)} of map {self._events.name}{words}")

    async def _slots_words(self) -> str:
        return f": all {self._slots} slots are taken, or the server has just restarted"

    async def _lock_words(self) -> str:
        record = await self._events.record(self._key)
        number, found = await self._events.holders(self._key, _MOST)
        if record is None or not record.latched:
            return self._recovery_words()
        self._recovers_from = None
        return f": {record.node} has it{self._behind(number, found)}"

    def _behind(self, number: int, found: list[Holder]) -> str:
        """Say how many wait before us."""
        ours = [each.time for each in found if each.node == self._job.coordinator.node]
        if self._asked_at is None and ours and number == len(found):
            # The last of them: another process of this node may wait longer.
            self._asked_at = ours[-1]
        if self._asked_at is None:
            return f", behind {len(found) - 1} others or more" if number > len(found) else ""
        # The first is the owner.
        before = len([each for each in found if each.time < self._asked_at]) - 1
        return f", behind {before} other{'s' * (before > 1)}" if before > 0 else ""

    def _recovery_words(self) -> str:
        """Say how long it takes at most: the server does not tell when the recovery began."""
        now = self._job.reactor.seconds()
        self._recovers_from = self._recovers_from or now
        lease, grace = self._job.server.lease or 20.0, self._job.server.grace or 10.0
        left = round(max(1.0, self._recovers_from + lease + grace - now))
        return f": the server has restarted or failed over, and grants no lock for up to {spell(left)}"
