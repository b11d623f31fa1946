"""The connection that a stream is written to."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.web.http_headers import Headers
from zope.interface import implementer

from coord.web.follower import Follower

__all__ = ["Outlet"]

_NONE: Final = Headers()

_BUFFER: Final = 4_096
"""How many bytes may wait behind the kernel's buffer before the stream pauses; Twisted's 65,536 are too many for
thousands of clients that do not read."""


@implementer(IPushProducer)
class Outlet:
    """Writes a stream as the answer to a request of twisted.web, and tells it whether the client reads."""

    __slots__ = ("_follower", "_request", "_socket")

    def __init__(self, follower: Follower, request: Any) -> None:
        self._follower = follower
        self._request = request
        self._socket: Any = None
        request.registerProducer(self, True)

    @classmethod
    def begin(cls, follower: Follower, request: Any) -> None:
        """Write a stream from now on."""
        follower.begin(cls(follower, request))

    # What the stream calls.

    def write(self, data: bytes) -> None:
        """Send this."""
        request, socket = self._request, self._socket
        if socket is None:
            request.write(data)
            # The headers are not needed any more, and are a fifth of what an idle stream takes.
            request.requestHeaders = request.responseHeaders = _NONE
            self._socket = socket = request.channel.socket
            if socket is not None:
                socket.bufferSize = _BUFFER
            return
        if request.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        request.sentLength += len(data)
        request.channel.write(data)

    def finish(self) -> None:
        """End well."""
        self._request.unregisterProducer()
        self._request.finish()

    def abort(self) -> None:
        """Hang up."""
        self._request.channel.transport.abortConnection()

    # What the connection calls.

    def pauseProducing(self) -> None:
        """The client does not read what was written."""
        self._follower.pause()

    def resumeProducing(self) -> None:
        """It has read it."""
        self._follower.resume()

    def stopProducing(self) -> None:
        """The connection is lost; `Exchange.on_end` tells that, too."""
