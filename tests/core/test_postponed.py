"""What the server puts off: it stays where it is, is asked for again later, and never twice or out of order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coord.core.keys import KeyTable
from coord.core.records import NEVER, Head, Kind
from core.test_calls import call, queue_of, sent
from core.test_keys import ABC, NAMES, XYZ, Node, made, rev, woken

# Keys.


def test_a_subscription_that_was_put_off_is_asked_for_again() -> None:
    """Not before the pause is over; whoever comes meanwhile waits with the others."""
    node = Node()
    node.wait("a")
    node.table.take_subscribes(500)
    node.table.postpone(ABC)
    node.wait("b")
    assert node.table.take_subscribes(500) == []
    assert not node.table.busy
    node.table.resume()
    assert node.table.take_subscribes(500) == [ABC]
    node.table.subscribed(ABC)
    assert woken(node.read(rev(1), made(Kind.FIRED, 1))) == ["a", "b"]


def test_a_read_that_was_put_off_is_asked_for_again() -> None:
    """The key stays subscribed; a message that comes first arms it, and then there is nothing to read."""
    node = Node()
    for channel in (ABC, XYZ):
        node.wait("w", channel)
    node.subscribe()
    tickets = node.tickets()
    for channel, ticket in tickets.items():
        node.table.postpone(channel, ticket)
    assert node.tickets() == {}
    assert woken(node.table.message_received(XYZ, made(Kind.PULSED, 1))) == ["w"]
    node.table.resume()
    assert list(node.tickets()) == [ABC]
    assert node.table.read_answered(ABC, tickets[ABC], rev(9), made(Kind.FIRED, 9)) is None


def test_what_nobody_needs_any_more_is_not_asked_for() -> None:
    """W5: a wait that is cancelled while it is put off leaves nothing; one that comes back is armed all the same."""
    node = Node()
    node.wait("a")
    node.wait("x", XYZ)
    node.subscribe()
    tickets = node.tickets()
    node.wait("again")
    for channel, ticket in tickets.items():
        node.table.postpone(channel, ticket)
    node.table.cancel(XYZ, "x")
    assert node.unsubscribe() == [XYZ]
    node.table.cancel(ABC, "a")
    node.table.cancel(ABC, "again")
    node.wait("back")
    assert node.unsubscribe() == []
    node.table.resume()
    assert list(node.tickets()) == [ABC]
    assert XYZ not in node.table.subscriptions


def test_leaving_that_was_refused_is_asked_for_again() -> None:
    """W5: also if the refusal was no promise to change. One request at a time, and none that is not needed."""
    node = Node()
    bell = node.table.add_watcher(node.map)
    node.arm("a")
    node.subscribe()
    node.table.cancel(ABC, "a")
    node.table.remove_watcher(bell)
    for _ in range(2):
        leaving = node.table.take_unsubscribes(500)
        assert sorted(leaving) == sorted([ABC, NAMES.doorbell])
        for channel in leaving:
            node.table.unsubscribe_refused(channel)
        assert not node.table.busy
        assert node.table.subscriptions == {}
        node.table.resume()
    node.wait("back")
    assert node.table.take_subscribes(500) == []
    assert sorted(node.unsubscribe()) == sorted([ABC, NAMES.doorbell])
    assert node.table.take_subscribes(500) == [ABC]
    node.table.resume()
    assert node.table.take_unsubscribes(500) == []


def test_a_leaving_and_a_joining_that_were_refused_leave_nothing() -> None:
    """W5: whoever came back between the two ends, and then nobody needs the channel."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.wait("back")
    node.table.unsubscribe_refused(ABC)
    assert node.table.take_subscribes(500) == [ABC]
    assert node.table.failed(ABC) == ["back"]
    node.table.resume()
    assert node.unsubscribe() == [ABC]
    assert node.map.channels == 0


def test_a_joining_that_is_refused_later_leaves_nothing() -> None:
    """W5: the same, if the other requests are sent again in between."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.table.unsubscribe_refused(ABC)
    node.wait("back")
    for _ in range(2):
        node.table.resume()
        assert node.table.take_subscribes(500) == [ABC]
        node.table.postpone(ABC)
    node.table.cancel(ABC, "back")
    node.table.resume()
    assert node.unsubscribe() == [ABC]
    assert node.map.channels == 0


@pytest.mark.parametrize("sent", [True, False])
def test_a_joining_that_ends_after_all_is_sent_again_leaves_nothing(sent: bool) -> None:
    """W5: it is refused for good, or was given up before it was sent, and nothing else is put off any more."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.table.unsubscribe_refused(ABC)
    node.wait("back")
    if sent:
        assert node.table.take_subscribes(500) == [ABC]
    node.table.resume()
    if sent:
        assert node.table.failed(ABC) == ["back"]
    else:
        node.table.cancel(ABC, "back")
    node.table.verify()
    assert node.unsubscribe() == [ABC]
    assert node.map.channels == 0


