"""Waiters for a count, in the table of keys: what resolves them, in whatever order news comes."""

from __future__ import annotations

import pytest

from coord.core.conditions import Ended, Reached
from coord.core.records import COUNTED, FIRED, NEVER, PULSED, StoredRecord, Tail
from coord.core.subscriptions import Wake
from core.test_keys import ABC, Node, head, made, reset, rev, verified, woken


class CountNode(Node):
    """A node whose users wait for counts."""

    def reaches(self, waiter: str, least: int) -> Wake | None:
        """Wait for a count."""
        return self.table.wait_until(self.map, ABC, waiter, Reached(least))

    def message(self, stored: StoredRecord) -> Wake | None:
        """Take a message."""
        return self.table.message_received(ABC, stored)


def counted(number: int, count: int, goal: int | None = None, since: int | None = None) -> StoredRecord:
    """Return a counter's record: fired, if it has a goal that is reached."""
    if goal is not None and count >= goal:
        tail = Tail(since=None if since is None else rev(since), count=count, goal=goal)
        return StoredRecord(FIRED, rev(number), 0, "node", tail, b"%d" % count)
    return StoredRecord(COUNTED, rev(number), 0, "node", Tail(count=count, goal=goal), b"")


def _armed(number: int = 1, stored: StoredRecord | None = None) -> CountNode:
    node = CountNode()
    assert node.reaches("five", 5) is None
    node.subscribe()
    assert node.read(rev(number), stored) is None
    return node


def test_l12_it_is_met_when_it_is_read() -> None:
    """L12: at once, if the count is there when it is armed; the key is not needed then."""
    node = CountNode()
    assert node.reaches("five", 5) is None
    assert node.entry().unarmed
    node.subscribe()
    assert woken(node.read(rev(9), counted(9, 5))) == ["five"]
    assert woken(node.reaches("four", 4)) == ["four"]
    assert not node.entry().needed
    assert node.reaches("six", 6) is None
    assert node.entry().needed


def test_l12_messages_meet_it_and_wakes_do_not() -> None:
    """L12: nor does a pulse, or an event without a count; a reset begins at 0."""
    node = _armed()
    assert node.message(counted(2, 4)) is None
    assert node.message(reset(3, counted(2, 4))) is None
    assert node.message(made(PULSED, 4)) is None
    assert node.message(made(FIRED, 5)) is None
    assert node.message(reset(6, made(FIRED, 5))) is None
    assert node.message(counted(7, 1)) is None
    assert woken(node.message(counted(8, 5))) == ["five"]


def test_l12_a_goal_wakes_waits_first() -> None:
    """L12, W2: one message resolves both kinds, and the latch is kept in the live cache through further counts."""
    node = _armed()
    node.wait("waits")
    assert woken(node.message(counted(2, 5, 5))) == ["waits", "five"]
    assert node.entry().cached
    assert node.reaches("six", 6) is None
    assert woken(node.message(counted(3, 6, 5, since=2))) == ["six"]
    assert node.entry().cached
    assert node.wait("late") == counted(3, 6, 5, since=2)


def test_l12_a_count_is_no_end_and_no_wake() -> None:
    """L10: the event stands while it counts on, and who waits for a pending key waits on."""
    node = CountNode()
    node.table.wait_until(node.map, ABC, "gone", Ended())
    node.subscribe()
    assert node.read(rev(5), counted(5, 5, 5)) is None
    assert node.message(counted(6, 6, 5, since=5)) is None
    assert woken(node.message(reset(7, counted(6, 6, 5, since=5)))) == ["gone"]
    node.wait("waits")
    assert node.message(counted(8, 1)) is None
    assert woken(node.table.wait_until(node.map, ABC, "over", Ended())) == ["over"]
    assert woken(node.message(counted(9, 5, 5))) == ["waits"]


def test_l12_the_wake_before_the_counter() -> None:
    """W2: an armed waiter that was cut off gets it, once."""
    node = CountNode()
    node.wait("w")
    node.subscribe()
    assert node.read(rev(1), None) is None
    node.table.link_lost()
    node.subscribe()
    node.wait("later")
    stored = StoredRecord(COUNTED, rev(5), 0, "node", Tail((PULSED, *rev(4)), count=2), b'"v"')
    assert woken(node.read(rev(5), stored)) == ["w"]
    assert list(node.entry().waiters) == ["later"]
    stored = StoredRecord(COUNTED, rev(6), 0, "node", Tail((PULSED, *rev(4)), count=3), b'"v"')
    assert node.message(stored) is None


