"""The subscriptions of a node, and the requests that they need.

The phases of a subscription::

    UNSUBSCRIBED   the link is down, or the request is not sent yet
    SUBSCRIBING    SUBSCRIBE is sent
    READING        the subscription is confirmed; the key has to be read
    ARMED          a read or a message came after the confirmation: every later change will arrive as a message
    UNSUBSCRIBING  UNSUBSCRIBE is sent

A subscription that has nothing to read is armed by the confirmation.

Requests to send come out of the ``take_`` methods, as late as possible, so that a wait that is cancelled in the same
turn sends nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

from msgspec import Struct

from coord.core.maps import HeadChange, MapState
from coord.core.records import NEVER, Revision, StoredRecord

__all__ = [
    "ARMED",
    "READING",
    "SUBSCRIBING",
    "UNSUBSCRIBED",
    "UNSUBSCRIBING",
    "Phase",
    "Registry",
    "Subscription",
    "Wake",
]


class Phase(IntEnum):
    """How far a subscription has come; see the module's docstring."""

    UNSUBSCRIBED = 0
    SUBSCRIBING = 1
    READING = 2
    ARMED = 3
    UNSUBSCRIBING = 4


UNSUBSCRIBED, SUBSCRIBING, READING, ARMED, UNSUBSCRIBING = Phase


