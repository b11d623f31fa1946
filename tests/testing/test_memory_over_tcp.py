"""The server in memory on a real socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory

from memory import MemoryServer
from testing.memory_client import RawClient


class Caller(RawClient):
    """Answers one command at a time."""

    answer: Deferred[Any] | None = None

    async def ask(self, *words: bytes | str | int) -> Any:
        """Send a command, return its reply."""
        self.answer = Deferred()
        self.send(*words)
        return await self.answer

    def dataReceived(self, data: bytes) -> None:
        """Hand on the first reply."""
        super().dataReceived(data)
        if self.replies and self.answer is not None:
            answer, self.answer = self.answer, None
            answer.callback(self.replies.pop(0))


async def test_it_listens_on_tcp() -> None:
    """The same factory serves real connections: commands, messages, a stop and a start."""
    from twisted.internet import reactor

    clock: Any = reactor
    server = MemoryServer(clock)
    factory: Any = server
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)

    async def connect() -> Any:
        clients: Any = Factory.forProtocol(Caller)
        return await endpoint.connect(clients)

    async def lost(client: Any) -> None:
        while client.lost is None:
            turn: Deferred[None] = Deferred()
            clock.callLater(0, turn.callback, None)
            await turn

    client, subscriber = await connect(), await connect()
    assert await subscriber.ask("SUBSCRIBE", "channel") == [b"subscribe", b"channel", 1]
    assert await client.ask("EVAL", "return redis.call('PUBLISH', 'channel', ARGV[1])", 0, b"\x00\r\n") == 1
    assert await client.ask("SET", "a", b"\xff") == b"OK"
    server.stop()
    await lost(client)
    await lost(subscriber)
    server.start()
    client = await connect()
    assert await client.ask("GET", "a") == b"\xff"
    client.transport.loseConnection()
    await lost(client)
    await port.stopListening()
