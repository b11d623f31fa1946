"""Something that listens where a Redis server should, and is none."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from coord.testing import MemoryEndpoint

__all__ = ["Peer"]


class _Says(Protocol):
    transport: Any

    def __init__(self, word: bytes | None) -> None:
        self._word = word

    def connectionMade(self) -> None:
        if self._word == b"":
            self.transport.loseConnection()

    def dataReceived(self, _: bytes) -> None:
        if self._word:
            self.transport.write(self._word)


@implementer(IStreamClientEndpoint)
class Peer:
    """Answers everything with one word; ``None``: with nothing; an empty one: hangs up."""

    def __init__(self, word: bytes | None) -> None:
        factory = Factory.forProtocol(lambda: _Says(word))
        factory.noisy = False
        self._endpoint: Any = MemoryEndpoint(factory, reactor)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803 - Twisted's
        """Connect to it."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting
