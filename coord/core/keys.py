"""The table of keys: who waits for what, and what that asks of the link.

Events go in as method calls. What has to be sent comes out of `take_subscribes`, `take_unsubscribes`, `take_reads` and
`take_checks`, as lazily as possible, so that a wait that is cancelled in the same turn sends nothing. Whoever is to
be woken comes out as the return value, and only after the table has let go of them: their callbacks may call in again.

A key's life, one step a line::

    UNSUBSCRIBED   nobody is subscribed (the link is down, or the request is not sent yet)
    SUBSCRIBING   SUBSCRIBE is sent
    READING   the subscription is confirmed; the key is to be read
    ARMED     read, or heard of, after the confirmation: from here on every change arrives as a message
    UNSUBSCRIBING   UNSUBSCRIBE is sent

What keeps a key in the table: a waiter, or a latched record in the live cache. Revisions (see `Revision`) say which
of two pieces of news is newer, whatever order they arrive in and whichever connection they took.

A *waiter* is any object; the table only keeps it and hands it back.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakValueDictionary

from coord.core.entries import (
    ARMED,
    READING,
    SUBSCRIBING,
    UNSUBSCRIBED,
    UNSUBSCRIBING,
    Doorbell,
    Entry,
    MapState,
    Phase,
    Subscription,
    Wake,
)
from coord.core.records import LATCHED, NEVER, PULSED, RESET, Head, Revision, StoredRecord

__all__ = ["KeyTable"]


class KeyTable:
    """All keys of one node; see the module's text.

    :param cache_size: how many latched keys the live cache holds at most.
    """

    def __init__(self, cache_size: int) -> None:
        self.cache_size = cache_size
        # What holds one is its keys here, its calls, its watches, and the user's own object of it; it is forgotten with
        # the last of them.
        self.maps: WeakValueDictionary[str, MapState] = WeakValueDictionary()
        self.subscriptions: dict[bytes, Subscription] = {}
        self.cache: OrderedDict[bytes, Entry] = OrderedDict()
        # First come, first served; a dict would look through all its holes for its first key.
        self._to_subscribe: OrderedDict[bytes, Subscription] = OrderedDict()
        self._to_unsubscribe: dict[bytes, Subscription] = {}
        # What the live cache had no room for, and whether anybody was woken since the last look at it.
        self._evicted: dict[bytes, Entry] = {}
        self._waking = False
        self._to_read: dict[bytes, Entry] = {}
        # What the server has put off, until `resume`, and where it stood then.
        self._postponed: dict[bytes, tuple[Subscription, Phase]] = {}
        # What the server refused to unsubscribe, until `resume`.
        self._unwanted: dict[bytes, Subscription] = {}
        self._to_check: dict[str, MapState] = {}
        # What armed keys were known at that are being read again, by the ticket of the read.
        self._verified_reads: dict[int, Revision] = {}
        self._order = 0

    # What users do.

    def wait(self, map_state: MapState, channel: bytes, waiter: object) -> StoredRecord | None:
        """Add ``waiter``, or answer with the latched record of the live cache (W1)."""
        entry = self.subscriptions.get(channel)
        if entry is None:
            entry = self.subscriptions[channel] = Entry(channel, map_state)
            map_state.entries += 1
            self._to_subscribe[channel] = entry
        assert isinstance(entry, Entry)
        if entry.answers:
            self._cache(entry)
            return entry.stored
        # A waiter that joins an armed entry is armed with it: the entry has seen every change up to `known`.
        order = self.order()
        entry.add(waiter, -order if entry.phase is ARMED else order)
        return None

    def cancel(self, channel: bytes, waiter: object) -> None:
        """Forget ``waiter``, if it is still there."""
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry) and entry.remove(waiter):
            self._release(entry)

    def order(self) -> int:
        """Return the next number in the order of this node's waits and calls."""
        self._order += 1
        return self._order

    def add_watcher(self, channel: bytes) -> Doorbell:
        """Add one listener to the doorbell at ``channel``."""
        bell = self.subscriptions.get(channel)
        if bell is None:
            bell = self.subscriptions[channel] = self._to_subscribe[channel] = Doorbell(channel)
        assert isinstance(bell, Doorbell)
        bell.watchers += 1
        return bell

    def remove_watcher(self, bell: Doorbell) -> None:
        """Take one listener away."""
        bell.watchers -= 1
        self._release(bell)

    # What the link reports.

    def take_all_waiters(self) -> list[object]:
        """Let go of all waiters, for good; return them in the order of their keys."""
        waiters: list[object] = []
        for subscription in list(self.subscriptions.values()):
            if isinstance(subscription, Entry) and subscription.count:
                waiters += subscription.take_waiters()
                self._release(subscription)
        return waiters

    def link_lost(self) -> None:
        """Forget all that held on the lost link, and want every needed channel again."""
        self._to_unsubscribe.clear()
        self._evicted.clear()
        self._to_read.clear()
        self._postponed.clear()
        self._unwanted.clear()
        self._to_check.clear()
        self._verified_reads.clear()
        self._to_subscribe.clear()
        for map_state in self.maps.values():
            map_state.head = None
            map_state.seen_on_last_link = map_state.seen_revision
            map_state.forget_records()
        for subscription in list(self.subscriptions.values()):
            self._set_unsubscribed(subscription)
            if isinstance(subscription, Entry):
                subscription.verified_revision = None

    def _set_unsubscribed(self, subscription: Subscription) -> None:
        if isinstance(subscription, Entry):
            self._forget(subscription)
        subscription.phase = UNSUBSCRIBED
        if subscription.needed:
            self._to_subscribe[subscription.channel] = subscription
        else:
            self._drop(subscription)

    def _forget(self, entry: Entry) -> None:
        """Forget what this link taught us of a key, but not which wakes its armed waiters have seen."""
        if entry.phase is ARMED:
            entry.armed_revision = entry.known_revision
        entry.known_revision = NEVER
        entry.unverified = False
        entry.stored = None
        entry.ticket = 0
        self._uncache(entry)

    def subscribed(self, channel: bytes) -> Doorbell | None:
        """Take the confirmation of a SUBSCRIBE; answer with the doorbell, if it was one that is now heard."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or subscription.phase is not SUBSCRIBING:
            return None
        # Read only now: a change before this point is in the read, one after it is a message (synapse#7427).
        subscription.phase = READING
        if isinstance(subscription, Entry):
            self._read(subscription)
            self._release(subscription)
            return None
        subscription.phase = ARMED
        self._release(subscription)
        return subscription if isinstance(subscription, Doorbell) else None

    def unsubscribed(self, channel: bytes) -> None:
        """Take the confirmation of an UNSUBSCRIBE; join again where somebody came back meanwhile."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            self._set_unsubscribed(subscription)

    def not_left(self, channel: bytes) -> None:
        """Take the refusal of an UNSUBSCRIBE: the server goes on sending what nobody needs, until `resume`."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            # If it is needed again, it is subscribed to as usual, which the server may refuse, too. That the server has
            # it already does no harm.
            self._set_unsubscribed(subscription)
            self._unwanted[channel] = subscription

    def message_received(self, channel: bytes, stored: StoredRecord | None) -> Wake | None:
        """Take a message: a new record, or ``None`` where it was not one (then the key is read again)."""
        entry = self.subscriptions.get(channel)
        if not isinstance(entry, Entry) or (entry.phase is not ARMED and entry.phase is not READING):
            return None
        if stored is None:
            self._reread(entry)
            return None
        self._note_record(entry.map, stored.revision)
        newer = stored.revision > entry.known_revision
        if not newer and (stored.revision < entry.known_revision or entry.phase is ARMED):
            # Late or doubled: a read or our own call's answer overtook it on the other connection. But messages come in
            # order: if another one led to what is known, one of the two is forged.
            if entry.unverified and stored != entry.stored:
                self._doubt(entry)
            return None
        # The subscription is confirmed, so this message is the whole state, and all later ones will come: armed.
        # A pulse heard was sent after the subscription, so it is also for those who were not armed yet; but one
        # that our own call's answer told of before has been seen by all for whom it was.
        last = self._order if newer else 0
        entry.unverified = True
        return self._learn(entry, stored.revision, stored, arms=True, call_order=last)

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Take the answer to a read: ``stored`` stood (or nothing did) as of ``head``."""
        entry = self.subscriptions.get(channel)
        believed = self._verified_reads.pop(ticket, None) if self._verified_reads else None
        if believed is not None:
            return self._verified(entry, believed, head, stored) if isinstance(entry, Entry) else None
        if not isinstance(entry, Entry) or entry.ticket != ticket or entry.phase is not READING:
            # Asked before the key was left and joined again, or before it was unlearnt: a newer read is on its way.
            return None
        if head < entry.known_revision:
            # Our own call overtook this read. Those who waited before the call and those who came after it would
            # have missed different wakes: read again rather than sort them out.
            self._read(entry)
            return None
        entry.unverified = False
        if entry.armed_revision is not NEVER:
            _clamp_to(entry, head)
        return self._learn(entry, head, stored, arms=True)

    def verify(self) -> None:
        """Have all keys read of which messages told since they were read last.

        Anybody may publish, so a message is a hint: it wakes at once and is believed until then, but what stands is
        what the server has. One that claims a revision of the future makes a node deaf to its key no longer than that.
        """
        for subscription in self.subscriptions.values():
            if subscription.unverified and subscription.phase is ARMED:
                assert isinstance(subscription, Entry)
                self._to_read[subscription.channel] = subscription

    def _verified(self, entry: Entry, believed: Revision, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Take what a key is really at; ``believed`` is what it was known at when that was asked for."""
        if entry.phase is not ARMED or (head < entry.known_revision and believed <= head):
            # It has changed since, and will be read again.
            return None
        entry.unverified = False
        _clamp_to(entry, head)
        if believed <= head and stored == entry.stored:
            entry.verified_revision = entry.known_revision
            return None
        # It was a lie, which hid what happened since the waiters were sure of something; or the message of a change is
        # still on its way.
        entry.known_revision = _certainly_seen(entry, head)
        return self._learn(entry, head, stored)

    def key_failed(self, channel: bytes, ticket: int | None = None, *, for_good: bool = True) -> list[object]:
        """Give up the waiters of a key that cannot be subscribed to or read; return them in order.

        :param ticket: of the read that failed; ``None`` where the subscription was refused.
        :param for_good: else those that are armed stay, and are armed again after `resume`.
        """
        entry = self.subscriptions.get(channel)
        if not isinstance(entry, Entry):
            return []
        if ticket is not None and (entry.ticket != ticket or entry.phase is not READING):
            return []
        if for_good:
            waiters = entry.take_waiters()
        else:
            waiters = _remove_waiters(entry, [waiter for waiter, order in entry.waiters.items() if order > 0])
        if entry.count:
            self.postpone(channel, ticket)
        elif ticket is None:
            self._set_unsubscribed(entry)
        else:
            self._read(entry)
            self._release(entry)
        return waiters

    def postpone(self, channel: bytes, ticket: int | None = None) -> None:
        """Take an answer that only asks to come again: the channel is joined, or the key read, after `resume`.

        :param ticket: of the read; ``None`` if it was the subscription.
        """
        subscription = self.subscriptions.get(channel)
        if subscription is None:
            return
        if ticket is None and subscription.phase is SUBSCRIBING:
            self._set_unsubscribed(subscription)
            self._to_subscribe.pop(channel, None)
        elif isinstance(subscription, Entry) and subscription.ticket == ticket and subscription.phase is READING:
            subscription.ticket = 0
            self._release(subscription)
        else:
            return
        # Also where nobody needs it now: somebody may come back before it is left.
        self._postponed[channel] = subscription, subscription.phase

    def resume(self) -> None:
        """Have all that was put off asked for again."""
        parked, self._postponed = self._postponed, {}
        for channel, (subscription, phase) in parked.items():
            if self.subscriptions.get(channel) is not subscription or subscription.phase is not phase:
                continue
            if phase is UNSUBSCRIBED:
                self._to_subscribe[channel] = subscription
            elif isinstance(subscription, Entry) and not subscription.ticket:
                self._to_read[channel] = subscription
        unwanted, self._unwanted = self._unwanted, {}
        for channel, subscription in unwanted.items():
            if channel not in self.subscriptions:
                self.subscriptions[channel] = subscription
                if isinstance(subscription, Entry):
                    subscription.map.entries += 1
                subscription.phase = UNSUBSCRIBING
                self._to_unsubscribe[channel] = subscription

    def doorbell_refused(self, channel: bytes) -> Doorbell | None:
        """Take the refusal of a SUBSCRIBE for a doorbell; it is no longer wanted."""
        bell = self.subscriptions.get(channel)
        if not isinstance(bell, Doorbell):
            return None
        self._drop(bell)
        return bell

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of this node's own call: its own waits see it before the caller does (W7).

        :param stored: the record that stands after the call; ``None`` where nothing does.
        :param call_order: the call's; 0 where it changed nothing, and ``stored`` stood before.
        """
        entry = self.subscriptions.get(channel)
        if stored is None:
            if isinstance(entry, Entry) and entry.answers:
                # What the live cache has was lost on the server, or is newer than our call: nobody can tell.
                self._reread(entry)
            return None
        self.note_seen(map_state, stored.revision)
        if not isinstance(entry, Entry):
            return None
        if stored.revision > entry.known_revision:
            entry.unverified = False
            return self._learn(entry, stored.revision, stored, call_order=call_order)
        # Messages about later changes came first.
        return self._wake_earlier(entry, stored, call_order)

    def is_tracked(self, channel: bytes) -> bool:
        """Whether somebody waits for a key, or it is cached.

        Where not, what a call of ours has put there tells no more than its revision, and of those that were applied
        together the last one's is enough: see `saw`.
        """
        return channel in self.subscriptions

    def note_seen(self, map_state: MapState, revision: Revision) -> None:
        """Take note of the revision of an own call's outcome."""
        map_state.note_seen(revision)
        self._note_record(map_state, revision)

    def _note_record(self, map_state: MapState, revision: Revision) -> None:
        """Take note of a record's revision, whichever way it came."""
        # By its place: that is read in a third of the time that the name takes.
        if revision[0] != map_state.agreed_generation:
            self._note_generation(map_state, revision.generation)
        if revision > map_state.record_revision:
            map_state.record_revision = revision

    def call_repeated(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of an own call that the server answered from memory; the rest is as with `applied`.

        It answers as it did long ago, whatever happened to the key since, and without the value if that no longer
        stands. If this link has not taught us yet what stands, that is no news for those who came after the call: the
        read tells them.
        """
        entry = self.subscriptions.get(channel)
        if stored is not None and stored.data is None:
            # An armed key hears what was done since; and any other is read.
            self.note_seen(map_state, stored.revision)
            return None
        if not isinstance(entry, Entry) or entry.phase is ARMED or stored is None:
            return self.call_applied(map_state, channel, stored, call_order)
        self.note_seen(map_state, stored.revision)
        entry.known_revision = max(entry.known_revision, stored.revision)
        return self._wake_earlier(entry, stored, call_order)

    def _wake_earlier(self, entry: Entry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Wake those that waited before a call: had they been armed when it was applied, they had been woken then."""
        if stored.kind is RESET:
            return None
        woken = _remove_waiters(entry, [waiter for waiter, order in entry.waiters.items() if abs(order) <= call_order])
        self._release(entry)
        return Wake(entry, woken, stored) if woken else None

    def head_received(self, map_state: MapState, head: Head | None) -> bool:
        """Take a map's head, before the answers that came with it; answer whether data was lost.

        A new generation is nothing to worry about where it follows what was seen: it began because the data came
        under another process. Where it does not, the data was flushed, or restored from elsewhere, under us, and
        what is known of its keys is void.
        """
        revision, follows = (head.revision, head.follows) if head else (NEVER, NEVER)
        last, map_state.head = map_state.head, revision
        map_state.agreed_generation = -1
        map_state.note_seen(revision)
        before, told = last or NEVER, map_state.record_revision
        broken = not _continues(before, revision, follows)
        # Records told of a generation that this head knows nothing of: either it was answered before that one began,
        # or that one has gone again. Nobody can tell, and to join its few keys again costs little.
        doubtful = map_state.mixed_generations or (
            told.generation != revision.generation and not _continues(told, revision, follows)
        )
        if broken or doubtful:
            map_state.forget_records()
            if broken and follows == NEVER and revision.generation != before.generation:
                map_state.flushed_generation = before.generation
            for entry in self._entries_of(map_state):
                if _is_void(entry.known_revision, before, revision):
                    if broken:
                        entry.verified_revision = None
                    self._resubscribe(entry)
        if last == NEVER and told.generation != revision.generation:
            # Data appeared of which no message told, as on a server that was made a copy of another one.
            for entry in self._entries_of(map_state):
                if entry.known_revision == NEVER:
                    self._reread(entry)
        # The first head on a link is compared with what the links before it have seen.
        return revision < map_state.seen_on_last_link if last is None else broken

    def _entries_of(self, map_state: MapState) -> list[Entry]:
        entries = self.subscriptions.values()
        return [entry for entry in entries if isinstance(entry, Entry) and entry.map is map_state]

    # What is to be sent.

    @property
    def busy(self) -> bool:
        """Whether there is something to send."""
        return bool(self._to_subscribe or self._to_unsubscribe or self._evicted or self._to_read or self._to_check)

    def take_subscribes(self, most: int) -> list[bytes]:
        """Return channels to SUBSCRIBE to now."""
        taken: list[bytes] = []
        while self._to_subscribe and len(taken) < most:
            channel, subscription = self._to_subscribe.popitem(last=False)
            if subscription.needed:
                subscription.phase = SUBSCRIBING
                taken.append(channel)
            else:
                self._drop(subscription)
        return taken

    def take_unsubscribes(self, most: int) -> list[bytes]:
        """Return channels to UNSUBSCRIBE from now.

        What the cache had no room for is left when no wake-ups come in, unless that are as many as it has: each takes
        as long as half a wake-up, here and on the server, and nobody waits for it.
        """
        spare = not self._waking or len(self._evicted) > self.cache_size
        self._waking = False
        taken: list[bytes] = []
        while len(taken) < most and (self._to_unsubscribe or (spare and self._evicted)):
            wanted = bool(self._to_unsubscribe)
            channel, subscription = (self._to_unsubscribe or self._evicted).popitem()
            if subscription.phase is UNSUBSCRIBING:
                # To be joined again, see `_rejoin`, or refused, see `resume`. What had no room may be on its way.
                if wanted:
                    taken.append(channel)
            elif not subscription.needed and subscription.phase in (READING, ARMED):
                subscription.phase = UNSUBSCRIBING
                taken.append(channel)
        return taken

    def take_reads(self, most: int) -> dict[str, list[tuple[bytes, int]]]:
        """Return (channel, ticket) to read now, by the name of the map."""
        taken: dict[str, list[tuple[bytes, int]]] = {}
        while self._to_read and most > 0:
            channel, entry = self._to_read.popitem()
            if entry.phase is not READING and not (entry.phase is ARMED and entry.unverified):
                continue
            ticket = self.order()
            if entry.phase is ARMED:
                self._verified_reads[ticket] = entry.known_revision
            else:
                entry.ticket = ticket
            taken.setdefault(entry.map.names.name, []).append((channel, ticket))
            most -= 1
        return taken

    def take_checks(self) -> list[MapState]:
        """Return maps whose head is to be read now, because a message told of a generation that we do not know."""
        checks, self._to_check = list(self._to_check.values()), {}
        return checks

    # The decisions.

    def _learn(
        self,
        entry: Entry,
        as_of: Revision,
        stored: StoredRecord | None,
        *,
        arms: bool = False,
        call_order: int = 0,
    ) -> Wake | None:
        """Take news of a key, and decide who is woken by it. Every wake-up passes here."""
        woken: list[object] = []
        latched = False
        if stored is not None:
            latched = stored.kind in LATCHED
            woken = entry.take_waiters() if latched else self._take_woken(entry, stored, call_order)
        entry.known_revision = as_of
        entry.stored = stored
        if not entry.unverified:
            entry.verified_revision = as_of
        elif entry.phase is not ARMED and entry.verified_revision is None:
            entry.verified_revision = entry.armed_revision
        if arms and entry.phase is not ARMED:
            entry.phase = ARMED
            entry.ticket = 0
            entry.arm()
        if latched and entry.phase is ARMED:
            self._cache(entry)
        else:
            self._uncache(entry)
            self._release(entry)
        if stored is None or not woken:
            return None
        self._waking = True
        return Wake(entry, woken, stored)

    def _take_woken(self, entry: Entry, stored: StoredRecord, call_order: int) -> list[object]:
        """Take out of the entry those whom the news of a pending key wakes."""
        if stored.wake_kind is None:
            return []
        seen = entry.known_revision if entry.phase is ARMED else entry.armed_revision
        if seen.generation == entry.map.flushed_generation:
            # What comes now is new, even below what was seen: whoever begins the next generation may not have seen
            # the last one, and the server's clock may be behind it.
            seen = NEVER
        # Armed ones, also where the key was reset or pulsed since (W2); and for a pulse of our own, those that were
        # there before the call, whether they are armed or not (W7).
        armed = stored.wake_revision > seen and not _seen_up_to(stored.wake_revision, entry.armed_revision)
        last = call_order if stored.kind is PULSED else 0
        return _remove_waiters(
            entry, [waiter for waiter, order in entry.waiters.items() if (order < 0 and armed) or abs(order) <= last]
        )

    def _cache(self, entry: Entry) -> None:
        """Have the live cache keep the entry as its latest, and hold the cache to its bound."""
        if entry.cached:
            self.cache.move_to_end(entry.channel)
            return
        self.cache[entry.channel] = entry
        entry.cached = True
        if len(self.cache) > self.cache_size:
            _, oldest = self.cache.popitem(last=False)
            oldest.cached = False
            self._evicted[oldest.channel] = oldest

    def _uncache(self, entry: Entry) -> None:
        if entry.cached:
            entry.cached = False
            del self.cache[entry.channel]

    def _release(self, subscription: Subscription) -> None:
        """Have a channel left, unless somebody needs it again by the time that this is sent."""
        if subscription.needed:
            return
        if subscription.phase is UNSUBSCRIBED:
            self._to_subscribe.pop(subscription.channel, None)
            self._drop(subscription)
        elif subscription.phase in (READING, ARMED):
            self._to_unsubscribe[subscription.channel] = subscription

    def _drop(self, subscription: Subscription) -> None:
        if self.subscriptions.pop(subscription.channel, None) is not None and isinstance(subscription, Entry):
            subscription.map.entries -= 1

    def _read(self, entry: Entry) -> None:
        entry.ticket = 0
        self._to_read[entry.channel] = entry

    def _reread(self, entry: Entry) -> None:
        """Read an armed key again. What is known of it stays known, so that no older message can pass for news."""
        if entry.phase is ARMED:
            entry.armed_revision = entry.known_revision
            self._uncache(entry)
            entry.phase = READING
            self._read(entry)
            self._release(entry)

    def _doubt(self, entry: Entry) -> None:
        """Read a key again of which two messages say different things: the forged one may have hidden a wake."""
        if entry.phase is ARMED:
            self._reread(entry)
            assert entry.verified_revision is not None
            entry.armed_revision, entry.known_revision, entry.unverified = entry.verified_revision, NEVER, False

    def _resubscribe(self, entry: Entry) -> None:
        """Leave and join again: when that is confirmed, every message from before the loss has passed."""
        self._forget(entry)
        if entry.phase in (READING, ARMED):
            entry.phase = UNSUBSCRIBING
            self._to_unsubscribe[entry.channel] = entry

    def _note_generation(self, map_state: MapState, generation: int) -> None:
        """Take note of a generation that is not, or not yet known to be, the one of all else."""
        told, head = map_state.record_revision, map_state.head
        if generation != told.generation != 0:
            map_state.mixed_generations = True
        if head is not None and head.generation != generation:
            self._to_check[map_state.names.name] = map_state
        elif generation >= told.generation:
            map_state.agreed_generation = generation


def _remove_waiters(entry: Entry, woken: list[object]) -> list[object]:
    waiters = entry.waiters
    for waiter in woken:
        del waiters[waiter]
    entry.waiters = waiters
    return woken


def _clamp_to(entry: Entry, head: Revision) -> None:
    """Have no waiter believe to have seen more than there is: what claimed more was a lie, or has been lost.

    A lie hid what happened since the waiters were sure of something; of what is lost nobody can tell, so they are taken
    to have seen what is left. What was flushed was seen: see `KeyTable._woken`.
    """
    if entry.armed_revision > head != NEVER and entry.armed_revision.generation != entry.map.flushed_generation:
        entry.armed_revision = _certainly_seen(entry, head)


def _certainly_seen(entry: Entry, head: Revision) -> Revision:
    """Return up to where the waiters have certainly seen every wake, now that no more than ``head`` is there."""
    return head if entry.verified_revision is None else min(entry.verified_revision, head)


def _continues(before: Revision, revision: Revision, follows: Revision) -> bool:
    """Whether a head at ``revision``, whose generation follows ``follows``, has all that one at ``before`` had."""
    if before.generation == revision.generation:
        return before <= revision
    return before == NEVER or (follows.generation == before.generation and before <= follows)


def _seen_up_to(wake: Revision, base: Revision) -> bool:
    """Whether a wake is of those seen up to ``base``, also where its generation has been flushed since."""
    return wake.generation == base.generation and wake <= base


def _is_void(known: Revision, before: Revision, revision: Revision) -> bool:
    """Whether what is known as of ``known`` has gone, now that the head went from ``before`` to ``revision``."""
    return known.generation not in (0, revision.generation) or revision < min(before, known)
