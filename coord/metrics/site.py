"""Metrics over HTTP: a resource for a site of twisted.web, and a site of our own."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from coord.metrics.collector import registry

__all__ = ["listen", "resource"]

_TIME: Final = 10.0
"""Seconds for a request."""

_WORDS: Final = b"coord: see /metrics\n"


class _Metrics(Resource):
    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(self, shown: CollectorRegistry) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shown = shown

    def render_GET(self, request: Request) -> bytes:
        """Return all metrics, in the format that is asked for."""
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("content-type", content_type)
        return encode(self._shown)


class _Site(_Metrics):
    """All pages of a site of our own."""

    def render_GET(self, request: Request) -> bytes:
        """Return the metrics, or say where they are."""
        if request.path == b"/metrics":
            return super().render_GET(request)
        if request.path != b"/":
            request.setResponseCode(404)
        request.setHeader("content-type", "text/plain; charset=utf-8")
        return _WORDS


class _Request(Request):
    def gotLength(self, length: int | None) -> None:
        """Hang up on a body: nothing here takes one, and Twisted would keep it first."""
        if length != 0:
            self.channel.transport.abortConnection()  # type: ignore[union-attr]
        super().gotLength(0)  # type: ignore[no-untyped-call]


def resource(shown: CollectorRegistry | None = None) -> Resource:
    """Return a resource that shows a registry; by default one with the nodes of this process.

    :param shown: such as ``prometheus_client.REGISTRY``, with a `Collector` in it.
    """
    return _Metrics(registry() if shown is None else shown)


def listen(reactor: Any, host: str, port: int) -> Deferred[Any]:
    """Show the nodes of this process at ``http://HOST:PORT/metrics``, until the listening port is stopped.

    It returns a Deferred of that port; ``CannotListenError`` if it is taken. There is no password and no TLS: listen
    where only those can connect who may see the names of maps and servers.

    :param host: an IP address.
    """
    site = Site(_Site(registry()), requestFactory=_Request, timeout=_TIME)
    endpoint = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    listening: Deferred[Any] = endpoint(reactor, port, interface=host).listen(site)  # type: ignore[no-untyped-call]
    return listening
