"""The table of keys: one test for each race that a comment in `coord.core.keys` speaks of."""

from __future__ import annotations

from coord.core.entries import Entry
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.records import NEVER, Head, Kind, Revision, StoredRecord, Tail
from coord.core.subscriptions import Phase, Wake
from support.packing import reset_of

NAMES = MapNames("default", "mount", 0)
ABC = NAMES.channel("abc")
XYZ = NAMES.channel("xyz")


def rev(number: int, generation: int = 5) -> Revision:
    """Return a revision of the generation that most tests live in."""
    return Revision(generation, number)


def made(kind: Kind, number: int, generation: int = 5) -> StoredRecord:
    """Return what a fire, fail or pulse put there."""
    return StoredRecord.of_call(kind, rev(number, generation), 0, "node", b'"%s %d"' % (kind.encode(), number))


def reset(number: int, wake: StoredRecord | None = None) -> StoredRecord:
    """Return what a reset put there, which keeps a wake."""
    if wake is None:
        return StoredRecord(Kind.RESET, rev(number), 0, "node")
    return reset_of(wake, rev(number), 0, "node")


def head(number: int, generation: int = 5, follows: Revision = NEVER) -> Head:
    """Return a map's head."""
    return Head(rev(number, generation), b"process", follows)


class Node:
    """A table with one map, and shorter words for what a session does with it."""

    def __init__(self, cache_size: int = 10) -> None:
        self.table = KeyTable(cache_size)
        self.map = self.table.maps["mount"] = MapState(NAMES)

    def wait(self, waiter: str, channel: bytes = ABC) -> StoredRecord | None:
        """Make a waiter; its name stands for it."""
        return self.table.wait(self.map, channel, waiter)

    def entry(self, channel: bytes = ABC) -> Entry:
        """Return the table's entry of a key."""
        entry = self.table.subscriptions[channel]
        assert isinstance(entry, Entry)
        return entry

    def subscribe(self) -> None:
        """Send the SUBSCRIBEs and confirm them."""
        for channel in self.table.take_subscribes(500):
            self.table.subscribed(channel)

    def tickets(self) -> dict[bytes, int]:
        """Send the reads; return their tickets."""
        return dict(self.table.take_reads(500).get("mount", []))

    def read(self, as_of: Revision, stored: StoredRecord | None = None, channel: bytes = ABC) -> Wake | None:
        """Send the reads and answer one of them."""
        return self.table.read_answered(channel, self.tickets()[channel], as_of, stored)

    def arm(self, waiter: str, as_of: Revision = NEVER, channel: bytes = ABC) -> None:
        """Make a waiter and take it all the way."""
        assert self.wait(waiter, channel) is None
        self.subscribe()
        assert self.read(as_of, None, channel) is None

    def apply(self, stored: StoredRecord, order: int, channel: bytes = ABC) -> Wake | None:
        """Take the answer to a call of our own."""
        return self.table.call_applied(self.map, channel, stored, order)

    def unsubscribe(self) -> list[bytes]:
        """Send the UNSUBSCRIBEs and confirm them."""
        channels = self.table.take_unsubscribes(500)
        for channel in channels:
            self.table.unsubscribed(channel)
        return channels


def woken(wake: Wake | None) -> list[object]:
    """Return whom a wake wakes."""
    return list(wake.waiters) if wake else []


# W1: late.


def test_a_latched_key_answers_a_late_wait_at_once() -> None:
    """W1: what is in the live cache is answered before the subscript returns."""
    node = Node()
    node.arm("first")
    fired = made(Kind.FIRED, 1)
    assert woken(node.table.message_received(ABC, fired)) == ["first"]
    assert node.wait("late") is fired
    assert not node.entry().waiters


def test_a_read_that_finds_the_key_latched_wakes() -> None:
    """W1: a waiter for a key that is latched already is answered as soon as it is armed."""
    node = Node()
    node.wait("w")
    node.subscribe()
    assert woken(node.read(rev(7), made(Kind.FAILED, 3))) == ["w"]


def test_the_read_is_asked_for_only_after_the_confirmation() -> None:
    """W2: what is read before the subscription holds says nothing about what is missed until it holds."""
    node = Node()
    node.wait("w")
    assert node.table.take_subscribes(500) == [ABC]
    assert node.table.take_reads(500) == {}
    node.table.subscribed(ABC)
    assert list(node.tickets()) == [ABC]


# W2: no lost wake-up.


def test_a_message_wakes_the_armed_ones_and_arms_who_comes_later() -> None:
    """W2: a pulse wakes who is armed; a waiter made in its callback is armed at once, for the next one."""
    node = Node()
    node.arm("w")
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 1))) == ["w"]
    assert node.wait("next") is None
    assert node.table.take_unsubscribes(500) == []
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 2))) == ["next"]


