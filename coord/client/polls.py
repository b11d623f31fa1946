"""Long polls: waits in pieces, of which none misses what happened between two (W1 and W2 hold for all of them).

A poll reads its keys with the head of their map, and waits in between for what would change the answer. So its answer
is as of one revision, and the next poll goes on from there: whatever comes later wakes it, and nothing does so twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from coord.client.events import EventMap
from coord.client.waits import RecordWaiter, Waiter, all_of, any_of
from coord.core.conditions import Condition, Ended, Reached, Woken
from coord.core.names import check_keys
from coord.core.records import FAILED, NEVER, Head, Revision, StoredRecord, not_a_record
from coord.errors import EventFailed
from coord.link.link import CLOSED

__all__ = ["Goal", "Poll", "Standing", "read", "wake_of"]

_PAUSE: Final = 0.1
"""Seconds until the keys are read again if they do not say what a message has said: the cache is late, or it lied."""


_UNKNOWN: Final = "-"


class Goal(Enum):
    """What a poll waits for, of each of its keys."""

    WAKE = "a wake"
    GONE = "the end of its event"
    COUNT = "a count"


class Standing(NamedTuple):
    """What stands for some keys as of a ``revision`` of their map; ``None`` for a key without a record.

    ``left`` has the milliseconds until the end of each event with a TTL.
    """

    revision: Revision
    records: Mapping[str, StoredRecord | None]
    left: Mapping[str, int]


async def read(events: EventMap, keys: Iterable[str]) -> Standing:
    """Return what stands for these keys, all at one moment.

    It waits for the link. An event with a TTL whose time is over stands as ended.

    :raises CorruptRecord: one of the keys cannot be read.
    """
    names, commands, given = events._map.names, events._commands, list(keys)
    encoded = [key.encode() for key in given]
    head, *payloads = await commands.retry_while_reconnecting(lambda: commands.read(names, encoded), names.name)
    records = {key: _parsed(key, payload) for key, payload in zip(given, payloads, strict=True)}
    if not any(record is not None and record.perishable for record in records.values()):
        return Standing(_revision(names, head), records, {})
    look = await commands.retry_while_reconnecting(lambda: commands.look(names, encoded), names.name)
    records = {key: _parsed(key, payload) for key, payload in zip(given, look.records, strict=True)}
    timed = {
        key: left
        for key, left in zip(given, look.left, strict=True)
        if (record := records[key]) is not None and record.perishable
    }
    for key, left in timed.items():
        record = records[key]
        if not left and record is not None:
            records[key] = record.over()
    return Standing(_revision(names, look.head), records, {key: left for key, left in timed.items() if left})


def wake_of(stored: StoredRecord) -> StoredRecord:
    """Return the last wake of a record; without its time and its node if the record was replaced since."""
    kind = stored.wake_kind
    if kind is None or kind is stored.kind:
        return stored
    return StoredRecord(kind, stored.wake_revision, 0, _UNKNOWN, None, stored.data)


class Poll:
    """One poll for some keys of a map.

    ``revision`` is the one from which the next poll misses nothing; ``None`` until it is known.

    :param goal: what to wait for; ``least`` is the count.
    :param of_any: wait for the first of the keys, and not for all.
    :param since: what came after this revision counts; without one, what comes from now on. What stands counts anyway.
    """

    def __init__(
        self, events: EventMap, keys: Iterable[str], goal: Goal, *, of_any: bool, since: Revision | None, least: int = 1
    ) -> None:
        self.keys = check_keys(keys)
        self.revision = since
        self._events = events
        self.goal = goal
        self._of_any = of_any
        self._least = least

    async def run(self) -> Standing:
        """Return what stands for the keys that have what is waited for, in the order in which they were woken.

        :raises EventFailed: a key failed; with ``of_any``, it was the first.
        """
        told = False
        while True:
            found, since, done = await self._read()
            if self._over(found, done):
                return self._answer(found, done)
            if told:
                await deferLater(self._events._session.clock, _PAUSE)
            await self._news(found, [key for key in self.keys if key not in done], since)
            told = True

    async def look(self) -> Standing | None:
        """Return the same, but do not wait for it: `None` if it is not there. It errbacks `Unreachable` as a query."""
        found, _, done = await self._events._commands.with_deadline(Deferred.fromCoroutine(self._read()))
        return self._answer(found, done) if self._over(found, done) else None

    async def _read(self) -> tuple[Standing, Revision, list[str]]:
        """Return what stands, the revision after which a wake counts, and the keys that have what is waited for."""
        found = await read(self._events, self.keys)
        since = self._since(found.revision)
        done = [key for key in self.keys if self._has(found.records[key], since)]
        if self._of_any or not done or self._over(found, done):
            # Else what has come must count again, with the rest.
            self.revision = found.revision
        return found, since, done

    def _since(self, head: Revision) -> Revision:
        """Return the revision after which a wake counts: as of the first read, if the caller names none."""
        if self.revision is None:
            self.revision = head
        # The data was flushed, by a server whose clock is behind: all that is there is new.
        return NEVER if head.generation < self.revision.generation else self.revision

    def _has(self, stored: StoredRecord | None, since: Revision) -> bool:
        """Whether a key with this record has what is waited for."""
        if self.goal is Goal.WAKE:
            return stored is not None and (stored.latched or stored.wake_revision > since)
        if self.goal is Goal.GONE:
            return stored is None or stored.latched_at is None or stored.latched_at > since
        return stored is not None and stored.count is not None and stored.count >= self._least

    def _over(self, found: Standing, done: list[str]) -> bool:
        return len(done) >= (1 if self._of_any else len(self.keys)) or any(
            self._failed(found.records[key]) for key in done
        )

    def _failed(self, stored: StoredRecord | None) -> bool:
        return self.goal is Goal.WAKE and stored is not None and stored.wake_kind is FAILED

    def _answer(self, found: Standing, done: list[str]) -> Standing:
        if self.goal is Goal.WAKE:
            done.sort(key=lambda key: _woken_at(found.records[key]))
        for key in done[:1] if self._of_any else done:
            stored = found.records[key]
            if stored is not None and self._failed(stored):
                raise EventFailed(key, wake_of(stored).record(self._events.name, key).value)
        return Standing(found.revision, {key: found.records[key] for key in done}, found.left)

    # Waiting.

    async def _news(self, found: Standing, missing: list[str], since: Revision) -> None:
        """Return once the missing keys, or one of them if that is enough, may have what is waited for."""
        waiters = {key: self._waiter(key, found.records[key], since) for key in missing}
        # The next read tells of a failure.
        with suppress(EventFailed):
            await (any_of(waiters) if self._of_any else all_of(waiters))

    def _waiter(self, key: str, stored: StoredRecord | None, since: Revision) -> Deferred[Any]:
        events, session = self._events, self._events._session
        channel = events._prefix + key.encode()
        waiter: Waiter | RecordWaiter
        if self.goal is Goal.WAKE:
            waiter = Waiter(channel, events._cancelled)
        else:
            waiter = RecordWaiter(channel, self.goal.value, events._cancelled)
        if session.link_status.state is CLOSED:
            waiter.give_up(session.link_status.closed_error())
        else:
            session.wait_until(events._map, channel, waiter, self._condition(stored, since))
        return waiter

    def _condition(self, stored: StoredRecord | None, since: Revision) -> Condition:
        if self.goal is Goal.WAKE:
            return Woken(since, self._events._map)
        if self.goal is Goal.GONE:
            return Ended(stored.latched_at if stored is not None else None)
        return Reached(self._least)


def _parsed(key: str, payload: bytes | None) -> StoredRecord | None:
    try:
        return None if payload is None else StoredRecord.parse(payload)
    except ValueError:
        raise not_a_record(key) from None


def _revision(names: Any, payload: bytes | None) -> Revision:
    head = Head.read(names, payload)
    return head.revision if head else NEVER


def _woken_at(stored: StoredRecord | None) -> Revision:
    return NEVER if stored is None else stored.wake_revision
