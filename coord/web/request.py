"""One request of twisted.web: let in, decoded, handled, answered and logged."""

from __future__ import annotations

from io import BytesIO
from random import randint
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, Request

from coord.web.access import Entry, trace_of
from coord.web.addresses import Address
from coord.web.admission import Admitted, Head, admit, cors_of
from coord.web.decoding import body_of
from coord.web.exchange import Answer, Exchange, Stream
from coord.web.frames import EVENTS, LATER
from coord.web.gateway import Gateway
from coord.web.origins import PREFLIGHT
from coord.web.problems import CONTENT_TYPE, Problem, problem_of
from coord.web.replies import SAFE, head_of, new_id, now_as_date
from coord.web.routes import Route, Router

__all__ = ["WebRequest"]

_log = Logger()

MOST_BODY: Final = 1 << 20
"""Bytes of a body: a value of 64 KiB, each of whose bytes is escaped, has a third of that."""

_SWALLOWED: Final = 1 << 16
"""A refused body of up to so many bytes is read and dropped: so the connection stays good for the next request."""

_EVENTS: Final = "text/event-stream"


class Site(Protocol):
    """What makes the channels: see `coord.web.channel.Site`."""

    gateway: Gateway
    router: Router
    listener: Address


def _joined(cors: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    """Return the headers of an answer with those for a page; it may vary by more than the page's origin."""
    vary = {"Vary": f"{cors['Vary']}, {own['Vary']}"} if "Vary" in own else {}
    return {**cors, **own, **vary}


class WebRequest(Request):
    """A request, from the end of its headers to the last byte of the answer."""

    channel: Any
    # What most requests never set: it would take 3 us to set it in each.
    head: Head | None = None
    admitted: Admitted | None = None
    exchange: Exchange[Any, Any] | None = None
    refused = False
    _problem: BaseException | None = None
    _size = 0
    _handling: Deferred[Answer | Stream] | None = None
    _refusal: BaseException | None = None
    # Twisted's have no annotations.
    setHeader: Any  # noqa: N815
    write: Any
    finish: Any

    def __init__(self, channel: Any, queued: bool = False) -> None:  # noqa: FBT001 - Twisted's signature
        super().__init__(channel, queued)
        self.id = new_id()
        self.site: Site = channel.factory
        self._begun = self.site.gateway.clock.seconds()

    # Twisted calls these as the request arrives.

    def gotLength(self, length: int | None) -> None:
        """Begin."""
        self.begin(self._all_headers(), length)

    def begin(self, headers: dict[str, list[str]], length: int | None) -> None:
        """Let the request in, or refuse it before its body is read.

        :param headers: by their names in small letters.
        :param length: of the body; `None` if it comes in chunks.
        """
        if length != 0:
            self.content = BytesIO()
        channel = self.channel
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        try:
            self.head = Head(self.method.decode("ascii", "replace"), self.uri, headers, self._peer)
            if length is not None and length > MOST_BODY:
                raise Problem("too-large", f"a body has {MOST_BODY} bytes at most")
            self.admitted = admit(self.site.gateway, self.site.router, self.site.listener, self.head)
        except Exception as error:  # noqa: BLE001 - each is answered
            self._problem = error
            if length is None or length > _SWALLOWED:
                channel.refuse(problem_of(error), self)

    def _all_headers(self) -> dict[str, list[str]]:
        return {
            name.decode("latin-1").lower(): [value.decode("utf-8", "replace") for value in values]
            for name, values in self.requestHeaders.getAllRawHeaders()
        }

    @property
    def _peer(self) -> str:
        return getattr(self.client, "host", None) or ""

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._size += len(data)
        if self._size > MOST_BODY:
            self.channel.refuse(Problem("too-large", f"a body has {MOST_BODY} bytes at most"), self)
        elif self._problem is None and self.content is not None:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: ARG002 - known already
        """Handle the request: it is complete."""
        self.process()

    def process(self) -> None:
        """Answer it."""
        gateway = self.site.gateway
        try:
            if self._problem is not None:
                raise self._problem
            exchange = self._exchange()
        except Exception as error:  # noqa: BLE001 - each is answered
            self._refuse(error)
            return
        self.exchange = exchange
        gateway.begin(exchange)
        exchange.on_end(self._ended)
        assert self.route is not None
        self._handling = Deferred.fromCoroutine(self.route.handler(exchange))
        self._handling.addCallbacks(self._answer, self._failed)

    @property
    def route(self) -> Route[Any, Any] | None:
        """The route, if it is known."""
        return None if self.head is None or self.head.found is None else self.head.found.route

    def _exchange(self) -> Exchange[Any, Any]:
        """Return what the handler gets; raise a `Problem`."""
        admitted, head = self.admitted, self.head
        assert admitted is not None
        assert head is not None
        route, gateway = admitted.found.route, self.site.gateway
        # The settings may have changed since the headers came.
        principal = admitted.principal if route.open else gateway.again(admitted.principal)
        if not route.open:
            rate = gateway.limits.free if route.free else gateway.limits.rate
            rate.spend(principal.spender(admitted.client.address))
        if gateway.stopping and not route.open:
            raise Problem("stopping")
        coding = head.get("content-encoding")
        if coding is not None and coding.lower() != "identity":
            raise Problem("media-type", "send the body without a coding")
        raw = self.content.getvalue() if isinstance(self.content, BytesIO) else b""
        body = body_of(route, raw, head.get("content-type") or "")
        return Exchange(
            gateway,
            principal,
            admitted.found.arguments,
            admitted.query,
            body,
            method=head.method,
            head=head,
            client=admitted.client,
            host=admitted.host,
            long=route.long,
        )

    # The answer.

    def _answer(self, answer: Answer | Stream) -> None:
        self._handling = None
        if self._disconnected:
            return
        if cors := cors_of(self.site.gateway, self.origin):
            answer.headers = _joined(cors, answer.headers)
        if self.site.gateway.stopping:
            self.channel.persistent = False
        if isinstance(answer, Answer):
            self._write(answer)
        else:
            self._stream(answer)

    @property
    def is_call(self) -> bool:
        """Whether it may change something, if its route is known."""
        return self.route is not None and self.route.call

    @property
    def origin(self) -> str | None:
        """The origin of the page that makes it, if one does."""
        return None if self.head is None else self.head.get("origin")

    def _write(self, answer: Answer) -> None:
        """Write a whole answer, in one piece: by twisted.web's own way it takes twice the time."""
        if not self.channel.persistent:
            answer.headers["Connection"] = "close"
        self.code = answer.status
        self.startedWriting = 1
        bare = self.method == b"HEAD" or answer.status in NO_BODY_CODES
        head = head_of(answer, self.id)
        self.channel.write(head if bare else head + answer.body)
        self.sentLength = 0 if bare else len(answer.body)
        # What Twisted's ``finish`` does if all is written.
        self.finished = 1
        self._cleanup()

    def _stream(self, stream: Stream) -> None:
        for name, value in {**SAFE, "Date": now_as_date(), "Request-Id": self.id, **stream.headers}.items():
            self.setHeader(name.encode(), value.encode())
        self.setHeader(b"Content-Type", stream.content_type.encode())
        if not self.channel.persistent:
            self.setHeader(b"Connection", b"close")
        if self.method == b"HEAD":
            self.finish()
        else:
            stream.begin(self)

    def _failed(self, failure: Failure) -> None:
        self._handling = None
        error = failure.value
        if isinstance(error, CancelledError) and self._refusal is not None:
            error = problem_of(self._refusal)
            if self.is_call:
                # It may be under way.
                error = Problem(error.name, error.detail, headers=error.headers, applied="unknown")
        self._refuse(error)

    def _refuse(self, error: BaseException | None) -> None:
        if self._disconnected or error is None:
            return
        problem = problem_of(error)
        if problem.name == "internal":
            _log.failure("request {id}", Failure(error), id=self.id)
        body = problem.encoded(self.id, call=self.is_call)
        if problem.status in (429, 503) and self._wants_events:
            # Any other status would make an EventSource give up for good.
            again = EVENTS.retry(randint(*LATER))  # noqa: S311 - it only spreads clients over time
            self._answer(Answer(200, again + EVENTS.named("end", b"", body), EVENTS.content_type))
        elif problem.name == "method" and self.method == b"OPTIONS":
            self._answer(Answer(204, headers={**problem.headers, **PREFLIGHT}))
        else:
            self._answer(Answer(problem.status, body + b"\n", CONTENT_TYPE, dict(problem.headers)))

    @property
    def _wants_events(self) -> bool:
        """Whether it is for a stream of server-sent events: nobody else takes a refusal with status 200 for one."""
        if self.route is None or self.head is None or _EVENTS not in self.route.produces:
            return False
        return _EVENTS in (self.head.get("accept") or "")

    # Its end.

    def _ended(self, why: BaseException | None) -> None:
        """Stop handling it: the client has gone, its token has ended, or the gateway stops."""
        self._refusal = why
        if self._handling is not None:
            self._handling.cancel()

    def _cleanup(self) -> None:
        self._forget()
        self.note(self.code)
        super()._cleanup()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """Stop handling it: the client has hung up."""
        if self.head is not None and not self.refused:
            self.note(0)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._forget()

    def _forget(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.site.gateway.forget(exchange)
            exchange.end(None)

    def note(self, status: int) -> None:
        """Count the request, and log it."""
        gateway, route, admitted, head = self.site.gateway, self.route, self.admitted, self.head
        template = "-" if route is None else route.template
        method = "-" if head is None else head.method
        seconds = gateway.clock.seconds() - self._begun
        gateway.tally.answered(template, method, status)
        if route is not None and not route.long:
            gateway.tally.took(template, seconds)
        if gateway.log is None:
            return
        name = "-" if head is None or head.principal is None else head.principal.name
        # Where a request is let in, the name is a name.
        map_name = "-" if admitted is None else admitted.found.arguments.get("map", "-")
        trace = "" if head is None else trace_of(head.get("traceparent"), head.get("request-id"))
        known = method if method.isalpha() and len(method) < 10 else "-"
        entry = Entry(self.id, name, known, template, map_name, status, seconds, self.sentLength, trace)
        gateway.log(entry.line)
