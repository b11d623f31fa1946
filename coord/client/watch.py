"""A watch: the ordered history of a map, from a chosen point on, then live.

It pulls: the doorbell only says that there is something to read, so a slow watcher delays only itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.history import Cursor, Line, parse_entry
from coord.core.maps import MapState
from coord.core.names import check_prefix, printable_field
from coord.core.records import CaughtUp, Head, Record, Revision
from coord.errors import CorruptRecord, Error, HistoryLost, InvalidInput
from coord.link.link import LinkState
from coord.link.replies import LinkLost
from coord.session.answers import Answer
from coord.session.commands import HistoryReply

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["Watch"]

_LINES = 500
_BYTES = 1 << 20
_SMALLEST = 1 / 64
"""The smallest share of these limits that a watch requests, however often it loses the link while reading."""


class Watch:
    """An asynchronous context manager and iterator of `Record`, with one `CaughtUp` where the past ends.

    Iterating raises `HistoryLost` if it cannot continue without a gap, `AccessDenied`, `CorruptRecord`, or `Closed`;
    `TypeError` if the watch was not entered. A watch can be entered once.

    Entries that other programs wrote into the history are skipped, with a warning in the log.
    """

    log = Logger()

    def __init__(self, session: Session, map_state: MapState, prefix: str, since: str | Revision) -> None:
        self._session = session
        self._map = map_state
        self._prefix = check_prefix(prefix).encode()
        self._from_now = since == "now"
        self._cursor = Cursor(map_state.names.name, _position(since))
        # The last entry read, whether coord wrote it or not.
        self._read_to = b""
        self._share = 1.0
        self._ready: deque[Record | CaughtUp] = deque()
        self._caught_up = False
        self._entered = False
        self._unwatch: Callable[[], None] | None = None
        self._look_again = False
        self._error: Error | None = None
        self._waiting: Deferred[None] | None = None

    async def __aenter__(self) -> Self:
        """Start watching. ``since="now"`` means the moment this returns, so it waits for the server."""
        self._session.thread.check()
        if self._entered:
            raise TypeError("a watch can be entered once: call watch() again, with its last revision as since=")
        self._entered = True
        if self._session.state is LinkState.CLOSED:
            raise self._session.link_status.closed_error()
        self._unwatch = self._session.doorbells.add(self._map, self._rang, lambda: self._cursor.position)
        if self._from_now:
            try:
                await self._wait_subscribed()
                head, _, _ = await self._read(b"+")
                self._mark_caught_up(head)
            except BaseException:
                self._close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the watch; nothing is left behind."""
        self._close()
        self._ready.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record | CaughtUp:
        await self.fill()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    def take(self) -> Record | CaughtUp | None:
        """Return what is ready next, if anything is."""
        return self._ready.popleft() if self._ready else None

    async def fill(self) -> None:
        """Return once something is ready, or the watch is over. Cancelling this loses nothing."""
        self._session.thread.check()
        if not self._entered:
            raise TypeError(
                "a watch has to be entered: async with events.watch(...) as changes: async for change in changes: ..."
            )
        while not self._ready and self._unwatch is not None:
            await self._wait_subscribed()
            self._look_again = False
            try:
                await self._fetch()
            except Error as error:
                # A watch cannot continue after a gap.
                self._session.counters.histories_lost += isinstance(error, HistoryLost)
                self._close()
                raise
            if not self._ready and not self._look_again:
                await self._wait_ring()

    # Reading.

    async def _fetch(self) -> None:
        position = self._cursor.position
        start = "-" if position is None else f"{position.generation}-{position.number}"
        head, entries, lines = await self._read(self._read_to or start.encode())
        if entries and not lines:
            # No entry of coord's in this batch, but more may follow: read on.
            self._look_again = True
            return
        new, caught_up = self._cursor.advance(lines, head)
        self._session.counters.changes += len(lines)
        for line in new:
            self._show(line)
        if caught_up:
            self._mark_caught_up(head)
        else:
            self._look_again = True

    def _show(self, line: Line) -> None:
        if not line.key.startswith(self._prefix):
            return
        if line.record is not None:
            self._ready.append(line.record)
        else:
            self._warn(f"change {line.revision} of {printable_field(line.key)}")

    def _warn(self, what: str) -> None:
        name = self._map.names.name
        self.log.warn("map {name}: {what} was not written by coord; the watch skips it", name=name, what=what)

    def _mark_caught_up(self, head: Head | None) -> None:
        """Queue the `CaughtUp`, once."""
        if not self._caught_up:
            self._caught_up = True
            self._cursor.advance([], head)
            assert self._cursor.position is not None
            self._ready.append(CaughtUp(self._cursor.position))

    async def _read(self, after: bytes) -> tuple[Head | None, int, list[Line]]:
        """Return the head, the number of entries read, and the lines of those that coord wrote."""
        names, commands = self._map.names, self._session.commands

        def ask() -> Deferred[HistoryReply]:
            share = self._share
            asked = commands.history(names, after, int(_LINES * share), int(_BYTES * share))
            return asked.addErrback(self._ask_for_less)

        reply = await commands.retry_while_reconnecting(ask, names.name)
        head = Head.read(names, reply.head)
        standing = dict(zip(reply.records[::2], reply.records[1::2], strict=True))
        lines: list[Line] = []
        for identifier, fields in reply.entries:
            self._read_to = identifier
            try:
                lines += parse_entry(names.name, identifier, fields, standing)
            except CorruptRecord:
                self._warn(f"entry {identifier.decode(errors='replace')} of the history")
        return head, len(reply.entries), lines

    def _ask_for_less(self, failure: Failure) -> Failure:
        """Request half as much from now on: the reply may have exceeded the server's output buffer limit.

        Not if the map moves.
        """
        if failure.check(LinkLost) and not self._session.commands.moving:
            self._share = max(_SMALLEST, self._share / 2)
        return failure

    # The doorbell.

    def _rang(self, error: Error | None) -> None:
        self._look_again = True
        self._error = error or self._error
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    async def _wait_ring(self) -> None:
        waiting = self._waiting = Answer("watch")
        await waiting

    async def _wait_subscribed(self) -> None:
        """Wait until the doorbell is subscribed: every change after the next read will ring it."""
        while not self._session.doorbells.is_subscribed(self._map):
            if self._error is not None:
                end = self._error
                self._close()
                raise end
            await self._wait_ring()

    def _close(self) -> None:
        stop, self._unwatch = self._unwatch, None
        if stop is not None:
            stop()


def _position(since: object) -> Revision | None:
    if since in ("now", "start"):
        return None
    try:
        return Revision.of(since)
    except InvalidInput as error:
        raise InvalidInput(f"since: 'now', 'start' or a revision; {error}") from None
