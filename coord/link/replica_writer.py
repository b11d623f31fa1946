"""The third connection: it counts the replicas that have what was written on the first.

WAIT holds up its connection, so calls that nobody wants on replicas must not stand behind it. And it counts from its
own connection's last write (Redis 7.2; older ones from its last command): so this one writes, after what is to be
counted, the smallest thing that replicas are told of, a message that nobody hears.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.link.protocol import CommandConnection, Connection
from coord.link.replies import LinkLost

__all__ = ["OnProgress", "ReplicaWriter"]

_LONGEST: Final = 0.2
"""Twice the seconds for which a WAIT holds up the connection at most: what comes meanwhile waits for the next one."""

_OFFSET: Final = re.compile(rb"^master_repl_offset:(\d+)", re.MULTILINE)
_REPLICA: Final = re.compile(rb"^slave\d+:.*\bstate=online\b.*\boffset=(\d+)", re.MULTILINE)


OnProgress = Callable[[int, list[int]], None]
"""Is told how far a server is in its replication stream, -1 if it does not say, and how far each replica is."""


class ReplicaWriter:
    """The third connection of a pair: opened when it is first needed, lost with the others.

    :param connect: connects and returns the run id of the server's process, which must be the pair's.
    :param lose: ends the pair.
    :param interval: the heartbeat's.
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
        self.connection = CommandConnection(lose, receive_context)
        # Below the node's own, so that the same access rule allows it; nobody subscribes to it.
        self._channel = channel + b":replicas"
        self._connect = connect
        self._lose = lose
        self._clock = clock
        self._interval = interval
        self._opening: Deferred[bytes] | None = None
        self._wrote = False

    async def open(self, process: bytes) -> None:
        """Connect, the first time that this is called; raise `LinkLost` if that cannot be done, and soon."""
        if self._opening is not None:
            return
        self._opening = Deferred.fromCoroutine(self._connect(self.connection))
        self._opening.addTimeout(2 * self._interval, self._clock)
        try:
            reached = await self._opening
        except Exception as error:  # noqa: BLE001 - whatever it is, the link is not whole
            reason = f"the connection for replicated calls could not be made: {error}"
        else:
            if reached == process:
                return
            reason = "the connection for replicated calls reached another server"
        self._lose(reason)
        # Also if the pair was lost while this was made: nobody has aborted it then.
        self.connection.abort()
        raise LinkLost

    def abort(self) -> None:
        """End the connection, or the attempt to make it."""
        if self._opening is not None:
            self._opening.cancel()
        self.connection.abort()

    async def count(self, wanted: int, due: float, on_progress: OnProgress | None, *, new: bool) -> int:
        """Return how many replicas have all that was applied before; if they are less than ``wanted``, some time later.

        :param due: by when something has to be known.
        :param on_progress: called first, with how far all were when this began.
        :param new: something was applied since the last time. Else this asks for the same again: replicas that are
            further away than one WAIT is long are not asked for ever more.
        :raises ServerError, LinkLost: nothing is known.
        """
        refused: list[BaseException] = []

        def note(failure: Failure) -> None:
            refused.append(failure.value or LinkLost())

        if new or not self._wrote:
            self._wrote = False
            self.connection.ask(b"PUBLISH", self._channel, b"").addErrback(note)
        if on_progress is not None:
            info = self.connection.ask(b"INFO", b"replication")
            info.addCallback(lambda info: on_progress(*_progress(info))).addErrback(note)
        # Twice at least by then; and within a beat, for one that is silent for so long is dead.
        milliseconds = max(1, int(500 * min(due - self._clock.seconds(), self._interval, _LONGEST)))
        count = await self.connection.ask(b"WAIT", b"%d" % wanted, b"%d" % milliseconds)
        if refused:
            # Then it says nothing of what was applied last.
            raise refused[0]
        self._wrote = True
        return int(count)


def _progress(info: bytes) -> tuple[int, list[int]]:
    """Read what INFO replication says of the stream."""
    offset = _OFFSET.search(info)
    return int(offset[1]) if offset else -1, list(map(int, _REPLICA.findall(info)))
