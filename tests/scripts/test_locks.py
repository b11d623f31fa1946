"""Locks, on each kind of server: who owns one, what its token is, and what a recovery does to it."""

from __future__ import annotations

import pytest

from coord.core.calls import Outcome
from coord.core.records import Kind, Revision
from scripts.servers import Client
from scripts.test_holders import GRACE, LEASE, Holder


class Contender(Holder):
    """A node that wants locks of a map."""

    def lock(self, key: str = "a", number: int = 1, *, token: Revision | None = None, data: bytes = b"1") -> Outcome:
        """Ask for a lock, or ask whether it is granted; with a token, own it again."""
        return self.apply(self.locking(key, number, token=token, data=data))[0]

    def locking(
        self, key: str = "a", number: int = 1, *, token: Revision | None = None, data: bytes = b"1"
    ) -> tuple[str, str, bytes]:
        """Return the call that asks."""
        words = self.name(number), self.lease.encode(), *(token or (0, 0)), data
        return "L", key, b"%b %b %d,%d\n%b" % words

    def owns(self, key: str = "a", number: int = 1) -> bool:
        """Whether the record names this holder."""
        stored = self.stored(key)
        return stored.latched and stored.tail is not None and stored.tail.held == self.name(number).decode()

    def token(self, key: str = "a") -> Revision:
        """The token of the owner."""
        tail = self.stored(key).tail
        assert tail is not None
        assert tail.token is not None
        return Revision(*tail.token)

    def recover(self) -> None:
        """Begin a recovery, and have this node hold what it holds under another lease."""
        clock = self.clock
        clock[6], clock[7] = "otherprocess", "otherdata"
        self.clock = clock
        self.next_lease()

    def next_lease(self) -> None:
        """Make another lease."""
        name, number = self.lease.split(".")
        self.lease = f"{name}.{int(number) + 1}"
        assert self.beat(makes=True)[0] == b"ALIVE"


def made(client: Client, node: str) -> Contender:
    """Return a node with a lease."""
    contender = Contender(client, node)
    assert contender.beat(makes=True)[0] == b"ALIVE"
    return contender


@pytest.fixture
def n1(client: Client) -> Contender:
    """Give a node."""
    return made(client, "n1")


@pytest.fixture
def n2(client: Client, n1: Contender) -> Contender:
    """Give another one."""
    return made(client, "n2")


@pytest.fixture
def n3(client: Client, n2: Contender) -> Contender:
    """Give a third one."""
    return made(client, "n3")


