"""Acknowledgements: what users call ``await config.acked(record, by=...)``.

An acknowledgement is a pulse in a map of its own beside the map of the change (`coord.core.names.acks_of`), with the
key ``REVISION/NODE/INCARNATION``: so it is written once, kept for the retention and forgotten as any event is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.client.listings import Listings
from coord.client.waits import all_of, joint
from coord.client.watch import Watch
from coord.core.acks import Acknowledgements, Acks
from coord.core.maps import MapState
from coord.core.names import MEMBERS, acks_of, check_name, shown
from coord.core.quoting import quoted
from coord.core.records import SILENT, CaughtUp, Kind, Record, Revision
from coord.errors import HistoryLost, InvalidInput, Unacknowledged
from coord.session.settings import check_whole

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["ack_key", "acked", "acked_so_far", "change_of", "checked_by"]

_MOST: Final = 1_000_000
_MOST_PROCESSES: Final = 10_000
_MOST_NAMED: Final = 10

# What the end of a member looks like.
_ENDS: Final = (Kind.WITHDRAWN, Kind.EXPIRED, Kind.RESET)

# The lease in the field of a holder has the name of its node's incarnation.
_LEASE: Final = re.compile(rb"\d+ (\w+)\.\d+ ")


def ack_key(revision: Revision, node: str, incarnation: str) -> str:
    """Return the key of the acknowledgement by one process of a node's name."""
    return f"{revision}/{node}/{incarnation}"


def change_of(given: object, name: str) -> tuple[Revision, str]:
    """Return the revision of what was given to acknowledge in the map of this ``name``, and how to call it.

    :raises InvalidInput: it is none, or there is nothing to acknowledge.
    """
    if not isinstance(given, Record):
        revision = Revision.of(given)
        return revision, f"{name} {revision}"
    if given.map != name:
        raise InvalidInput(f"record: it is one of map {given.map}, not of {name}")
    if given.kind in SILENT:
        raise InvalidInput(f"record: {quoted(given.key)} is {given.kind}: there is nothing to acknowledge")
    return given.revision, f"{name}/{given.key}"


def checked_by(by: object) -> tuple[str, ...] | int | None:
    """Return the names, without repeats, or how many names have to acknowledge; ``None`` for all members.

    :raises InvalidInput: it is nobody.
    """
    if isinstance(by, str) and by == MEMBERS:
        return None
    if isinstance(by, int):
        return check_whole("by", by, _MOST)
    if isinstance(by, str | bytes) or not isinstance(by, Iterable):
        raise InvalidInput(f"by: names, a number of names or coord.MEMBERS, not {shown(by)}")
    names = tuple(dict.fromkeys(check_name("node", name) for name in by))
    if not names:
        raise InvalidInput("by: without a name, nobody would have to acknowledge")
    return names


def acked(
    session: Session, name: str, change: tuple[Revision, str], by: tuple[str, ...] | int | None, timeout: float | None
) -> Deferred[Acks]:
    """Wait until a change of a map is acknowledged; see ``EventMap.acked``."""
    wait = _AckWait(session, name, change, by)
    waiting = joint(f"acknowledgements of {change[1]}", wait.run(), session.thread)
    if timeout is None:
        return waiting

    def timed_out(result: Any, seconds: float) -> Any:
        if isinstance(result, Failure) and result.check(CancelledError):
            raise wait.unacknowledged(f" within {seconds:g} s{wait.unlisted}")
        return result

    return waiting.addTimeout(timeout, session.clock, onTimeoutCancel=timed_out)


def acked_so_far(
    session: Session, name: str, change: tuple[Revision, str], by: tuple[str, ...] | int | None
) -> Deferred[Acks]:
    """Return who has acknowledged a change of a map until now, and who is missing; it errbacks as a query does."""
    wait = _AckWait(session, name, change, by)
    return session.commands.with_deadline(Deferred.fromCoroutine(wait.look()))


