"""Keeping a connection up: connect, wait until it is lost, pause, and connect again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Closable", "KeepUp"]


class Closable(Protocol):
    """A connection."""

    def abort(self) -> None:
        """Close it; do nothing if it is closed."""

    def wait_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when it is closed, by either side."""


class KeepUp:
    """Keeps one connection up, from `start` until `stop`.

    Not with Twisted's ``ClientService``: it keeps up one protocol on one endpoint. A link is several connections, and a
    connection to a sentinel is of use only once it is subscribed; if either is lost while it is prepared, that is a
    failed attempt (``prepareConnection`` in
    https://docs.twisted.org/en/stable/api/twisted.application.internet.ClientService.html covers no such loss).

    Every method may be called at any time, also by what an attempt or a connection calls.

    :param connect: makes one attempt. If cancelled, it ends as soon as it can.
    :param pause: returns the seconds to wait, given the number of failures since the last connection (its loss is the
        first).
    """

    _log = Logger()

    def __init__(self, connect: Callable[[], Deferred[Any]], pause: Callable[[int], float], clock: Any) -> None:
        self._connect = connect
        self._pause = pause
        self._clock = clock
        self._wanted = False
        # Whether to end what goes on, and to try again without a pause.
        self._hurry = False
        self._resting = False
        # Ends what the loop waits for now. It never cancels the loop itself, which may be running.
        self._interrupt: Callable[[], None] = lambda: None
        self._ended: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Make the first attempt."""
        self._wanted = True
        # Made first: the first attempt may call `stop`.
        self._ended = Deferred()
        Deferred.fromCoroutine(self._run()).chainDeferred(self._ended)

    def stop(self) -> Deferred[None]:
        """Close the connection, or give up the attempt, for good; return a Deferred that fires once that is done."""
        self._wanted = False
        stopped: Deferred[None] = Deferred()
        self._ended.addCallback(stopped.callback)
        self._interrupt()
        return stopped

    def retry_now(self) -> None:
        """Give up whatever there is, and connect again without a pause; do nothing after `stop`."""
        if self._wanted:
            self._hurry = True
            self._interrupt()

    def end_pause(self) -> None:
        """Connect again now, if this is a pause between two attempts."""
        if self._resting:
            self.retry_now()

    async def _run(self) -> None:
        failures = 0
        while self._wanted:
            self._hurry = False
            connection = await self._attempt()
            if connection is not None:
                failures = 0
                await self._wait(connection.wait_closed(), connection.abort)
            failures += 1
            if self._wanted and not self._hurry:
                resting: Deferred[None] = deferLater(self._clock, self._pause(failures))
                self._resting = True
                await self._wait(resting, resting.cancel)
                self._resting = False

    async def _attempt(self) -> Closable | None:
        attempt: Deferred[Closable] = maybeDeferred(self._connect)
        connection: Closable | None = await self._wait(attempt, attempt.cancel)
        return connection

    async def _wait(self, awaited: Deferred[Any], interrupt: Callable[[], None]) -> Any:
        """Return the result, or ``None`` if it fails; `stop` and `retry_now` call ``interrupt`` to end the wait."""
        self._interrupt = interrupt
        if self._hurry or not self._wanted:
            interrupt()
        # Not with ``except``: a user's function may raise what is no ``Exception``, and we try again after that, too.
        return await awaited.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._log.debug("not connected: {error}", error=failure.value)
