"""What is said while a command waits for a lock: who has it, and how many are before us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from coord.cli._durations import spell
from coord.cli._looking import looking
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import EventMap, Holder
    from coord.cli._job import Job

__all__ = ["queueing"]

# Seconds until the first look.
_PATIENCE: Final = 1.0
# Of so many at most it asks who they are, as every one that waits asks.
_MOST: Final = 100


@contextmanager
def queueing(job: Job, events: EventMap, key: str, slots: int | None, *, quiet: bool) -> Iterator[None]:
    """Within this block say on stderr what it waits for, after a moment and whenever that changes."""
    if quiet:
        yield
        return
    words = _Words(job, events, key, slots)
    what = f"waiting for {quoted(key)} of map {events.name}"
    with looking(job, words.ask, lambda text: say(f"{what}{text}"), after=_PATIENCE):
        yield


class _Words:
    def __init__(self, job: Job, events: EventMap, key: str, slots: int | None) -> None:
        self._job, self._events, self._key, self._slots = job, events, key, slots
        self._asked_at: float | None = None
        self._recovers_from: float | None = None

    async def ask(self) -> str:
        """Ask the server, and return what is to be said."""
        return await (self._slots_words() if self._slots is not None else self._lock_words())

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
