"""A TLS front before a server that has none, and places to hide it behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, trustRootFromCertificates
from twisted.python.failure import Failure

from security.certificates import Pair

__all__ = ["HOST", "front"]

HOST = "127.0.0.1"


class _Half(Protocol):
    """One end of a proxied connection: passes on what it hears, once the other end is there."""

    transport: Any

    def __init__(self) -> None:
        self.other: _Half | None = None
        self.gone: Deferred[None] = Deferred()
        self._early: list[bytes] = []
        self._ended = False

    def join(self, other: _Half) -> None:
        """Take this one for the other end."""
        self.other = other
        for data in self._early:
            other.transport.write(data)
        if self._ended:
            other.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        if self.other is not None:
            self.other.transport.loseConnection()
        self.gone.callback(None)


class _Front(Factory):
    noisy = False

    def __init__(self, endpoint: Any) -> None:
        self.halves: list[_Half] = []
        self._endpoint = endpoint

    def buildProtocol(self, addr: Any) -> Any:
        near, far = _Half(), _Half()
        self.halves.append(near)
        inner = Factory.forProtocol(lambda: far)
        inner.noisy = False

        def joined(_: object) -> None:
            self.halves.append(far)
            far.join(near)
            near.join(far)

        self._endpoint.connect(inner).addCallback(joined)
        return near


@asynccontextmanager
async def front(endpoint: Any, own: Pair, client_authority: Path | None = None) -> AsyncIterator[int]:
    """Give the port of a TLS front before the server at ``endpoint``.

    :param client_authority: who has to vouch for the clients; by default they need no certificate.
    """
    private = PrivateCertificate.loadPEM(own.cert.read_bytes() + own.key.read_bytes())
    trust: Any = None
    if client_authority is not None:
        trust = trustRootFromCertificates([Certificate.loadPEM(client_authority.read_bytes())])
    options: Any = private.options()
    if trust is not None:
        options = CertificateOptions(private.privateKey.original, private.original, trustRoot=trust)
    factory = _Front(endpoint)
    port: Any = reactor.listenSSL(0, factory, options, interface=HOST)
    try:
        yield port.getHost().port
    finally:
        await maybeDeferred(port.stopListening)
        for half in factory.halves:
            half.transport.loseConnection()
            await half.gone
