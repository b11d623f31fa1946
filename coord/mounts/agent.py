"""The mount agent: follows the mount table and the map, and has the announcer act on changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord import AccessDenied, CaughtUp, Closed, Error, HistoryLost
from coord.clock import steady
from coord.mounts.announcements import Facts, withdraw
from coord.mounts.announcer import Announcer, Events, call, together
from coord.mounts.pauses import Pauses
from coord.mounts.selection import Selection
from coord.mounts.table import LOOK_EVERY, MountTable

__all__ = ["MountAgent"]


class MountAgent:
    """Announces what is mounted on this host in a map of events.

    :param events: the map.
    :param node: the name to announce under. It must be unique to this host and survive restarts: the
        agent withdraws what this name has announced and is no longer mounted.
    :param mountinfo: the mount table to follow.
    :param selection: which mounts are announced.
    :param look_every: seconds after which the table is read even if the kernel signalled no change.
    :ivar ended: called back when the agent has stopped. It errbacks `ProcessLookupError` if the
        process of ``mountinfo`` has ended: everything is withdrawn then; and any unexpected error.

    An agent runs once.
    """

    _log = Logger()

    def __init__(
        self,
        events: Events,
        node: str,
        *,
        mountinfo: Path = Path("/proc/self/mountinfo"),
        selection: Selection | None = None,
        look_every: float = LOOK_EVERY,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        reactor = steady(reactor)
        self.ended: Deferred[None] = Deferred()
        self._events = events
        self._node = node
        self._reactor = reactor
        self._selection = selection or Selection()
        self._unannounceable: set[bytes] = set()
        self._table = MountTable(mountinfo, self._table_changed, self._table_ended, reactor, look_every=look_every)
        self._announcer = Announcer(events, reactor, Facts(node), self._announced)
        self._over = False
        self._table_end: OSError | None = None
        self._started: Deferred[None] | None = None
        self._following: Deferred[None] | None = None
        self._round: Deferred[None] | None = None
        self._listings = Pauses(free=0, first=0.5, limit=10.0)

    @property
    def live(self) -> bool:
        """Whether the kernel notifies the agent of changes; it does not if ``mountinfo`` is a regular file."""
        return self._table.live

    def start(self) -> Deferred[None]:
        """Start; the Deferred fires once everything mounted now is announced and acknowledged.

        It waits for the server. It errbacks `OSError` (the table cannot be read), `ValueError` (the
        file is no mount table), `AccessDenied`, or `Closed` if the agent or the coordinator is closed
        first; nothing is left running then. Cancelling it stops the agent.

        :raises RuntimeError: the agent was started or stopped before.
        """
        if self._started is not None or self._over:
            raise RuntimeError("a mount agent runs once")
        self._started = started = Deferred[None](lambda _: self._end(CancelledError()))
        try:
            self._table.open()
        except (OSError, ValueError) as error:
            self._end(error)
            return started
        self._learn()
        self._following = Deferred.fromCoroutine(self._follow())
        self._following.addErrback(self._broken)
        return started

    def stop(self, *, reset: bool = False) -> Deferred[None]:
        """Stop; with ``reset`` also withdraw what this node has announced.

        With ``reset``, the Deferred waits for pending calls, and errbacks if a reset fails. Call it
        again to retry.
        """
        self._end(Closed("the mount agent was stopped"))
        if reset:
            return Deferred.fromCoroutine(self._withdraw(self._round))
        if self._round is not None:
            self._round.cancel()
        return succeed(None)

    def refresh(self) -> None:
        """Read the table again now; needed if ``mountinfo`` is a regular file."""
        self._table.refresh()

    def _table_changed(self) -> None:
        self._learn()
        self._act()

    def _table_ended(self, why: OSError) -> None:
        # What was mounted is gone with the process: withdraw it, then end.
        self._table_end = why
        self._table_changed()

    def _learn(self) -> None:
        facts = Facts.of(self._node, self._table.mounts, self._selection)
        for target in sorted(facts.unannounceable.keys() - self._unannounceable):
            why = facts.unannounceable[target]
            self._log.warn("{target} is not announced: {why}", target=repr(target), why=why)
        self._unannounceable |= facts.unannounceable.keys()
        self._announcer.learn(facts)

    async def _follow(self) -> None:
        while True:
            try:
                await self._list_and_watch()
            except HistoryLost as lost:
                self._log.info("{lost}; reading all records again", lost=lost)
            except Error as error:
                # Denied before the first success, it is misconfigured; later, it may be repaired.
                if isinstance(error, Closed) or (isinstance(error, AccessDenied) and self._starting):
                    raise
                self._log.warn("cannot follow the map: {error}; retrying", error=error)
            if self._over:
                return
            await deferLater(self._reactor, self._listings.next())

    async def _list_and_watch(self) -> None:
        """Read the records and their changes, until cancelled or until the agent has ended.

        Acting may end the agent at once, but a running coroutine cannot be cancelled: so it looks.
        """
        listing = await self._events.records()
        self._announcer.remember(listing.records)
        if not self._act():
            return
        async with self._events.watch(since=listing.revision) as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    self._listings.reset()
                elif self._announcer.observe(change) and not self._act():
                    return

    def _act(self) -> bool:
        """Have the announcer act; return whether the agent goes on."""
        begun = self._announcer.act()
        if begun is not None:
            self._round = begun.addErrback(self._broken)
        return not self._over

    async def _withdraw(self, calls: Deferred[None] | None) -> None:
        if calls is not None:
            # A pending call could otherwise announce again what is withdrawn now.
            await calls
        listing = await self._events.records()
        steps = withdraw(self._node, {record.key: record for record in listing.records})
        await together(call(self._events, step) for step in steps)

    @property
    def _starting(self) -> bool:
        """Whether the start is still pending."""
        return self._started is not None and not self._started.called

    def _announced(self) -> None:
        if self._table_end is not None:
            self._end(self._table_end)
        elif self._started is not None and self._starting:
            self._started.callback(None)

    def _broken(self, failure: Failure) -> None:
        """End, because a coroutine ended with an error."""
        if isinstance(failure.value, Exception):
            self._end(failure.value)

    def _end(self, why: Exception) -> None:
        """Release everything, once: what is cancelled here calls this again."""
        if self._over:
            return
        self._over = True
        self._table.close()
        self._announcer.stop()
        if self._following is not None:
            self._following.cancel()
        if self._started is not None and not self._started.called:
            self._started.errback(why)
        elif not isinstance(why, Closed):
            self.ended.errback(why)
            return
        self.ended.callback(None)
