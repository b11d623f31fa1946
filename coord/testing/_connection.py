"""One client as the server sees it: commands in, replies out, on any Twisted transport."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hiredis
from fakeredis._helpers import SimpleError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from coord.testing._redis import RedisSocket, encode
from coord.testing._shapes import Delayed
from coord.testing._time import on_clock

if TYPE_CHECKING:
    from coord.testing._server import MemoryServer


class ServerConnection(Protocol):
    """The server's end of a connection. What it reads goes through the server, which may hang."""

    transport: Any  # ITransport, which Twisted gives it before connectionMade

    def __init__(self, server: "MemoryServer") -> None:
        self._server = server
        # Bytes as they are, and errors of the client's as a reply to it.
        self._commands = hiredis.Reader(protocolError=SimpleError)
        self._outgoing: list[bytes] = []
        # Bytes of replies that are not sent yet.
        self._owed = 0
        self._flush: Delayed | None = None
        self._ending = False
        self._blocked: _Blocked | None = None

    # --- Twisted's side --------------------------------------------------------------------

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        address = f"{getattr(peer, 'host', 'memory')}:{getattr(peer, 'port', 0)}"
        with on_clock(self._server.now):
            self.socket = RedisSocket(self._server, self, address)
        self._server.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._server.received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        self._server.received(self, None)

    # --- the server's side -----------------------------------------------------------------

    @property
    def kind(self) -> str:
        """`subscribers` once it has a subscription, else `commands`."""
        return "subscribers" if self.socket.subscribed else "commands"

    def feed(self, data: bytes | None) -> None:
        """Take what came; None for the end."""
        if data is None:
            self.leave()
            return
        self._commands.feed(data)
        self._work()

    def leave(self) -> None:
        """Forget the client, without a word to it: replies not yet sent are lost."""
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._outgoing.clear()
        self.socket.leave()
        self._server.closed(self)

    def drop(self) -> None:
        """Close the connection as a server that dies does; nothing more is read or sent."""
        self._ending = True
        self.leave()
        self.transport.loseConnection()

    def flush(self) -> None:
        """Send what there is to send, unless the server hangs."""
        self._flush = None
        if self._server.hung:
            return
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self._owed = 0
        if data:
            self.transport.write(data)
        if self._ending:
            self.transport.loseConnection()

    def _work(self) -> None:
        self._process()
        self._server.worked()

    def _process(self) -> None:
        with on_clock(self._server.now):
            while self._blocked is None and not self._ending:
                try:
                    command = self._commands.gets()
                except SimpleError as problem:
                    self.send(encode(SimpleError(f"ERR Protocol error: {problem.value}")))
                    self.end()
                    return
                if command is False:
                    return
                self.socket.process(command)

    # --- what the socket asks for (`Peer`) -------------------------------------------------

    def send(self, reply: bytes) -> None:
        """Send it in a later turn of the reactor, together with whatever follows by then.

        A client that is owed more than the server allows is closed, with nothing of what it is owed.
        """
        self._outgoing.append(reply)
        self._owed += len(reply)
        limit = self._server.reply_limit
        if limit is not None and self._owed > limit and self.kind == "commands":
            self._outgoing.clear()
            self._ending = True
        self.flush_later()

    def end(self) -> None:
        """Close once everything is sent; read nothing more."""
        self._ending = True
        self.flush_later()

    def flush_later(self) -> None:
        """Send what there is in a later turn."""
        # Never at once: fakeredis holds its lock here, and a reply must not overtake its command.
        if self._flush is None:
            self._flush = self._server.clock.callLater(0, self.flush)

    def hold(self, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None) -> None:
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
            self.unblocked(SimpleError(words))

    def unblocked(self, reply: Any) -> None:
        """Send the blocked command's reply and go on with what came after it."""
        self._blocked = None
        self.socket.unblock()
        self.send(encode(reply))
        self._work()


class _Blocked:
    """A command that waits, such as WAIT, BLPOP or XREAD BLOCK."""

    def __init__(
        self,
        connection: ServerConnection,
        retry: Callable[[], Any],
        expire: Callable[[], Any],
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._retry = retry
        self._expire = expire
        clock = connection._server.clock
        self._clock = clock
        self._deadline = None if timeout is None else clock.callLater(timeout, self._give_up)
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
        server = self._connection._server
        with server.fake.lock, on_clock(server.now):
            try:
                reply = outcome()
            except SimpleError as problem:
                reply = problem
        if reply is not None or outcome == self._expire:
            self.cancel()
            self._connection.unblocked(reply)
