"""Resolving waiters: with the wakes that the table of keys decides on, or with errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from coord.core.keys import KeyTable
from coord.core.names import MapNames
from coord.core.quoting import quoted
from coord.core.subscriptions import Wake
from coord.errors import CorruptRecord
from coord.link.replies import explain
from coord.session.arming import Arming

__all__ = ["Delivery", "Waiter"]


class Waiter(Protocol):
    """The interface of the client's waiters. ``called``: it is resolved, and must not be woken."""

    called: bool

    def wake(self, stored: Any, names: MapNames) -> None:
        """Resolve the waiter with the last wake of this record, or its condition with the record; never raises."""

    def give_up(self, error: Exception) -> None:
        """Resolve the waiter with an error; never raises."""


class Delivery:
    """Resolves the waiters of a node, in the order they came.

    :param retry_later: called with the message of a server that refused what armed waiters still need.
    """

    def __init__(self, table: KeyTable, arming: Arming, retry_later: Callable[[str], None]) -> None:
        self._table = table
        self._arming = arming
        self._retry_later = retry_later

    def deliver(self, wake: Wake) -> None:
        """Resolve the waiters of a wake."""
        map_state, stored = wake.entry.map, wake.stored
        names = map_state.names
        map_state.tally.wakes += len(wake.waiters)
        if len(wake.waiters) == 1:
            # The usual case: with one waiter, `armed` need not be held back, and the waiter was not cancelled, as that
            # would have removed it from the table.
            wake.waiters[0].wake(stored, names)  # type: ignore[attr-defined]
            if self._arming.waiting:
                self._arming.check()
            return
        with self._arming:
            for waiter in wake.waiters:
                # The callback of another waiter may have cancelled this one.
                if not waiter.called:  # type: ignore[attr-defined]
                    waiter.wake(stored, names)  # type: ignore[attr-defined]

    def fail(
        self, channel: bytes, ticket: int | None, error: Callable[[str], Exception], *, for_good: bool = True
    ) -> None:
        """Fail the waiters of a channel; ``error`` makes an error for the key. See `Registry.failed`."""
        subscription = self._table.subscriptions.get(channel)
        waiters = self._table.failed(channel, ticket, for_good=for_good)
        if waiters and subscription is not None:
            key = subscription.map.names.key_of(channel)
            subscription.map.tally.failed += len(waiters)
            self._give_up(waiters, lambda: error(key))

    def refuse(self, channel: bytes, ticket: int | None, message: str) -> None:
        """Fail the waiters of a channel; but armed ones stay, as what was allowed before may be allowed again."""
        corrupt = isinstance(explain(message, ""), CorruptRecord)
        self.fail(channel, ticket, lambda key: explain(message, quoted(key)), for_good=corrupt)
        subscription = self._table.subscriptions.get(channel)
        if subscription is not None and subscription.unarmed:
            self._retry_later(message)

    def give_up_all(self, error: Callable[[], Exception]) -> None:
        """Fail all waiters."""
        self._give_up(self._table.take_all_waiters(), error)

    def _give_up(self, waiters: list[object], error: Callable[[], Exception]) -> None:
        with self._arming:
            for waiter in waiters:
                waiter.give_up(error())  # type: ignore[attr-defined]