@pytest.mark.parametrize("repeated", [False, True])
def test_l12_own_calls_meet_it(repeated: bool) -> None:
    """L12, W7: by the count after the call, also if a message about a reset came first."""
    node = _armed()
    learn = node.table.call_repeated if repeated else node.table.call_applied
    order = node.table.order()
    assert learn(node.map, ABC, counted(2, 4), order) is None
    assert woken(learn(node.map, ABC, counted(3, 5), order)) == ["five"]
    node = _armed()
    assert node.message(reset(4, counted(3, 5))) is None
    learn = node.table.call_repeated if repeated else node.table.call_applied
    assert woken(learn(node.map, ABC, counted(3, 5), order)) == ["five"]


def test_l12_a_late_message_meets_it() -> None:
    """L12: the answer to our own reset overtook the message about the count, on the other connection."""
    node = _armed()
    assert node.table.call_applied(node.map, ABC, reset(4, counted(3, 5)), node.table.order()) is None
    assert node.message(counted(2, 4)) is None
    assert woken(node.message(counted(3, 5))) == ["five"]


def test_l12_a_late_message_meets_no_later_wait() -> None:
    """L12: a wait that is made after the reset was known is for the next count."""
    node = _armed()
    assert node.table.call_applied(node.map, ABC, reset(4, counted(3, 5)), node.table.order()) is None
    assert node.reaches("four", 4) is None
    assert woken(node.message(counted(3, 5))) == ["five"]
    assert woken(node.message(counted(5, 4))) == ["four"]


def test_l12_a_message_after_a_forged_one_meets_it() -> None:
    """L12: what was known when the wait was made had been forged, so a real message counts, though it looks older."""
    node = _armed()
    assert node.message(counted(9, 1)) is None
    assert node.reaches("four", 4) is None
    assert woken(node.message(counted(3, 5))) == ["five", "four"]


def test_l12_a_late_message_after_a_forged_one_that_a_read_tells_meets_it() -> None:
    """L12: the same if a read tells that the message was forged, and the real one comes after that."""
    node = _armed()
    assert node.message(counted(9, 1)) is None
    assert node.reaches("four", 4) is None
    assert verified(node, rev(4), reset(4, counted(3, 5))) is None
    assert woken(node.message(counted(3, 5))) == ["five", "four"]


@pytest.mark.parametrize("repeated", [False, True])
def test_l12_an_own_count_after_a_forged_message_meets_it(repeated: bool) -> None:
    """L12, W7: what was known when the wait was made had been forged; the call was made after it all the same."""
    node = _armed()
    assert node.message(counted(9, 1)) is None
    assert node.reaches("four", 4) is None
    learn = node.table.call_repeated if repeated else node.table.call_applied
    order = node.table.order()
    assert node.reaches("later", 4) is None
    assert woken(learn(node.map, ABC, counted(3, 4), order)) == ["four"]


def test_l12_the_other_calls_of_a_batch_wake_no_pulse_waiter() -> None:
    """L12: each tells the same record, which is known from the first."""
    node = _armed()
    node.wait("waits")
    order = node.table.order()
    assert node.table.call_applied(node.map, ABC, counted(2, 3), order) is None
    assert node.table.call_applied(node.map, ABC, counted(2, 3), order + 1) is None
    assert list(node.entry().waiters) == ["waits"]


def test_l12_failing() -> None:
    """L12: one that is not armed fails with the read, an armed one waits on."""
    node = CountNode()
    node.reaches("five", 5)
    assert node.table.failed(ABC, for_good=False) == ["five"]
    node = _armed()
    assert node.table.failed(ABC, for_good=False) == []
    node.table.link_lost()
    assert node.table.failed(ABC, for_good=False) == []
    assert node.table.take_all_waiters() == ["five"]


def test_l12_lost_data() -> None:
    """L12: it waits on, for the count that begins anew."""
    node = _armed(5, counted(5, 4))
    node.table.head_received(node.map, head(5))
    node.table.head_received(node.map, None)
    node.unsubscribe()
    node.subscribe()
    assert node.read(NEVER, None) is None
    assert woken(node.message(counted(6, 5))) == ["five"]


def test_l12_a_late_message_after_lost_data() -> None:
    """L12: what was known when the wait was made is gone, so a count with a lower revision meets it, also if late."""
    node = _armed(5, counted(5, 4))
    assert node.reaches("six", 6) is None
    node.table.head_received(node.map, head(5))
    node.table.head_received(node.map, head(1))
    node.unsubscribe()
    node.subscribe()
    assert node.read(rev(1), counted(1, 1)) is None
    assert node.table.call_applied(node.map, ABC, reset(3, counted(2, 6)), node.table.order()) is None
    assert woken(node.message(counted(2, 6))) == ["five", "six"]