class _AckWait:
    """Watches who acknowledges a change, and who joins and leaves, and asks for the processes of those concerned."""

    def __init__(
        self, session: Session, name: str, change: tuple[Revision, str], by: tuple[str, ...] | int | None
    ) -> None:
        revision, self._what = change
        self._session = session
        self._acks = session.map(acks_of(name))
        # On a cluster, the members may be on another server.
        self._registry = session.of(MEMBERS)
        self._members = self._registry.map(MEMBERS)
        self._prefix = f"{revision}/"
        self._number = by if isinstance(by, int) else 0
        self._lists_members = by is None
        self._known = Acknowledgements(() if by is None else by)
        # The names to ask for, what ended a feed, and the timer of `_news`.
        self._due: set[str] = set()
        self._failure: Failure | None = None
        self._timer: Any = None

    async def run(self) -> Acks:
        """Return who has acknowledged; raise `Unacknowledged` if nobody has, and nobody is waited for."""
        while True:
            # If a history does not continue, other data may be there: begin again with that.
            with suppress(HistoryLost):
                await self._follow()
                break
        report = self._known.report()
        if not report.names:
            raise self.unacknowledged(", and all have left" if report.left else ": there are no members")
        return report

    async def look(self) -> Acks:
        """Return who has acknowledged so far, without waiting for anybody."""
        await self._look()
        names = self._due.intersection(self._known.open)
        await all_of({name: Deferred.fromCoroutine(self._ask(name)) for name in names})
        return self._known.report()

    @property
    def unlisted(self) -> str:
        """Return why it is not known yet who the members are; empty if it is. Their server may be another one."""
        return f": it is not known who the members are ({self._registry.reason})" if self._lists_members else ""

    def unacknowledged(self, why: str) -> Unacknowledged:
        """Return the error that says who is missing."""
        names, missing, left = report = astuple(self._known.report())
        text = f"acknowledged by {len(names)} of {self._number} names only" if self._number else "not acknowledged"
        for word, those in (("missing", missing), ("left", left)):
            why += f"; {word}: {_some(those)}" if those else ""
        return Unacknowledged(f"{self._what}: {text}{why}", *report)

    async def _follow(self) -> None:
        """Watch first, and then look; return once nobody is waited for."""
        async with self._watch(self._acks, self._prefix) as acks, self._watch_members() as members:
            await self._look()
            feeds = [self._feed(acks, self._take_ack), self._feed(members, self._take_member)]
            try:
                while not self._known.over:
                    names, self._due = self._due.intersection(self._known.open), set()
                    if names:
                        await all_of({name: Deferred.fromCoroutine(self._ask(name)) for name in names})
                    else:
                        await self._news()
            finally:
                for feed in feeds:
                    feed.cancel()

    def _watch(self, map_state: MapState, prefix: str = "") -> Watch:
        return Watch(self._session, map_state, prefix, "now")

    def _watch_members(self) -> Watch:
        return Watch(self._registry, self._members, "", "now")

    # What is asked for.

    async def _look(self) -> None:
        """Read the acknowledgements so far and, the first time, who the members are if it is about them."""
        await self._read_acks()
        if self._lists_members:
            listing = await Listings(self._registry.commands, self._members.names).whole()
            # A key that somebody has fired is no member, unless it is held too.
            latched = [record for record in listing.records if record.latched]
            self._known.want([each.key for each in latched if each.held or await self._living(each.key)])
            self._lists_members = False
        self._due.update(self._known.open)

    async def _read_acks(self, of: str = "") -> None:
        for record in (await Listings(self._session.commands, self._acks.names).whole(self._prefix + of)).records:
            self._take_ack(record)

    async def _ask(self, name: str) -> None:
        """Ask which processes of this name live; if none does, read once more whether they have acknowledged."""
        before = self._known.acks_of(name)
        if self._known.found(name, await self._living(name), before):
            await self._read_acks(f"{name}/")
            self._known.read_again(name)

    async def _living(self, name: str) -> frozenset[str]:
        """Return the incarnations that hold this name in the members."""
        names, commands, key = self._members.names, self._registry.commands, name.encode()
        _, *fields = await commands.retry_while_reconnecting(
            lambda: commands.holders(names, key, _MOST_PROCESSES), names.name
        )
        return frozenset(match[1].decode() for field in fields if (match := _LEASE.match(field)))

    # What is told.

    def _feed(self, changes: Watch, take: Callable[[Record], None]) -> Deferred[None]:
        async def feed() -> None:
            async for change in changes:
                if not isinstance(change, CaughtUp):
                    take(change)
                    self._ring()

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self._failure = failure
                self._ring()

        return Deferred.fromCoroutine(feed()).addErrback(failed)

    def _take_ack(self, record: Record) -> None:
        name, _, process = record.key.removeprefix(self._prefix).partition("/")
        self._known.acked(name, process)
        self._due.add(name)

    def _take_member(self, record: Record) -> None:
        # It may have left again, died or been evicted, before anybody could ask who lives.
        if record.held or record.kind in _ENDS:
            self._known.was_member(record.key)
        self._due.add(record.key)

    async def _news(self) -> None:
        """Wait until there is somebody to ask for: in a later turn, so that one question asks for all news."""
        told: Deferred[None] = Deferred()
        self._timer = self._session.clock.callLater(self._session.node.settings.heartbeat, told.callback, None)
        if self._failure is None:
            try:
                await told
            finally:
                if self._timer.active():
                    self._timer.cancel()
        failure, self._failure = self._failure, None
        if failure is not None:
            failure.raiseException()
        if not self._due:
            # Processes that share a name come and go without a change of the members.
            self._due.update(self._known.open)

    def _ring(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(0)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
