"""Subscribing to a sentinel, which announces that a service has another primary."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.link.backoff import backoff
from coord.link.keep_up import KeepUp
from coord.link.protocol import Connection, SubscriberConnection, connect_to
from coord.link.replies import LinkLost, NoServer

__all__ = ["TIMEOUT", "follow", "too_late"]

TIMEOUT = 1.0
"""Seconds to wait for an answer of a sentinel."""

_CHECK_INTERVAL = 5.0
"""Seconds between two checks that the connection to a sentinel is alive."""

_SWITCH = b"+switch-master"


def follow(
    endpoint: Any,
    log_in: Callable[[Connection], Coroutine[Any, Any, None]],
    switched: Callable[[bytes], None],
    clock: Any,
) -> KeepUp:
    """Call ``switched`` with each switch that one sentinel announces, until the result is stopped."""

    async def connect() -> SentinelSubscriber:
        subscriber = SentinelSubscriber(switched, clock)
        try:
            await connect_to(endpoint, subscriber)
            logging_in = Deferred.fromCoroutine(log_in(subscriber))
            await logging_in.addTimeout(TIMEOUT, clock, onTimeoutCancel=too_late)
            await subscriber.start_listening()
        except BaseException:
            await subscriber.close()
            raise
        return subscriber

    following = KeepUp(lambda: Deferred.fromCoroutine(connect()), backoff(), clock)
    following.start()
    return following


class SentinelSubscriber(SubscriberConnection):
    """A connection that is subscribed to the switches of a sentinel."""

    def __init__(self, switched: Callable[[bytes], None], clock: Any) -> None:
        super().__init__(lambda _: None)
        self._switched = switched
        self._clock = clock
        self._subscribed: Deferred[None] = Deferred()
        self._closed: Deferred[None] = Deferred()
        self._seen = 0
        self._timer: Any = None

    def start_listening(self) -> Deferred[None]:
        """Subscribe; return a Deferred that fires once that is confirmed."""
        self.set_listener(self)
        self.subscribe([_SWITCH])
        self._check_alive()
        return self._subscribed

    def _check_alive(self) -> None:
        """Send a PING, and close the connection if nothing came since the last one."""
        if self._timer is not None and self.received == self._seen:
            self.abort()
            return
        if self.transport is None:
            return
        self._seen = self.received
        self.ping()
        self._timer = self._clock.callLater(_CHECK_INTERVAL, self._check_alive)

    async def close(self) -> None:
        """Close the connection, if it was made; wait until it is closed."""
        if self.transport is not None:
            self.abort()
            await self._closed

    def wait_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is closed."""
        return self._closed

    def connectionLost(self, why: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().connectionLost(why)
        if not self._subscribed.called:
            self._subscribed.errback(LinkLost())
            self._subscribed.addErrback(lambda _: None)
        self._closed.callback(None)

    def message_received(self, channel: bytes, payload: bytes) -> None:  # noqa: ARG002
        """Pass on a switch."""
        self._switched(payload)

    def subscribed(self, channel: bytes) -> None:  # noqa: ARG002
        """Fire the Deferred of `start_listening`: no switch is missed from now on."""
        if not self._subscribed.called:
            self._subscribed.callback(None)

    def unsubscribed(self, channel: bytes) -> None:
        """Do nothing."""

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Do nothing."""

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:  # noqa: ARG002
        """Close the connection, to try again with a new one."""
        self.abort()


def too_late(result: Any, seconds: float) -> Any:
    """Raise `NoServer` instead of a cancellation; for ``addTimeout``."""
    if isinstance(result, Failure) and result.check(CancelledError):
        raise NoServer(f"nothing within {seconds:g} s")
    return result
