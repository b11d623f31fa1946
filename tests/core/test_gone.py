"""Waiters for the end of an event, in the table of keys: what resolves them, in whatever order news comes."""

from __future__ import annotations

import pytest

from coord.core.conditions import Ended
from coord.core.records import EXPIRED, FIRED, PULSED, Revision, StoredRecord, Tail
from coord.core.subscriptions import Wake
from core.test_keys import ABC, Node, head, made, reset, rev, woken


class GoneNode(Node):
    """A node whose users wait for ends."""

    def gone(self, waiter: str) -> Wake | None:
        """Wait for the end of the event."""
        return self.table.wait_until(self.map, ABC, waiter, Ended())

    def message(self, stored: StoredRecord) -> Wake | None:
        """Take a message."""
        return self.table.message_received(ABC, stored)

    def armed_at(self) -> dict[object, Revision | None]:
        """Return at which revision each waiter for the end was armed."""
        conditions = (self.entry().conditions or {}).items()
        return {waiter: condition.latched_at for waiter, condition in conditions if isinstance(condition, Ended)}


def timed(number: int) -> StoredRecord:
    """Return an event with a TTL."""
    return StoredRecord(FIRED, rev(number), 0, "node", Tail(ttl=1000), b"1")


def passed(number: int, since: int) -> StoredRecord:
    """Return an event whose record was replaced while the key stayed latched."""
    return StoredRecord(FIRED, rev(number), 0, "node", Tail(since=rev(since)), b"2")


def _armed(latched: StoredRecord) -> GoneNode:
    node = GoneNode()
    assert node.gone("w") is None
    node.subscribe()
    assert node.read(latched.revision, latched) is None
    assert node.armed_at() == {"w": latched.revision}
    return node


@pytest.mark.parametrize("stored", [None, made(PULSED, 3), reset(3, made(FIRED, 2))])
def test_l10_a_pending_key_resolves_when_it_is_read(stored: StoredRecord | None) -> None:
    """L10: and at once once that is known; the key is not needed then."""
    node = GoneNode()
    assert node.gone("w") is None
    assert node.entry().unarmed
    node.subscribe()
    wake = node.read(rev(3), stored)
    assert woken(wake) == ["w"]
    assert wake is not None
    assert wake.stored == stored
    assert node.entry().conditions is None
    again = node.gone("again")
    assert woken(again) == ["again"]
    assert not node.entry().needed


def test_l10_an_armed_one_waits_for_the_message_of_the_end() -> None:
    """L10: a later fire of the same event is no news, an old message neither."""
    node = _armed(made(FIRED, 5))
    assert node.message(made(FIRED, 5)) is None
    assert node.message(made(PULSED, 4)) is None
    assert woken(node.message(reset(6, made(FIRED, 5)))) == ["w"]


def test_l10_another_record_of_the_same_event_is_no_end() -> None:
    """L10: what counts is since when the key is latched, in a message, a read and an answer to a call of ours."""
    node = _armed(made(FIRED, 5))
    assert node.message(passed(7, 5)) is None
    assert node.armed_at() == {"w": rev(5)}
    node.table.link_lost()
    node.unsubscribe()
    node.subscribe()
    assert node.read(rev(9), passed(9, 5)) is None
    assert node.table.call_repeated(node.map, ABC, passed(10, 5), 0) is None
    assert woken(node.table.call_repeated(node.map, ABC, passed(12, 11), 0)) == ["w"]


def test_l10_a_record_that_another_event_left_is_an_end() -> None:
    """L10: the event ended while the link was down, and the record of the next one was replaced."""
    node = _armed(made(FIRED, 5))
    node.table.link_lost()
    node.unsubscribe()
    node.subscribe()
    assert woken(node.read(rev(9), passed(9, 8))) == ["w"]


def test_l10_a_pulse_wakes_both_kinds() -> None:
    """L10: those who wait for the event come first."""
    node = _armed(made(FIRED, 5))
    node.table.resubscribe(node.entry())
    node.wait("waits")
    node.unsubscribe()
    node.subscribe()
    wake = node.message(made(PULSED, 6))
    assert woken(wake) == ["waits", "w"]


