"""The table of keys: what the users of a node and its link do, passed to the subscription that is concerned.

Events go in as method calls. Requests to send come out of the ``take_`` methods of `Registry`. Waiters to wake are
returned, after the table has removed them: their callbacks may call the table again.

A key stays in the table as long as it has a waiter, or the live cache keeps its latched record. What an event means to
a channel, its subscription decides: `Entry` for a key, `Doorbell` for the watchers of a map.

A *waiter* is any object; the table only keeps it and returns it.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from coord.core.conditions import Condition
from coord.core.doorbell import Doorbell
from coord.core.entries import Entry
from coord.core.maps import MapState
from coord.core.records import Head, Revision, StoredRecord
from coord.core.subscriptions import ARMED, Registry, Subscription, Wake

__all__ = ["KeyTable"]


class KeyTable(Registry):
    """All keys of one node; see the module's docstring.

    :param cache_size: the most latched keys that the live cache holds.
    """

    def __init__(self, cache_size: int) -> None:
        super().__init__(cache_size)
        # A map is referred to by its channels here, its calls, its watches and the user's `EventMap`, and is forgotten
        # with the last of them.
        self.maps: WeakValueDictionary[str, MapState] = WeakValueDictionary()

    # Requests of the users.

    def wait(self, map_state: MapState, channel: bytes, waiter: object) -> StoredRecord | None:
        """Add ``waiter``, or return the latched record from the live cache (W1)."""
        entry = self.subscriptions.get(channel)
        if entry is None:
            # The usual case.
            entry = Entry(channel, map_state)
            self.add(entry)
            entry.add(waiter, self.order())
            return None
        assert isinstance(entry, Entry)
        # What is in the live cache answers; so does what was evicted from it, until it is unsubscribed.
        if entry.cached or entry.answers:
            self.keep(entry)
            return entry.stored
        if entry.phase is ARMED:
            entry.check_end(self)
        # A waiter that is added to an armed entry is armed: the entry has seen all changes up to `known_revision`.
        order = self.order()
        entry.add(waiter, -order if entry.phase is ARMED else order)
        return None

    def wait_until(self, map_state: MapState, channel: bytes, waiter: object, condition: Condition) -> Wake | None:
        """Add a waiter for something else than a wake; return its wake if the condition is known to be met."""
        return self._entry(map_state, channel).add_conditional(self, waiter, condition)

    def _entry(self, map_state: MapState, channel: bytes) -> Entry:
        entry = self.subscriptions.get(channel)
        if entry is None:
            entry = Entry(channel, map_state)
            self.add(entry)
        assert isinstance(entry, Entry)
        return entry

    def cancel(self, channel: bytes, waiter: object) -> None:
        """Forget ``waiter``, if it is still there."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.remove(waiter):
            subscription.map.tally.cancelled += 1
            self.release(subscription)

    def add_watcher(self, map_state: MapState) -> Doorbell:
        """Add one watcher to the doorbell of a map."""
        channel = map_state.names.doorbell
        bell = self.subscriptions.get(channel)
        if bell is None:
            bell = Doorbell(channel, map_state)
            self.add(bell)
        assert isinstance(bell, Doorbell)
        bell.watchers += 1
        return bell

    def remove_watcher(self, bell: Doorbell) -> None:
        """Remove one watcher."""
        bell.watchers -= 1
        self.release(bell)

    def take_all_waiters(self) -> list[object]:
        """Remove all waiters, and return them in the order of their keys."""
        waiters: list[object] = []
        for subscription in list(self.subscriptions.values()):
            taken = subscription.take_waiters()
            if taken:
                subscription.map.tally.failed += len(taken)
                waiters += taken
                self.release(subscription)
        return waiters

    def is_tracked(self, channel: bytes) -> bool:
        """Whether the key of ``channel`` has a waiter or is cached.

        For other keys only the revision of our own call matters, and only the last one of a batch: see `note_seen`.
        """
        return channel in self.subscriptions

    def is_armed(self, channel: bytes) -> bool:
        """Whether every message of ``channel`` from now on will arrive."""
        subscription = self.subscriptions.get(channel)
        return subscription is not None and subscription.phase is ARMED

    def unarmed(self, map_state: MapState) -> list[Subscription]:
        """Return the subscriptions of a map with a waiter that is not armed yet."""
        return [each for each in self.subscriptions.values() if each.map is map_state and each.unarmed]

    # Events of the link.

    def link_lost(self) -> None:
        """Forget what was true on the lost link only, and have every needed channel subscribed to again."""
        for map_state in self.maps.values():
            map_state.link_lost()
        super().link_lost()

    def message_received(self, channel: bytes, stored: StoredRecord | None) -> Wake | None:
        """Take a message: a new record, or ``None`` if it was none (then a key is read again)."""
        subscription = self.subscriptions.get(channel)
        return None if subscription is None else subscription.message_received(self, stored)

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Take the answer to a read: ``stored`` was the record (``None``: there was none) as of ``head``."""
        subscription = self.subscriptions.get(channel)
        believed = self._verify_tickets.pop(ticket, None) if self._verify_tickets else None
        if subscription is None:
            return None
        if believed is not None:
            return subscription.verified(self, believed, head, stored)
        return subscription.read_answered(self, ticket, head, stored)

    def verify(self) -> None:
        """Read again all keys whose latest news came in a message; and leave channels that should have been left.

        Anyone may publish, so a message is a hint: it wakes at once and is believed until the read, which tells what
        the server really has. A message with a forged future revision hides later changes for no longer than that.
        """
        self._overtaken.clear()
        for subscription in self.subscriptions.values():
            if subscription.unverified and subscription.phase is ARMED:
                self._to_read[subscription.channel] = subscription
        # A channel that was needed at the last `resume` may not be any more.
        self.leave_unwanted()

    def head_received(self, map_state: MapState, head: Head | None) -> bool:
        """Take a map's head, before the answers that came with it; return whether data was lost.

        If it was, what is known of the map's keys is void.
        """
        change = map_state.head_received(head)
        if change.lost or change.doubtful or change.appeared:
            for subscription in [each for each in self.subscriptions.values() if each.map is map_state]:
                subscription.head_received(self, change)
        return change.lost or change.behind

    # Outcomes of this node's own calls.

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of this node's own call: its own waiters are woken before the caller gets it (W7).

        :param stored: the record after the call; ``None`` if there is none.
        :param call_order: the call's number in the order; 0 if the call changed nothing.
        """
        subscription = self.subscriptions.get(channel)
        if stored is None:
            if subscription is not None:
                subscription.call_found_nothing(self)
            return None
        self.note_seen(map_state, stored.revision)
        return None if subscription is None else subscription.call_applied(self, stored, call_order)

    def call_repeated(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of our own call that the server had remembered; else as `call_applied`.

        The outcome may be old: the key may have changed since, and a value that was replaced is missing. It wakes only
        waiters from before the call; the others get the answer to the read.
        """
        subscription = self.subscriptions.get(channel)
        if stored is None or subscription is None:
            return self.call_applied(map_state, channel, stored, call_order)
        self.note_seen(map_state, stored.revision)
        # Without its value it only ends waits for the end: later changes reach an armed key as messages, and any other
        # key is read.
        return subscription.call_repeated(self, stored, call_order)

    def note_seen(self, map_state: MapState, revision: Revision) -> None:
        """Note the revision of the outcome of our own call."""
        map_state.note_seen(revision)
        self.note_record(map_state, revision)
