"""The mount agent: follows the mount table and the map, and lets the announcer act."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord import AccessDenied, CaughtUp, Closed, Error, HistoryLost
from coord.clock import steady
from coord.mounts.announcements import Facts, withdraw
from coord.mounts.announcer import Announcer, Events, take, together
from coord.mounts.backoff import Backoff
from coord.mounts.selection import Selection
from coord.mounts.table import MountTable

__all__ = ["MountAgent"]


class MountAgent:
    """Announces what is mounted on this host in a map of events.

    ``events`` is the map. ``node`` is the name to announce under: this host's alone, and the same
    after a restart, for the agent takes back what that name announced and is mounted no more.
    ``mountinfo`` is the table to follow, ``only`` are patterns of mount points (see `Selection`).

    ``ended`` is called back when the agent has stopped, and errbacks if something unforeseen broke
    it. An agent runs once.
    """

    _log = Logger()

    def __init__(
        self,
        events: Events,
        node: str,
        *,
        mountinfo: Path = Path("/proc/self/mountinfo"),
        only: Iterable[str] = (),
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        reactor = steady(reactor)
        self.ended: Deferred[None] = Deferred()
        self._events = events
        self._node = node
        self._reactor = reactor
        self._selection = Selection(only)
        self._unspeakable: set[bytes] = set()
        self._table = MountTable(mountinfo, self._table_changed, reactor)
        self._announcer = Announcer(events, reactor, Facts(node), self._settled)
        self._over = False
        self._started: Deferred[None] | None = None
        self._following: Deferred[None] | None = None
        self._round: Deferred[None] | None = None
        self._listings = Backoff(free=0, first=0.5, limit=10.0)

    @property
    def live(self) -> bool:
        """Whether the kernel wakes the agent; not so for a ``mountinfo`` that is a regular file."""
        return self._table.live

    def start(self) -> Deferred[None]:
        """Begin; called back when what is mounted now is announced and acknowledged.

        Waits for a server that is away. Errbacks `OSError` (the table cannot be read), `ValueError`
        (it is none), `AccessDenied`, or `Closed` where the agent or the coordinator ends first;
        nothing is left running then. Cancelling it stops the agent.
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
        """End; with ``reset`` take back what this node announced, else leave the keys as they are.

        With ``reset``, waits for calls under way, and errbacks what its own calls errback. It may
        be called again, to try again.
        """
        self._end(Closed("the mount agent was stopped"))
        if reset:
            return Deferred.fromCoroutine(self._withdraw(self._round))
        if self._round is not None:
            self._round.cancel()
        return succeed(None)

    def refresh(self) -> None:
        """Read the table again now: for a ``mountinfo`` that is a regular file."""
        self._table.refresh()

    def _table_changed(self) -> None:
        self._learn()
        self._act()

    def _learn(self) -> None:
        facts = Facts.of(self._node, self._table.mounts, self._selection)
        for target in sorted(facts.unspeakable.keys() - self._unspeakable):
            why = facts.unspeakable[target]
            self._log.warn("{target} is not announced: {why}", target=repr(target), why=why)
        self._unspeakable |= facts.unspeakable.keys()
        self._announcer.learn(facts)

    async def _follow(self) -> None:
        while True:
            try:
                await self._list_and_watch()
            except HistoryLost as lost:
                self._log.info("{lost}; reading anew what stands", lost=lost)
            except Error as error:
                # A server that never let us in is a mistake in the set-up; later, it may be mended.
                if isinstance(error, Closed) or (isinstance(error, AccessDenied) and self._waiting):
                    raise
                self._log.warn("cannot follow the map: {error}; trying again", error=error)
            if self._over:
                return
            await deferLater(self._reactor, self._listings.next())

    async def _list_and_watch(self) -> None:
        """Take in what stands and what changes, until this is cancelled or the agent is over.

        Acting can end the agent then and there, and a coroutine that runs cannot be cancelled.
        """
        listing = await self._events.records()
        self._announcer.remember(listing.records)
        if not self._act():
            return
        async with self._events.watch(since=listing.revision) as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    self._listings.rest()
                elif self._announcer.observe(change) and not self._act():
                    return

    def _act(self) -> bool:
        """Let the announcer act; answer whether the agent goes on."""
        begun = self._announcer.act()
        if begun is not None:
            self._round = begun.addErrback(self._broken)
        return not self._over

    async def _withdraw(self, calls: Deferred[None] | None) -> None:
        if calls is not None:
            # A call under way could otherwise announce again what is withdrawn now.
            await calls
        listing = await self._events.records()
        steps = withdraw(self._node, {record.key: record for record in listing.records})
        await together(take(self._events, step) for step in steps)

    @property
    def _waiting(self) -> bool:
        """Whether somebody waits for the start."""
        return self._started is not None and not self._started.called

    def _settled(self) -> None:
        if self._started is not None and not self._started.called:
            self._started.callback(None)

    def _broken(self, failure: Failure) -> None:
        """End, because a coroutine did so by other than its own decision."""
        if isinstance(failure.value, Exception):
            self._end(failure.value)

    def _end(self, why: Exception) -> None:
        """Let go of everything, the first time only: what is cancelled here ends up here again."""
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
