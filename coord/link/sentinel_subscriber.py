"""Listening to a sentinel: the news that a service has another primary."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.link.backoff import backoff
from coord.link.protocol import Connection, SubscriberConnection, factory_of
from coord.link.replies import LinkLost, NoServer

__all__ = ["PATIENCE", "listen", "too_late"]

PATIENCE = 1.0
"""Seconds for which a sentinel is waited for."""

_BEAT = 5.0
"""Seconds between two looks whether a sentinel that is listened to is still there."""

_SWITCH = b"+switch-master"

_log = Logger()


async def listen(
    endpoint: Any, log_in: Callable[[Connection], Coroutine[Any, Any, None]], heard: Callable[[bytes], None], clock: Any
) -> None:
    """Call ``heard`` with what one sentinel tells of switches, for ever; cancelled, it ends when the connection has.

    No ``ClientService``: it cannot bear that a connection is lost while it is still being prepared.
    """
    pause = backoff()
    attempt = 0
    while True:
        ear = SentinelSubscriber(heard, clock)
        try:
            await endpoint.connect(factory_of(ear))
            logging_in = Deferred.fromCoroutine(log_in(ear))
            await logging_in.addTimeout(PATIENCE, clock, onTimeoutCancel=too_late)
            await ear.start_listening()
            attempt = 0
            await ear.wait_closed()
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it may be over at the next attempt
            _log.debug("a sentinel is not heard: {error}", error=error)
        finally:
            await ear.close()
        attempt += 1
        await deferLater(clock, pause(attempt))


class SentinelSubscriber(SubscriberConnection):
    """A connection that hears of switches."""

    def __init__(self, heard: Callable[[bytes], None], clock: Any) -> None:
        super().__init__(lambda _: None)
        self._switched = heard
        self._clock = clock
        self._subscribed: Deferred[None] = Deferred()
        self._ended = False
        self._ending: list[Deferred[None]] = []
        self._seen = 0
        self._timer: Any = None

    def start_listening(self) -> Deferred[None]:
        """Subscribe; called back when that is confirmed."""
        self.set_listener(self)
        self.subscribe([_SWITCH])
        self._check_alive()
        return self._subscribed

    def _check_alive(self) -> None:
        """Ask for a sign of life; an ear that nothing came to since the last time is deaf."""
        if self._timer is not None and self.received == self._seen:
            self.abort()
            return
        if self.transport is None:
            return
        self._seen = self.received
        self.ping()
        self._timer = self._clock.callLater(_BEAT, self._check_alive)

    async def close(self) -> None:
        """End it, if it ever began."""
        if self.transport is not None and not self._ended:
            self.abort()
            await self.wait_closed()

    def wait_closed(self) -> Deferred[None]:
        """Return a Deferred for its end."""
        gone: Deferred[None] = Deferred()
        self._ending.append(gone)
        if self._ended:
            gone.callback(None)
        return gone

    def connectionLost(self, why: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().connectionLost(why)
        if not self._subscribed.called:
            self._subscribed.errback(LinkLost())
            self._subscribed.addErrback(lambda _: None)
        self._ended = True
        for gone in self._ending:
            if not gone.called:
                gone.callback(None)

    def message_received(self, channel: bytes, payload: bytes) -> None:  # noqa: ARG002
        """Pass on the news."""
        self._switched(payload)

    def subscribed(self, channel: bytes) -> None:  # noqa: ARG002
        """Say that nothing will be missed from here on."""
        if not self._subscribed.called:
            self._subscribed.callback(None)

    def unsubscribed(self, channel: bytes) -> None:
        """Do nothing."""

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Do nothing."""

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:  # noqa: ARG002
        """Try again with a new connection."""
        self.abort()


def too_late(result: Any, seconds: float) -> Any:
    """Say that a sentinel has not answered; for ``addTimeout``."""
    if isinstance(result, Failure) and result.check(CancelledError):
        raise NoServer(f"nothing within {seconds:g} s")
    return result