def test_an_older_answer_cannot_overrule_a_newer_message() -> None:
    """An empty answer from before a fire arrives after the fire's message; the key stays latched."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    fired = made(Kind.FIRED, 4)
    assert woken(node.table.message_received(ABC, fired)) == ["w"]
    assert node.table.read_answered(ABC, ticket, rev(3), None) is None
    assert node.wait("late") is fired


def test_an_older_or_doubled_message_is_no_news() -> None:
    """A message that a read has overtaken, or that comes twice, wakes nobody and changes nothing."""
    node = Node()
    node.wait("w")
    node.subscribe()
    pulsed = made(Kind.PULSED, 4)
    assert node.read(rev(4), pulsed) is None
    assert node.table.message_received(ABC, pulsed) is None
    assert node.table.message_received(ABC, made(Kind.FIRED, 2)) is None
    assert list(node.entry().waiters) == ["w"]
    assert node.entry().phase is Phase.ARMED


def test_a_fire_and_reset_while_away_still_wakes_who_was_armed() -> None:
    """W2: a reset keeps the last wake; who was armed before the cut gets it, who was not waits on."""
    node = Node()
    node.arm("armed", rev(2))
    node.table.link_lost()
    node.wait("later")
    node.subscribe()
    wake = node.read(rev(9), reset(8, made(Kind.FIRED, 7)))
    assert woken(wake) == ["armed"]
    assert wake is not None
    assert wake.stored is not None
    assert wake.stored.data == b'"fired 7"'
    assert list(node.entry().waiters) == ["later"]


def test_a_wake_from_before_the_arming_is_none() -> None:
    """A reset record's kept wake is older than the head at which the waiter was armed: it is not for it."""
    node = Node()
    fired = made(Kind.FIRED, 2)
    node.wait("w")
    node.subscribe()
    assert node.read(rev(3), reset(3, fired)) is None
    node.table.link_lost()
    node.subscribe()
    assert node.read(rev(3), reset(3, fired)) is None
    assert list(node.entry().waiters) == ["w"]


def test_two_cuts_in_a_row_do_not_forget_what_was_seen() -> None:
    """W2: a cut while the key is being read again leaves the armed waiters armed where they were."""
    node = Node()
    node.arm("w", rev(2))
    node.table.link_lost()
    node.subscribe()
    node.table.link_lost()
    node.subscribe()
    assert woken(node.read(rev(5), made(Kind.PULSED, 4))) == ["w"]


def test_a_pulse_heard_while_reading_wakes_all_and_arms() -> None:
    """A message after the confirmation is the whole state: the read that is under way is not waited for."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 1))) == ["w"]
    node.wait("next")
    assert not node.entry().unarmed
    assert node.table.read_answered(ABC, ticket, rev(1), made(Kind.PULSED, 1)) is None
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 2))) == ["next"]


def test_a_reset_heard_while_reading_wakes_nobody_who_was_not_armed() -> None:
    """The wake that a reset keeps may be from before the waiter came."""
    node = Node()
    node.wait("w")
    node.subscribe()
    assert node.table.message_received(ABC, reset(2, made(Kind.FIRED, 1))) is None
    assert not node.entry().unarmed


# Subscriptions: at most one request of a channel is unanswered.


def test_wait_cancel_and_wait_in_one_turn_subscribes_once() -> None:
    """Nothing is sent for a wait that is over before the turn is."""
    node = Node()
    node.wait("a")
    node.table.cancel(ABC, "a")
    assert not node.table.subscriptions
    assert node.table.take_subscribes(500) == []
    node.wait("b")
    assert node.table.take_subscribes(500) == [ABC]
    assert node.table.take_subscribes(500) == []


def test_the_first_confirmation_is_not_taken_for_the_second() -> None:
    """Wait, cancel, wait: a key that is being left is joined again only when it has been left."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.wait("b")
    assert node.table.take_subscribes(500) == []
    assert node.table.message_received(ABC, made(Kind.FIRED, 1)) is None
    node.table.subscribed(ABC)  # cannot be, and means nothing
    assert node.entry().phase is Phase.UNSUBSCRIBING
    node.table.unsubscribed(ABC)
    assert node.table.take_subscribes(500) == [ABC]
    node.table.subscribed(ABC)
    assert woken(node.read(rev(1), made(Kind.FIRED, 1))) == ["b"]


def test_a_wait_that_comes_back_in_time_keeps_the_subscription() -> None:
    """The last waiter goes and another comes before the UNSUBSCRIBE is sent: nothing is sent."""
    node = Node()
    node.arm("a")
    node.table.cancel(ABC, "a")
    node.wait("b")
    assert node.table.take_unsubscribes(500) == []
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 1))) == ["b"]


def test_an_answer_from_before_the_key_was_left_is_not_wanted() -> None:
    """A read of an earlier subscription would arm at a head with a gap behind it."""
    node = Node()
    node.wait("a")
    node.subscribe()
    ticket = node.tickets()[ABC]
    node.table.cancel(ABC, "a")
    assert node.unsubscribe() == [ABC]
    node.wait("b")
    node.subscribe()
    assert node.table.read_answered(ABC, ticket, rev(1), None) is None
    assert node.entry().unarmed