def test_l9_it_is_granted_in_order(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L8, L9: one owner at a time, in the order of the requests, each under a higher token; the last one ends it."""
    granted = n1.lock(data=b"1")
    assert granted.first
    assert granted.stored == n1.stored("a")
    for contender in (n2, n3):
        waiting = contender.lock()
        assert (waiting.first, waiting.stored) == (False, n1.stored("a"))
    tokens = [n1.token()]
    assert tokens == [n1.stored("a").revision]
    for leaves, follows in ((n1, n2), (n2, n3)):
        assert leaves.withdraw().first
        assert follows.owns()
        tokens.append(follows.token())
        assert n1.stored("a").latched_at == granted.stored.revision
    assert tokens == sorted(set(tokens))
    assert n3.withdraw().first
    assert n1.stored("a").kind is Kind.WITHDRAWN
    assert n1.kinds == ["fired", "fired", "fired", "withdrawn"]
    assert n1.entries_left == []


def test_to_ask_again_changes_nothing(n1: Contender, n2: Contender) -> None:
    """A call is repeated as long as its node does not know the answer."""
    n1.lock()
    n2.lock()
    left = sorted(n1.entries_left)
    for contender in (n1, n2):
        again = contender.lock(data=b'"other"')
        assert (again.first, again.stored) == (False, n1.stored("a"))
    assert sorted(n1.entries_left) == left
    assert n1.kinds == ["fired"]


def test_l5_two_of_a_process_are_two(n1: Contender) -> None:
    """L5: a second request of one node waits behind the first."""
    n1.lock(number=1)
    assert not n1.lock(number=2).first
    assert n1.owns(number=1)
    n1.withdraw(number=2)
    assert n1.owns(number=1)
    assert len(n1.entries_left) == 3


def test_a_batch_of_all(n1: Contender) -> None:
    """Requests and releases in one batch have the outcome that they have one by one."""
    name = n1.name
    outcomes = n1.apply(
        n1.locking(number=1), n1.locking(number=2), ("U", "a", name(1)), n1.locking(number=3), ("U", "a", name(3))
    )
    assert [outcome.first for outcome in outcomes] == [True, False, True, False, False]
    assert n1.owns(number=2)
    assert n1.token() == n1.stored("a").revision
    assert n1.kinds == ["fired", "fired"]


@pytest.mark.parametrize(("letter", "data"), [("F", b"1"), ("X", b"1"), ("P", b"1"), ("T", b"5\n1"), ("M", b"5")])
def test_a_lock_is_no_event(n1: Contender, n2: Contender, letter: str, data: bytes) -> None:
    """While somebody owns it, other calls for it are refused; a reset changes nothing."""
    n1.lock()
    stored = n1.stored("a")
    calls = (letter, "a", data), n2.holding(), ("C", "a", b"1,0,")
    for call in calls:
        assert (n2.apply(call)[0].error or "").startswith("KIND it is a lock")
    reset = n2.reset("a")
    assert (reset.first, reset.stored) == (False, stored)
    assert n1.stored("a") == stored


def test_an_event_is_no_lock(n1: Contender, n2: Contender) -> None:
    """Nor a counter, nor what is held, latched or not."""
    n1.fire("a", b"1")
    n1.hold("b")
    n1.hold("c", number=2, need=2)
    n1.apply(("C", "d", b"1,0,"))
    left = sorted(n1.entries_left)
    for key in "abcd":
        assert (n2.lock(key).error or "").startswith("KIND"), key
    assert sorted(n1.entries_left) == left


def test_an_event_that_is_over_does_not_stand_in_the_way(n1: Contender) -> None:
    """Nor does one that was reset."""
    n1.fire("a", b"0")
    n1.reset("a")
    assert n1.lock(data=b"1").first
    assert n1.stored("a").latched_at == n1.stored("a").revision


def test_l2_who_died_is_skipped(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L9: an owner and a first of the queue that are dead; both are swept, and neither gets it again."""
    n1.lock()
    n2.lock()
    n3.lock()
    n3.watch_time(LEASE)
    n3.beat()
    n3.watch_time(GRACE)
    assert sorted(n3.sweep()) == [("a", n1.name()), ("a", n2.name())]
    assert n3.lose().first is False
    assert n3.apply(("D", "a", n1.name()))[0].first
    assert n3.owns()
    assert not n3.apply(("D", "a", n2.name()))[0].first
    assert n3.owns()
    assert n1.kinds == ["fired", "fired"]
    assert n1.lock(number=2).error == "OVER the lease n1life1.1 is over"


def test_l6_nothing_is_granted_in_a_recovery(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L6: neither a free lock nor one that is released; who asks afterwards gets the first in the queue its grant."""
    n1.lock("held")
    n1.recover()
    n2.next_lease()
    assert n2.lock("free").stored is None
    assert not n2.lock("held", 2).first
    n1.withdraw("held")
    assert n1.stored("held").kind is Kind.WITHDRAWN
    n2.watch_time(LEASE)
    n2.beat()
    assert n2.lock("held", 2).stored == n1.stored("held")
    n2.watch_time(GRACE)
    n3.next_lease()
    # Whoever asks, the first gets it.
    assert n3.lock("free").first
    assert n2.owns("free")
    assert n2.lock("held", 2).first


def test_l6_nothing_is_granted_before_the_recovery_is_noticed(n1: Contender, n2: Contender) -> None:
    """L6: the first call on another server may come before the first look at the lease clock."""
    n1.lock()
    n2.lock()
    clock = n1.clock
    clock[7] = "otherdata"
    n1.clock = clock
    n1.withdraw()
    assert n1.stored("a").kind is Kind.WITHDRAWN
    assert not n2.lock().first


def test_l6_the_owner_goes_on(n1: Contender, n2: Contender) -> None:
    """L6: it owns the lock under its next lease, with the token that it has; who did not come back is dropped."""
    n1.lock()
    n2.lock()
    token = n1.token()
    n1.recover()
    assert not n1.lock(token=token).first
    assert (n1.owns(), n1.token()) == (True, token)
    n1.watch_time(LEASE)
    n1.beat()
    n1.watch_time(GRACE)
    assert n1.sweep() == [("a", n2.name())]


def test_l6_a_grant_that_the_server_lost(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L6, L8: the owner owns it again, with its token; also where an earlier owner stands, or nobody is known."""
    n1.lock()
    n2.lock()
    token = Revision(n1.revision.generation, n1.revision.number + 7)
    n1.recover()
    n2.next_lease()
    again = n2.lock(token=token, data=b"2")
    assert again.first
    assert (n2.owns(), n2.token(), n2.stored("a").data) == (True, token, b"1")
    assert (n1.lock(token=Revision(1, 1)).error or "").startswith("LOST")
    assert not any(n1.name() in entry for entry in n1.entries_left)
    n3.next_lease()
    assert n3.lock("b", token=token, data=b"3").first
    assert (n3.owns("b"), n3.token("b"), n3.stored("b").data) == (True, token, b"3")
    assert n3.withdraw("b").first
    assert n3.stored("b").kind is Kind.WITHDRAWN


def test_an_eviction_is_kept_under_the_next_lease(n1: Contender) -> None:
    """The owner is asked until it knows, and nothing of its earlier lease is left to be swept for ever."""
    n1.lock()
    token = n1.token()
    n1.next_lease()
    # Both in one batch.
    n1.apply(("V", "a", b"-"), n1.locking(token=token))
    n1.beat()
    assert n1.counted == 0
    n1.recover()
    n1.lock(token=token)
    n1.beat()
    assert n1.counted == 0
    n1.watch_time(LEASE)
    n1.beat()
    n1.watch_time(GRACE)
    assert n1.sweep() == []
    n1.withdraw()
    assert n1.entries_left == []


def test_l6_nobody_is_told_of_a_grant_in_a_recovery(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L5, L6: who did not hear of its grant may have lost it since, and the server that, too: it is no owner."""
    n1.lock()
    n2.lock(data=b"2")
    n1.withdraw()
    assert n2.owns()
    n2.recover()
    unaware = n2.lock(data=b"2")
    assert unaware.stored is not None
    assert (unaware.first, unaware.stored.kind, n2.owns()) == (True, Kind.WITHDRAWN, False)
    assert not n2.lock(data=b"2").first
    n3.next_lease()
    later = Revision(n1.revision.generation, n1.revision.number + 7)
    assert n3.lock(token=later, data=b"3").first
    n3.watch_time(LEASE)
    n2.beat()
    n3.beat()
    n3.watch_time(GRACE)
    assert n3.withdraw().first
    assert n2.owns()


def test_who_is_evicted_unawares_is_asked_for_nothing(n1: Contender, n2: Contender) -> None:
    """It did not know that it owned the lock, and in a recovery it does not: what is evicted is gone, and it waits."""
    n1.lock()
    n2.lock()
    n1.withdraw()
    n1.apply(("V", "a", b"-"))
    n2.recover()
    n2.lock()
    n2.beat()
    assert (n2.owns(), n2.counted) == (False, 1)


def test_l6_who_was_away_too_long_has_lost_it(n1: Contender, n2: Contender) -> None:
    """L6: after the recovery nobody owns a lock again by its token; nor while there was none."""
    assert (n2.lock(token=Revision(5, 5)).error or "").startswith("LOST")
    n1.recover()
    n1.watch_time(LEASE)
    n1.beat()
    n1.watch_time(GRACE)
    assert (n1.lock(token=Revision(5, 5)).error or "").startswith("LOST")
    assert n1.entries_left == []


def test_l5_an_eviction_asks_the_owner(n1: Contender, n2: Contender, n3: Contender) -> None:
    """L5: the lock passes when the owner has released it, or its lease is over; its next renewal tells its node."""
    n1.lock()
    n2.lock()
    stored = n1.stored("a")
    evicted = n3.apply(("V", "a", b"-"))[0]
    assert (evicted.first, evicted.stored) == (False, stored)
    n1.beat()
    n2.beat()
    assert (n1.counted, n2.counted) == (0, 1)
    assert n1.stored("a") == stored
    assert n1.withdraw().first
    assert n2.owns()
    n3.apply(("V", "a", b"-"))
    n3.watch_time(LEASE)
    n3.beat()
    n3.watch_time(GRACE)
    assert n3.sweep() == [("a", n2.name())]
    assert n3.apply(("D", "a", n2.name()))[0].first
    assert n3.entries_left == []


def test_l6_a_map_that_was_idle_keeps_its_clock(n1: Contender, n2: Contender) -> None:
    """L6: so a failover that loses the first grant afterwards begins a recovery; without one, it is granted at once."""
    n1.lock()
    n1.withdraw()
    n1.watch_time(LEASE + GRACE)
    for due in [*n1.due, *(field.decode() for field in n1.client.command("HKEYS", n1.names.records))]:
        if due not in ("\0head", "\0clock"):
            n1.client.command("HDEL", n1.names.records, due)
    n1.client.command("DEL", n1.names.due)
    assert n1.sweep() == []
    assert sorted(n1.client.command("HKEYS", n1.names.records)) == [b"\0clock", b"\0head"]
    assert n1.client.command("EXISTS", n1.names.log, n1.names.due, n1.names.entries) == 0
    n2.next_lease()
    assert n2.lock().first
    n2.withdraw()
    n2.recover()
    assert n2.lock().stored == n2.stored("a")
    assert n2.stored("a").kind is Kind.WITHDRAWN


def test_a_grant_can_be_given_back_by_its_token(n1: Contender, n2: Contender) -> None:
    """L5: whoever releases it late releases no later grant, nor a place in the queue."""
    n1.lock()
    n2.lock()
    tokens = [n1.token()]
    n1.withdraw()
    tokens.append(n2.token())
    for contender, token in ((n2, tokens[0]), (n1, tokens[0]), (n1, tokens[1])):
        n1.lock()
        released = n1.apply(("U", "a", contender.name() + b" %d,%d" % token))[0]
        assert (released.first, released.stored) == (False, n2.stored("a"))
    assert n2.apply(("U", "a", n2.name() + b" %d,%d" % tokens[1]))[0].first
    assert n1.owns()


def test_who_leaves_the_queue_gives_no_lock_back(n1: Contender, n2: Contender) -> None:
    """L5: to leave the queue is not to release: it may be applied late, after the lock was granted."""
    n1.lock()
    n2.lock()
    leave = "U", "a", n2.name() + b" q"
    assert not n2.apply(leave)[0].first
    assert n1.withdraw().first
    assert not n1.stored("a").latched
    n1.lock()
    n2.lock()
    n1.withdraw()
    token = n2.token()
    kept = n2.apply(leave)[0]
    assert (kept.first, kept.stored) == (False, n2.stored("a"))
    assert n2.owns()
    assert n2.token() == token
