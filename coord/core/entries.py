"""The parts of the table of keys: maps, subscriptions with their phases, and wakes."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from coord.core.names import MapNames
from coord.core.records import NEVER, Revision, StoredRecord

__all__ = [
    "ARMED",
    "READING",
    "SUBSCRIBING",
    "UNSUBSCRIBED",
    "UNSUBSCRIBING",
    "Doorbell",
    "Entry",
    "MapState",
    "Phase",
    "Subscription",
    "Wake",
]


class Phase(IntEnum):
    """How far a subscription has come; see `coord.core.keys`."""

    UNSUBSCRIBED = 0
    SUBSCRIBING = 1
    READING = 2
    ARMED = 3
    UNSUBSCRIBING = 4


UNSUBSCRIBED, SUBSCRIBING, READING, ARMED, UNSUBSCRIBING = Phase


class MapState:
    """What the table knows of one map: its names, the newest revision seen, and the head on the present link."""

    __slots__ = (
        "__weakref__",
        "agreed_generation",
        "entries",
        "flushed_generation",
        "head",
        "mixed_generations",
        "names",
        "record_revision",
        "seen_on_last_link",
        "seen_revision",
    )

    def __init__(self, names: MapNames) -> None:
        self.names = names
        self.entries = 0
        # The newest revision in a head, or in an outcome of our own calls, on any link. Each call sends it, so that a
        # new generation is higher. Messages do not count: anyone may publish one.
        self.seen_revision = NEVER
        # `seen_revision` when the last link was lost.
        self.seen_on_last_link = NEVER
        # The generation that was flushed last; -1 for none.
        self.flushed_generation = -1
        # The newest revision of all records received on this link, and whether they had more than one generation.
        # Only a hint: a message may be forged.
        self.record_revision = NEVER
        self.mixed_generations = False
        # None until the first answer on this link; NEVER if the map has no data.
        self.head: Revision | None = None
        # The generation that the head (if known) and all records on this link share; -1 if they differ, or before the
        # first one.
        self.agreed_generation = -1

    def note_seen(self, revision: Revision) -> None:
        """Note the revision of a head, or of the outcome of our own call."""
        if revision > self.seen_revision:
            self.seen_revision = revision

    def forget_records(self) -> None:
        """Forget the revisions of the records received."""
        self.record_revision, self.mixed_generations, self.agreed_generation = NEVER, False, -1


class Subscription:
    """One channel and how far its subscription has come.

    At most one request for a channel is unanswered at any time, so each confirmation belongs to that request. This
    closes a race: after wait, cancel and wait, the first confirmation would be taken for the second.
    """

    __slots__ = ("channel", "phase", "unverified")

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.phase = UNSUBSCRIBED
        # Whether the latest news came in a message and no read has confirmed it yet.
        self.unverified = False

    @property
    def needed(self) -> bool:
        """Whether this channel still has a waiter, a watcher or a cached record."""
        raise NotImplementedError


class Doorbell(Subscription):
    """The channel that gets one message for each call on a map; watchers subscribe to it."""

    __slots__ = ("watchers",)

    def __init__(self, channel: bytes) -> None:
        super().__init__(channel)
        self.watchers = 0

    @property
    def needed(self) -> bool:
        """Whether there is a watcher."""
        return self.watchers > 0

    @property
    def is_subscribed(self) -> bool:
        """Whether every message from now on will arrive."""
        return self.phase is ARMED


class Entry(Subscription):
    """One key that is waited for or cached.

    Each waiter has a number in the order of all waits and calls; it is negative if the waiter is armed. Most keys have
    one waiter, ``first``, with the number ``order``; only further ones need a dict, ``others``.
    ``cached`` says that the live cache has it. ``known_revision`` is the newest revision known on this link,
    ``verified_revision`` the newest one that did not come in a message alone (``None`` if there is none), and
    ``armed_revision`` the one up to which the armed waiters have seen every wake. ``ticket`` names the only read whose
    answer counts.
    """

    __slots__ = (
        "armed_revision",
        "cached",
        "first",
        "known_revision",
        "map",
        "order",
        "others",
        "stored",
        "ticket",
        "verified_revision",
    )

    def __init__(self, channel: bytes, map_state: MapState) -> None:
        super().__init__(channel)
        self.map = map_state
        self.first: object | None = None
        self.order = 0
        self.others: dict[object, int] | None = None
        self.stored: StoredRecord | None = None
        self.known_revision = NEVER
        self.verified_revision: Revision | None = None
        self.armed_revision = NEVER
        self.ticket = 0
        self.cached = False

    def add(self, waiter: object, order: int) -> None:
        """Add a waiter after the existing ones."""
        if self.others:
            self.others[waiter] = order
        elif self.first is None:
            self.first, self.order = waiter, order
        else:
            self.others = {waiter: order}

    def remove(self, waiter: object) -> bool:
        """Remove a waiter; return whether it was there."""
        if waiter == self.first:
            self.first = None
            return True
        return self.others is not None and self.others.pop(waiter, None) is not None

    def take_waiters(self) -> list[object]:
        """Remove all waiters, and return them in the order they came."""
        waiters = [] if self.first is None else [self.first]
        if self.others:
            waiters += self.others
        self.first = self.others = None
        return waiters

    def arm(self) -> None:
        """Mark all waiters as armed."""
        self.order = -abs(self.order)
        if self.others:
            self.others = {waiter: -abs(order) for waiter, order in self.others.items()}

    @property
    def waiters(self) -> dict[object, int]:
        """A copy of all waiters, in the order they came, with their numbers; assign to replace them."""
        first = {} if self.first is None else {self.first: self.order}
        return first | (self.others or {})

    @waiters.setter
    def waiters(self, waiters: dict[object, int]) -> None:
        self.first, self.others = None, waiters or None

    @property
    def count(self) -> int:
        """The number of waiters."""
        return (self.first is not None) + len(self.others or ())

    @property
    def needed(self) -> bool:
        """Whether there is a waiter, or the live cache keeps the record."""
        return self.first is not None or self.cached or bool(self.others)

    @property
    def answers(self) -> bool:
        """Whether this entry answers a wait without asking the server."""
        return self.phase is ARMED and self.stored is not None and self.stored.latched

    @property
    def unarmed(self) -> bool:
        """Whether a waiter here is not armed yet."""
        return self.phase is not ARMED and (self.first is not None or bool(self.others))

    @property
    def key(self) -> str:
        """The key, as the user wrote it."""
        return self.map.names.key_of(self.channel)


class Wake(Struct, eq=False):
    """Waiters to resolve, in this order, with this record's last wake."""

    entry: Entry
    waiters: list[object]
    stored: StoredRecord