def test_cancelled_while_joining_leaves_when_confirmed() -> None:
    """W5: the confirmation of a subscription that nobody wants any more is answered with its end."""
    node = Node()
    node.wait("a")
    assert node.table.take_subscribes(500) == [ABC]
    node.table.cancel(ABC, "a")
    node.table.subscribed(ABC)
    assert node.table.take_unsubscribes(500) == [ABC]
    assert node.table.take_reads(500) == {}
    node.table.unsubscribed(ABC)
    assert not node.table.subscriptions
    assert node.map.channels == 0


def test_cancelling_a_stranger_does_nothing() -> None:
    """A waiter that was resolved, or never was, cannot be cancelled into harm."""
    node = Node()
    node.table.cancel(ABC, "nobody")
    node.arm("w")
    node.table.cancel(ABC, "nobody")
    assert list(node.entry().waiters) == ["w"]


# W5: what stays.


def test_the_live_cache_is_bounded_and_the_least_recently_used_goes() -> None:
    """W5: a latched key beyond the bound is left; one that was asked for lately stays."""
    node = Node(cache_size=1)
    node.arm("a")
    node.table.message_received(ABC, made(Kind.FIRED, 1))
    node.arm("x", rev(1), XYZ)
    node.table.message_received(XYZ, made(Kind.FIRED, 2))
    assert list(node.table.cache) == [XYZ]
    assert node.wait("again") is not None
    assert list(node.table.cache) == [ABC]
    assert node.table.take_unsubscribes(500) == [XYZ]


def test_what_the_cache_has_no_room_for_waits_for_a_quiet_turn() -> None:
    """W5: it is left when nobody was woken since the last look, or at once where it is more than the cache itself."""
    node = Node(cache_size=2)
    for number, name in enumerate("abcdef", 1):
        channel = NAMES.channel(name)
        node.arm(name, rev(number - 1), channel)
        node.table.message_received(channel, made(Kind.FIRED, number))
        left = node.table.take_unsubscribes(500)
        assert len(left) == (3 if name == "e" else 0)
        assert node.table.busy is (name in "cdf")
    assert node.table.take_unsubscribes(500) == [NAMES.channel("d")]
    assert not node.table.busy


def test_a_pulse_leaves_nothing_behind() -> None:
    """W5: a key whose last waiter was woken by a pulse is left."""
    node = Node()
    node.arm("a")
    node.table.message_received(ABC, made(Kind.PULSED, 1))
    assert node.unsubscribe() == [ABC]
    assert not node.table.subscriptions


def test_the_cache_goes_with_the_link() -> None:
    """The live cache is what this link has read and hears; without the link it knows nothing."""
    node = Node()
    node.arm("a")
    node.table.message_received(ABC, made(Kind.FIRED, 1))
    node.table.link_lost()
    assert not node.table.cache
    assert not node.table.subscriptions
    assert node.wait("late") is None


def test_giving_up_lets_go_of_everybody() -> None:
    """W6: at the end all waiters come out, in order, and no entry stays for them."""
    node = Node()
    node.wait("a")
    node.wait("b")
    node.wait("c", XYZ)
    assert node.table.take_all_waiters() == ["a", "b", "c"]
    assert not node.table.subscriptions


# W7: own calls.


def test_an_own_reset_is_seen_before_its_message() -> None:
    """W7: after `await reset(key)` the node's own wait does not get the old value."""
    node = Node()
    node.arm("a")
    fired = made(Kind.FIRED, 1)
    node.table.message_received(ABC, fired)
    node.apply(reset(2, fired), node.table.order())
    assert node.wait("late") is None
    assert node.table.message_received(ABC, reset(2, fired)) is None
    assert list(node.entry().waiters) == ["late"]


def test_an_own_pulse_wakes_earlier_waiters_that_are_not_armed() -> None:
    """W7: whoever waited before the call is woken by it; whoever came after it is not."""
    node = Node()
    node.wait("before")
    order = node.table.order()
    node.wait("after")
    pulsed = made(Kind.PULSED, 1)
    assert woken(node.apply(pulsed, order)) == ["before"]
    node.subscribe()
    assert node.read(rev(1), pulsed) is None
    assert list(node.entry().waiters) == ["after"]


def test_an_own_pulse_that_was_overtaken_still_wakes_who_waited_before_it() -> None:
    """W7: another's reset is heard before our own, unheard pulse is answered."""
    node = Node()
    node.wait("before")
    order = node.table.order()
    node.subscribe()
    assert node.table.message_received(ABC, reset(3, made(Kind.FIRED, 2))) is None
    node.wait("after")
    assert woken(node.apply(made(Kind.PULSED, 1), order)) == ["before"]
    assert list(node.entry().waiters) == ["after"]


