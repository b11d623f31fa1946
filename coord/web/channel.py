"""Connections: the channel of each, and the site that makes it.

Twisted keeps a body of any size before it asks anybody, and renews its time-out with each byte. This channel refuses
when the headers end, and its deadlines run by the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from coord.link.writing import plain_socket, write_now
from coord.web.addresses import Address, client_of
from coord.web.admission import cors_of
from coord.web.exchange import Answer
from coord.web.gateway import Gateway
from coord.web.heads import Plain, plain
from coord.web.problems import CONTENT_TYPE, Problem
from coord.web.replies import head_of, new_id
from coord.web.request import WebRequest
from coord.web.routes import Router

__all__ = ["Channel", "Site"]

IDLE, HEADERS, BODY, BUSY, REFUSED = range(5)
"""What a connection waits for: a request, the rest of its headers or of its body, our answer, its end."""

_SECONDS: Final = (75.0, 10.0, 30.0, inf, 2.0)
"""Seconds for each of these. After a refusal, what still comes is dropped: a reset would overtake the answer."""


class Channel(HTTPChannel):
    """One connection.

    :param give_back: is called at its end.
    """

    requestFactory = WebRequest  # type: ignore[assignment]  # noqa: N815 - Twisted's
    # Deadlines are ours.
    timeOut = None  # noqa: N815
    factory: Site
    transport: Any
    _path: Any

    def __init__(self, site: Site, give_back: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.factory = site
        self._give_back = give_back
        self._clock = site.gateway.clock
        self._due = inf
        self._timer: Any = None
        self.phase = IDLE
        self._kept = b""
        self._ended: Deferred[None] | None = None

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._network: Any = self._networkProducer
        self.socket = plain_socket(self.transport)
        self._ends = self.transport.getPeer(), self.transport.getHost()
        self._wait_for(IDLE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End."""
        self._due = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.factory.channels.discard(self)
        self._give_back()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self._ended is not None:
            self._ended.callback(None)

    def getPeer(self) -> Any:
        """Return the client's address: Twisted wants both for each request, and asks the kernel."""
        return self._ends[0]

    def getHost(self) -> Any:
        """Return our address."""
        return self._ends[1]

    def write(self, data: bytes) -> None:
        """Write, at once if nothing waits to be written."""
        left = write_now(self.socket, data)
        if left:
            self.transport.write(left)

    # Deadlines.

    def _wait_for(self, phase: int) -> None:
        self.phase = phase
        seconds = _SECONDS[phase]
        if seconds == inf:
            self._due = inf
            return
        self._due = self._clock.seconds() + seconds
        # A later deadline is looked at when the timer ends: most requests are over by then, and touch no timer.
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self._due:
            self._timer.reset(seconds)

    def _look(self) -> None:
        self._timer = None
        left = self._due - self._clock.seconds()
        if left == inf:
            return
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        elif self.phase in (HEADERS, BODY):
            self.refuse(Problem("slow-request", f"within {_SECONDS[self.phase]:g} s"))
        else:
            self.transport.abortConnection()

    def ended(self) -> Deferred[None]:
        """Close the connection, if no answer is under way; else that closes it. Return a Deferred of its end."""
        if self._ended is None:
            self._ended = Deferred()
        if self.phase in (IDLE, HEADERS, BODY):
            self.loseConnection()  # type: ignore[no-untyped-call]
        return self._ended

    # What Twisted calls as bytes arrive.

    def dataReceived(self, data: bytes) -> None:
        """Parse bytes, unless the connection is refused."""
        if self.phase == REFUSED:
            return
        if self._kept:
            self._kept += data
            return
        begun = self.phase == IDLE
        if begun:
            # Unless these bytes go on with a line that has begun, or come after the end.
            head = None if self._buffer or self.transport.disconnecting else plain(data)
            if head is not None:
                self._take(head)
                return
            self.phase = HEADERS
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        # A request that came in one piece is answered, or being handled, by now.
        if begun and self.phase == HEADERS:
            self._wait_for(HEADERS)

    def _take(self, head: Plain) -> None:
        """Handle a request that has come as a whole, as Twisted would at the end of its lines."""
        self._command, self._path, self._version = head.method, head.uri, b"HTTP/1.1"
        request = WebRequest(self)
        self.requests.append(request)
        request.begin(head.headers, 0)
        self.allContentReceived()

    def lineReceived(self, line: bytes) -> None:
        """Parse a line."""
        if self.phase == REFUSED:
            return
        if self.phase == IDLE:
            self._wait_for(HEADERS)  # of a request that was sent before the last one was answered
        super().lineReceived(line)  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body."""
        if self.phase != REFUSED:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """Look at the request, before its body."""
        if self.phase == REFUSED:
            return
        if self.length != 0:
            self._wait_for(BODY)
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """Handle a request."""
        if self.phase == REFUSED:
            return
        self._wait_for(BUSY)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: WebRequest) -> None:
        """Go on with the next one."""
        if self.phase != REFUSED:
            self._wait_for(IDLE)
        if self._waitingForTransport:
            # Else who sends many requests at once, and reads nothing, would have all the answers kept in memory.
            self._network.pauseProducing()
            self._kept += b"".join(self._dataBuffer) + self.clearLineBuffer()  # type: ignore[no-untyped-call]
            self._dataBuffer = []
        super().requestDone(request)  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        """Go on, as the client has read: also with the requests that it had sent before."""
        super().resumeProducing()  # type: ignore[no-untyped-call]
        if self._kept and not self._handlingRequest:
            kept, self._kept = self._kept, b""
            self.dataReceived(kept)

    def _send100Continue(self) -> None:
        if self.phase != REFUSED:
            super()._send100Continue()  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, _line: bytes) -> None:
        """Refuse a line that is too long."""
        self.refuse(Problem("headers-too-large", "the first line and the headers are 16 KiB at most"))

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._receivedHeaderSize > self.totalHeadersSize:
            self.lineLengthExceeded(b"")
        else:
            self.refuse(Problem("invalid-request", "the first line, or a header, is not valid"))

    def refuse(self, problem: Problem, request: WebRequest | None = None) -> None:
        """Answer before the request is complete, and close the connection; nothing that comes is kept."""
        if self.phase == REFUSED:
            return
        if request is None and self.phase == BODY:
            # Who says that a body is late, or no valid chunk, does not know its request.
            request = self.requests[-1]
        self._wait_for(REFUSED)
        self.clearLineBuffer()  # type: ignore[no-untyped-call]
        name = request.id if request is not None else new_id()
        if request is None:
            self.factory.gateway.tally.answered("-", "other", problem.status)
        else:
            request.refused = True
            request.note(problem.status)
        body = problem.encoded(name, call=request is not None and request.is_call)
        cors = cors_of(self.factory.gateway, None if request is None else request.origin)
        headers = {**cors, **problem.headers, "Connection": "close"}
        answer = Answer(problem.status, body, CONTENT_TYPE, headers)
        # While a request comes, its method is here, if the first line has come.
        bare = getattr(self, "_command", b"") == b"HEAD"
        self.transport.write(head_of(answer, name) + (b"" if bare else body))
        # Half a close: an answer is read in peace, also by who is still sending.
        getattr(self.transport, "loseWriteConnection", self.transport.loseConnection)()


class Site(ServerFactory):
    """Makes a channel for each connection, and knows the routes.

    :param gateway: what all requests share.
    :param listener: where they come in.
    """

    noisy = False

    def __init__(self, gateway: Gateway, router: Router, listener: Address) -> None:
        self.channels: set[Channel] = set()
        self.gateway = gateway
        self.router = router
        self.listener = listener

    def buildProtocol(self, address: Any) -> Any:
        """Return a channel for a new connection; `None` if there are too many."""
        peer = getattr(address, "host", "")
        name = peer if client_of(peer, (), (), self.gateway.config).direct and peer else ""
        try:
            give_back = self.gateway.limits.connections.take(name)
        except Problem:
            return None
        channel = Channel(self, give_back)
        self.channels.add(channel)
        return channel

    def log(self, _request: WebRequest) -> None:
        """Do nothing: a request logs itself, also if its client hangs up."""
