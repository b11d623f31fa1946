"""The mount agent: follows the mount table, and has the announcer hold what is mounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from coord import Closed, EventMap
from coord.clock import steady
from coord.mounts.announcements import Facts
from coord.mounts.announcer import Announcer
from coord.mounts.selection import Selection
from coord.mounts.table import LOOK_EVERY, MountTable

__all__ = ["MountAgent"]


class MountAgent:
    """Announces what is mounted on this host in a map of events: holds two keys for each mount.

    :param events: the map.
    :param node: the name to announce under. It should be the coordinator's, be unique to this host, and survive
        restarts: an agent that is started again in time takes over the keys of this name without an end.
    :param mountinfo: the mount table to follow.
    :param selection: which mounts are announced.
    :param look_every: seconds after which the table is read even if the kernel signalled no change.
    :ivar ended: called back when the agent has stopped. It errbacks `ProcessLookupError` if the
        process of ``mountinfo`` has ended: everything is withdrawn then; and any unexpected error.

    An agent runs once. If the coordinator is closed, the agent ends at the next change of a mount; stop it first.
    """

    _log = Logger()

    def __init__(
        self,
        events: EventMap,
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
        self._node = node
        self._selection = selection or Selection()
        self._unannounceable: set[bytes] = set()
        self._table = MountTable(mountinfo, self._table_changed, self._table_ended, reactor, look_every=look_every)
        self._announcer = Announcer(events, reactor, self._announced, self._end)
        self._over = False
        self._table_end: OSError | None = None
        self._started: Deferred[None] | None = None

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
        else:
            self._table_changed()
        return started

    def stop(self, *, reset: bool = False) -> Deferred[None]:
        """Stop; what is announced stays so until the coordinator is closed. With ``reset``, withdraw it.

        With ``reset``, the Deferred waits for pending calls, and errbacks if it is in doubt whether all is withdrawn:
        then it is as soon as the server is reached, or when the lease ends.
        """
        withdrawn = self._announcer.withdraw() if reset else succeed(None)
        self._end(Closed("the mount agent was stopped"))
        return withdrawn

    def refresh(self) -> None:
        """Read the table again now; needed if ``mountinfo`` is a regular file."""
        self._table.refresh()

    def _table_changed(self) -> None:
        facts = Facts.of(self._node, self._table.mounts, self._selection)
        for target in sorted(facts.unannounceable.keys() - self._unannounceable):
            why = facts.unannounceable[target]
            self._log.warn("{target} is not announced: {why}", target=repr(target), why=why)
        self._unannounceable |= facts.unannounceable.keys()
        self._announcer.announce(facts.wanted)

    def _table_ended(self, why: OSError) -> None:
        # What was mounted is gone with the process: withdraw it, then end.
        self._table_end = why
        self._table_changed()

    def _announced(self) -> None:
        if self._table_end is not None:
            self._end(self._table_end)
        elif self._started is not None and not self._started.called:
            self._started.callback(None)

    def _end(self, why: Exception) -> None:
        """Release everything, once: what is cancelled here calls this again."""
        if self._over:
            return
        self._over = True
        self._table.close()
        self._announcer.stop()
        if self._started is not None and not self._started.called:
            self._started.errback(why)
        elif not isinstance(why, Closed):
            self.ended.errback(why)
            return
        self.ended.callback(None)