def test_an_own_fire_that_was_overtaken_still_wakes_who_waited_before_it() -> None:
    """W7: the same for a fire that another node has reset by the time that its answer comes."""
    node = Node()
    node.wait("before")
    order = node.table.order()
    node.subscribe()
    fired = made(Kind.FIRED, 1)
    assert node.table.message_received(ABC, reset(2, fired)) is None
    assert woken(node.apply(fired, order)) == ["before"]
    assert node.unsubscribe() == [ABC]


def test_an_own_reset_that_was_overtaken_is_no_news() -> None:
    """A newer message was heard before our own reset was answered."""
    node = Node()
    node.arm("w")
    fired = made(Kind.FIRED, 3)
    node.table.message_received(ABC, fired)
    assert node.apply(reset(2), node.table.order()) is None
    assert node.wait("late") is fired


def test_the_message_of_an_own_pulse_is_not_for_later_waiters() -> None:
    """W3: a waiter made after the answer is not woken by the message that trails it, armed or not."""
    node = Node()
    node.wait("before")
    node.subscribe()
    pulsed = made(Kind.PULSED, 1)
    assert woken(node.apply(pulsed, node.table.order())) == ["before"]
    node.wait("after")
    assert node.table.message_received(ABC, pulsed) is None
    assert list(node.entry().waiters) == ["after"]
    assert not node.entry().unarmed


def test_what_stood_before_a_call_that_did_nothing_wakes_only_the_armed() -> None:
    """A reset of a key that was pulsed long ago answers with that pulse, which is not for a waiter that came since."""
    node = Node()
    node.wait("w")
    assert node.apply(made(Kind.PULSED, 1), 0) is None
    assert list(node.entry().waiters) == ["w"]


def test_an_own_call_that_overtakes_a_read_has_the_key_read_again() -> None:
    """The read says nothing of what was missed between it and the call, so nobody is armed by it."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    fired = made(Kind.FIRED, 4)
    node.apply(reset(5, fired), node.table.order())
    assert node.table.read_answered(ABC, ticket, rev(3), None) is None
    assert node.entry().unarmed
    assert node.read(rev(5), reset(5, fired)) is None
    assert not node.entry().unarmed


def test_a_key_is_not_read_again_and_again_from_older_data() -> None:
    """A second read that is too old is put off: the server has lost data, and the link does not know it yet."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    node.apply(reset(5, made(Kind.FIRED, 4)), node.table.order())
    seen = []
    for _ in range(2):
        node.table.read_answered(ABC, ticket, rev(3), None)
        seen.append(node.table.behind)
        ticket = node.tickets().get(ABC, 0)
    assert (seen, ticket) == ([False, True], 0)
    node.table.resume()
    assert node.read(rev(5), made(Kind.FIRED, 5)) is not None


def test_an_own_reset_that_finds_nothing_takes_the_key_out_of_the_live_cache() -> None:
    """W7: the data was flushed, and nobody has noticed yet; a wait after `await reset(key)` asks the server."""
    node = Node()
    node.arm("a")
    node.table.message_received(ABC, made(Kind.FIRED, 1))
    assert node.table.call_applied(node.map, ABC, None, 0) is None
    assert not node.table.cache
    assert node.wait("late") is None
    assert node.table.call_applied(node.map, XYZ, None, 0) is None


def test_a_repeated_answer_is_no_news_to_those_who_came_after_the_call() -> None:
    """The fire was applied before the cut and another node has reset it since: the server answers as it did then."""
    node = Node()
    node.wait("before")
    order = node.table.order()
    node.table.link_lost()
    node.wait("after")
    fired = made(Kind.FIRED, 1)
    assert woken(node.table.call_repeated(node.map, ABC, fired, order)) == ["before"]
    node.subscribe()
    assert node.read(rev(2), reset(2, fired)) is None
    assert list(node.entry().waiters) == ["after"]


def test_a_repeated_answer_that_is_news_to_an_armed_key_is_taken() -> None:
    """W7: the call was applied only now, after the key was read on this link."""
    node = Node()
    order = node.table.order()
    node.arm("w", rev(3))
    fired = made(Kind.FIRED, 4)
    assert woken(node.table.call_repeated(node.map, ABC, fired, order)) == ["w"]
    assert node.wait("late") is fired


def test_a_repeated_answer_that_nothing_stands_is_nothing_new_to_an_unread_key() -> None:
    """The key is read on this link anyway."""
    node = Node()
    node.wait("w")
    assert node.table.call_repeated(node.map, ABC, None, 0) is None
    assert list(node.entry().waiters) == ["w"]


# Junk, refusals.


def test_junk_on_a_channel_has_the_key_read_again() -> None:
    """A message that is no record may hide anything; what is known stays known, so that old news does not come back."""
    node = Node()
    node.arm("w", rev(3))
    assert node.table.message_received(ABC, None) is None
    assert node.entry().phase is Phase.READING
    assert node.table.message_received(ABC, made(Kind.FIRED, 2)) is None
    assert woken(node.read(rev(5), made(Kind.PULSED, 4))) == ["w"]


