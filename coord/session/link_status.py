"""The state of the link as users see it, and its observers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from coord.errors import Closed, Error
from coord.link.link import CLOSED, CONNECTED, CONNECTING, LinkState
from coord.link.one_shot import Waiters
from coord.session.answers import Answer

__all__ = ["LinkStatus"]


class LinkStatus:
    """The link's state and the reason for it; without a link, the reason of the last failed attempt."""

    log = Logger()

    def __init__(self) -> None:
        self.state = CONNECTING
        self.reason = "not connected yet"
        self._ended = "the coordinator was closed"
        self._changes = 0
        self._callbacks: list[Callable[[LinkState, str], None]] = []
        self._on_failed: Callable[[], None] = lambda: None
        self._waiting: Waiters[None] = Waiters(partial(Answer, "connected"))

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback`` at every change; return a function that ends this."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def on_failed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at every attempt to connect that failed."""
        self._on_failed = callback

    def failed(self, reason: str) -> None:
        """An attempt to connect failed."""
        self.reason = reason
        self._on_failed()

    def connected(self) -> Deferred[None]:
        """Return a Deferred that fires once the link is up; it errbacks if access is denied, or at close."""
        if self.state is CONNECTED:
            return succeed(None)
        if self.state is CLOSED:
            return fail(self.closed_error())
        return self._waiting.wait()

    @property
    def waiting(self) -> int:
        """How many requests wait for the link."""
        return len(self._waiting)

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
        self._waiting.fire(result)
