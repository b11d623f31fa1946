"""One node's way to the server, which a test can shut, cut and stall while every other node's stays open."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

__all__ = ["Gate"]


@implementer(IStreamClientEndpoint)
class Gate:
    """An endpoint in front of another; ``made`` are the transports of the connections, the oldest first."""

    def __init__(self, inner: Any) -> None:
        self.made: list[Any] = []
        self.attempts = 0
        self._inner = inner
        self._shut = False
        self._stalled = False

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803 - Twisted's
        """Connect, unless shut."""
        self.attempts += 1
        if self._shut:
            return fail(Refused())
        connecting: Deferred[Any] = self._inner.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self.made.append(protocol.transport)
        if self._stalled:
            protocol.transport.pauseProducing()
        return protocol

    def lead(self, inner: Any) -> None:
        """Lead new connections to another endpoint; those that were made stay."""
        self._inner = inner

    def cut(self) -> None:
        """Break the connections; new ones can be made."""
        made, self.made = self.made, []
        for transport in made:
            transport.abortConnection()

    def shut(self) -> None:
        """Break the connections, and refuse new ones."""
        self._shut = True
        self.cut()

    def open(self) -> None:
        """Let new connections through."""
        self._shut = False
        self._stalled = False

    def stall(self) -> None:
        """Deliver nothing more to the node, on these connections and on new ones; what it sends arrives."""
        self._stalled = True
        for transport in self.made:
            transport.pauseProducing()

    def resume(self) -> None:
        """Deliver what was held up."""
        for transport in self.made:
            if not transport.disconnecting:
                transport.resumeProducing()
