"""How the link stands, as users see it, and who wants to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.errors import Closed, Error
from coord.link.link import CLOSED, CONNECTED, CONNECTING, LinkState

__all__ = ["LinkStatus", "hush", "resolve"]


class LinkStatus:
    """The link's state, and the reason for it in words: of the last failed attempt, where there is no link."""

    log = Logger()

    def __init__(self) -> None:
        self.state = CONNECTING
        self.reason = "not connected yet"
        self._ended = "the coordinator was closed"
        self._changes = 0
        self._callbacks: list[Callable[[LinkState, str], None]] = []
        self._waiting: list[Deferred[None]] = []

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback`` at every change; return what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def connected(self) -> Deferred[None]:
        """Return a Deferred for when the link is up, or access is denied, or all is over."""
        waiting: Deferred[None] = Deferred(self._forget)
        if self.state is CONNECTED:
            waiting.callback(None)
        elif self.state is CLOSED:
            waiting.errback(self.closed_error())
        else:
            self._waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def closed_error(self) -> Closed:
        """Return what everything ends with that is asked for after the end."""
        return Closed(self._ended)

    def forked(self, reason: str) -> None:
        """Be closed for this reason from now on; nobody is told before `enter`."""
        self.state, self.reason, self._ended = CLOSED, reason, reason

    def change(self, state: LinkState, reason: str) -> None:
        """Take note of a change, and tell those who want to hear of every one."""
        self.state, self.reason = state, reason
        self._changes += 1
        change = self._changes
        for callback in list(self._callbacks):
            if change != self._changes:
                # One of them caused another change, and all have heard of that.
                return
            if callback not in self._callbacks:
                continue
            try:
                callback(state, reason)
            except Exception:  # noqa: BLE001 - a user's callback must not hurt the link
                self.log.failure("a callback of on_link raised")

    def resolve_waiting(self, result: Error | None) -> None:
        """Tell those who wait for the link that it is up (``None``), or why it will not be."""
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            resolve(deferred, result)


def resolve(deferred: Deferred[Any], result: Any) -> None:
    """Resolve a Deferred that its holder may have cancelled; quietly, where it ends with `Closed`."""
    if not deferred.called:
        if isinstance(result, Exception):
            deferred.errback(result)
            hush(deferred)
        else:
            deferred.callback(result)


def hush(waiting: Deferred[Any]) -> None:
    """Have Twisted log nothing where this ended with `Closed` and nobody looked at it."""
    result = getattr(waiting, "result", None)
    if isinstance(result, Failure) and result.check(Closed) and waiting._debugInfo is not None:
        # Who added only callbacks does not care; who looks later still finds the failure. Twisted has no public
        # way to say so: this is what it looks at when an unhandled failure is collected.
        waiting._debugInfo.failResult = None
