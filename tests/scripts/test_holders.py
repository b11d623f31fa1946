"""Holders of a key, on each kind of server: leases and their clock, who owns the record, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from coord.core.calls import Outcome
from coord.core.records import Kind, StoredRecord, Tail
from coord.link.scripts import BEAT, SWEEP
from scripts.maps import Map, let_pass
from scripts.servers import Client, Server, ServerError

LEASES = 2**51
LEASE, GRACE = 20_000, 10_000


class Holder(Map):
    """A map, and a node that holds keys of it under one lease."""

    def __init__(self, client: Client, node: str = "n1", *, life: int = 1) -> None:
        super().__init__(client, node)
        self.incarnation = f"{node}life{life}"
        self.lease = f"{self.incarnation}.1"

    def beat(self, *, makes: bool = False, lease: int = LEASE, grace: int = GRACE) -> list[Any]:
        """Renew the lease, or make it."""
        words = self.names.name, self.lease, lease, grace, int(makes)
        reply: list[Any] = self._run(BEAT, 5, *self.names.keys, *words)
        self.counted = reply[2]
        return reply if reply[0] == b"OTHER" else reply[:2]

    def hold(self, key: str = "a", data: bytes = b"1", number: int = 1, need: int = 1) -> Outcome:
        """Hold a key."""
        return self.apply(self.holding(key, data, number, need))[0]

    def holding(self, key: str = "a", data: bytes = b"1", number: int = 1, need: int = 1) -> tuple[str, str, bytes]:
        """Return the call that holds a key."""
        return "H", key, b"%b %b %d\n%b" % (self.name(number), self.lease.encode(), need, data)

    def withdraw(self, key: str = "a", number: int = 1) -> Outcome:
        """Hold a key no longer."""
        return self.apply(("U", key, self.name(number)))[0]

    def lose(self, key: str = "a", number: int = 1) -> Outcome:
        """End a hold of this node if its lease is over."""
        return self.apply(("D", key, self.name(number)))[0]

    def name(self, number: int = 1) -> bytes:
        """Return the name of a holder of this node."""
        return f"{self.incarnation}.{number}".encode()

    def sweep(self, most: int = 100) -> list[tuple[str, bytes]]:
        """Sweep the map; return the key and the holder of each hold that is over."""
        words: list[bytes]
        self.next_look, _, *words = self._run(SWEEP, 5, *self.names.keys, self.names.name, most, self.outcome_life)
        assert set(words[::3]) <= {b"D"}
        return [(key.decode(), holder) for key, holder in zip(words[1::3], words[2::3], strict=True)]

    def watch_time(self, milliseconds: int, *, step: int = GRACE // 2) -> None:
        """Let the lease clock go on, as it does if it is looked at often enough: the time is moved in its field."""
        while milliseconds > 0:
            clock = self.clock
            clock[1] = str(int(clock[1]) - min(step, milliseconds))
            self.clock = clock
            self.sweep(1)
            milliseconds -= step

    @property
    def clock(self) -> list[str]:
        """The words of the lease clock."""
        clock: bytes = self.client.command("HGET", self.names.records, b"\0clock")
        return clock.decode().split(" ")

    @clock.setter
    def clock(self, words: list[str]) -> None:
        self.client.command("HSET", self.names.records, b"\0clock", " ".join(words))

    @property
    def entries_left(self) -> list[bytes]:
        """What is kept of holders."""
        found: list[bytes] = self.client.command("ZRANGE", self.names.entries, 0, -1)
        fields = self.client.command("HKEYS", self.names.records)
        return [*filter(None, found), *(field for field in fields if field.startswith(b"\0holder:"))]

    @property
    def kinds(self) -> list[str]:
        """The kinds of all lines of the history."""
        return [StoredRecord.parse(line).kind.value for _, line in self.lines]


@pytest.fixture
def n1(client: Client) -> Holder:
    """Give a node with a lease."""
    holder = Holder(client)
    assert holder.beat(makes=True)[0] == b"ALIVE"
    return holder


@pytest.fixture
def n2(client: Client, n1: Holder) -> Holder:
    """Give another one."""
    holder = Holder(client, "n2")
    assert holder.beat(makes=True)[0] == b"ALIVE"
    return holder


def test_l1_the_first_holder_fires_the_key(n1: Holder) -> None:
    """L1: the record names the holder; it was the first, and fires nothing twice."""
    held = n1.hold(data=b'"v"')
    assert held.first
    assert held.stored == n1.stored("a")
    stored = n1.stored("a")
    assert (stored.kind, stored.node, stored.data) == (Kind.FIRED, "n1", b'"v"')
    assert stored.tail == Tail(held=n1.name().decode())
    again = n1.hold(data=b'"v"')
    assert (again.first, again.stored) == (False, stored)
    assert n1.kinds == ["fired"]


def test_l1_it_passes_without_an_end(n1: Holder, n2: Holder) -> None:
    """L1: who leaves is followed by the next; the key is latched since the first; the last one withdraws it."""
    first = n1.hold(data=b"1").stored
    assert first is not None
    joined = n2.hold(data=b"2")
    assert (joined.first, joined.stored) == (False, first)
    passed = n1.withdraw()
    assert passed.first
    stored = n1.stored("a")
    assert passed.stored == stored
    assert (stored.kind, stored.node, stored.data) == (Kind.FIRED, "n2", b"2")
    assert stored.latched_at == first.revision
    assert n2.withdraw().first
    stored = n2.stored("a")
    assert (stored.kind, stored.node, stored.data) == (Kind.WITHDRAWN, "n2", b"2")
    assert stored.wake_kind is Kind.FIRED
    assert stored.tail == Tail(wake=(Kind.FIRED, *passed.stored.revision))
    assert n1.kinds == ["fired", "fired", "withdrawn"]
    assert n1.entries_left == []
    assert "a" in n1.due


def test_l1_a_holder_says_something_else(n1: Holder, n2: Holder) -> None:
    """L1: the owner of the record shows another value without an end; who is behind it, once it takes over."""
    first = n1.hold(data=b"1").stored
    assert first is not None
    n2.hold(data=b"2")
    said = n1.hold(data=b"3")
    assert (said.first, said.stored) == (True, n1.stored("a"))
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"3", first.revision)
    behind = n2.hold(data=b"4")
    assert (behind.first, behind.stored) == (False, n1.stored("a"))
    n1.withdraw()
    assert (n1.stored("a").data, n1.stored("a").node, n1.stored("a").latched_at) == (b"4", "n2", first.revision)
    assert n1.kinds == ["fired", "fired", "fired"]


def test_l1_a_holder_of_an_event_says_something_else(n1: Holder) -> None:
    """L1: also behind an event that nobody holds, which shows it once that is reset; and before enough hold the key."""
    n1.fire("a", b"0")
    n1.hold(data=b"1")
    assert not n1.hold(data=b"2").first
    n1.reset("a")
    assert n1.stored("a").data == b"2"
    n1.hold("b", data=b"1", number=2, need=2)
    assert n1.hold("b", data=b"2", number=2, need=2).stored is None
    n1.hold("b", data=b"3", number=3, need=2)
    assert n1.stored("b").data == b"2"


def test_holders_have_the_names_of_those_who_call(n1: Holder) -> None:
    """In a batch of several callers, each holds under its own name; of one name, the next life takes over."""
    lock = "L", "c", b"%b %b 0,0\n1" % (n1.name(3), n1.lease.encode())
    n1.raw(n1.holding("a", b"1", 1), n1.holding("b", b"1", 2), lock, nodes="web.ann,web.bob,web.cyd")
    assert [n1.stored(key).node for key in "abc"] == ["web.ann", "web.bob", "web.cyd"]
    n1.withdraw("b", 2)
    assert n1.stored("b").node == "n1"
    second = Holder(n1.client, "n1", life=2)
    second.beat(makes=True)
    second.raw(second.holding("a", b"2"), nodes="web.bob")
    assert n1.stored("a").data == b"1"
    second.withdraw()
    second.raw(second.holding("a", b"2", 2), nodes="web.ann")
    assert (n1.stored("a").data, n1.stored("a").node) == (b"2", "web.ann")


def test_l1_who_joined_and_left_changes_nothing(n1: Holder, n2: Holder) -> None:
    """L1: a holder that was not the owner leaves without a line; to leave twice is no harm."""
    n1.hold()
    n2.hold()
    for _ in range(2):
        left = n2.withdraw()
        assert (left.first, left.stored) == (False, n1.stored("a"))
    assert n1.kinds == ["fired"]
    assert len(n1.entries_left) == 3


def test_a_process_has_many_holders_of_a_key(n1: Holder) -> None:
    """Each is one of its own: the first to leave does not end the event."""
    n1.hold(number=1)
    n1.hold(number=2, data=b"2")
    assert n1.withdraw(number=1).first
    assert n1.stored("a").data == b"2"
    assert n1.withdraw(number=2).first
    assert n1.kinds == ["fired", "fired", "withdrawn"]


def test_the_order_is_that_of_the_calls(client: Client, n1: Holder) -> None:
    """In a batch, too: the oldest that is left owns the record."""
    n1.apply(*(n1.holding(data=b"%d" % number, number=number) for number in range(1, 6)))
    n1.apply(*(("U", "a", n1.name(number)) for number in (1, 3)))
    assert n1.stored("a").data == b"2"
    n1.withdraw(number=2)
    assert n1.stored("a").data == b"4"
    n1.apply(("U", "a", n1.name(4)), n1.holding(data=b"6", number=6), ("U", "a", n1.name(5)))
    assert n1.stored("a").data == b"6"


def test_what_is_held_stays(n1: Holder) -> None:
    """Fire, fail, pulse, reset and a TTL change nothing."""
    n1.hold()
    stored = n1.stored("a")
    calls = [("F", b"2"), ("X", b"2"), ("P", b"2"), ("R", b""), ("T", b"5\n2"), ("M", b"5")]
    calls.append(("R", b"%d,%d" % stored.revision))
    for letter, data in calls:
        outcome = n1.apply((letter, "a", data))[0]
        assert (outcome.first, outcome.stored) == (False, stored), letter
    assert n1.kinds == ["fired"]


@pytest.mark.parametrize("letter", ["R", "P"])
def test_who_holds_behind_an_event_takes_over(n1: Holder, letter: str) -> None:
    """Its reset, or a pulse, does not make the key pending."""
    fired = n1.fire("a", b"0").stored
    assert fired is not None
    assert not n1.hold(data=b"1").first
    assert n1.stored("a") == fired
    taken = n1.apply((letter, "a", b"" if letter == "R" else b"5"))[0]
    assert taken.first
    assert taken.stored == n1.stored("a")
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"1", fired.revision)
    assert n1.withdraw().first


def test_who_holds_behind_an_event_that_ends_latches_the_key_anew(n1: Holder) -> None:
    """It counted as pending once its time was over."""
    n1.apply(("T", "a", b"60000\n0"))
    fired = n1.stored("a")
    n1.hold(data=b"1")
    n1.apply(("M", "a", b"1"))
    let_pass(n1.client)
    assert n1.apply(("E", "a", b"%d,%d" % fired.revision))[0].first
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"1", n1.stored("a").revision)
    assert n1.due == {}


def test_an_event_that_is_over_does_not_stand_in_the_way_of_a_holder(n1: Holder, n2: Holder) -> None:
    """A new holder latches the key at once, although the end was not announced; without one, the event has ended."""
    n1.apply(("T", "a", b"1\n0"), ("T", "b", b"1\n0"))
    let_pass(n1.client)
    held = n1.hold(data=b"1")
    assert held.first
    assert held.stored == n1.stored("a")
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"1", n1.stored("a").revision)
    behind = n1.hold("b", number=2, need=2).stored
    assert behind is not None
    assert behind.kind is Kind.EXPIRED
    assert n2.hold("b", data=b"2", need=2).first
    assert n1.due == {}


def test_a_pulse_of_an_event_that_is_over_begins_another(n1: Holder) -> None:
    """Who holds the key takes over, and it has not been latched since the event that ended."""
    n1.apply(("T", "a", b"60000\n0"))
    n1.hold(data=b"1")
    n1.apply(("M", "a", b"1"))
    let_pass(n1.client)
    assert n1.apply(("P", "a", b"5"))[0].first
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"1", n1.stored("a").revision)


def test_a_reset_of_a_corrupt_record_writes_that_of_the_holder(n1: Holder) -> None:
    """A corrupt record is always repaired; until then nobody can hold the key, but leave it."""
    n1.hold(data=b"1")
    n1.client.command("HSET", n1.names.records, "a", "junk")
    assert (n1.hold(number=2).error or "").startswith("CORRUPT")
    assert n1.reset("a").first
    assert n1.stored("a").tail == Tail(held=n1.name().decode())
    n1.client.command("HSET", n1.names.records, "a", "junk")
    assert n1.withdraw().stored is None
    assert n1.entries_left == []


def test_need_counts_who_holds(n1: Holder, n2: Holder) -> None:
    """The key is latched while at least so many hold it; the oldest owns it."""
    assert n1.hold(data=b"1", need=2).stored is None
    assert "a" not in n1.records
    assert n2.hold(data=b"2", need=2).first
    stored = n1.stored("a")
    assert (stored.data, stored.node) == (b"1", "n1")
    n2.hold(data=b"3", number=2, need=2)
    assert n1.withdraw().first
    assert (n1.stored("a").data, n1.stored("a").latched_at) == (b"2", stored.revision)
    assert n2.withdraw(number=2).first
    assert n1.stored("a").kind is Kind.WITHDRAWN
    assert n1.hold(data=b"4", number=4, need=2).first
    assert (n1.stored("a").data, n1.kinds) == (b"2", ["fired", "fired", "withdrawn", "fired"])


def test_the_first_need_stands(n1: Holder, n2: Holder) -> None:
    """Another number is refused, with the one that stands."""
    n1.hold(need=3)
    assert n2.hold(need=2).error == "NEED its first holder said need=3"
    n1.withdraw()
    assert n2.hold(need=2).error is None


def test_a_node_that_was_started_again_takes_over_at_once(client: Client, n1: Holder, n2: Holder) -> None:
    """The record does not show the value of the dead process until its lease ends; other nodes wait in order."""
    first = n1.hold(data=b"1").stored
    assert first is not None
    n2.hold(data=b"2")
    again = Holder(client, "n1", life=2)
    again.beat(makes=True)
    assert again.hold(data=b"3").first
    assert (again.stored("a").data, again.stored("a").latched_at) == (b"3", first.revision)
    n1.withdraw()
    assert again.stored("a").data == b"3"


def test_an_eviction_removes_all_holders(n1: Holder, n2: Holder) -> None:
    """The key is pending, with its last wake; the renewal of each lease tells how many holders it has left."""
    n1.hold(data=b"1")
    n2.hold(data=b"2")
    n2.hold("b", number=2)
    n1.beat()
    n2.beat()
    assert (n1.counted, n2.counted) == (1, 2)
    assert n2.apply(("V", "a", b"-"))[0].first
    stored = n1.stored("a")
    assert (stored.kind, stored.wake_kind, stored.data) == (Kind.RESET, Kind.FIRED, b"1")
    assert stored.tail == Tail(wake=(Kind.FIRED, n1.revision.generation, 1))
    n1.beat()
    n2.beat()
    assert (n1.counted, n2.counted) == (0, 1)
    assert len(n1.entries_left) == 3
    assert not n1.withdraw().first
    assert n1.kinds == ["fired", "fired", "reset"]


@pytest.mark.parametrize(
    "calls", [[("V", "a", b"-")], [("F", "a", b"1"), ("V", "a", b"-")], [("P", "a", b"1"), ("V", "a", b"-")]]
)
def test_an_eviction_of_nobody_is_a_reset(n1: Holder, calls: list[tuple[str, str, bytes]]) -> None:
    """Of a key that nobody holds."""
    evicted = n1.apply(*calls)[-1]
    assert evicted.first is (len(calls) > 1 and calls[0][0] == "F")
    assert n1.apply(n1.holding(), ("V", "a", b"-"), n1.holding(number=2))[2].first


def test_an_eviction_repairs_a_corrupt_record(n1: Holder) -> None:
    """As a reset does; nobody holds the key then."""
    n1.hold()
    n1.client.command("HSET", n1.names.records, "a", "junk")
    assert n1.apply(("V", "a", b"-"))[0].first
    assert n1.stored("a").kind is Kind.RESET
    assert n1.entries_left == []


# Leases


def test_l2_what_a_dead_node_held_expires(n1: Holder, n2: Holder) -> None:
    """L2: a sweep tells what is over once T + G have passed on the lease clock; a call ends it, one."""
    n1.hold(data=b'"v"')
    n1.watch_time(LEASE + GRACE - 1000)
    assert n2.beat() == [b"ALIVE", n2.clock[5].encode()]
    assert n1.sweep() == []
    assert not n1.lose().first
    n1.watch_time(1000)
    assert n2.sweep() == [("a", n1.name())]
    ended, again = n2.apply(*[("D", "a", n1.name())] * 2)
    assert (ended.first, again.first) == (True, False)
    stored = n1.stored("a")
    assert (stored.kind, stored.node, stored.data) == (Kind.EXPIRED, "n1", b'"v"')
    assert n2.sweep() == []
    assert n1.kinds == ["fired", "expired"]
    assert n1.entries_left == []


def test_l2_the_first_lease_has_its_map_swept_in_time(n1: Holder) -> None:
    """Also if the clock was looked at just before, and the map need not be swept for long."""
    n1.client.command("ZADD", n1.names.idle, 10**15, n1.names.name)
    n1.lease = "next.1"
    assert n1.beat(makes=True)[0] == b"ALIVE"
    seconds, _ = n1.client.command("TIME")
    assert float(n1.client.command("ZSCORE", n1.names.idle, n1.names.name)) <= 1000 * (int(seconds) + 1) + GRACE


def test_l2_what_is_over_is_not_asked_for_again_at_once(n1: Holder, n2: Holder) -> None:
    """Who was told may not be allowed to end it: the map stays due, and the next look is that at who lives."""
    n1.hold()
    n1.watch_time(LEASE)
    n2.beat()
    n1.watch_time(GRACE)
    for _ in range(2):
        assert n2.sweep() == [("a", n1.name())]
        assert n2.next_look == GRACE // 2
        due = float(n1.client.command("ZSCORE", n1.names.idle, n1.names.name))
        seconds, _ = n1.client.command("TIME")
        assert due <= 1000 * (int(seconds) + 1)
    n1.watch_time(LEASE)
    assert n2.sweep() == [("a", n1.name())]
    assert n2.next_look == 0


def test_l2_it_passes_if_others_hold_it(n1: Holder, n2: Holder) -> None:
    """L1, L2: who died is followed by who lives."""
    n1.hold(data=b"1")
    n2.hold(data=b"2")
    n1.watch_time(LEASE)
    n2.beat()
    n1.watch_time(GRACE)
    assert n2.sweep() == [("a", n1.name())]
    n1.lose()
    assert (n1.stored("a").kind, n1.stored("a").data) == (Kind.FIRED, b"2")


def test_l3_nothing_revives_a_lease(n1: Holder) -> None:
    """L3: neither a renewal nor a hold; what it held can be held anew under the next lease, without an end."""
    n1.hold()
    n1.watch_time(LEASE + GRACE)
    assert n1.beat()[0] == b"OVER"
    assert n1.beat(makes=True)[0] == b"OVER"
    assert (n1.hold("b", number=2).error or "").startswith("OVER ")
    n1.lease = n1.lease.replace(".1", ".2")
    assert n1.beat(makes=True)[0] == b"ALIVE"
    assert n1.hold().stored == n1.stored("a")
    assert n1.sweep() == []
    assert not n1.lose().first
    assert n1.kinds == ["fired"]
    n1.withdraw()
    assert n1.entries_left == []


def test_an_unknown_lease_is_over(n1: Holder) -> None:
    """Its data was lost, or it was swept."""
    n1.lease = "other.1"
    assert n1.beat()[0] == b"OVER"
    assert (n1.hold().error or "").startswith("OVER ")
    assert n1.entries_left == []


@pytest.mark.parametrize("hour", [3_600_000, -3_600_000])
def test_l3_a_clock_that_steps_ends_no_lease(n1: Holder, hour: int) -> None:
    """L3: one step costs three quarters of the grace time at most, and after a step the clock goes on."""
    n1.hold()
    clock = n1.clock
    clock[1] = str(int(clock[1]) - hour)
    n1.clock = clock
    n1.sweep()
    gone = int(n1.clock[0]) - int(clock[0])
    assert 0 <= gone <= 0.75 * GRACE
    assert n1.beat()[0] == b"ALIVE"
    n1.watch_time(LEASE + GRACE)
    assert n1.beat()[0] == b"OVER"


def test_l3_a_clock_that_rocks_counts_once(n1: Holder) -> None:
    """L3: what was counted already is not counted again after a small step back."""
    for _ in range(20):
        clock = n1.clock
        clock[1] = str(int(clock[1]) + 3_000)
        n1.clock = clock
        n1.sweep()
        assert n1.clock[0] == clock[0]


def test_l2_a_clock_that_is_set_back_delays_no_end(n1: Holder, n2: Holder) -> None:
    """L2: the map was to be swept at a time of the earlier clock; whoever renews a lease in it has it swept in time."""
    n1.hold()
    seconds = int(n1.client.command("TIME")[0])
    clock = n1.clock
    clock[1] = str((seconds + 3600) * 1000)
    n1.clock = clock
    n1.client.command("ZADD", n1.names.idle, int(clock[1]) + GRACE // 2, n1.names.name)
    n2.beat()
    assert float(n1.client.command("ZSCORE", n1.names.idle, n1.names.name)) <= (seconds + 2) * 1000 + GRACE // 2


def test_l2_another_process_begins_a_recovery(n1: Holder, server: Server) -> None:
    """L2: until T + G have passed no lease ends, however long the server was away."""
    n1.hold()
    epoch = n1.beat()[1]
    let_pass(n1.client)
    n1.watch_time(LEASE + GRACE - 1000)
    clock = n1.clock
    clock[6], clock[7] = "otherprocess", "otherdata"
    n1.clock = clock
    assert n1.sweep() == []
    assert int(n1.clock[2]) >= int(clock[0]) + LEASE + GRACE
    n1.watch_time(LEASE + GRACE - 1000)
    assert n1.sweep() == []
    # Not renewed: the node holds its keys under another lease from now on.
    over, other = n1.beat()
    assert over == b"OVER"
    assert other != epoch
    n1.watch_time(1000)
    assert n1.sweep() == [("a", n1.name())]


def test_a_lease_of_the_recovery_outlives_it(n1: Holder, client: Client) -> None:
    """Also one that is made as it begins."""
    clock = n1.clock
    clock[6], clock[7] = "otherprocess", "otherdata"
    n1.clock = clock
    n2 = Holder(client, "n2")
    assert n2.beat(makes=True)[0] == b"ALIVE"
    assert n2.beat()[0] == b"ALIVE"


def test_the_first_replica_begins_no_recovery(n1: Holder) -> None:
    """The replication id alone is new; the process and the data are the same."""
    epoch = n1.beat()[1]
    clock = n1.clock
    clock[7] = "otherdata"
    n1.clock = clock
    assert n1.beat() == [b"ALIVE", epoch]
    assert n1.clock[7] == n1.history_id


def test_all_leases_of_a_map_have_the_same_times(n1: Holder, client: Client) -> None:
    """Others are told which, and leave no lease; without a lease they may be changed."""
    other = Holder(client, "n2")
    assert other.beat(makes=True, lease=3_000, grace=2_000) == [b"OTHER", LEASE, GRACE]
    assert other.beat()[0] == b"OVER"
    n1.watch_time(LEASE + GRACE)
    n1.sweep()
    assert other.beat(makes=True, lease=3_000, grace=2_000)[0] == b"ALIVE"


def test_leases_that_are_over_have_no_times(n1: Holder, client: Client) -> None:
    """Other times are refused until then, also if nobody sweeps the map meanwhile."""
    n2, seconds = Holder(client, "n2"), 0
    while n2.beat(makes=True, lease=LEASE // 2)[0] == b"OTHER":
        clock = n1.clock
        clock[1] = str(int(clock[1]) - 1000)
        n1.clock = clock
        seconds += 1
        assert seconds < 60
    assert seconds >= (LEASE + GRACE) // 1000 - 1
    assert n1.beat()[0] == b"OTHER"


def test_a_sweep_is_bounded(n1: Holder) -> None:
    """It returns so many holders at most; the rest is left to the next."""
    n1.apply(*(n1.holding(f"k{number}", number=number) for number in range(30)))
    n1.watch_time(LEASE + GRACE)
    seen: set[bytes] = set()
    while over := n1.sweep(7):
        assert len(over) <= 7
        n1.apply(*(("D", key, name) for key, name in over))
        seen.update(name for _, name in over)
    assert len(seen) == 30
    assert n1.entries_left == []
    assert set(n1.kinds) == {"fired", "expired"}


def test_a_map_that_is_not_held_any_more_is_forgotten(n1: Holder) -> None:
    """Nothing stays of leases and holders but their clock; while a lease lives, the map is looked at."""
    n1.retention = 1
    n1.outcome_life = 1
    n1.hold()
    swept_at = float(n1.client.command("ZSCORE", n1.names.idle, n1.names.name))
    seconds, _ = n1.client.command("TIME")
    assert swept_at <= int(seconds) * 1000 + GRACE
    n1.withdraw()
    n1.watch_time(LEASE + GRACE)
    let_pass(n1.client)
    n1.sweep()
    n1.sweep()
    assert n1.client.command("EXISTS", *n1.names.keys) == 1
    assert sorted(n1.client.command("HKEYS", n1.names.records)) == [b"\0clock", b"\0head"]


# Refusals


def test_a_holder_of_another_kind_of_data_is_an_error(n1: Holder) -> None:
    """What another program put in the place of the set refuses the calls that need it, and no others."""
    n1.client.command("DEL", n1.names.entries)
    n1.client.command("SET", n1.names.entries, "junk")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        n1.hold()
    assert n1.fire("b").first


def test_bad_data_is_refused(n1: Holder) -> None:
    """Nothing is written."""
    for data in (b"x", b"a.1 b.1 0\n1", b"a.1 b.1 1\n", b"a.1 b.1 1", b"a b.1 1\n1", b"a.1\n1"):
        with pytest.raises(ServerError, match="not what they should be"):
            n1.apply(("H", "a", data))
    for letter in "UD":
        with pytest.raises(ServerError, match="not what they should be"):
            n1.apply((letter, "a", b"x y"))
    assert n1.head is None


def test_a_foreign_holder_is_removed(n1: Holder) -> None:
    """A call that ends it would be refused, with all others of its batch."""
    client, names = n1.client, n1.names
    n1.hold()
    client.command("HSET", names.records, b"\0holder:x y", b"1 z 1 n b\n1")
    client.command("ZADD", names.entries, 0, b"\0z\0x y")
    client.command("ZADD", names.due, LEASES + 1, b"\0lease:z")
    n1.watch_time(GRACE)
    assert n1.sweep() == []
    assert client.command("ZSCORE", names.entries, b"\0z\0x y") is None
    assert client.command("ZSCORE", names.due, b"\0lease:z") is None


def test_a_repetition_is_answered_as_before(n1: Holder, n2: Holder) -> None:
    """F2: a hold, and its end, are applied once."""
    calls = [n1.holding(number=1), n1.holding("b", number=2), ("U", "b", n1.name(2))]
    outcomes = n1.apply(*calls)
    n2.hold()
    again = n1.apply(*calls, number=n1.number)
    assert [(each.first, each.error) for each in again] == [(each.first, each.error) for each in outcomes]
    assert n1.kinds == ["fired", "fired", "withdrawn"]
    assert len(n1.entries_left) == 6


def test_what_is_refused_leaves_no_holder(server: Server, n1: Holder) -> None:
    """If the message may not be published, nobody holds the key; others of the batch do."""
    client = n1.client
    channel = f"{n1.names.doorbell.decode()}:"
    acl = (
        "ACL",
        "SETUSER",
        "limited",
        "on",
        "nopass",
        "+@all",
        "~*",
        "resetchannels",
        f"&{channel}b",
        f"&{channel[:-1]}",
    )
    try:
        client.command(*acl)
    except ServerError:
        pytest.skip("a server with access rules")
    other = Holder(client.beside(), "n3")
    try:
        other.client.command("AUTH", "limited", "any")
        other.beat(makes=True)
        refused, applied = other.apply(other.holding("a", number=1), other.holding("b", number=2))
        assert "NOPERM" in (refused.error or "")
        assert applied.first
        assert set(other.records) == {"b"}
        assert len(other.entries_left) == 3
    finally:
        other.client.close()
        client.command("ACL", "DELUSER", "limited")