def test_who_comes_back_does_not_wait_for_a_leaving_that_was_refused() -> None:
    """The key is subscribed to as any other, and not left in between; when it is left, it is asked for once."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.wait("soon")
    node.table.unsubscribe_refused(ABC)
    node.subscribe()
    node.read(rev(2), None)
    node.table.resume()
    assert node.table.take_unsubscribes(500) == []
    node.table.cancel(ABC, "soon")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.table.unsubscribe_refused(ABC)
    node.wait("later")
    node.subscribe()
    node.table.resume()
    assert woken(node.read(rev(3), made(Kind.FIRED, 3))) == ["later"]
    assert node.map.channels == 1


def test_what_has_no_room_and_is_left_is_left_once() -> None:
    """A key that the live cache had no room for, and that is reset before it is left, has one request."""
    node = Node(cache_size=1)
    for number, channel in enumerate((ABC, XYZ), 1):
        node.arm("w", rev(number - 1), channel)
        assert woken(node.table.message_received(channel, made(Kind.FIRED, number))) == ["w"]
    assert node.table.message_received(ABC, made(Kind.RESET, 3)) is None
    node.table.take_unsubscribes(0)
    assert node.table.take_unsubscribes(500) == [ABC]


def test_a_read_that_was_put_off_does_not_have_the_key_left_twice() -> None:
    """It is over where the key has been left since."""
    node = Node()
    node.wait("a")
    node.subscribe()
    node.table.postpone(ABC, node.tickets()[ABC])
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.table.resume()
    assert node.table.take_unsubscribes(500) == []


def test_a_cut_forgets_what_was_put_off() -> None:
    """On the next link all is asked for at once, and once."""
    node = Node()
    node.wait("a")
    node.table.take_subscribes(500)
    node.table.postpone(ABC)
    node.table.link_lost()
    assert node.table.take_subscribes(500) == [ABC]
    node.table.subscribed(ABC)
    node.table.resume()
    assert node.table.take_subscribes(500) == []
    assert len(node.tickets()) == 1


def test_a_cut_ends_what_the_server_refused_to_end() -> None:
    """On the next link there is nothing to leave."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.table.unsubscribe_refused(ABC)
    node.table.link_lost()
    node.table.resume()
    assert node.table.take_unsubscribes(500) == []
    assert node.map.channels == 0


def test_a_doorbell_that_was_put_off_is_joined_again() -> None:
    """Those who watch go on."""
    node = Node()
    node.table.add_watcher(node.map)
    node.table.take_subscribes(500)
    node.table.postpone(NAMES.doorbell)
    assert not node.table.is_armed(NAMES.doorbell)
    node.table.resume()
    assert node.table.take_subscribes(500) == [NAMES.doorbell]
    assert node.table.subscribed(NAMES.doorbell)


def test_armed_waiters_outlast_what_is_forbidden_for_a_moment() -> None:
    """Whoever was armed on an earlier link stays, and is woken by what it has missed; whoever never was is given up."""
    node = Node()
    node.arm("armed")
    node.table.link_lost()
    node.wait("new")
    node.table.take_subscribes(500)
    assert node.table.failed(ABC, for_good=False) == ["new"]
    assert node.table.take_subscribes(500) == []
    node.table.resume()
    node.subscribe()
    ticket = node.tickets()[ABC]
    assert node.table.failed(ABC, ticket, for_good=False) == []
    node.table.resume()
    assert woken(node.read(rev(3), made(Kind.PULSED, 3))) == ["armed"]


@pytest.mark.parametrize("refused", [KeyTable.postpone, KeyTable.failed])
def test_a_second_read_that_is_refused_is_asked_for_at_the_next_heartbeat(refused: Callable[..., object]) -> None:
    """W5: what the answer would have been compared with goes with the read."""
    node = Node()
    node.arm("w")
    node.table.message_received(ABC, made(Kind.PULSED, 1))
    node.wait("again")
    for _ in range(3):
        node.table.verify()
        refused(node.table, ABC, node.tickets()[ABC])
        assert not node.table._verify_tickets
        assert node.tickets() == {}


def test_data_that_appears_without_a_message_is_read() -> None:
    """A map that had none, and has some of which no message told: those who are armed are read again."""
    node = Node()
    node.arm("w")
    assert not node.table.head_received(node.map, None)
    assert node.tickets() == {}
    head = Head(rev(5), b"run", NEVER)
    assert not node.table.head_received(node.map, head)
    assert woken(node.read(rev(5), made(Kind.PULSED, 4))) == ["w"]
    node.arm("next", rev(5), XYZ)
    node.table.head_received(node.map, head)
    assert node.tickets() == {}


# Calls.


def test_a_batch_that_was_put_off_keeps_its_place() -> None:
    """F1: nothing overtakes it, however much has gathered."""
    queue = queue_of(call("a"))
    queue.most = 1
    first = sent(queue)
    first.postponed = "BUSY"
    queue.add(call("b"))
    assert queue.next() is None
    first.postponed = ""
    second = sent(queue)
    assert (queue.before(first), queue.before(second)) == (0, first.number)


def test_a_call_that_was_put_off_is_not_in_doubt() -> None:
    """F3: at its deadline it is known not to be applied; and then it is taken out of its batch."""
    queue = queue_of(call("short", deadline=1.0), call("long", deadline=9.0))
    batch = sent(queue)
    batch.postponed = "BUSY"
    unsent, unconfirmed = queue.expire(1.0)
    assert ([each.result for each in unsent], unconfirmed) == (["short"], [])
    assert [each.result for each in batch.calls] == ["long"]
    assert queue.earliest() == 9.0
    assert len(queue.expire(9.0)[0]) == 1
    assert queue.sent == []


def test_a_repeated_call_that_was_put_off_is_in_doubt() -> None:
    """F3: its first copy may have been applied, and its batch is repeated unchanged."""
    queue = queue_of(call("a", deadline=1.0), call("b", deadline=9.0))
    batch = sent(queue)
    batch.repeated, batch.postponed = True, "BUSY"
    unsent, unconfirmed = queue.expire(1.0)
    assert (unsent, [each.result for each in unconfirmed]) == ([], ["a"])
    assert len(batch.calls) == 2
