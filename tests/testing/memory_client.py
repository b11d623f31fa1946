"""A client that speaks raw RESP to a server in memory, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import hiredis
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from coord.testing import Deliver, MemoryEndpoint
from memory import MemoryServer

__all__ = ["RawClient", "World"]


class RawClient(Protocol):
    """Keeps what it is answered, errors as `hiredis.ReplyError`, and the reason it was lost for."""

    transport: Any

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self.replies: list[Any] = []
        self.lost: type[BaseException] | None = None

    def send(self, *words: bytes | str | int) -> None:
        """Send one command."""
        self.transport.write(hiredis.pack_command(words))

    def dataReceived(self, data: bytes) -> None:
        """Keep the replies."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies.append(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason.type


class World:
    """A server, a network and a clock."""

    def __init__(self, deliver: Deliver | None = None) -> None:
        self.clock = Clock()
        self.server = MemoryServer(self.clock)
        options = () if deliver is None else (deliver,)
        # Any: without a plugin, a type checker does not see that it is an IStreamClientEndpoint.
        self.network: Any = MemoryEndpoint(self.server, self.clock, *options)

    def settle(self) -> None:
        """Deliver everything that is due, without letting time pass."""
        self.clock.advance(0)

    def attempt(self) -> list[Any]:
        """Connect; return where the client, or the Failure, will be."""
        outcome: list[Any] = []
        self.network.connect(Factory.forProtocol(RawClient)).addBoth(outcome.append)
        return outcome

    def client(self) -> RawClient:
        """Return a connected client."""
        outcome = self.attempt()
        self.settle()
        (client,) = outcome
        assert isinstance(client, RawClient), client
        return client

    def ask(self, client: RawClient, *words: bytes | str | int) -> Any:
        """Send one command and return its one reply."""
        client.replies.clear()
        client.send(*words)
        self.settle()
        (reply,) = client.replies
        return reply

    def assert_nothing_is_left(self) -> None:
        """Fail where a connection, a subscription or a timer is."""
        assert self.network.connections == ()
        assert self.server.connections == ()
        assert self.server.channels == {}
        assert self.server.fake.sockets == []
        assert self.clock.getDelayedCalls() == []
