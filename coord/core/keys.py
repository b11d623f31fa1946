"""The table of keys: the waiters of each key, and the requests that they need.

Events go in as method calls. Requests to send come out of `take_subscribes`, `take_unsubscribes`, `take_reads` and
`take_checks`, as late as possible, so that a wait that is cancelled in the same turn sends nothing. Waiters to wake
are returned, after the table has removed them: their callbacks may call the table again.

The phases of a key::

    UNSUBSCRIBED   the link is down, or the request is not sent yet
    SUBSCRIBING    SUBSCRIBE is sent
    READING        the subscription is confirmed; the key has to be read
    ARMED          a read or a message came after the confirmation: every later change will arrive as a message
    UNSUBSCRIBING  UNSUBSCRIBE is sent

A key stays in the table as long as it has a waiter, or the live cache keeps its latched record. Revisions (see
`Revision`) say which of two records is newer, in whatever order and on whichever connection they arrive.

A *waiter* is any object; the table only keeps it and returns it.
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
    """All keys of one node; see the module's docstring.

    :param cache_size: the most latched keys that the live cache holds.
    """

    def __init__(self, cache_size: int) -> None:
        self.cache_size = cache_size
        # A map is referred to by its keys here, its calls, its watches and the user's `EventMap`, and is forgotten with
        # the last of them.
        self.maps: WeakValueDictionary[str, MapState] = WeakValueDictionary()
        self.subscriptions: dict[bytes, Subscription] = {}
        self.cache: OrderedDict[bytes, Entry] = OrderedDict()
        # First come, first served. (To find its first key, a dict would step over all deleted ones.)
        self._to_subscribe: OrderedDict[bytes, Subscription] = OrderedDict()
        self._to_unsubscribe: dict[bytes, Subscription] = {}
        # Keys that were evicted from the live cache, and whether a waiter was woken since they were last looked at.
        self._evicted: dict[bytes, Entry] = {}
        self._waking = False
        self._to_read: dict[bytes, Entry] = {}
        # Requests that the server had no time for, until `resume`, with the phase that they were in.
        self._postponed: dict[bytes, tuple[Subscription, Phase]] = {}
        # Channels whose UNSUBSCRIBE was refused, until `resume`.
        self._unwanted: dict[bytes, Subscription] = {}
        self._to_check: dict[str, MapState] = {}
        # The known revision of each armed key that is being verified, by the ticket of the read.
        self._verify_tickets: dict[int | None, Revision] = {}
        self._order = 0

    # Requests of the users.

    def wait(self, map_state: MapState, channel: bytes, waiter: object) -> StoredRecord | None:
        """Add ``waiter``, or return the latched record from the live cache (W1)."""
        entry = self.subscriptions.get(channel)
        if entry is None:
            entry = self.subscriptions[channel] = Entry(channel, map_state)
            map_state.entries += 1
            self._to_subscribe[channel] = entry
        assert isinstance(entry, Entry)
        if entry.answers:
            self._cache(entry)
            return entry.stored
        # A waiter that is added to an armed entry is armed: the entry has seen all changes up to `known_revision`.
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
        """Add one watcher to the doorbell at ``channel``."""
        bell = self.subscriptions.get(channel)
        if bell is None:
            bell = self.subscriptions[channel] = self._to_subscribe[channel] = Doorbell(channel)
        assert isinstance(bell, Doorbell)
        bell.watchers += 1
        return bell

    def remove_watcher(self, bell: Doorbell) -> None:
        """Remove one watcher."""
        bell.watchers -= 1
        self._release(bell)

    # Events of the link.

    def take_all_waiters(self) -> list[object]:
        """Remove all waiters, and return them in the order of their keys."""
        waiters: list[object] = []
        for subscription in list(self.subscriptions.values()):
            if isinstance(subscription, Entry) and subscription.count:
                waiters += subscription.take_waiters()
                self._release(subscription)
        return waiters

    def link_lost(self) -> None:
        """Forget what was true on the lost link only, and have every needed channel subscribed to again."""
        self._to_unsubscribe.clear()
        self._evicted.clear()
        self._to_read.clear()
        self._postponed.clear()
        self._unwanted.clear()
        self._to_check.clear()
        self._verify_tickets.clear()
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
        """Forget what is known of a key on this link, but not which wakes its armed waiters have seen."""
        if entry.phase is ARMED:
            entry.armed_revision = entry.known_revision
        entry.known_revision = NEVER
        entry.unverified = False
        entry.stored = None
        entry.ticket = 0
        self._uncache(entry)

    def subscribed(self, channel: bytes) -> Doorbell | None:
        """Take the confirmation of a SUBSCRIBE; return the doorbell, if it was for one."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or subscription.phase is not SUBSCRIBING:
            return None
        # Read only now: an earlier change is in the read, and a later one arrives as a message (synapse#7427).
        subscription.phase = READING
        if isinstance(subscription, Entry):
            self._read(subscription)
            self._release(subscription)
            return None
        subscription.phase = ARMED
        self._release(subscription)
        return subscription if isinstance(subscription, Doorbell) else None

    def unsubscribed(self, channel: bytes) -> None:
        """Take the confirmation of an UNSUBSCRIBE; subscribe again if the channel is needed again."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            self._set_unsubscribed(subscription)

    def unsubscribe_refused(self, channel: bytes) -> None:
        """Take the refusal of an UNSUBSCRIBE: the server goes on sending its messages, until `resume`."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is UNSUBSCRIBING:
            # If the channel is needed again, it is subscribed to as usual, which the server may refuse, too. To
            # subscribe twice does no harm.
            self._set_unsubscribed(subscription)
            self._unwanted[channel] = subscription

    def message_received(self, channel: bytes, stored: StoredRecord | None) -> Wake | None:
        """Take a message: a new record, or ``None`` if it was none (then the key is read again)."""
        entry = self.subscriptions.get(channel)
        if not isinstance(entry, Entry):
            return None
        if entry.phase is not ARMED and entry.phase is not READING:
            return self._wake_before_loss(entry, stored)
        if stored is None:
            self._reread(entry)
            return None
        self._note_record(entry.map, stored.revision)
        newer = stored.revision > entry.known_revision
        if not newer and (stored.revision < entry.known_revision or entry.phase is ARMED):
            # Late or doubled: a read, or the answer to our own call, overtook it on the other connection. But messages
            # arrive in order: if the newer record came in a message too, one of the two is forged.
            if entry.unverified and stored != entry.stored:
                self._doubt(entry)
            return None
        # The subscription is confirmed, so this message is the whole state and all later ones will arrive: armed.
        # A pulse was published after the subscription, so it also wakes waiters that were not armed yet, unless the
        # answer to our own call has woken them already.
        last = self._order if newer else 0
        entry.unverified = True
        return self._learn(entry, stored.revision, stored, arms=True, call_order=last)

    def _wake_before_loss(self, entry: Entry, stored: StoredRecord | None) -> Wake | None:
        """Take a message of a key that is subscribed to again, because the server has lost what was known of it.

        The message was published before that was noticed. It may say what is gone, so nothing is learnt from it; but
        the waiters were armed already, and no other message will tell them of this wake.
        """
        seen = entry.armed_revision
        if (
            stored is None
            or stored.kind is RESET
            or stored.revision.generation != seen.generation
            or stored.revision <= seen
        ):
            return None
        woken = _remove_waiters(entry, [waiter for waiter, order in entry.waiters.items() if order < 0])
        self._release(entry)
        return Wake(entry, woken, stored) if woken else None

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Take the answer to a read: ``stored`` was the record (``None``: there was none) as of ``head``."""
        entry = self.subscriptions.get(channel)
        believed = self._verify_tickets.pop(ticket, None) if self._verify_tickets else None
        if believed is not None:
            return self._verified(entry, believed, head, stored) if isinstance(entry, Entry) else None
        if not isinstance(entry, Entry) or entry.ticket != ticket or entry.phase is not READING:
            # Sent before the key was subscribed to again, or before it was forgotten: a newer read is under way.
            return None
        if head < entry.known_revision:
            # Our own call overtook this read. Waiters from before the call and from after it would have missed
            # different wakes: read again rather than tell them apart.
            self._read(entry)
            return None
        entry.unverified = False
        if entry.armed_revision is not NEVER:
            _clamp_to(entry, head)
        return self._learn(entry, head, stored, arms=True)

    def verify(self) -> None:
        """Read again all keys whose latest news came in a message.

        Anyone may publish, so a message is a hint: it wakes at once and is believed until the read, which tells what
        the server really has. A message with a forged future revision hides later changes for no longer than that.
        """
        for subscription in self.subscriptions.values():
            if subscription.unverified and subscription.phase is ARMED:
                assert isinstance(subscription, Entry)
                self._to_read[subscription.channel] = subscription

    def _verified(self, entry: Entry, believed: Revision, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Take the read of a key; ``believed`` is the revision that was known when the read was sent."""
        if entry.phase is not ARMED or (head < entry.known_revision and believed <= head):
            # The key has changed since, and will be read again.
            return None
        entry.unverified = False
        _clamp_to(entry, head)
        if believed <= head and stored == entry.stored:
            entry.verified_revision = entry.known_revision
            return None
        # The message was forged, and hid what happened since the last verified revision; or the message about a newer
        # change is still under way.
        entry.known_revision = _certainly_seen(entry, head)
        return self._learn(entry, head, stored)

    def key_failed(self, channel: bytes, ticket: int | None = None, *, for_good: bool = True) -> list[object]:
        """Remove the waiters of a key that cannot be subscribed to or read; return them in order.

        :param ticket: of the read that failed; ``None`` if the subscription was refused.
        :param for_good: if false, armed waiters stay, and are armed again after `resume`.
        """
        self._verify_tickets.pop(ticket, None)
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
        """Subscribe to the channel, or read the key, only after `resume`: the server had no time for it.

        :param ticket: of the read; ``None`` if it was the subscription.
        """
        # A key that is read again while it is armed is read at the next heartbeat anyway.
        self._verify_tickets.pop(ticket, None)
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
        """Take the refusal of a SUBSCRIBE: if it was for a doorbell, remove and return that."""
        bell = self.subscriptions.get(channel)
        if not isinstance(bell, Doorbell):
            return None
        self._drop(bell)
        return bell

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of this node's own call: its own waiters are woken before the caller gets it (W7).

        :param stored: the record after the call; ``None`` if there is none.
        :param call_order: the call's number in the order; 0 if the call changed nothing.
        """
        entry = self.subscriptions.get(channel)
        if stored is None:
            if isinstance(entry, Entry) and entry.answers:
                # The cached record was lost on the server, or is newer than our call: read to find out.
                self._reread(entry)
            return None
        self.note_seen(map_state, stored.revision)
        if not isinstance(entry, Entry):
            return None
        if stored.revision > entry.known_revision:
            entry.unverified = False
            return self._learn(entry, stored.revision, stored, call_order=call_order)
        # A message about a later change came first.
        return self._wake_earlier(entry, stored, call_order)

    def is_tracked(self, channel: bytes) -> bool:
        """Whether the key of ``channel`` has a waiter or is cached.

        For other keys only the revision of our own call matters, and only the last one of a batch: see `note_seen`.
        """
        return channel in self.subscriptions

    def note_seen(self, map_state: MapState, revision: Revision) -> None:
        """Note the revision of the outcome of our own call."""
        map_state.note_seen(revision)
        self._note_record(map_state, revision)

    def _note_record(self, map_state: MapState, revision: Revision) -> None:
        """Note the revision of a record, from a message, a read or an outcome."""
        # An index is read in a third of the time that an attribute takes.
        if revision[0] != map_state.agreed_generation:
            self._note_generation(map_state, revision.generation)
        if revision > map_state.record_revision:
            map_state.record_revision = revision

    def call_repeated(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take the outcome of our own call that the server had remembered; else as `call_applied`.

        The outcome may be old: the key may have changed since, and a value that was replaced is missing. It wakes only
        waiters from before the call; the others get the answer to the read.
        """
        entry = self.subscriptions.get(channel)
        if stored is not None and stored.data is None:
            # An armed key gets what happened since as messages; any other key will be read.
            self.note_seen(map_state, stored.revision)
            return None
        if not isinstance(entry, Entry) or entry.phase is ARMED or stored is None:
            return self.call_applied(map_state, channel, stored, call_order)
        self.note_seen(map_state, stored.revision)
        entry.known_revision = max(entry.known_revision, stored.revision)
        return self._wake_earlier(entry, stored, call_order)

    def _wake_earlier(self, entry: Entry, stored: StoredRecord, call_order: int) -> Wake | None:
        """Wake the waiters from before a call: had they been armed in time, its message would have woken them."""
        if stored.kind is RESET:
            return None
        woken = _remove_waiters(entry, [waiter for waiter, order in entry.waiters.items() if abs(order) <= call_order])
        self._release(entry)
        return Wake(entry, woken, stored) if woken else None

    def head_received(self, map_state: MapState, head: Head | None) -> bool:
        """Take a map's head, before the answers that came with it; return whether data was lost.

        A new generation that follows the revision we have seen is harmless: only the server process is another one. If
        it does not follow, the data was flushed or restored, and what is known of the map's keys is void.
        """
        revision, follows = (head.revision, head.follows) if head else (NEVER, NEVER)
        last, map_state.head = map_state.head, revision
        map_state.agreed_generation = -1
        map_state.note_seen(revision)
        before, newest = last or NEVER, map_state.record_revision
        broken = not _continues(before, revision, follows)
        # A record had a generation that this head does not continue: either the head was read before that generation
        # began, or that generation is gone again. We cannot tell, and to subscribe to its few keys again costs little.
        doubtful = map_state.mixed_generations or (
            newest.generation != revision.generation and not _continues(newest, revision, follows)
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
        if last == NEVER and newest.generation != revision.generation:
            # Data appeared without a message, as on a server that was made a replica.
            for entry in self._entries_of(map_state):
                if entry.known_revision == NEVER:
                    self._reread(entry)
        # The first head on a link is compared with what was seen on earlier links.
        return revision < map_state.seen_on_last_link if last is None else broken

    def _entries_of(self, map_state: MapState) -> list[Entry]:
        entries = self.subscriptions.values()
        return [entry for entry in entries if isinstance(entry, Entry) and entry.map is map_state]

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
                self._drop(subscription)
        return taken

    def take_unsubscribes(self, most: int) -> list[bytes]:
        """Return channels to UNSUBSCRIBE from now, at most ``most``.

        Evicted keys are unsubscribed only while no waiters are woken, or once there are more of them than the cache
        holds: each takes half as long as a wake-up, here and on the server, and is not urgent.
        """
        evict = not self._waking or len(self._evicted) > self.cache_size
        self._waking = False
        taken: list[bytes] = []
        while len(taken) < most and (self._to_unsubscribe or (evict and self._evicted)):
            requested = bool(self._to_unsubscribe)
            channel, subscription = (self._to_unsubscribe or self._evicted).popitem()
            if subscription.phase is UNSUBSCRIBING:
                # To subscribe again (`_resubscribe`) or to try again (`resume`). For an evicted key it is sent already.
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
            channel, entry = self._to_read.popitem()
            if entry.phase is not READING and not (entry.phase is ARMED and entry.unverified):
                continue
            ticket = self.order()
            if entry.phase is ARMED:
                self._verify_tickets[ticket] = entry.known_revision
            else:
                entry.ticket = ticket
            taken.setdefault(entry.map.names.name, []).append((channel, ticket))
            most -= 1
        return taken

    def take_checks(self) -> list[MapState]:
        """Return the maps whose head has to be read now, because a message had an unknown generation."""
        checks, self._to_check = list(self._to_check.values()), {}
        return checks

    # Decisions.

    def _learn(
        self,
        entry: Entry,
        as_of: Revision,
        stored: StoredRecord | None,
        *,
        arms: bool = False,
        call_order: int = 0,
    ) -> Wake | None:
        """Take news of a key, and decide which waiters it wakes. Every wake-up passes here."""
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
        """Remove and return the waiters that news of a pending key wakes."""
        if stored.wake_kind is None:
            return []
        seen = entry.known_revision if entry.phase is ARMED else entry.armed_revision
        if seen.generation == entry.map.flushed_generation:
            # After a flush every record is new, even with a lower revision: the node that began the next generation may
            # not have seen the last one, and the server's clock may be behind it.
            seen = NEVER
        # Armed waiters, also if the key was reset or pulsed since (W2); and for our own pulse, all waiters from before
        # the call, armed or not (W7).
        armed = stored.wake_revision > seen and not _seen_up_to(stored.wake_revision, entry.armed_revision)
        last = call_order if stored.kind is PULSED else 0
        return _remove_waiters(
            entry, [waiter for waiter, order in entry.waiters.items() if (order < 0 and armed) or abs(order) <= last]
        )

    def _cache(self, entry: Entry) -> None:
        """Put the entry into the live cache as the latest one, and evict the oldest if the cache is full."""
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
        """Unsubscribe from a channel that is not needed, unless it is needed again before this is sent."""
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
        """Read an armed key again. The known revision stays, so that no older message counts as news."""
        if entry.phase is ARMED:
            entry.armed_revision = entry.known_revision
            self._uncache(entry)
            entry.phase = READING
            self._read(entry)
            self._release(entry)

    def _doubt(self, entry: Entry) -> None:
        """Read a key again if two messages contradict each other: the forged one may have hidden a wake."""
        if entry.phase is ARMED:
            self._reread(entry)
            assert entry.verified_revision is not None
            entry.armed_revision, entry.known_revision, entry.unverified = entry.verified_revision, NEVER, False

    def _resubscribe(self, entry: Entry) -> None:
        """Unsubscribe, and subscribe again: once confirmed, all messages from before the loss have passed."""
        self._forget(entry)
        if entry.phase in (READING, ARMED):
            entry.phase = UNSUBSCRIBING
            self._to_unsubscribe[entry.channel] = entry

    def _note_generation(self, map_state: MapState, generation: int) -> None:
        """Note the generation of a record, if it differs from what head and records agree on."""
        newest, head = map_state.record_revision, map_state.head
        if generation != newest.generation != 0:
            map_state.mixed_generations = True
        if head is not None and head.generation != generation:
            self._to_check[map_state.names.name] = map_state
        elif generation >= newest.generation:
            map_state.agreed_generation = generation


def _remove_waiters(entry: Entry, woken: list[object]) -> list[object]:
    waiters = entry.waiters
    for waiter in woken:
        del waiters[waiter]
    entry.waiters = waiters
    return woken


def _clamp_to(entry: Entry, head: Revision) -> None:
    """Lower the revision that armed waiters have seen to what exists: a higher one was forged, or has been lost.

    A forged message hid what happened since the last verified revision. If data was lost, the waiters count as having
    seen what is left. (After a flush they keep what they have seen: see `KeyTable._take_woken`.)
    """
    if entry.armed_revision > head != NEVER and entry.armed_revision.generation != entry.map.flushed_generation:
        entry.armed_revision = _certainly_seen(entry, head)


def _certainly_seen(entry: Entry, head: Revision) -> Revision:
    """Return the revision up to which the waiters have certainly seen every wake, ``head`` at most."""
    return head if entry.verified_revision is None else min(entry.verified_revision, head)


def _continues(before: Revision, revision: Revision, follows: Revision) -> bool:
    """Whether a head at ``revision``, in a generation that follows ``follows``, has all data of one at ``before``."""
    if before.generation == revision.generation:
        return before <= revision
    return before == NEVER or (follows.generation == before.generation and before <= follows)


def _seen_up_to(wake: Revision, armed: Revision) -> bool:
    """Whether a wake was seen by waiters that are armed at ``armed``, even if its generation was flushed since."""
    return wake.generation == armed.generation and wake <= armed


def _is_void(known: Revision, before: Revision, revision: Revision) -> bool:
    """Whether what is known as of ``known`` is gone, now that the head went from ``before`` to ``revision``."""
    return known.generation not in (0, revision.generation) or revision < min(before, known)