def test_junk_takes_the_key_out_of_the_live_cache_until_it_is_read() -> None:
    """A wait meanwhile is not answered from what may be over."""
    node = Node()
    node.arm("w")
    node.table.message_received(ABC, made(Kind.FIRED, 1))
    node.table.message_received(ABC, None)
    assert not node.table.cache
    assert node.wait("late") is None
    assert woken(node.read(rev(1), made(Kind.FIRED, 1))) == ["late"]


def test_a_flood_of_junk_does_not_keep_a_key_from_being_read() -> None:
    """A read that is under way stays wanted."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    for _ in range(3):
        assert node.table.message_received(ABC, None) is None
    assert woken(node.table.read_answered(ABC, ticket, rev(1), made(Kind.FIRED, 1))) == ["w"]


def test_junk_on_an_unknown_channel_is_nothing() -> None:
    """A message for a key that was left meanwhile is not for us."""
    assert Node().table.message_received(ABC, None) is None
    assert Node().table.message_received(ABC, made(Kind.FIRED, 1)) is None


def test_a_read_that_fails_gives_up_its_waiters_alone() -> None:
    """A corrupt record hurts its own key; the key is left, or read again for whoever comes."""
    node = Node()
    node.wait("a")
    node.wait("b")
    node.arm("x", channel=XYZ)
    node.wait("c")
    ticket = node.entry().ticket
    assert node.table.failed(ABC, ticket) == ["a", "b", "c"]
    assert node.unsubscribe() == [ABC]
    assert list(node.entry(XYZ).waiters) == ["x"]


def test_the_failure_of_an_old_read_is_not_for_new_waiters() -> None:
    """A key that was left and wanted again is read again: what an old read met is over."""
    node = Node()
    node.wait("a")
    node.subscribe()
    ticket = node.tickets()[ABC]
    node.table.cancel(ABC, "a")
    assert node.table.take_unsubscribes(500) == [ABC]
    node.wait("b")
    assert node.table.failed(ABC, ticket) == []
    assert node.table.failed(XYZ, ticket) == []
    assert list(node.entry().waiters) == ["b"]


def test_a_refused_subscription_gives_up_its_waiters() -> None:
    """Without permission for the channel nobody can be armed; nothing stays behind."""
    node = Node()
    node.wait("a")
    node.table.take_subscribes(500)
    assert node.table.failed(ABC) == ["a"]
    assert not node.table.subscriptions


def test_a_doorbell_is_heard_from_its_confirmation_to_the_cut() -> None:
    """A watcher relies on the doorbell only between the confirmation and the loss of the link."""
    node = Node()
    bell = node.table.add_watcher(node.map)
    assert node.table.add_watcher(node.map) is bell
    heard = [node.table.is_armed(NAMES.doorbell)]
    assert node.table.take_subscribes(500) == [NAMES.doorbell]
    assert node.table.subscribed(NAMES.doorbell)
    heard.append(node.table.is_armed(NAMES.doorbell))
    node.table.link_lost()
    heard.append(node.table.is_armed(NAMES.doorbell))
    assert heard == [False, True, False]
    node.table.remove_watcher(bell)
    assert node.table.take_subscribes(500) == [NAMES.doorbell]
    node.table.remove_watcher(bell)
    node.table.subscribed(NAMES.doorbell)
    assert node.unsubscribe() == [NAMES.doorbell]
    assert not node.table.subscriptions


def test_a_refused_doorbell_is_dropped() -> None:
    """The watchers are told by the session; the table does not ask again by itself."""
    node = Node()
    node.table.add_watcher(node.map)
    node.table.take_subscribes(500)
    assert node.table.failed(NAMES.doorbell) == []
    assert not node.table.subscriptions


# Data lost under a link that holds.


def test_a_new_generation_that_follows_is_no_loss() -> None:
    """Another process has taken the data over and begins a generation: nothing is read again."""
    node = Node()
    assert not node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    assert not node.table.head_received(node.map, head(1, 6, follows=rev(7)))
    assert node.entry().phase is Phase.ARMED


def test_a_flush_drops_the_cache_and_joins_again() -> None:
    """W8: a message from before the flush, still on its way, cannot bring back what is gone."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    node.table.message_received(ABC, made(Kind.FIRED, 4))
    assert node.table.head_received(node.map, None)
    assert not node.table.cache
    node.wait("late")
    assert node.table.take_unsubscribes(500) == [ABC]
    assert node.table.message_received(ABC, made(Kind.FIRED, 4)) is None
    node.table.unsubscribed(ABC)
    node.subscribe()
    assert node.read(NEVER) is None
    assert woken(node.table.message_received(ABC, made(Kind.FIRED, 1, 6))) == ["late"]