class Subscription:
    """One channel of a map, how far its subscription has come, and what its kind makes of an event.

    At most one request for a channel is unanswered at any time, so each confirmation belongs to that request. This
    closes a race: after wait, cancel and wait, the first confirmation would be taken for the second.

    ``ticket`` names the only read whose answer counts; 0 for none. ``known_revision`` is the newest revision known on
    this link, and ``unverified`` says that it came in a message and no read has confirmed it yet. ``cached`` says that
    the live cache keeps the subscription. ``count`` is the number of waiters, and ``unarmed`` says whether one of them
    is not armed yet.
    """

    __slots__ = ("cached", "channel", "known_revision", "map", "phase", "ticket", "unverified")

    def __init__(self, channel: bytes, map_state: MapState) -> None:
        self.channel = channel
        self.map = map_state
        self.phase = UNSUBSCRIBED
        self.ticket = 0
        self.known_revision = NEVER
        self.unverified = False
        self.cached = False

    @property
    def needed(self) -> bool:
        """Whether this channel still has a use."""
        raise NotImplementedError

    # Waiters, which not every kind has.

    @property
    def count(self) -> int:
        """The number of waiters."""
        return 0

    @property
    def unarmed(self) -> bool:
        """Whether a waiter here is not armed yet."""
        return False

    def remove(self, waiter: object) -> bool:
        """Remove a waiter; return whether it was there."""
        return False

    def take_waiters(self) -> list[object]:
        """Remove all waiters, and return them in the order they came."""
        return []

    # Events. Each gets the registry, to ask it for what this subscription needs next.

    def subscribed(self, registry: Registry) -> bool:
        """Take the confirmation; return whether the watchers have to read, as they may have missed a message."""
        raise NotImplementedError

    def failed(self, registry: Registry, ticket: int | None, *, for_good: bool) -> list[object]:
        """Take the refusal of the SUBSCRIBE, or of the read with this ticket; return the waiters that fail."""
        raise NotImplementedError

    def forget(self, registry: Registry) -> None:
        """Forget what is known on this link."""

    def link_lost(self) -> None:
        """Take the loss of the link, after `forget`."""

    def message_received(self, registry: Registry, stored: StoredRecord | None) -> Wake | None:
        """Take a message: a new record, or ``None`` if it was none."""
        return None

    def read_answered(
        self, registry: Registry, ticket: int, head: Revision, stored: StoredRecord | None
    ) -> Wake | None:
        """Take the answer to a read: ``stored`` was the record (``None``: there was none) as of ``head``."""
        return None

    def verified(
        self, registry: Registry, believed: Revision, head: Revision, stored: StoredRecord | None
    ) -> Wake | None:
        """Take the answer to a read of an armed key, whose known revision was ``believed`` when it was sent."""
        return None

    def head_received(self, registry: Registry, change: HeadChange) -> None:
        """Take a head of the map that says that something is not as it was known."""

    # Outcomes of this node's own calls.

    def call_applied(self, registry: Registry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Take the record after a call; ``call_order`` is the call's number in the order, 0 if it changed nothing."""
        return None

    def call_repeated(self, registry: Registry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Take the record after a call whose outcome the server had remembered: it may be old."""
        return None

    def call_found_nothing(self, registry: Registry) -> None:
        """Take it that there was no record after a call, or that it is newer than the call."""


class Wake(Struct, eq=False):
    """Waiters to resolve, in this order, with this record's last wake; those for a condition, with the record.

    ``stored`` may be ``None`` if all of them wait for a condition.
    """

    entry: Subscription
    waiters: list[object]
    stored: StoredRecord | None


class Registry:
    """All subscriptions of one node, by their channel; see the module's docstring.

    :param cache_size: the most subscriptions that the live cache keeps.
    """

    def __init__(self, cache_size: int) -> None:
        self.cache_size = cache_size
        self.subscriptions: dict[bytes, Subscription] = {}
        self.cache: OrderedDict[bytes, Subscription] = OrderedDict()
        self.last_order = 0
        # Whether a waiter was woken since evicted keys were last looked at.
        self.waking = False
        # Evicted from the live cache.
        self._evicted: dict[bytes, Subscription] = {}
        # First come, first served. (To find its first key, a dict would step over all deleted ones.)
        self._to_subscribe: OrderedDict[bytes, Subscription] = OrderedDict()
        self._to_unsubscribe: dict[bytes, Subscription] = {}
        self._to_read: dict[bytes, Subscription] = {}
        # Requests that the server had no time for, until `resume`, with the phase that they were in.
        self._postponed: dict[bytes, tuple[Subscription, Phase]] = {}
        # Channels of keys of which a read was older than what was known, since the last heartbeat.
        self._overtaken: set[bytes] = set()
        # Whether a read was postponed because it was so again: `resume` has to be called.
        self.behind = False
        # Channels whose UNSUBSCRIBE was refused, until `leave_unwanted`.
        self._unwanted: dict[bytes, Subscription] = {}
        self._to_check: dict[str, MapState] = {}
        # The known revision of each armed key that is being verified, by the ticket of the read.
        self._verify_tickets: dict[int | None, Revision] = {}

    def order(self) -> int:
        """Return the next number in the order of this node's waits, calls and reads."""
        self.last_order += 1
        return self.last_order

    # What a subscription asks for.

    def add(self, subscription: Subscription) -> None:
        """Add a subscription."""
        channel = subscription.channel
        self.subscriptions[channel] = self._to_subscribe[channel] = subscription
        subscription.map.channels += 1

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription that is not needed."""
        if self.subscriptions.pop(subscription.channel, None) is not None:
            subscription.map.channels -= 1

    def release(self, subscription: Subscription) -> None:
        """Unsubscribe from a channel that is not needed, unless it is needed again before this is sent."""
        if subscription.needed:
            return
        if subscription.phase is UNSUBSCRIBED:
            self._to_subscribe.pop(subscription.channel, None)
            self.drop(subscription)
        elif subscription.phase in (READING, ARMED):
            self._to_unsubscribe[subscription.channel] = subscription

    def set_unsubscribed(self, subscription: Subscription) -> None:
        """Take it that the server sends no messages of the channel; subscribe again if it is needed."""
        subscription.forget(self)
        subscription.phase = UNSUBSCRIBED
        if subscription.needed:
            self._to_subscribe[subscription.channel] = subscription
        else:
            self.drop(subscription)

    def resubscribe(self, subscription: Subscription) -> None:
        """Unsubscribe, and subscribe again: once confirmed, all messages from before the loss have passed."""
        subscription.forget(self)
        if subscription.phase in (READING, ARMED):
            subscription.phase = UNSUBSCRIBING
            self._to_unsubscribe[subscription.channel] = subscription

    def read(self, subscription: Subscription) -> None:
        """Read a key; the answer to an earlier read no longer counts."""
        subscription.ticket = 0
        self._to_read[subscription.channel] = subscription

    def read_again(self, subscription: Subscription) -> None:
        """Read a key again whose read was older than what is known; after `resume`, if that one was read again, too.

        A call on another connection may overtake one read. If it is so again, the server has lost data and the link
        does not know it yet, so that each read would be answered like that.
        """
        channel = subscription.channel
        if channel in self._overtaken:
            self.postpone(channel, subscription.ticket)
            self.behind = True
        else:
            self._overtaken.add(channel)
            self.read(subscription)

    def note_record(self, map_state: MapState, revision: Revision) -> None:
        """Note the revision of a record of a map, from a message or an outcome; it may tell that the head is old."""
        # An index is read in a third of the time that an attribute takes.
        if revision[0] != map_state.agreed_generation and map_state.note_generation(revision.generation):
            self._to_check[map_state.names.name] = map_state
        if revision > map_state.record_revision:
            map_state.record_revision = revision

    def keep(self, subscription: Subscription) -> None:
        """Put it into the live cache as the latest one, and evict the oldest if the cache is full."""
        if subscription.cached:
            self.cache.move_to_end(subscription.channel)
            return
        self.cache[subscription.channel] = subscription
        subscription.cached = True
        if len(self.cache) > self.cache_size:
            _, oldest = self.cache.popitem(last=False)
            oldest.cached = False
            self._evicted[oldest.channel] = oldest

    def uncache(self, subscription: Subscription) -> None:
        """Remove it from the live cache."""
        if subscription.cached:
            subscription.cached = False
            del self.cache[subscription.channel]

    # Requests to send.

    @property
    def busy(self) -> bool:
        """Whether there is something to send."""
        return bool(self._to_subscribe or self._to_unsubscribe or self._evicted or self._to_read or self._to_check)

    def take_subscribes(self, most: int) -> list[bytes]:
        """Return channels to SUBSCRIBE to now, at most ``most``."""
        taken: list[bytes] = []
        while self._to_subscribe and len(taken) < most:
            channel, subscription = self._to_subscribe.popitem(last=False)
            if subscription.needed:
                subscription.phase = SUBSCRIBING
                taken.append(channel)
            else:
                self.drop(subscription)
        return taken

    def take_unsubscribes(self, most: int) -> list[bytes]:
        """Return channels to UNSUBSCRIBE from now, at most ``most``.

        Evicted keys are unsubscribed only while no waiters are woken, or once there are more of them than the cache
        holds: each takes half as long as a wake-up, here and on the server, and is not urgent.
        """
        evict = not self.waking or len(self._evicted) > self.cache_size
        self.waking = False
        taken: list[bytes] = []
        while len(taken) < most and (self._to_unsubscribe or (evict and self._evicted)):
            requested = bool(self._to_unsubscribe)
            channel, subscription = (self._to_unsubscribe or self._evicted).popitem()
            if subscription.phase is UNSUBSCRIBING:
                # To subscribe again (`resubscribe`) or to try again (`resume`). For an evicted key it is sent already.
                if requested:
                    taken.append(channel)
            elif not subscription.needed and subscription.phase in (READING, ARMED):
                subscription.phase = UNSUBSCRIBING
                taken.append(channel)
        return taken

    def take_reads(self, most: int) -> dict[str, list[tuple[bytes, int]]]:
        """Return (channel, ticket) of the keys to read now, at most ``most``, by the name of the map."""
        taken: dict[str, list[tuple[bytes, int]]] = {}
        while self._to_read and most > 0:
            channel, subscription = self._to_read.popitem()
            if subscription.phase is not READING and not (subscription.phase is ARMED and subscription.unverified):
                continue
            ticket = self.order()
            if subscription.phase is ARMED:
                self._verify_tickets[ticket] = subscription.known_revision
            else:
                subscription.ticket = ticket
            taken.setdefault(subscription.map.names.name, []).append((channel, ticket))
            most -= 1
        return taken

    def take_checks(self) -> list[MapState]:
        """Return the maps whose head has to be read now, because a message had an unknown generation."""
        checks, self._to_check = list(self._to_check.values()), {}
        return checks

    # Requests that were answered, refused or lost.

    def subscribed(self, channel: bytes) -> bool:
        """Take the confirmation of a SUBSCRIBE; return whether the watchers of the channel have to read."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or subscription.phase is not SUBSCRIBING:
            return False
        return subscription.subscribed(self)

    def unsubscribed(self, channel: bytes) -> None:
        """Take the confirmation of an UNSUBSCRIBE; subscribe again if the channel is needed again."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            self.set_unsubscribed(subscription)

    def unsubscribe_refused(self, channel: bytes) -> None:
        """Take the refusal of an UNSUBSCRIBE: the server goes on sending its messages, until `leave_unwanted`."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            # If the channel is needed again, it is subscribed to as usual, which the server may refuse, too. To
            # subscribe twice does no harm.
            self.set_unsubscribed(subscription)
            self._unwanted[channel] = subscription

    def failed(self, channel: bytes, ticket: int | None = None, *, for_good: bool = True) -> list[object]:
        """Remove the waiters of a channel that cannot be subscribed to or read; return them in order.

        :param ticket: of the read that failed; ``None`` if the subscription was refused.
        :param for_good: if false, armed waiters stay, and are armed again after `resume`.
        """
        self._verify_tickets.pop(ticket, None)
        subscription = self.subscriptions.get(channel)
        return [] if subscription is None else subscription.failed(self, ticket, for_good=for_good)

    def postpone(self, channel: bytes, ticket: int | None = None) -> None:
        """Subscribe to the channel, or read the key, only after `resume`: the server had no time for it.

        :param ticket: of the read; ``None`` if it was the subscription.
        """
        # A key that is read again while it is armed is read at the next heartbeat anyway.
        self._verify_tickets.pop(ticket, None)
        subscription = self.subscriptions.get(channel)
        if subscription is None:
            return
        if ticket is None and subscription.phase is SUBSCRIBING:
            self.set_unsubscribed(subscription)
            self._to_subscribe.pop(channel, None)
        elif subscription.ticket == ticket and subscription.phase is READING:
            subscription.ticket = 0
            self.release(subscription)
        else:
            return
        # Also if it is not needed now: a waiter may come before it is unsubscribed.
        self._postponed[channel] = subscription, subscription.phase

    def resume(self) -> None:
        """Send again all requests that were postponed."""
        postponed, self._postponed = self._postponed, {}
        for channel, (subscription, phase) in postponed.items():
            if self.subscriptions.get(channel) is not subscription or subscription.phase is not phase:
                continue
            if phase is UNSUBSCRIBED:
                self._to_subscribe[channel] = subscription
            elif not subscription.ticket:
                self._to_read[channel] = subscription
        self.leave_unwanted()

    def leave_unwanted(self) -> None:
        """Unsubscribe again from channels that are not needed, and which the server refused to end."""
        unwanted, self._unwanted = self._unwanted, {}
        for channel, subscription in unwanted.items():
            current = self.subscriptions.get(channel)
            if current is None:
                self.subscriptions[channel] = subscription
                subscription.map.channels += 1
                subscription.phase = UNSUBSCRIBING
                self._to_unsubscribe[channel] = subscription
            elif current.phase in (UNSUBSCRIBED, SUBSCRIBING):
                # Needed again. The server may refuse the SUBSCRIBE as well, and goes on sending.
                self._unwanted[channel] = subscription

    def link_lost(self) -> None:
        """Forget what was true on the lost link only, and have every needed channel subscribed to again."""
        self._to_unsubscribe.clear()
        self._evicted.clear()
        self._to_read.clear()
        self._postponed.clear()
        self._overtaken.clear()
        self._unwanted.clear()
        self._to_check.clear()
        self._verify_tickets.clear()
        self._to_subscribe.clear()
        for subscription in list(self.subscriptions.values()):
            self.set_unsubscribed(subscription)
            subscription.link_lost()
