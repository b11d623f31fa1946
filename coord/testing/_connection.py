"""The server's end of a connection: commands in, replies out, on any Twisted transport."""

from typing import Any, Protocol

import hiredis
from twisted.internet import protocol
from twisted.python.failure import Failure

from coord.testing._commands import Commands, Server
from coord.testing._fakeredis import on_clock
from coord.testing._shapes import Clock, Delayed

__all__ = ["Host", "ServerConnection"]


class Host(Server, Protocol):
    """What a connection needs from its server."""

    clock: Clock
    hung: bool

    def now(self) -> float: ...

    def opened(self, connection: Any, /) -> None: ...

    def closed(self, connection: Any, /) -> None: ...

    def received(self, connection: Any, data: bytes | None, /) -> None: ...


class ServerConnection(protocol.Protocol):
    """The server's end of a connection. Its input goes through the server, which may hang."""

    transport: Any  # ITransport, which Twisted gives it before connectionMade

    def __init__(self, server: Host) -> None:
        self.server = server
        self._commands = hiredis.Reader()
        self._outgoing: list[bytes] = []
        self._flush: Delayed | None = None
        self._ended = False

    # --- Twisted's side --------------------------------------------------------------------

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        with on_clock(self.server.now):
            self.commands = self.serve(f"{getattr(peer, 'host', 'memory')}:{getattr(peer, 'port', 0)}")
        self.server.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self.server.received(self, data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: ARG002
        self.server.received(self, None)

    # --- the server's side -----------------------------------------------------------------

    def serve(self, address: str) -> Commands:
        """Return the object that runs the commands of the client at this address."""
        return Commands(self.server, self, address)

    @property
    def kind(self) -> str:
        """`subscribers` once it has a subscription, else `commands`."""
        return "subscribers" if self.commands.subscribed else "commands"

    @property
    def stopped(self) -> bool:
        """Whether commands are not run, for now or for good."""
        return self._ended

    def feed(self, data: bytes | None) -> None:
        """Process input; None is the end."""
        if data is None:
            self.leave()
            return
        self._commands.feed(data)
        self.work()

    def leave(self) -> None:
        """Remove the client without notice: unsent replies are lost."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._outgoing.clear()
        self.commands.leave()
        self.server.closed(self)

    def drop(self) -> None:
        """Close the connection like a dying server; nothing more is read or sent."""
        self._ended = True
        self.leave()
        self.transport.loseConnection()

    def flush(self) -> None:
        """Send pending replies, unless the server hangs."""
        self._flush = None
        if self.server.hung:
            return
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if data:
            self.transport.write(data)

    def flush_later(self) -> None:
        """Send pending replies in a later turn."""
        # Never at once: fakeredis holds its lock here, and a reply must not overtake its command.
        if self._flush is None:
            self._flush = self.server.clock.callLater(0, self.flush)

    def work(self) -> None:
        """Run the received commands."""
        with on_clock(self.server.now):
            while not self.stopped and (command := self._commands.gets()) is not False:
                self.commands.run(command)

    # --- what the commands ask for (`Client`) ----------------------------------------------

    def send(self, reply: bytes) -> None:
        """Send it in a later turn of the reactor, together with replies that follow by then."""
        self._outgoing.append(reply)
        self.flush_later()
