"""Tables and entries that are broken on purpose: each has one decision wrong, and the interleavings must notice."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis.stateful import run_state_machine_as_test

from coord.core.entries import Entry
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.records import NEVER, Kind, Revision, StoredRecord
from coord.core.subscriptions import Phase, Registry, Subscription, Wake
from core.cluster_model import Cluster
from core.explore import BROKEN, first_failure
from core.test_interleavings import SCHEDULES, Interleavings, profile


class ReadsBeforeTheConfirmation(KeyTable):
    """Takes a subscription for confirmed when it is sent."""

    def take_subscribes(self, most: int) -> list[bytes]:
        """Send, and be confirmed."""
        channels = super().take_subscribes(most)
        for channel in channels:
            self.subscribed(channel)
        return channels


class TakesTheFirstConfirmation(KeyTable):
    """Sends a second request of a channel before the first is answered."""

    def wait(self, map_state: MapState, channel: bytes, waiter: object) -> StoredRecord | None:
        """Join again at once what is being left."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None and subscription.phase is Phase.UNSUBSCRIBING:
            self.set_unsubscribed(subscription)
            self.subscriptions[channel] = self._to_subscribe[channel] = subscription
        return super().wait(map_state, channel, waiter)

    def release(self, subscription: Subscription) -> None:
        """Take the SUBSCRIBE for confirmed."""
        if not subscription.needed and subscription.phase is Phase.SUBSCRIBING:
            subscription.phase = Phase.READING
        super().release(subscription)


class WantsEveryAnswer(KeyTable):
    """Takes any read for the one that it waits for."""

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Ignore the ticket."""
        entry = self.subscriptions.get(channel)
        return super().read_answered(channel, entry.ticket if isinstance(entry, Entry) else ticket, head, stored)


class BelievesEveryMessage(KeyTable):
    """Does not compare a message with what it knows."""

    def message_received(self, channel: bytes, stored: StoredRecord | None) -> Wake | None:
        """Take it for news."""
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry):
            entry.known_revision = NEVER
        return super().message_received(channel, stored)


class BelievesEveryAnswer(KeyTable):
    """Takes a read that its own call has overtaken, and every other one, as it is."""

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Do not compare."""
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry) and entry.phase in (Phase.READING, Phase.ARMED):
            return entry._learn(self, head, stored, arms=True)
        return None


class ReadsNothingAgain(KeyTable):
    """Goes on after a cut as if nothing could have happened meanwhile."""

    def subscribed(self, channel: bytes) -> bool:
        """Hold an entry for armed that was armed before."""
        rings = super().subscribed(channel)
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry) and any(order < 0 for order in entry.waiters.values()):
            entry.phase = Phase.ARMED
        return rings


class ForgetsWhatWasSeen(Entry):
    """Takes an old wake for a new one after a cut."""

    def forget(self, registry: Registry) -> None:
        """Forget too much."""
        super().forget(registry)
        self.armed_revision = NEVER


class LosesAWakeAtAReset(Entry):
    """Looks at what a record is, not at the wake that it keeps."""

    def _take_woken(self, stored: StoredRecord, call_order: int) -> list[object]:
        if stored.kind is Kind.RESET:
            return []
        return super()._take_woken(stored, call_order)


class WakesOnlyTheLatched(KeyTable):
    """Does not wake by a pulse that a read finds."""

    def read_answered(self, channel: bytes, ticket: int, head: Revision, stored: StoredRecord | None) -> Wake | None:
        """Pass over a record of a pulse."""
        pulsed = stored is not None and stored.kind is Kind.PULSED
        return super().read_answered(channel, ticket, head, None if pulsed else stored)


class ResolvesTwice(Entry):
    """Keeps those whom it has woken."""

    def _take_woken(self, stored: StoredRecord, call_order: int) -> list[object]:
        before = dict(self.waiters)
        woken = super()._take_woken(stored, call_order)
        self.waiters = before
        return woken


class WakesTheLastFirst(Entry):
    """Turns the order around."""

    def _take_woken(self, stored: StoredRecord, call_order: int) -> list[object]:
        return super()._take_woken(stored, call_order)[::-1]


class WakesOneOnly(Entry):
    """Hands an event to one waiter, as a queue would."""

    def _take_woken(self, stored: StoredRecord, call_order: int) -> list[object]:
        first, *rest = super()._take_woken(stored, call_order) or [None]
        self.waiters |= dict.fromkeys(rest, -1)
        return [first] if first is not None else []


class NeverLeaves(KeyTable):
    """Stays subscribed to everything."""

    def take_unsubscribes(self, most: int) -> list[bytes]:
        """Send nothing."""
        return []


class LeavesWhatIsNeeded(KeyTable):
    """Does not look again before it sends an UNSUBSCRIBE."""

    def take_unsubscribes(self, most: int) -> list[bytes]:
        """Send what was unneeded once."""
        channels = list(self._to_unsubscribe)
        self._to_unsubscribe.clear()
        for channel in channels:
            self.subscriptions[channel].phase = Phase.UNSUBSCRIBING
        return channels


