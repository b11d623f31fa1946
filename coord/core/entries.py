"""One key that is waited for or cached: what is known of it, and who is woken by what becomes known.

Revisions (see `Revision`) say which of two records is newer, in whatever order and on whichever connection they arrive.
"""

from __future__ import annotations

from coord.core.conditions import Condition
from coord.core.maps import HeadChange, MapState
from coord.core.records import LATCHED, NEVER, PULSED, SILENT, Revision, StoredRecord
from coord.core.subscriptions import ARMED, READING, Registry, Subscription, Wake

__all__ = ["Entry"]


class Entry(Subscription):
    """One key that is waited for or cached.

    Each waiter has a number in the order of all waits and calls; it is negative if the waiter is armed. Most keys have
    one waiter, ``first``, with the number ``order``; only further ones need a dict, ``others``.
    ``conditions`` has the waiters for something else than a wake, each with what it waits for. ``verified_revision`` is
    the newest known revision that did not come in a message alone (``None`` if there is none), and ``armed_revision``
    the one up to which the armed waiters have seen every wake.
    """

    __slots__ = ("armed_revision", "conditions", "first", "order", "others", "stored", "verified_revision")

    def __init__(self, channel: bytes, map_state: MapState) -> None:
        super().__init__(channel, map_state)
        self.first: object | None = None
        self.order = 0
        self.others: dict[object, int] | None = None
        self.conditions: dict[object, Condition] | None = None
        self.stored: StoredRecord | None = None
        self.verified_revision: Revision | None = None
        self.armed_revision = NEVER

    # Waiters.

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
        if self.conditions is not None and waiter in self.conditions:
            self._remove_conditional([waiter])
            return True
        return self.others is not None and self.others.pop(waiter, None) is not None

    def take_waiters(self) -> list[object]:
        """Remove all waiters, and return them in the order they came; last, those for something else than a wake."""
        return [*self._take_to_wake(), *self._remove_conditional(list(self.conditions or ()))]

    def _take_to_wake(self) -> list[object]:
        waiters = [] if self.first is None else [self.first]
        if self.others:
            waiters += self.others
        self.first = self.others = None
        return waiters

    def _remove_waiters(self, woken: list[object]) -> list[object]:
        waiters = self.waiters
        for waiter in woken:
            del waiters[waiter]
        self.waiters = waiters
        return woken

    def _arm(self) -> None:
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
        return (self.first is not None) + len(self.others or ()) + len(self.conditions or ())

    @property
    def needed(self) -> bool:
        """Whether there is a waiter, or the live cache keeps the record."""
        return self.first is not None or self.cached or bool(self.others or self.conditions)

    @property
    def answers(self) -> bool:
        """Whether this entry answers a wait without asking the server."""
        stored = self.stored
        return self.phase is ARMED and stored is not None and stored.latched and not stored.perishable

    @property
    def unarmed(self) -> bool:
        """Whether a waiter here is not armed yet."""
        return self.phase is not ARMED and (self.first is not None or bool(self.others or self.conditions))

    # Waiters for something else than a wake.

    def add_conditional(self, registry: Registry, waiter: object, condition: Condition) -> Wake | None:
        """Add a waiter for a condition; return its wake if that is known to be met."""
        self.check_end(registry)
        armed = self.phase is ARMED
        if armed and condition.met(self.stored, armed=True):
            registry.release(self)
            return Wake(self, [waiter], self.stored)
        condition.since, condition.order = self.known_revision, registry.order()
        self.conditions = self.conditions or {}
        self.conditions[waiter] = condition
        return None

    def check_end(self, registry: Registry) -> None:
        """Read the key again if it is latched with a TTL: its end may have passed unnoticed."""
        if self.phase is not ARMED or self.stored is None or not self.stored.perishable:
            return
        if self.unverified:
            # The message may have been forged, with a revision that no read reaches.
            self._doubt(registry)
        else:
            self._reread(registry)

    def _remove_conditional(self, waiters: list[object]) -> list[object]:
        if self.conditions is not None:
            for waiter in waiters:
                del self.conditions[waiter]
            self.conditions = self.conditions or None
        return waiters

    def _take_met(self) -> list[object]:
        """Remove and return the waiters whose condition is met; arm the others if the key is armed."""
        assert self.conditions is not None
        armed = self.phase is ARMED
        met = [waiter for waiter, condition in self.conditions.items() if condition.met(self.stored, armed=armed)]
        return self._remove_conditional(met)

    # Events of the link.

    def subscribed(self, registry: Registry) -> bool:
        """Take the confirmation, and read the key."""
        # Read only now: an earlier change is in the read, and a later one arrives as a message (synapse#7427).
        self.phase = READING
        registry.read(self)
        registry.release(self)
        return False

    def failed(self, registry: Registry, ticket: int | None, *, for_good: bool) -> list[object]:
        """Remove the waiters that fail, and return them in order."""
        if ticket is not None and (self.ticket != ticket or self.phase is not READING):
            return []
        if for_good:
            waiters = self.take_waiters()
        else:
            waiters = self._remove_waiters([waiter for waiter, order in self.waiters.items() if order > 0])
            unarmed = [waiter for waiter, condition in (self.conditions or {}).items() if not condition.armed]
            waiters += self._remove_conditional(unarmed)
        if self.count:
            registry.postpone(self.channel, ticket)
        elif ticket is None:
            registry.set_unsubscribed(self)
        else:
            registry.read(self)
            registry.release(self)
        return waiters

    def forget(self, registry: Registry) -> None:
        """Forget what is known of the key on this link, but not which wakes its armed waiters have seen."""
        if self.phase is ARMED:
            self.armed_revision = self.known_revision
        self.known_revision = NEVER
        self.unverified = False
        self.stored = None
        self.ticket = 0
        for condition in (self.conditions or {}).values():
            condition.since = NEVER
        registry.uncache(self)

    def link_lost(self) -> None:
        """Take nothing for verified: the next link may lead to another server."""
        self.verified_revision = None

    def message_received(self, registry: Registry, stored: StoredRecord | None) -> Wake | None:
        """Take a message: a new record, or ``None`` if it was none (then the key is read again)."""
        if self.phase is not ARMED and self.phase is not READING:
            return self._wake_before_loss(registry, stored)
        if stored is None:
            self._reread(registry)
            return None
        revision, known = stored.revision, self.known_revision
        registry.note_record(self.map, revision)
        newer = revision > known
        if not newer and (revision < known or self.phase is ARMED):
            # Late or doubled: a read, or the answer to our own call, overtook it on the other connection. But messages
            # arrive in order: if the newer record came in a message too, one of the two is forged.
            if self.unverified and stored != self.stored:
                self._doubt(registry)
            return self._end_earlier(registry, stored)
        # The subscription is confirmed, so this message is the whole state and all later ones will arrive: armed.
        # A pulse was published after the subscription, so it also wakes waiters that were not armed yet, unless the
        # answer to our own call has woken them already.
        last = registry.last_order if newer else 0
        self.unverified = True
        return self._learn(registry, revision, stored, arms=True, call_order=last)

    def _wake_before_loss(self, registry: Registry, stored: StoredRecord | None) -> Wake | None:
        """Take a message of a key that is subscribed to again, because the server has lost what was known of it.

        The message was published before that was noticed. It may say what is gone, so nothing is learnt from it; but
        the waiters were armed already, and no other message will tell them of this wake.
        """
        seen = self.armed_revision
        if (
            stored is None
            or stored.kind in SILENT
            or stored.revision.generation != seen.generation
            or stored.revision <= seen
        ):
            return None
        woken = self._remove_waiters([waiter for waiter, order in self.waiters.items() if order < 0])
        registry.release(self)
        return Wake(self, woken, stored) if woken else None

    def read_answered(
        self, registry: Registry, ticket: int, head: Revision, stored: StoredRecord | None
    ) -> Wake | None:
        """Take the answer to a read: ``stored`` was the record (``None``: there was none) as of ``head``."""
        if self.ticket != ticket or self.phase is not READING:
            # Sent before the key was subscribed to again, or before it was forgotten: a newer read is under way.
            return None
        if head < self.known_revision:
            # Our own call overtook this read. Waiters from before the call and from after it would have missed
            # different wakes: read again rather than tell them apart.
            registry.read_again(self)
            return None
        self.unverified = False
        if self.armed_revision is not NEVER:
            self._clamp_to(head)
        return self._learn(registry, head, stored, arms=True)

    def verified(
        self, registry: Registry, believed: Revision, head: Revision, stored: StoredRecord | None
    ) -> Wake | None:
        """Take the answer to a read of an armed key; ``believed`` is what was known when the read was sent."""
        if self.phase is not ARMED or (head < self.known_revision and believed <= head):
            # The key has changed since, and will be read again.
            return None
        self.unverified = False
        self._clamp_to(head)
        if believed <= head and stored == self.stored:
            self.verified_revision = self.known_revision
            return None
        # The message was forged, and hid what happened since the last verified revision; or the message about a newer
        # change is still under way.
        self.known_revision = self._certainly_seen(head)
        self._lower_conditions(self.known_revision)
        return self._learn(registry, head, stored)

    def head_received(self, registry: Registry, change: HeadChange) -> None:
        """Subscribe again if what is known is gone; read again if nothing was there, and now there may be."""
        if (change.lost or change.doubtful) and change.voids(self.known_revision):
            if change.lost:
                self.verified_revision = None
            registry.resubscribe(self)
        elif change.appeared and self.known_revision == NEVER:
            self._reread(registry)

    # Outcomes of this node's own calls.

    def call_applied(self, registry: Registry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Take the record after a call; see `KeyTable.call_applied`."""
        if stored.revision > self.known_revision:
            self.unverified = False
            return self._learn(registry, stored.revision, stored, call_order=call_order)
        # A message about a later change came first.
        return self._wake_earlier(registry, stored, call_order)

    def call_repeated(self, registry: Registry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Take the record after a call whose outcome may be old; see `KeyTable.call_repeated`."""
        if stored.data is None:
            return self._end_earlier(registry, stored, call_order)
        if self.phase is ARMED:
            return self.call_applied(registry, stored, call_order)
        self.known_revision = max(self.known_revision, stored.revision)
        return self._wake_earlier(registry, stored, call_order)

    def call_found_nothing(self, registry: Registry) -> None:
        """Take it that there is no record, or that it is newer than the call: read to find out."""
        if self.answers:
            self._reread(registry)

    def _wake_earlier(self, registry: Registry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Wake the waiters from before a call: had they been armed in time, its message would have woken them."""
        if stored.kind in SILENT:
            return self._end_earlier(registry, stored, call_order)
        woken = self._remove_waiters([waiter for waiter, order in self.waiters.items() if abs(order) <= call_order])
        woken += self._take_met_earlier(stored, call_order)
        registry.release(self)
        return Wake(self, woken, stored) if woken else None

    def _end_earlier(self, registry: Registry, stored: StoredRecord, call_order: int = 0) -> Wake | None:
        """Resolve the waiters whose condition this record has met, and no others."""
        woken = self._take_met_earlier(stored, call_order)
        registry.release(self)
        return Wake(self, woken, stored) if woken else None

    def _take_met_earlier(self, stored: StoredRecord, call_order: int) -> list[object]:
        if self.conditions is None:
            return []
        # What was known when a wait was made may have been forged; that a call was made after it was not.
        return self._remove_conditional(
            [
                waiter
                for waiter, condition in self.conditions.items()
                if (condition.since < stored.revision or condition.order <= call_order)
                and condition.met_earlier(stored)
            ]
        )

    # Decisions.

    def _learn(
        self,
        registry: Registry,
        as_of: Revision,
        stored: StoredRecord | None,
        *,
        arms: bool = False,
        call_order: int = 0,
    ) -> Wake | None:
        """Take news of the key, and decide which waiters it wakes. Every wake-up passes here."""
        armed = self.phase is ARMED
        latched = stored is not None and stored.kind in LATCHED
        woken: list[object] = []
        if latched:
            woken = self._take_to_wake()
        elif stored is not None:
            woken = self._take_woken(stored, call_order)
        self.known_revision = as_of
        self.stored = stored
        if not self.unverified:
            self.verified_revision = as_of
        elif not armed and self.verified_revision is None:
            self.verified_revision = self.armed_revision
        if arms and not armed:
            armed = True
            self.phase = ARMED
            self.ticket = 0
            self._arm()
        if self.conditions is not None:
            woken += self._take_met()
        if latched and armed and not (stored.tail and stored.perishable):  # type: ignore[union-attr]
            registry.keep(self)
        else:
            registry.uncache(self)
            registry.release(self)
        if not woken:
            return None
        registry.waking = True
        return Wake(self, woken, stored)

    def _take_woken(self, stored: StoredRecord, call_order: int) -> list[object]:
        """Remove and return the waiters that news of a pending key wakes."""
        if stored.wake_kind is None:
            return []
        seen = self.known_revision if self.phase is ARMED else self.armed_revision
        if seen.generation == self.map.flushed_generation:
            # After a flush every record is new, even with a lower revision: the node that began the next generation may
            # not have seen the last one, and the server's clock may be behind it.
            seen = NEVER
        # Armed waiters, also if the key was reset or pulsed since (W2); and for our own pulse, all waiters from before
        # the call, armed or not (W7).
        armed = stored.wake_revision > seen and not self._has_seen(stored.wake_revision)
        last = call_order if stored.kind is PULSED else 0
        return self._remove_waiters(
            [waiter for waiter, order in self.waiters.items() if (order < 0 and armed) or abs(order) <= last]
        )

    def _has_seen(self, wake: Revision) -> bool:
        """Whether armed waiters have seen a wake, even if its generation was flushed since."""
        return wake.generation == self.armed_revision.generation and wake <= self.armed_revision

    def _reread(self, registry: Registry) -> None:
        """Read an armed key again. The known revision stays, so that no older message counts as news."""
        if self.phase is ARMED:
            self.armed_revision = self.known_revision
            registry.uncache(self)
            self.phase = READING
            registry.read(self)
            registry.release(self)

    def _doubt(self, registry: Registry) -> None:
        """Read a key again if a message may be forged: it may have hidden a wake."""
        if self.phase is ARMED:
            self._reread(registry)
            assert self.verified_revision is not None
            self.armed_revision, self.known_revision, self.unverified = self.verified_revision, NEVER, False
            self._lower_conditions(self.armed_revision)

    def _lower_conditions(self, revision: Revision) -> None:
        """Have no condition count as asked after a revision that was forged."""
        for condition in (self.conditions or {}).values():
            condition.since = min(condition.since, revision)

    def _clamp_to(self, head: Revision) -> None:
        """Lower the revision that armed waiters have seen to what exists: a higher one was forged, or has been lost.

        A forged message hid what happened since the last verified revision. If data was lost, the waiters count as
        having seen what is left. (After a flush they keep what they have seen: see `_take_woken`.)
        """
        if self.armed_revision > head != NEVER and self.armed_revision.generation != self.map.flushed_generation:
            self.armed_revision = self._certainly_seen(head)

    def _certainly_seen(self, head: Revision) -> Revision:
        """Return the revision up to which the waiters have certainly seen every wake, ``head`` at most."""
        return head if self.verified_revision is None else min(self.verified_revision, head)
