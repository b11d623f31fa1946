"""What the table of keys is made of: maps, channels and how far their subscription has come, and wakes."""

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
    """How far a subscription has come; see the module's text."""

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
        # The newest revision that the server itself has told of, on any link: a call tells it, so that a new generation
        # is higher. What a message claims is none of that.
        self.seen_revision = NEVER
        # What `seen` was when the last link was lost.
        self.seen_on_last_link = NEVER
        # The generation that was flushed last; -1 for none.
        self.flushed_generation = -1
        # The newest revision that a record told of on this link, and whether others were of another generation. A hint:
        # any message may have said so.
        self.record_revision = NEVER
        self.mixed_generations = False
        # None until the first answer on this link; NEVER where the map has no data.
        self.head: Revision | None = None
        # The generation of the head, if it is known, and of all records on this link; -1 where these differ, or none
        # has come yet.
        self.agreed_generation = -1

    def note_seen(self, revision: Revision) -> None:
        """Take note of the revision of a head, or of an own call's outcome."""
        if revision > self.seen_revision:
            self.seen_revision = revision

    def forget_records(self) -> None:
        """Forget what records told of."""
        self.record_revision, self.mixed_generations, self.agreed_generation = NEVER, False, -1


class Subscription:
    """One channel and how far its subscription has come.

    At most one request of a channel is unanswered, so a confirmation can only be the answer to that one. This is
    what closes the race of wait, cancel and wait again, where the first confirmation was taken for the second.
    """

    __slots__ = ("channel", "phase", "unverified")

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.phase = UNSUBSCRIBED
        # Whether the last news came by a message, and no read has borne it out yet.
        self.unverified = False

    @property
    def needed(self) -> bool:
        """Whether somebody still wants to hear this channel."""
        raise NotImplementedError


class Doorbell(Subscription):
    """The channel that rings once a call on a map; watchers listen to it."""

    __slots__ = ("watchers",)

    def __init__(self, channel: bytes) -> None:
        super().__init__(channel)
        self.watchers = 0

    @property
    def needed(self) -> bool:
        """Whether a watcher listens."""
        return self.watchers > 0

    @property
    def is_subscribed(self) -> bool:
        """Whether every ring from now on is heard."""
        return self.phase is ARMED


class Entry(Subscription):
    """One key that is waited for or cached.

    Each waiter has a number in the order of all waits and calls, which is negative where the waiter is armed. Most
    keys have one waiter, ``first``, with the number ``order``; only those that come after it cost a dict, ``others``.
    ``kept`` says that the live cache has it. ``known`` is the newest revision learnt on this link, ``sure`` the newest
    that was not learnt from a message alone (``None`` where none was), ``base`` the one up to which the armed waiters
    have seen every wake. ``ticket`` names the one read whose answer is wanted.
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
        """Add a waiter behind those that are there."""
        if self.others:
            self.others[waiter] = order
        elif self.first is None:
            self.first, self.order = waiter, order
        else:
            self.others = {waiter: order}

    def remove(self, waiter: object) -> bool:
        """Let go of a waiter; answer whether it was there."""
        if waiter == self.first:
            self.first = None
            return True
        return self.others is not None and self.others.pop(waiter, None) is not None

    def take_waiters(self) -> list[object]:
        """Let go of all waiters, and return them in the order they came."""
        waiters = [] if self.first is None else [self.first]
        if self.others:
            waiters += self.others
        self.first = self.others = None
        return waiters

    def arm(self) -> None:
        """Have all waiters be armed."""
        self.order = -abs(self.order)
        if self.others:
            self.others = {waiter: -abs(order) for waiter, order in self.others.items()}

    @property
    def waiters(self) -> dict[object, int]:
        """All waiters, in the order they came, with their numbers; a copy. Assigned, it takes their place."""
        first = {} if self.first is None else {self.first: self.order}
        return first | (self.others or {})

    @waiters.setter
    def waiters(self, waiters: dict[object, int]) -> None:
        self.first, self.others = None, waiters or None

    @property
    def count(self) -> int:
        """How many wait."""
        return (self.first is not None) + len(self.others or ())

    @property
    def needed(self) -> bool:
        """Whether somebody waits, or the live cache keeps the record."""
        return self.first is not None or self.cached or bool(self.others)

    @property
    def answers(self) -> bool:
        """Whether this entry answers a wait without asking anybody."""
        return self.phase is ARMED and self.stored is not None and self.stored.latched

    @property
    def unarmed(self) -> bool:
        """Whether somebody waits here who is not armed yet."""
        return self.phase is not ARMED and (self.first is not None or bool(self.others))

    @property
    def key(self) -> str:
        """The key, as the user wrote it."""
        return self.map.names.key_of(self.channel)


class Wake(Struct, eq=False):
    """Waiters to resolve, in this order, with this record's last wake (or with an error of their key)."""

    entry: Entry
    waiters: list[object]
    stored: StoredRecord
