"""Kinds of subscription answer for themselves: a new one joins the table without a branch in it."""

from __future__ import annotations

from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.records import Kind, Revision, StoredRecord
from coord.core.subscriptions import Phase, Registry, Subscription, Wake

NAMES = MapNames("default", "mount", 0)
CHANNEL = NAMES.channel("members")
RECORD = StoredRecord.of_call(Kind.PULSED, Revision(5, 1), 0, "node", b"1")


class Observed(Subscription):
    """A kind that is read, and notes what happens to it."""

    def __init__(self, channel: bytes, map_state: MapState) -> None:
        super().__init__(channel, map_state)
        self.used = True
        self.events: list[str] = []

    @property
    def needed(self) -> bool:
        """Whether the test still uses it."""
        return self.used

    def subscribed(self, registry: Registry) -> bool:
        """Be read."""
        self.phase = Phase.READING
        registry.read(self)
        return False

    def failed(self, registry: Registry, ticket: int | None, *, for_good: bool) -> list[object]:
        """Be dropped."""
        self.events.append(f"failed, {for_good=}")
        registry.drop(self)
        return []

    def message_received(self, registry: Registry, stored: StoredRecord | None) -> Wake | None:
        """Note it."""
        self.events.append("message")
        return None

    def read_answered(
        self, registry: Registry, ticket: int, head: Revision, stored: StoredRecord | None
    ) -> Wake | None:
        """Be armed."""
        self.events.append("read")
        self.phase = Phase.ARMED
        return None

    def link_lost(self) -> None:
        """Note it."""
        self.events.append("link lost")


def make() -> tuple[KeyTable, MapState, Observed]:
    """Return a table with one subscription of that kind, whose SUBSCRIBE is sent."""
    table = KeyTable(10)
    map_state = table.maps["mount"] = MapState(NAMES)
    observed = Observed(CHANNEL, map_state)
    table.add(observed)
    assert table.take_subscribes(500) == [CHANNEL]
    return table, map_state, observed


def test_a_new_kind_is_subscribed_read_and_notified() -> None:
    """Its events reach it, from the confirmation to the loss of the link, and it is subscribed to again."""
    table, _, observed = make()
    table.subscribed(CHANNEL)
    ((channel, ticket),) = table.take_reads(500)["mount"]
    table.read_answered(channel, ticket, Revision(5, 0), None)
    table.message_received(CHANNEL, RECORD)
    table.link_lost()
    assert observed.events == ["read", "message", "link lost"]
    assert table.take_subscribes(500) == [CHANNEL]


def test_a_new_kind_has_no_part_in_what_it_does_not_answer() -> None:
    """Waits, calls and lost data concern it only if it says so."""
    table, map_state, observed = make()
    table.subscribed(CHANNEL)
    assert table.call_applied(map_state, CHANNEL, RECORD, 1) is None
    assert table.call_applied(map_state, CHANNEL, None, 1) is None
    assert table.call_repeated(map_state, CHANNEL, RECORD, 1) is None
    table.head_received(map_state, None)
    table.cancel(CHANNEL, "nobody")
    assert table.take_all_waiters() == table.unarmed(map_state) == []
    assert (observed.count, observed.events) == (0, [])


def test_a_new_kind_is_dropped_when_it_is_not_needed() -> None:
    """It leaves nothing in the table, and its map does not count it."""
    table, map_state, observed = make()
    table.subscribed(CHANNEL)
    observed.used = False
    table.release(observed)
    assert table.take_unsubscribes(500) == [CHANNEL]
    table.unsubscribed(CHANNEL)
    assert not table.subscriptions
    assert map_state.channels == 0


def test_a_new_kind_that_is_refused_fails_by_itself() -> None:
    """The refusal is passed to it, too."""
    table, _, observed = make()
    assert table.failed(CHANNEL, for_good=False) == []
    assert observed.events == ["failed, for_good=False"]
    assert not table.subscriptions