def test_an_armed_waiter_stays_armed_through_a_flush() -> None:
    """W2: what is fired after a flush is newer than what was seen before it, also where its generation is lower."""
    for generation in (6, 4):
        node = Node()
        node.table.head_received(node.map, head(3))
        node.arm("w", rev(3))
        assert node.table.head_received(node.map, head(1, generation))
        assert node.unsubscribe() == [ABC]
        node.subscribe()
        assert woken(node.read(rev(2, generation), made(Kind.PULSED, 2, generation))) == ["w"]


def test_a_wake_from_just_before_a_flush_reaches_armed_waiters() -> None:
    """W2: its message was still under way when the flush was noticed; nothing else will tell of it."""
    for kind in (Kind.FIRED, Kind.FAILED, Kind.PULSED):
        node = Node()
        node.table.head_received(node.map, head(3))
        node.arm("a", rev(3))
        node.wait("b")
        assert node.table.head_received(node.map, None)
        node.wait("late")
        if kind is Kind.PULSED:
            assert node.table.take_unsubscribes(500) == [ABC]
        stored = made(kind, 4)
        assert woken(node.table.message_received(ABC, stored)) == ["a", "b"]
        assert woken(node.table.message_received(ABC, stored)) == []
        assert not node.table.cache
        node.unsubscribe() if kind is not Kind.PULSED else node.table.unsubscribed(ABC)
        node.subscribe()
        assert node.read(NEVER) is None
        assert list(node.entry().waiters) == ["late"]


def test_nothing_else_from_before_a_flush_wakes() -> None:
    """W8: neither what the waiters have seen, nor a reset, nor what is no record, nor another generation's change."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    assert node.table.head_received(node.map, None)
    old = (made(Kind.PULSED, 3), reset(4, made(Kind.PULSED, 2)), None, made(Kind.FIRED, 1, 6), made(Kind.FIRED, 9, 4))
    for stored in old:
        assert node.table.message_received(ABC, stored) is None
    assert list(node.entry().waiters) == ["w"]


def test_a_wake_from_before_a_flush_leaves_a_key_that_nobody_needs() -> None:
    """W5: the woken waiter was the last one, and the key is not subscribed to again."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    assert node.table.head_received(node.map, None)
    assert woken(node.table.message_received(ABC, made(Kind.FIRED, 4))) == ["w"]
    assert node.unsubscribe() == [ABC]
    assert not node.table.subscriptions
    assert node.map.channels == 0


def test_what_is_rolled_back_is_no_flush() -> None:
    """W8: the same generation at a lower number has nothing new; its last wake was seen."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    assert node.table.head_received(node.map, head(2))
    node.unsubscribe()
    node.subscribe()
    assert node.read(rev(2), made(Kind.PULSED, 2)) is None


def test_a_flush_before_the_first_head_of_a_link_is_noticed() -> None:
    """W8: our own fire was answered and then flushed, before anything else told of the map's head."""
    node = Node()
    node.wait("w")
    node.subscribe()
    ticket = node.tickets()[ABC]
    node.apply(made(Kind.FIRED, 1), node.table.order())
    node.wait("late")
    node.table.head_received(node.map, None)
    assert node.table.read_answered(ABC, ticket, NEVER, None) is None
    assert node.unsubscribe() == [ABC]
    node.subscribe()
    assert node.read(NEVER) is None
    assert list(node.entry().waiters) == ["late"]


def test_a_generation_that_came_and_went_between_two_heads_is_noticed() -> None:
    """W8: a message told of it, and the head that comes is of another one, or there is none."""
    for later in (None, head(1, 7)):
        node = Node()
        node.table.head_received(node.map, None)
        node.arm("w")
        node.table.message_received(ABC, made(Kind.FIRED, 1, 6))
        assert node.table.take_checks() == [node.map]
        node.table.head_received(node.map, later)
        assert not node.table.cache


def test_two_generations_told_of_between_two_heads_are_in_doubt() -> None:
    """W8: our own call told of the newer one, which hides that the older one has gone."""
    node = Node()
    node.table.head_received(node.map, None)
    node.arm("w")
    node.table.message_received(ABC, made(Kind.FIRED, 1, 6))
    node.apply(made(Kind.PULSED, 1, 7), node.table.order(), XYZ)
    node.table.head_received(node.map, head(1, 7))
    assert not node.table.cache


def test_a_head_from_before_a_message_is_no_loss() -> None:
    """The answer was given before the change that a message has told of meanwhile."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    node.table.message_received(ABC, made(Kind.FIRED, 5))
    assert not node.table.head_received(node.map, head(4))
    assert list(node.table.cache) == [ABC]


def test_what_is_known_of_the_new_generation_outlives_the_loss_of_the_old() -> None:
    """Our own reset came after the flush: a message that trails it is no news to a waiter made since."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.wait("before")
    node.table.take_subscribes(500)
    fired = made(Kind.FIRED, 1, 6)
    node.apply(fired, node.table.order())
    node.apply(StoredRecord(Kind.RESET, rev(2, 6), 0, "node", Tail((Kind.FIRED, 1, 6)), fired.data), node.table.order())
    node.wait("after")
    assert node.table.head_received(node.map, head(2, 6))
    node.table.subscribed(ABC)
    assert node.table.message_received(ABC, fired) is None
    assert list(node.entry().waiters) == ["after"]


