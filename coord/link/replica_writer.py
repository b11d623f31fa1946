"""The third connection: it counts the replicas that have the calls of the first.

WAIT blocks its connection, so it must not delay calls that need no replicas. And WAIT counts from the last write of its
own connection (Redis 7.2; older versions: from its last command): so this connection writes the smallest thing that is
replicated, a message to a channel without subscribers, after the calls to be counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.link.handshake import NotAPrimary
from coord.link.one_shot import OneShot
from coord.link.protocol import CommandConnection, Connection
from coord.link.replies import LinkLost, ServerError

__all__ = ["OnProgress", "ReplicaWriter"]

_LONGEST: Final = 0.2
"""Twice the longest time of one WAIT, in seconds: later calls have to wait for the next one."""

_OFFSET: Final = re.compile(rb"^master_repl_offset:(\d+)", re.MULTILINE)
_REPLICA: Final = re.compile(rb"^slave\d+:.*\bstate=online\b.*\boffset=(\d+)", re.MULTILINE)


OnProgress = Callable[[int, list[int]], None]
"""Called with the replication offset of a server (-1 if unknown), and those of its replicas."""


class _Count:
    """One WAIT, and who waits for its answer."""

    def __init__(self) -> None:
        self.answer: OneShot[int] = OneShot()
        self.wanted: list[int] = []
        self.due: list[float] = []
        self.on_progress: list[OnProgress] = []
        self.new = False


class ReplicaWriter:
    """The third connection of a link: opened when it is first needed, lost with the others.

    :param connect: connects, and returns the run id of the server process, which must be that of the others.
    :param lose: closes all connections of the link.
    :param interval: the heartbeat's, in seconds.
    """

    def __init__(
        self,
        channel: bytes,
        connect: Callable[[Connection], Coroutine[Any, Any, bytes]],
        lose: Callable[[str], None],
        receive_context: AbstractContextManager[None],
        clock: Any,
        interval: float,
    ) -> None:
        # It begins with the node's own channel, so that the same access rule allows it. It has no subscribers.
        self._channel = channel + b":replicas"
        self._connect = connect
        self._lose = lose
        self._receive_context = receive_context
        self._clock = clock
        self._interval = interval
        self.connection = self._new_connection()
        self._opening: Deferred[bytes] | None = None
        # Those that wait for the attempt: on a cluster, several maps share the connection.
        self._sharing: OneShot[None] | None = None
        self._opened = self._aborted = self._wrote = False
        # The count that is under way, and the one that follows it.
        self._counting: _Count | None = None
        self._next: _Count | None = None

    @property
    def progress(self) -> int:
        """The number of replies so far, for the heartbeat; -1 if none is outstanding, or it is not connected yet."""
        return self.connection.received if self._opened and self.connection.asking else -1

    def _new_connection(self) -> CommandConnection:
        return CommandConnection(self._connection_lost, self._receive_context)

    def _connection_lost(self, reason: str) -> None:
        # Before that, `open` gets the error, and the other connections stay.
        if self._opened:
            self._lose(reason)

    async def open(self, process: bytes) -> None:
        """Connect, unless it is connected; who asks meanwhile gets the same answer.

        :raises ServerError: it cannot connect now, or not in time. The link stays, and the next call tries again.
        :raises LinkLost: it reached another server, and so the link is lost; or that was lost meanwhile.
        """
        if self._opened:
            return
        if self._sharing is not None:
            await self._sharing.wait()
            return
        sharing: OneShot[None] = OneShot()
        self._sharing = sharing
        result: Exception | None = None
        try:
            await self._open(process)
        except Exception as error:
            result = error
            raise
        finally:
            self._sharing = None
            sharing.fire(result)

    async def _open(self, process: bytes) -> None:
        connection = self.connection = self._new_connection()
        self._opening = Deferred.fromCoroutine(self._connect(connection))
        self._opening.addTimeout(2 * self._interval, self._clock)
        try:
            reached = await self._opening
        except NotAPrimary:
            reached = b""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
            # Also if the link was lost while this connection was made, and so not aborted.
            connection.abort()
            if self._aborted:
                raise LinkLost from None
            reason = str(error) or "the server has closed it"
            raise ServerError(f"the connection for replicated calls could not be made: {reason}") from None
        if reached == process:
            self._opened = True
            return
        self._lose("the connection for replicated calls reached another server")
        connection.abort()
        raise LinkLost

    def abort(self) -> None:
        """Close the connection, or cancel the attempt to make it."""
        self._aborted = True
        if self._opening is not None:
            self._opening.cancel()
        self.connection.abort()

    async def count(self, wanted: int, due: float, on_progress: OnProgress | None, *, new: bool) -> int:
        """Return how many replicas have all calls applied before: at once if ``wanted`` have, else after a while.

        :param due: the time by which an answer is needed.
        :param on_progress: called first, with the replication offsets at the beginning.
        :param new: calls were applied since the last count. If not, WAIT asks for the same offset again, which replicas
            that take longer than one WAIT can reach.
        :raises ServerError, LinkLost: the number is unknown.
        """
        # On a cluster, several maps share the connection. If each had a WAIT of its own, the calls of one would wait
        # for the replicas of all others: so who asks during a count shares the next one.
        if self._next is None:
            self._next = _Count()
        self._next.wanted.append(wanted)
        self._next.due.append(due)
        self._next.new |= new
        if on_progress is not None:
            self._next.on_progress.append(on_progress)
        answer = self._next.answer.wait()
        self._go_on()
        return await answer

    def _go_on(self) -> None:
        if self._counting is None and self._next is not None:
            self._counting, self._next = self._next, None
            Deferred.fromCoroutine(self._count(self._counting)).addBoth(self._counted, self._counting)

    def _counted(self, result: Any, count: _Count) -> None:
        # First: those that need more ask again, and share the next count.
        count.answer.fire(_error_of(result) if isinstance(result, Failure) else result)
        self._counting = None
        self._go_on()

    async def _count(self, count: _Count) -> int:
        refused: list[BaseException] = []

        def note(failure: Failure) -> None:
            refused.append(failure.value or LinkLost())

        def progress(info: bytes) -> None:
            for on_progress in count.on_progress:
                on_progress(*_progress(info))

        if count.new or not self._wrote:
            self._wrote = False
            self.connection.ask(b"PUBLISH", self._channel, b"").addErrback(note)
        if count.on_progress:
            self.connection.ask(b"INFO", b"replication").addCallback(progress).addErrback(note)
        # Short enough to ask twice before ``due``, and within one heartbeat interval.
        left = min(count.due) - self._clock.seconds()
        milliseconds = max(1, int(500 * min(left, self._interval, _LONGEST)))
        number = await self.connection.ask(b"WAIT", b"%d" % min(count.wanted), b"%d" % milliseconds)
        if refused:
            # The count does not include the last calls.
            raise refused[0]
        self._wrote = True
        return int(number)


def _error_of(failure: Failure) -> Exception:
    return failure.value if isinstance(failure.value, Exception) else LinkLost()


def _progress(info: bytes) -> tuple[int, list[int]]:
    """Return the replication offsets in INFO replication, of the server and its replicas."""
    offset = _OFFSET.search(info)
    return int(offset[1]) if offset else -1, list(map(int, _REPLICA.findall(info)))
