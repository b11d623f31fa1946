"""The state of the link as users see it, and its observers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.errors import Closed, Error
from coord.link.link import CLOSED, CONNECTED, CONNECTING, LinkState
from coord.session.answers import Answer

__all__ = ["LinkStatus", "hush", "resolve"]


class LinkStatus:
    """The link's state and the reason for it; without a link, the reason of the last failed attempt."""

    log = Logger()

    def __init__(self) -> None:
        self.state = CONNECTING
        self.reason = "not connected yet"
        self._ended = "the coordinator was closed"
        self._changes = 0
        self._callbacks: list[Callable[[LinkState, str], None]] = []
        self._waiting: list[Deferred[None]] = []

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback`` at every change; return a function that ends this."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def connected(self) -> Deferred[None]:
        """Return a Deferred that fires once the link is up; it errbacks if access is denied, or at close."""
        waiting: Deferred[None] = Answer("connected", self._forget)
        if self.state is CONNECTED:
            waiting.callback(None)
        elif self.state is CLOSED:
            waiting.errback(self.closed_error())
        else:
            self._waiting.append(waiting)
        return waiting

    @property
    def waiting(self) -> int:
        """How many requests wait for the link."""
        return len(self._waiting)

    def _forget(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def closed_error(self) -> Closed:
        """Return the error for every request after the end."""
        return Closed(self._ended)

    def forked(self, reason: str) -> None:
        """Be closed for this reason from now on; `change` calls the callbacks later."""
        self.state, self.reason, self._ended = CLOSED, reason, reason

    def change(self, state: LinkState, reason: str) -> None:
        """Change the state, and call the callbacks of `on_link`."""
        self.state, self.reason = state, reason
        self._changes += 1
        change = self._changes
        for callback in list(self._callbacks):
            if change != self._changes:
                # A callback caused another change, and all were called for that one.
                return
            if callback not in self._callbacks:
                continue
            try:
                callback(state, reason)
            except Exception:  # noqa: BLE001 - a user's callback must not break the link
                self.log.failure("a callback of on_link raised")

    def resolve_waiting(self, result: Error | None) -> None:
        """Resolve all Deferreds of `connected`: with ``None`` if the link is up, else with an error."""
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            resolve(deferred, result)


def resolve(deferred: Deferred[Any], result: Any) -> None:
    """Resolve a Deferred that may have been cancelled; log nothing if it ends with `Closed`."""
    if not deferred.called:
        if isinstance(result, Exception):
            deferred.errback(result)
            hush(deferred)
        else:
            deferred.callback(result)


def hush(waiting: Deferred[Any]) -> None:
    """Keep Twisted from logging an unhandled `Closed` of this Deferred."""
    result = getattr(waiting, "result", None)
    if isinstance(result, Failure) and result.check(Closed) and waiting._debugInfo is not None:
        # A holder without an errback does not care, and one that looks later still finds the failure. Twisted has no
        # public way to do this: it looks at this attribute when an unhandled failure is collected.
        waiting._debugInfo.failResult = None
