"""Makes the calls that bring the cluster's records in step with the mount table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from coord import (
    AccessDenied,
    Applied,
    CaughtUp,
    Closed,
    CorruptRecord,
    Error,
    InvalidInput,
    Json,
    Listing,
    Record,
    Revision,
)
from coord.mounts.announcements import Facts, Fire, Step, plan
from coord.mounts.backoff import Backoff

__all__ = ["Announcer", "Events", "together"]

T = TypeVar("T")
Changes: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Record | CaughtUp]]


class Events(Protocol):
    """What the agent needs of a `coord.EventMap`."""

    def fire(self, key: str, value: Json) -> Deferred[Applied]: ...  # noqa: D102
    def reset(self, key: str, revision: Revision) -> Deferred[Applied]: ...  # noqa: D102
    def records(self) -> Deferred[Listing]: ...  # noqa: D102
    def watch(self, prefix: str = "", *, since: Revision) -> Changes: ...  # noqa: D102


async def together(calls: Iterable[Deferred[T]]) -> list[T]:
    """Wait for all of them, made in one turn so that they travel as one; raise the first error."""
    try:
        return await gatherResults(list(calls), consumeErrors=True)
    except FirstError as first:
        error = first.subFailure.value
        assert error is not None
        raise error from None


class Announcer:
    """Knows what is mounted (`learn`) and what stands (`remember`, `observe`); acts on the gap.

    At most one round of calls runs. It goes on until there is nothing to do, so that what changes
    meanwhile is not forgotten; calls that fail are planned anew after a pause. ``settled()`` is
    called whenever a round ends so. The first round raises `AccessDenied`, later ones keep trying.
    """

    _log = Logger()

    def __init__(self, events: Events, reactor: Any, facts: Facts, settled: Callable[[], None]) -> None:
        self.facts = facts
        self._events = events
        self._reactor = reactor
        self._settled = settled
        self._standing: dict[str, Record] | None = None  # None until a listing came
        self._left: set[str] = set()  # keys that cannot be fired, until a record of them is seen
        self._acting = self._stopped = self._admitted = False
        self._resting: Deferred[None] | None = None
        self._trouble = ""
        self._failures = Backoff(free=0, first=0.5, limit=10.0)
        # Two hosts of one name, or somebody's loop that resets what is mounted, would keep this one
        # firing as fast as the server answers. A table that changes is never held back.
        self._contests = Backoff(free=20, first=0.1, limit=10.0)

    def learn(self, facts: Facts) -> None:
        """Go by these facts from now on."""
        self.facts = facts
        self._contests.rest()
        self._left &= facts.wanted.keys()
        if self._standing is not None:
            self.remember(self._standing.values())

    def remember(self, records: Iterable[Record]) -> None:
        """Take a listing for all that stands; keep what concerns this node."""
        self._standing = {r.key: r for r in records if self.facts.concern(r)}

    def observe(self, record: Record) -> bool:
        """Take note of one record; answer whether it was news, and concerns this node."""
        standing = self._known()
        known = standing.get(record.key)
        # A call's answer and the watch come by different ways, so the older may come last.
        if known is not None and known.revision >= record.revision:
            return False
        self._left.discard(record.key)
        if self.facts.concern(record):
            standing[record.key] = record
            return True
        return standing.pop(record.key, None) is not None

    def act(self) -> Deferred[None] | None:
        """Begin a round, and answer it, unless one runs (which sees what changed) or cannot yet."""
        if self._standing is None or self._acting or self._stopped:
            return None
        self._acting = True
        return Deferred.fromCoroutine(self._reconcile())

    def stop(self) -> None:
        """Plan nothing more. Calls under way end as they do."""
        self._stopped = True
        if self._resting is not None:
            self._resting.cancel()

    async def _reconcile(self) -> None:
        try:
            while self._steps():
                await self._rest(self._contests.next())
                if await self._take(self._steps()):
                    self._failures.rest()
                else:
                    await self._rest(self._failures.next())
        finally:
            # Nothing is awaited since the last look at the plan: what comes now begins a new round.
            self._acting = False
        if not self._stopped:
            self._admitted = True
            self._settled()

    def _steps(self) -> list[Step]:
        if self._stopped:
            return []
        return [step for step in plan(self.facts, self._known()) if step.key not in self._left]

    def _known(self) -> dict[str, Record]:
        assert self._standing is not None
        return self._standing

    async def _take(self, steps: list[Step]) -> bool:
        """Make the calls; answer whether there is nothing to be tried again."""
        outcomes = await together(Deferred.fromCoroutine(self._step(step)) for step in steps)
        troubles = [outcome for outcome in outcomes if outcome]
        # One line, and once: the others of a round say the same, and so do the rounds that follow.
        trouble = troubles[0] if troubles else ""
        if trouble not in {"", self._trouble}:
            self._log.warn("{trouble}; trying again", trouble=trouble)
        self._trouble = trouble
        return not troubles

    async def _step(self, step: Step) -> str:
        """Make a call; answer what is to be said of it if it is to be made again."""
        try:
            applied = await take(self._events, step)
        except (InvalidInput, CorruptRecord) as error:
            self._left.add(step.key)
            self._log.warn("{key} is not announced: {error}", key=step.key, error=error)
        except Error as error:
            if isinstance(error, Closed) or (isinstance(error, AccessDenied) and not self._admitted):
                raise
            return f"{step.key} cannot be announced or withdrawn: {error}"
        else:
            self._answered(step, applied)
        return ""

    def _answered(self, step: Step, applied: Applied) -> None:
        if applied.first:
            done = "announced" if isinstance(step, Fire) else "withdrawn"
            self._log.info("{key} {done}", key=step.key, done=done)
        if applied.record is None:
            self._known().pop(step.key, None)
        else:
            self.observe(applied.record)

    async def _rest(self, seconds: float) -> None:
        if seconds:
            self._resting = deferLater(self._reactor, seconds)
            try:
                await self._resting
            finally:
                self._resting = None


def take(events: Events, step: Step) -> Deferred[Applied]:
    """Make the call of one step."""
    if isinstance(step, Fire):
        return events.fire(step.key, step.value)
    return events.reset(step.key, step.revision)
