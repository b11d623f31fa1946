"""The server's end of a connection, with commands that wait, replies that are too large, and no mercy for nonsense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import hiredis
from fakeredis._helpers import SimpleError

from coord.testing._commands import encode
from coord.testing._connection import Host, ServerConnection
from coord.testing._fakeredis import on_clock
from coord.testing._shapes import Delayed
from memory.commands import MemoryCommands, Server

__all__ = ["Connection"]


class _Host(Host, Server, Protocol):
    """What a connection asks of its server."""

    reply_limit: int | None

    def worked(self) -> None: ...


class Connection(ServerConnection):
    """The server's end of a connection."""

    server: _Host
    commands: MemoryCommands

    def __init__(self, server: _Host) -> None:
        super().__init__(server)
        self._blocked: _Blocked | None = None
        # Bytes of replies that are not sent yet.
        self._owed = 0

    def serve(self, address: str) -> MemoryCommands:
        return MemoryCommands(self.server, self, address)

    @property
    def stopped(self) -> bool:
        return super().stopped or self._blocked is not None

    def work(self) -> None:
        try:
            super().work()
        except hiredis.ProtocolError as problem:
            self.send(encode(SimpleError(f"ERR Protocol error: {problem}")))
            self.end()
        self.server.worked()

    def flush(self) -> None:
        super().flush()
        if not self.server.hung:
            self._owed = 0
            if self._ended:
                self.transport.loseConnection()

    def send(self, reply: bytes) -> None:
        """Send it later; a client that is owed more than the server allows is closed, and gets nothing."""
        super().send(reply)
        self._owed += len(reply)
        limit = self.server.reply_limit
        if limit is not None and self._owed > limit and self.kind == "commands":
            self._outgoing.clear()
            self._ended = True

    def end(self) -> None:
        """Close once everything is sent; read nothing more."""
        self._ended = True
        self.flush_later()

    def block(self, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None) -> None:
        """Stop at this command until it has its reply, or its time-out (seconds)."""
        self._blocked = _Blocked(self, retry, expire, timeout)

    def wake(self) -> None:
        """Try the blocked command again in a later turn."""
        if self._blocked is not None:
            self._blocked.wake()

    def unblock(self, words: str) -> None:
        """Answer a blocked command with an error, as where the server becomes a replica."""
        if self._blocked is not None:
            self._blocked.cancel()
            self.release(SimpleError(words))

    def release(self, reply: Any) -> None:
        """Send the blocked command's reply and go on with what came after it."""
        self._blocked = None
        self.commands.unblock()
        self.send(encode(reply))
        self.work()

    def leave(self) -> None:
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None
        super().leave()


class _Blocked:
    """A command that waits, such as WAIT, BLPOP or XREAD BLOCK."""

    def __init__(
        self, connection: Connection, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None
    ) -> None:
        self._connection = connection
        self._retry = retry
        self._expire = expire
        self._clock = connection.server.clock
        self._deadline: Delayed | None = None if timeout is None else self._clock.callLater(timeout, self._give_up)
        self._attempt: Delayed | None = None

    def wake(self) -> None:
        if self._attempt is None:
            self._attempt = self._clock.callLater(0, self._try)

    def cancel(self) -> None:
        for call in (self._deadline, self._attempt):
            if call is not None and call.active():
                call.cancel()

    def _try(self) -> None:
        self._attempt = None
        self._settle(self._retry)

    def _give_up(self) -> None:
        self._settle(self._expire)

    def _settle(self, outcome: Callable[[], Any]) -> None:
        server = self._connection.server
        with server.fake.lock, on_clock(server.now):
            try:
                reply = outcome()
            except SimpleError as problem:
                reply = problem
        if reply is not None or outcome == self._expire:
            self.cancel()
            self._connection.release(reply)
