"""Makes the calls that bring the map's records up to date with the mount table."""

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
from coord.core.quoting import quoted
from coord.mounts.announcements import Facts, Fire, Step, plan
from coord.mounts.pauses import Pauses

__all__ = ["Announcer", "Events", "together"]

# Seconds after which another contest is not the same dispute.
_QUIET = 60.0

T = TypeVar("T")
Changes: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Record | CaughtUp]]


class Events(Protocol):
    """What the agent needs of a `coord.EventMap`."""

    def fire(self, key: str, value: Json) -> Deferred[Applied]: ...  # noqa: D102
    def reset(self, key: str, revision: Revision) -> Deferred[Applied]: ...  # noqa: D102
    def records(self) -> Deferred[Listing]: ...  # noqa: D102
    def watch(self, prefix: str = "", *, since: Revision) -> Changes: ...  # noqa: D102


async def together(calls: Iterable[Deferred[T]]) -> list[T]:
    """Wait for all calls, which were made in one turn and so are sent together; raise the first error."""
    try:
        return await gatherResults(list(calls), consumeErrors=True)
    except FirstError as first:
        error = first.subFailure.value
        assert error is not None
        raise error from None


class Announcer:
    """Compares what is mounted (`learn`) with the records (`remember`, `observe`), and acts on the difference.

    At most one round of calls runs. It ends when nothing is left to do, so changes during a round
    are acted on too; failed calls are planned again after a pause. ``up_to_date()`` is called at the
    end of each round. The first round raises `AccessDenied`, later ones retry.
    """

    _log = Logger()

    def __init__(self, events: Events, reactor: Any, facts: Facts, up_to_date: Callable[[], None]) -> None:
        self.facts = facts
        self._events = events
        self._reactor = reactor
        self._up_to_date = up_to_date
        self._records: dict[str, Record] | None = None  # None until the first listing
        self._rejected: set[str] = set()  # keys that cannot be fired, until their records change
        self._acting = self._stopped = self._accepted = False
        self._pausing: Deferred[None] | None = None
        self._trouble = ""
        self._failures = Pauses(free=0, first=0.5, limit=10.0)
        # Two hosts of one name, or a loop that resets the keys, would have this agent call as fast
        # as the server answers. Changes of the table are announced without a pause.
        self._contests = Pauses(free=20, first=0.1, limit=10.0)
        self._contested = 0.0
        self._warned = False

    def learn(self, facts: Facts) -> None:
        """Use these facts from now on."""
        before, self.facts = self.facts.wanted, facts
        self._contests.reset()
        # What the server refused may fit once the options have changed.
        self._rejected = {key for key in self._rejected if facts.wanted.get(key) == before.get(key)}
        if self._records is not None:
            self.remember(self._records.values())

    def remember(self, records: Iterable[Record]) -> None:
        """Use the records of a listing; keep those that concern this node."""
        self._records = {r.key: r for r in records if self.facts.concerns(r)}

    def observe(self, record: Record) -> bool:
        """Use one record; return whether it is new and concerns this node."""
        records = self._known()
        known = records.get(record.key)
        # Answers of calls and records of the watch overtake each other.
        if known is not None and known.revision >= record.revision:
            return False
        self._rejected.discard(record.key)
        if self.facts.concerns(record):
            records[record.key] = record
            return True
        return records.pop(record.key, None) is not None

    def act(self) -> Deferred[None] | None:
        """Start a round and return it; None before the first listing or while a round, which sees the change, runs."""
        if self._records is None or self._acting or self._stopped:
            return None
        self._acting = True
        return Deferred.fromCoroutine(self._reconcile())

    def stop(self) -> None:
        """Plan no more calls. Pending ones go on."""
        self._stopped = True
        if self._pausing is not None:
            self._pausing.cancel()

    async def _reconcile(self) -> None:
        try:
            while steps := self._steps():
                await self._pause(self._contest(steps))
                if await self._run(self._steps()):
                    self._failures.reset()
                else:
                    self._contests.reset()
                    await self._pause(self._failures.next())
        finally:
            # Nothing was awaited since the last plan, so no change is missed: the next one starts a round.
            self._acting = False
        if not self._stopped:
            self._accepted = True
            self._up_to_date()

    def _contest(self, steps: list[Step]) -> float:
        """Return the seconds to wait before these calls; warn if the name is another host's too."""
        now = self._reactor.seconds()
        if now - self._contested > _QUIET:
            self._contests.reset()
            self._warned = False
        self._contested = now
        pause = self._contests.next()
        node = self.facts.node
        # Other hosts reset the shared keys when they unmount, but those of this node are its own.
        if pause and not self._warned and any(step.key.startswith(f"{node}:") for step in steps):
            self._warned = True
            self._log.warn(
                "what {node} announces is changed again and again by others: "
                "if another host announces as {node} too, give each a name of its own (--node)",
                node=node,
            )
        return pause

    def _steps(self) -> list[Step]:
        if self._stopped:
            return []
        return [step for step in plan(self.facts, self._known()) if step.key not in self._rejected]

    def _known(self) -> dict[str, Record]:
        assert self._records is not None
        return self._records

    async def _run(self, steps: list[Step]) -> bool:
        """Make the calls; return whether none has to be retried."""
        outcomes = await together(Deferred.fromCoroutine(self._step(step)) for step in steps)
        troubles = [outcome for outcome in outcomes if outcome]
        # Log one line, once: the other calls of a round, and later rounds, fail alike.
        trouble = troubles[0] if troubles else ""
        if trouble not in {"", self._trouble}:
            self._log.warn("{trouble}; retrying", trouble=trouble)
        self._trouble = trouble
        return not troubles

    async def _step(self, step: Step) -> str:
        """Make a call; return an error message if it has to be retried, else an empty one."""
        try:
            applied = await call(self._events, step)
        except (InvalidInput, CorruptRecord) as error:
            self._rejected.add(step.key)
            self._log.warn("{key} is not announced: {error}", key=quoted(step.key), error=error)
        except Error as error:
            if isinstance(error, Closed) or (isinstance(error, AccessDenied) and not self._accepted):
                raise
            return f"{quoted(step.key)} cannot be announced or withdrawn: {error}"
        else:
            self._answered(step, applied)
        return ""

    def _answered(self, step: Step, applied: Applied) -> None:
        if applied.first:
            done = "announced" if isinstance(step, Fire) else "withdrawn"
            self._log.info("{key} {done}", key=quoted(step.key), done=done)
        if applied.record is None:
            self._known().pop(step.key, None)
        else:
            self.observe(applied.record)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            self._pausing = deferLater(self._reactor, seconds)
            try:
                await self._pausing
            finally:
                self._pausing = None


def call(events: Events, step: Step) -> Deferred[Applied]:
    """Make the call of one step."""
    if isinstance(step, Fire):
        return events.fire(step.key, step.value)
    return events.reset(step.key, step.revision)