class ForgetsToCancel(KeyTable):
    """Keeps the entry of a waiter that was cancelled."""

    def cancel(self, channel: bytes, waiter: object) -> None:
        """Take the waiter out, and leave it at that."""
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry):
            entry.remove(waiter)


class IgnoresItsOwnWords(KeyTable):
    """Relies on messages alone."""

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Wait for the message."""
        return None


class MistakesTheOrderOfItsOwnCalls(KeyTable):
    """Wakes by a pulse of its own also those who came after it."""

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Wake everybody."""
        return super().call_applied(map_state, channel, stored, self.last_order)


class BelievesARepeatedAnswer(KeyTable):
    """Takes for news what the server says again as it did long ago."""

    def call_repeated(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Make no difference."""
        return self.call_applied(map_state, channel, stored, call_order)


class ForgetsWhoWasOvertaken(KeyTable):
    """Throws the outcome of its own call away when a message was quicker."""

    def call_applied(
        self, map_state: MapState, channel: bytes, stored: StoredRecord | None, call_order: int
    ) -> Wake | None:
        """Take only news."""
        entry = self.subscriptions.get(channel)
        if isinstance(entry, Entry) and stored is not None and stored.revision <= entry.known_revision:
            return None
        return super().call_applied(map_state, channel, stored, call_order)


class TrustsAFlushedServer(KeyTable):
    """Keeps what it knows when the data is lost."""

    def resubscribe(self, subscription: Subscription) -> None:
        """Do nothing."""


class CachesWithoutBound(KeyTable):
    """Lets the live cache grow."""

    def keep(self, subscription: Subscription) -> None:
        """Evict nothing."""
        bound, self.cache_size = self.cache_size, 1_000_000
        super().keep(subscription)
        self.cache_size = bound


class CachesThroughACut(KeyTable):
    """Answers from what an earlier link has taught it."""

    def set_unsubscribed(self, subscription: Subscription) -> None:
        """Let what is cached be."""
        if not (isinstance(subscription, Entry) and subscription.cached):
            super().set_unsubscribed(subscription)


class ForgetsWhatWasPutOff(KeyTable):
    """Does not ask again."""

    def resume(self) -> None:
        """Ask for nothing."""
        self._postponed.clear()


class GivesUpWhoIsArmed(KeyTable):
    """Takes a permission that is withdrawn for a while for a last word: keeps them without asking again."""

    def failed(self, channel: bytes, ticket: int | None = None, *, for_good: bool = True) -> list[object]:
        """Park nothing."""
        waiters = super().failed(channel, ticket, for_good=for_good)
        self._postponed.pop(channel, None)
        return waiters


# Hypothesis looks at fewer schedules; these it finds in no time.
PLAIN = [
    TakesTheFirstConfirmation,
    ReadsNothingAgain,
    ResolvesTwice,
    WakesTheLastFirst,
    WakesOneOnly,
    NeverLeaves,
    CachesWithoutBound,
    CachesThroughACut,
]
# For mistakes that few seeds show, one that does: tried first, it saves the others, if it still shows it.
_SHOWN: dict[type[KeyTable | Entry], tuple[int]] = {
    WantsEveryAnswer: (1218,),
    BelievesEveryAnswer: (814,),
    BelievesARepeatedAnswer: (2210,),
    ForgetsWhoWasOvertaken: (3125,),
    GivesUpWhoIsArmed: (8621,),
}
PARTS = [part for kind in (KeyTable, Entry) for part in kind.__subclasses__() if part.__module__ == __name__]


@pytest.fixture
def table(part: type[KeyTable | Entry], monkeypatch: pytest.MonkeyPatch) -> type[KeyTable]:
    """Return a class of tables with this broken part."""
    if issubclass(part, KeyTable):
        return part
    monkeypatch.setattr("coord.core.keys.Entry", part)
    return KeyTable


def test_there_are_many() -> None:
    """The list below is made of all classes above."""
    assert len(PARTS) > 20
    assert set(PLAIN) < set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_chance_finds_it(part: type[KeyTable | Entry], table: type[KeyTable]) -> None:
    """The same schedules that the real table passes."""
    seeds = chain(_SHOWN.get(part, ()), range(4 * SCHEDULES))
    found = first_failure(seeds, lambda seed: Cluster(table(seed % 4), split=seed % 8 > 3))
    assert found is not None, f"{part.__name__} is not caught"


@pytest.mark.parametrize("part", PLAIN)
def test_hypothesis_finds_it(part: type[KeyTable | Entry], table: type[KeyTable]) -> None:
    """The same state machine that the real table passes."""
    machine = type(part.__name__, (Interleavings,), {"table": table})
    with pytest.raises(BROKEN):
        run_state_machine_as_test(machine, settings=profile(400, shorten=False))
