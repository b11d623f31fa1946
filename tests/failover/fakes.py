"""Sentinels that say what a test wants, and primaries in memory for them to name; all on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from failover.processes import HOST
from memory import MemoryServer

__all__ = ["FakeSentinel", "Primary", "loopback"]

_listen: Any = reactor.listenTCP


def _pack(reply: object) -> bytes:
    if reply is None:
        return b"*-1\r\n"
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, str):
        return b"+%s\r\n" % reply.encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    assert isinstance(reply, list)
    return b"*%d\r\n" % len(reply) + b"".join(map(_pack, reply))


class _Caller(Protocol):
    """One connection to a fake sentinel."""

    factory: FakeSentinel
    transport: Any

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self.listens = False
        self._known = False

    def connectionMade(self) -> None:
        self.factory.callers.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.callers.remove(self)
        self.factory.ended()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (words := self._reader.gets()) is not False:
            if not self.factory.silent:
                self.transport.write(_pack(self._answer([word.decode() for word in words])))

    def _answer(self, words: list[str]) -> object:
        sentinel = self.factory
        if words[0] == "AUTH":
            self._known = words[1:] == [sentinel.password]
            return "OK" if self._known else RuntimeError("WRONGPASS invalid username-password pair")
        if sentinel.password is not None and not self._known:
            return RuntimeError("NOAUTH Authentication required.")
        if words[0] == "SUBSCRIBE":
            self.listens = True
            return [b"subscribe", words[1].encode(), 1]
        if words[0] == "PING":
            return [b"pong", b""] if self.listens else "PONG"
        return sentinel.answer(words)


class FakeSentinel(Factory):
    """Names ``primary`` (a port) beside ``epoch``; ``ending`` is the port that MASTER names while a failover ends."""

    noisy = False
    protocol: Any = _Caller

    def __init__(self, primary: int, epoch: int = 1, service: str = "main") -> None:
        self.primary = primary
        self.ending: int | None = None
        self.epoch = epoch
        self.service = service
        self.password: str | None = None
        self.silent = False
        self.garbage: object = None
        self.callers: list[_Caller] = []
        self.port = 0
        self._waiting: list[Deferred[None]] = []

    def answer(self, words: list[str]) -> object:
        """Return the reply to a SENTINEL command."""
        if self.garbage is not None:
            return self.garbage
        if words[1] == "MASTER" and words[2] != self.service:
            return RuntimeError("ERR No such master with that name")
        if words[1] == "MASTER":
            port = self.ending or self.primary
            fields = {"name": self.service, "ip": HOST, "port": port, "config-epoch": self.epoch}
            return [str(word).encode() for pair in fields.items() for word in pair]
        return [HOST.encode(), str(self.primary).encode()] if words[2] == self.service else None

    @property
    def subscribers(self) -> int:
        """How many listen to it."""
        return sum(caller.listens for caller in self.callers)

    def switch(self, port: int, *, told: bool = True) -> None:
        """Name another primary from now on, and tell those who listen."""
        old, self.primary = self.primary, port
        self.epoch += 1
        if told:
            self.tell(f"{self.service} {HOST} {old} {HOST} {port}")

    def tell(self, payload: str) -> None:
        """Tell those who listen that there was a switch."""
        for caller in self.callers:
            if caller.listens:
                caller.transport.write(_pack([b"message", b"+switch-master", payload.encode()]))

    def drop(self) -> None:
        """Close every connection."""
        for caller in self.callers:
            caller.transport.loseConnection()

    def ended(self) -> None:
        """Note the end of a connection."""
        if not self.callers:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    async def alone(self) -> None:
        """Return once it has no connection."""
        if self.callers:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting


class Primary:
    """A server in memory, on a port."""

    def __init__(self) -> None:
        self.memory = MemoryServer(reactor)
        self.port = 0


@asynccontextmanager
async def loopback(sentinels: int = 3, primaries: int = 2) -> AsyncIterator[tuple[list[FakeSentinel], list[Primary]]]:
    """Give sentinels that name the first of these primaries; none of them listens any more afterwards."""
    ports: list[Any] = []
    servers = [Primary() for _ in range(primaries)]
    for server in servers:
        ports.append(_listen(0, server.memory, interface=HOST))
        server.port = ports[-1].getHost().port
    fakes = [FakeSentinel(servers[0].port) for _ in range(sentinels)]
    for fake in fakes:
        ports.append(_listen(0, fake, interface=HOST))
        fake.port = ports[-1].getHost().port
    try:
        yield fakes, servers
    finally:
        for port in ports:
            await maybeDeferred(port.stopListening)
        for server in servers:
            server.memory.drop_connections()
        for fake in fakes:
            fake.drop()
            await fake.alone()