def test_l10_not_armed_it_goes_by_what_stands() -> None:
    """L10: a reset before it was armed, and another fire, are not its business."""
    node = GoneNode()
    node.gone("w")
    node.subscribe()
    assert node.read(rev(9), made(FIRED, 9)) is None
    assert node.armed_at() == {"w": rev(9)}


def test_l10_latched_again_while_the_link_was_down() -> None:
    """L10: the revision at which it is latched tells; an event that stands is the same one."""
    for number, expected in ((5, []), (8, ["w"])):
        node = _armed(made(FIRED, 5))
        node.table.link_lost()
        assert node.armed_at() == {"w": rev(5)}
        node.subscribe()
        assert woken(node.read(rev(9), made(FIRED, number))) == expected


def test_l10_lost_data_is_an_end() -> None:
    """L10: what the server does not have is over."""
    node = _armed(made(FIRED, 5))
    node.table.head_received(node.map, head(5))
    node.table.head_received(node.map, None)
    node.unsubscribe()
    node.subscribe()
    assert woken(node.read(rev(0, 0), None)) == ["w"]


def test_l10_own_calls() -> None:
    """L10, W7: an armed one is resolved by the outcome of this node's own reset."""
    node = _armed(made(FIRED, 5))
    wake = node.table.call_applied(node.map, ABC, reset(6, made(FIRED, 5)), node.table.order())
    assert woken(wake) == ["w"]


def test_l10_failing_and_closing() -> None:
    """L10: one that is not armed fails with the read; all of them are taken at the end."""
    node = GoneNode()
    node.gone("w")
    node.wait("waits")
    assert node.entry().count == 2
    assert node.table.failed(ABC, for_good=False) == ["waits", "w"]
    node = _armed(made(FIRED, 5))
    assert node.table.failed(ABC, for_good=False) == []
    node.gone("second")
    assert node.table.take_all_waiters() == ["w", "second"]
    assert node.entry().count == 0


def test_l10_cancelled() -> None:
    """L10: the last one leaves nothing."""
    node = _armed(made(FIRED, 5))
    node.gone("second")
    node.table.cancel(ABC, "w")
    assert node.entry().count == 1
    node.table.cancel(ABC, "second")
    node.table.cancel(ABC, "second")
    assert node.entry().conditions is None


def test_l11_an_event_with_a_ttl_is_not_cached() -> None:
    """L11: each wait reads it anew, with the waiters that came before; an armed one sees no end in that."""
    node = GoneNode()
    node.wait("first")
    node.subscribe()
    assert woken(node.read(rev(5), timed(5))) == ["first"]
    assert not node.entry().cached
    assert not node.entry().needed
    node.gone("w")
    assert node.wait("second") is None
    assert node.entry().unarmed
    assert woken(node.read(rev(5), timed(5))) == ["second"]
    assert node.armed_at() == {"w": rev(5)}
    node.wait("third")
    assert woken(node.read(rev(5), timed(5).over())) == ["w"]
    assert woken(node.message(StoredRecord(EXPIRED, rev(6), 0, "node", Tail((FIRED, *rev(5))), b"1"))) == []
    assert woken(node.message(made(FIRED, 7))) == ["third"]


def test_l11_a_wake_of_an_event_that_is_over() -> None:
    """L11, W2: an armed waiter that missed the fire gets it from the read that finds it over."""
    node = GoneNode()
    node.wait("w")
    node.subscribe()
    node.read(rev(1), None)
    node.table.link_lost()
    node.subscribe()
    node.wait("later")
    wake = node.read(rev(5), timed(5).over())
    assert woken(wake) == ["w"]
    assert list(node.entry().waiters) == ["later"]


def test_a_return_to_the_generation_before_is_no_flush() -> None:
    """W8: on a server with older data, an armed waiter is not woken by what was over before."""
    node = Node()
    node.arm("w", rev(3))
    node.table.head_received(node.map, head(3))
    node.table.head_received(node.map, head(4, 9, follows=rev(3)))
    node.table.link_lost()
    node.subscribe()
    node.table.head_received(node.map, head(4, 9, follows=rev(3)))
    assert node.read(rev(4, 9), made(PULSED, 3)) is None
    node.table.head_received(node.map, head(2))
    node.unsubscribe()
    node.subscribe()
    assert node.read(rev(2), made(PULSED, 2)) is None
    assert list(node.entry().waiters) == ["w"]