def test_a_failover_that_lost_what_was_seen_is_told_at_the_first_head() -> None:
    """The new primary's head is older than what this node has seen: worth a warning, once."""
    node = Node()
    node.table.head_received(node.map, head(9))
    node.table.link_lost()
    assert node.table.head_received(node.map, head(7))
    assert not node.table.head_received(node.map, head(7))


def test_the_newest_revision_seen_outlives_links_and_flushes() -> None:
    """A call names it to the server, so that a new generation is higher than any that was seen."""
    node = Node()
    node.table.head_received(node.map, head(9))
    node.table.link_lost()
    node.table.head_received(node.map, None)
    assert node.map.seen_revision == rev(9)


# Bounds of what is sent at once.


def test_no_more_is_sent_at_once_than_is_asked_for() -> None:
    """The session paces joins, leaves and reads; what is not taken stays for the next turn."""
    node = Node()
    channels = [NAMES.channel(f"k{n}") for n in range(5)]
    for n, channel in enumerate(channels):
        node.wait(f"w{n}", channel)
    assert node.table.take_subscribes(0) == []
    assert node.table.take_subscribes(2) == channels[:2]
    assert node.table.take_subscribes(9) == channels[2:]
    for channel in channels:
        node.table.subscribed(channel)
    first = node.table.take_reads(3)["mount"]
    rest = node.table.take_reads(9)["mount"]
    assert sorted(channel for channel, _ in first + rest) == sorted(channels)
    assert node.table.take_reads(9) == {}
    for n, channel in enumerate(channels):
        node.table.cancel(channel, f"w{n}")
    assert len(node.table.take_unsubscribes(2)) == 2
    assert node.table.busy
    assert len(node.table.take_unsubscribes(9)) == 3
    assert not node.table.busy


# A4: what a message claims is a hint.


def lie(node: Node, stored: StoredRecord, channel: bytes = ABC) -> Wake | None:
    """Take a message that somebody made up."""
    return node.table.message_received(channel, stored)


def verified(node: Node, as_of: Revision, stored: StoredRecord | None, channel: bytes = ABC) -> Wake | None:
    """Let a heartbeat pass, and answer the read that it leads to."""
    node.table.verify()
    return node.read(as_of, stored, channel)


def test_a4_a_message_of_the_future_deafens_until_the_next_heartbeat() -> None:
    """A4: what happened behind a revision that was made up reaches the waiter with the next heartbeat's read."""
    node = Node()
    node.arm("w", rev(3))
    assert lie(node, reset(1_000_000)) is None
    assert node.table.message_received(ABC, made(Kind.PULSED, 4)) is None
    assert woken(verified(node, rev(4), made(Kind.PULSED, 4))) == ["w"]
    node.wait("next")
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 5))) == ["next"]


def test_a4_a_record_that_was_made_up_leaves_the_live_cache() -> None:
    """A4: a made-up fire wakes who waits, and answers those who come later no longer than to the next heartbeat."""
    for number in (4, 1_000_000):
        node = Node()
        node.arm("w", rev(3))
        made_up = made(Kind.FIRED, number)
        assert woken(lie(node, made_up)) == ["w"]
        assert node.wait("late") is made_up
        assert verified(node, rev(6), made(Kind.PULSED, 2)) is None
        assert not node.table.cache
        assert node.wait("later") is None


def test_a4_the_revision_that_came_true_otherwise() -> None:
    """A4: a lie whose revision another change got since is found by what stands."""
    node = Node()
    node.arm("w", rev(3))
    lie(node, reset(4))
    node.table.message_received(XYZ, made(Kind.PULSED, 4))
    assert node.table.message_received(ABC, made(Kind.PULSED, 4)) is None
    assert woken(verified(node, rev(4), made(Kind.PULSED, 4))) == ["w"]


def test_a4_a_lie_that_later_changes_cover() -> None:
    """A4: the lie hides a wake, and what stands at the next read no longer tells that there was a lie."""
    fired = made(Kind.FIRED, 4)
    for lied in (4, 5, 6):
        node = Node()
        node.arm("w", rev(3))
        wakes = [
            lie(node, reset(lied)),
            node.table.message_received(ABC, fired),
            node.table.message_received(ABC, reset(7, fired)),
        ]
        wakes += [node.read(rev(7), reset(7, fired))]
        assert [waiter for wake in wakes for waiter in woken(wake)] == ["w"]


def test_a4_a_lie_in_a_map_without_data() -> None:
    """A4: a waiter that was armed when the map had no data is woken by the first pulse, behind whatever was made up."""
    node = Node()
    node.table.head_received(node.map, None)
    node.arm("w")
    lie(node, reset(1_000_000))
    assert woken(verified(node, rev(1), made(Kind.PULSED, 1))) == ["w"]


def test_a4_what_a_message_claims_is_not_told_to_the_server() -> None:
    """A4: a call tells the server what this node has seen, and a message may have made up any generation."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    lie(node, made(Kind.FIRED, 1, 9_999_999_999_999_998))
    assert node.map.seen_revision == rev(3)
    assert node.table.take_checks() == [node.map]
    node.apply(made(Kind.PULSED, 5), node.table.order(), XYZ)
    assert node.map.seen_revision == rev(5)


def test_a4_a_lie_about_another_generation_costs_one_read() -> None:
    """A4: the map's head says that there is no such generation, and the key goes by what stands."""
    node = Node()
    node.table.head_received(node.map, head(3))
    node.arm("w", rev(3))
    lie(node, reset_of(made(Kind.FIRED, 2), rev(4, 9), 0, "node"))
    assert not node.table.head_received(node.map, head(5))
    assert node.unsubscribe() == [ABC]
    node.subscribe()
    assert woken(node.read(rev(5), made(Kind.PULSED, 5))) == ["w"]


def test_a4_a_lie_before_a_cut_deafens_no_longer() -> None:
    """A4: what a waiter is taken to have seen is held to the head of the next link."""
    node = Node()
    node.arm("w", rev(3))
    lie(node, reset(1_000_000))
    node.table.link_lost()
    node.subscribe()
    assert node.read(rev(4), made(Kind.PULSED, 2)) is None
    assert woken(node.table.message_received(ABC, made(Kind.PULSED, 5))) == ["w"]


def test_a4_what_is_true_is_read_once() -> None:
    """A4: a heartbeat reads a key again only if a message told of it since; the answer changes nothing."""
    node = Node()
    node.arm("w", rev(3))
    fired = made(Kind.FIRED, 4)
    assert woken(node.table.message_received(ABC, fired)) == ["w"]
    assert verified(node, rev(4), fired) is None
    assert node.wait("late") is fired
    node.table.verify()
    assert node.tickets() == {}


def test_a4_what_changes_while_it_is_read_is_read_again() -> None:
    """A4: an answer that is older than the last message says nothing of that."""
    node = Node()
    node.arm("w", rev(3))
    node.table.message_received(ABC, made(Kind.FIRED, 4))
    node.table.verify()
    ticket = node.tickets()[ABC]
    node.table.message_received(ABC, reset(5, made(Kind.FIRED, 4)))
    node.wait("w2")
    assert node.table.read_answered(ABC, ticket, rev(4), made(Kind.FIRED, 4)) is None
    assert woken(verified(node, rev(6), made(Kind.FAILED, 6))) == ["w2"]


def test_a4_a_lie_repeats_no_wake_that_was_read() -> None:
    """A4: what a read has confirmed is behind those who came later, also when a lie is found out."""
    node = Node()
    node.arm("w", rev(3))
    pulsed = made(Kind.PULSED, 4)
    assert woken(node.table.message_received(ABC, pulsed)) == ["w"]
    node.wait("later")
    assert verified(node, rev(4), pulsed) is None
    lie(node, reset(1_000_000))
    assert verified(node, rev(4), pulsed) is None


def test_a4_a_lie_after_a_cut_repeats_no_wake_from_before_it() -> None:
    """A4: a waiter has seen all up to the cut, also wakes of a generation before that one."""
    node = Node()
    node.arm("w", rev(9))
    node.table.link_lost()
    node.subscribe()
    lie(node, reset_of(made(Kind.PULSED, 3, 4), rev(1_000_000, 6), 0, "node"))
    assert verified(node, rev(2, 6), reset_of(made(Kind.PULSED, 3, 4), rev(2, 6), 0, "node")) is None


def test_a4_lies_while_a_key_is_read_hide_nothing() -> None:
    """A4: what a message claims is not sure because junk made the key be read and another message came meanwhile."""
    node = Node()
    node.arm("w", rev(3))
    lie(node, reset(1_000_000))
    node.table.message_received(ABC, None)
    lie(node, reset(2_000_000))
    assert woken(verified(node, rev(4), made(Kind.PULSED, 4))) == ["w"]


def test_what_was_heard_before_a_cut_and_lost_wakes_nobody_again() -> None:
    """A waiter of a server that lost its latest changes has seen all that is left."""
    node = Node()
    node.arm("w", rev(3))
    pulsed = made(Kind.PULSED, 5)
    assert woken(node.table.message_received(ABC, pulsed)) == ["w"]
    node.wait("later")
    assert node.table.message_received(ABC, reset(8, pulsed)) is None
    node.table.link_lost()
    node.subscribe()
    assert node.read(rev(6), pulsed) is None
