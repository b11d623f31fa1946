"""Numbered calls: two batches under way at most, repeated unchanged, each call given up at its own deadline."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from coord.core.calls import (
    HOLD,
    LOCK,
    MAX_BATCH_BYTES,
    MAX_BATCH_CALLS,
    Batch,
    Call,
    CallName,
    CallQueue,
    parse_reply,
)
from coord.core.records import Kind, Revision, StoredRecord, Tail
from support.packing import pack

QUICK = settings(deadline=None, derandomize=True, database=None)
KINDS = st.sampled_from(list(Kind))


_order = count()


def call(
    name: str = "key", *, kind: Kind = Kind.FIRED, data: bytes = b"true", deadline: float = 30.0, replicas: int = 0
) -> Call:
    """Return a call on a key of this name."""
    return Call(kind, name.encode(), data, deadline, next(_order), name, (replicas, 100 if replicas else 0))


def queue_of(*calls: Call) -> CallQueue:
    """Return a queue in which these wait."""
    queue = CallQueue()
    for each in calls:
        queue.add(each)
    return queue


def sent(queue: CallQueue) -> Batch:
    """Send the next batch, of which there has to be one."""
    batch = queue.next()
    assert batch is not None
    return batch


# The queue.


def test_calls_go_in_the_order_they_were_made() -> None:
    """F1: of one node on one map."""
    calls = [call(f"k{n}") for n in range(5)]
    batch = sent(queue_of(*calls))
    assert batch.calls == calls
    assert batch.number == 1


def test_the_next_batch_gathers_while_one_is_under_way() -> None:
    """A batch that is not large waits for the answer to the one before it."""
    queue = queue_of(call("a"))
    first = sent(queue)
    queue.add(call("b"))
    queue.add(call("c"))
    assert queue.next() is None
    assert queue.sent == [first]
    assert queue.before(first) == 0
    assert queue.answered(first)
    second = sent(queue)
    assert [each.result for each in second.calls] == ["b", "c"]
    assert second.number == 2
    assert queue.answered(second)
    assert queue.next() is None
    assert len(queue) == 0


def test_a_batch_that_is_not_answered_stays_as_it_is() -> None:
    """F2: what is sent again on the next link is the same batch, whatever has come since."""
    queue = queue_of(call("a"))
    batch = sent(queue)
    queue.add(call("b"))
    assert queue.sent == [batch]
    assert [each.result for each in batch.calls] == ["a"]


def test_an_answer_to_a_batch_that_was_given_up_is_not_wanted() -> None:
    """It would be taken for the answer to the one that is under way now."""
    queue = queue_of(call("a", deadline=1.0))
    batch = sent(queue)
    queue.expire(2.0)
    queue.add(call("b"))
    later = sent(queue)
    assert not queue.answered(batch)
    assert queue.sent == [later]
    assert later.number == batch.number + 1


def test_a_batch_has_its_bounds() -> None:
    """A script that takes too long holds up everybody on the server."""
    queue = queue_of(*(call() for _ in range(MAX_BATCH_CALLS + 1)))
    batch = sent(queue)
    assert len(batch.calls) == MAX_BATCH_CALLS
    assert queue.next() is None
    for _ in range(MAX_BATCH_CALLS // 8 - 1):
        queue.add(call())
    assert len(sent(queue).calls) == MAX_BATCH_CALLS // 8

    large = b"x" * 65_536
    queue = queue_of(*(call(data=large) for _ in range(10)))
    batch = sent(queue)
    assert MAX_BATCH_BYTES <= sum(len(each.data) for each in batch.calls) < MAX_BATCH_BYTES + len(large)


def test_a_large_batch_is_sent_behind_another() -> None:
    """A third one waits for an answer, for the server remembers two outcomes."""
    queue = queue_of(*(call(f"k{n}") for n in range(3 * MAX_BATCH_CALLS)))
    first, second = sent(queue), sent(queue)
    assert [batch.number for batch in (first, second)] == [1, 2]
    assert [queue.before(batch) for batch in (first, second)] == [0, 1]
    assert queue.next() is None
    assert queue.answered(first)
    assert queue.before(second) == 0
    third = sent(queue)
    assert queue.before(third) == 2
    assert [each.key for batch in (first, second, third) for each in batch.calls] == [
        b"k%d" % n for n in range(3 * MAX_BATCH_CALLS)
    ]


def test_a_batch_that_came_too_early_is_sent_again_when_it_is_the_oldest() -> None:
    """F1: it waits for the one before it, and nothing overtakes it."""
    queue = queue_of(*(call() for _ in range(3 * MAX_BATCH_CALLS)))
    first, second = sent(queue), sent(queue)
    second.early = True
    assert queue.next() is None
    assert queue.answered(first)
    assert sent(queue) is second
    assert queue.before(second) == 0
    assert sent(queue).number == 3


def test_only_neighbours_are_under_way_together() -> None:
    """The server remembers the last even and the last odd number: of two even ones it would forget the first."""
    queue = queue_of(*(call(deadline=9.0) for _ in range(MAX_BATCH_CALLS)))
    for _ in range(MAX_BATCH_CALLS):
        queue.add(call(deadline=1.0))
    first, _ = sent(queue), sent(queue)
    queue.expire(2.0)
    assert queue.sent == [first]
    for _ in range(MAX_BATCH_CALLS):
        queue.add(call())
    assert queue.next() is None
    queue.answered(first)
    assert sent(queue).number == 3


def test_replicated_calls_travel_with_the_others() -> None:
    """F4: they are applied as any other; only their answer waits, and that elsewhere."""
    queue = queue_of(call("a"), call("b", replicas=1), call("c", replicas=2), call("d"))
    assert [each.result for each in sent(queue).calls] == ["a", "b", "c", "d"]


# Deadlines.


def test_a_call_that_was_never_sent_is_told_apart_from_one_that_was() -> None:
    """F3: the one is not applied, the other is the one doubt."""
    queue = queue_of(call("sent", deadline=5.0))
    batch = sent(queue)
    queue.add(call("unsent", deadline=5.0))
    queue.add(call("later", deadline=9.0))
    assert queue.earliest() == 5.0
    assert queue.expire(4.9) == ([], [])
    unsent, unconfirmed = queue.expire(5.0)
    assert [each.result for each in unsent] == ["unsent"]
    assert unconfirmed == batch.calls
    assert queue.earliest() == 9.0
    assert [each.result for each in sent(queue).calls] == ["later"]


def test_a_batch_is_repeated_until_nobody_waits_for_any_of_it() -> None:
    """F2: it cannot be taken apart, for the server would answer another batch under its number."""
    queue = queue_of(call("short", deadline=1.0), call("long", deadline=9.0))
    kept = [sent(queue)]
    _, unconfirmed = queue.expire(2.0)
    assert [each.result for each in unconfirmed] == ["short"]
    assert queue.sent == kept
    assert len(kept[0].calls) == 2
    _, unconfirmed = queue.expire(9.0)
    assert [each.result for each in unconfirmed] == ["long"]
    assert queue.sent == []
    assert queue.earliest() is None


def test_each_call_is_given_up_once() -> None:
    """A deadline that has passed does not pass again."""
    queue = queue_of(call("a", deadline=1.0), call("b", deadline=9.0))
    sent(queue)
    assert queue.expire(1.0) != ([], [])
    assert queue.expire(1.0) == ([], [])


def test_a_call_that_nobody_wants_any_more_is_not_sent() -> None:
    """A cancelled call that has not gone out never does, and does not hold up the others."""
    cancelled, wanted = call("cancelled"), call("wanted")
    queue = queue_of(cancelled, wanted)
    cancelled()
    assert sent(queue).calls == [wanted]
    lonely = call("lonely")
    lonely()
    assert queue_of(lonely).next() is None
    assert queue_of(lonely).earliest() is None


def test_a_call_that_expired_while_its_batch_was_put_off_is_not_sent_with_it() -> None:
    """F3: its caller was told that it was not applied; the batch goes on without it."""
    short, long = call("short", deadline=1.0), call("long")
    queue = queue_of(short, long)
    batch = sent(queue)
    batch.postponed = "BUSY"
    assert queue.expire(2.0) == ([short], [])
    assert batch.calls == [long]
    assert queue.sent == [batch]


def test_unsent_calls_are_dropped_without_those_under_way() -> None:
    """Where the server does not let us in, what was sent on an earlier link may still be applied."""
    queue = queue_of(call("sent"))
    batch = sent(queue)
    queue.add(call("unsent"))
    assert [each.result for each in queue.drop_unsent()] == ["unsent"]
    assert queue.drop_unsent() == []
    assert queue.sent == [batch]
    assert len(queue) == 1


def test_everything_can_be_given_up_at_the_end() -> None:
    """W6: no call is left without an answer."""
    queue = queue_of(call("a"))
    sent(queue)
    queue.add(call("b"))
    unsent, unconfirmed = queue.expire(float("inf"))
    assert ([each.result for each in unsent], [each.result for each in unconfirmed]) == (["b"], ["a"])
    assert queue.next() is None
    assert len(queue) == 0


class Queueing(RuleBasedStateMachine):
    """Calls, links and deadlines in any order: each call ends once, and the server never sees a lower number."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = CallQueue()
        self.queue.most = 2
        self.now = 0.0
        self.made: list[Call] = []
        self.ended: list[Call] = []
        self.seen: dict[int, list[Call]] = {}
        self.applied: list[Call] = []
        # What the server remembers: the numbers that it has applied last.
        self.last: list[int] = []

    @rule(patience=st.integers(0, 6), replicas=st.integers(0, 1))
    def make(self, patience: int, replicas: int) -> None:
        """Somebody makes a call."""
        made = call(deadline=self.now + patience, replicas=replicas)
        self.made.append(made)
        self.queue.add(made)

    @rule(which=st.integers(0, 1), reaches=st.booleans(), busy=st.booleans(), answered=st.booleans())
    def send(self, which: int, reaches: bool, busy: bool, answered: bool) -> None:
        """One that is unanswered, or new, is sent; it may not arrive, be put off, or not be answered."""
        new = self.queue.next()
        if not self.queue.sent:
            return
        batch = self.queue.sent[which % len(self.queue.sent)]
        if batch is not new:
            batch.repeated = batch.in_doubt
        batch.early, batch.postponed = False, ""
        if not reaches:
            return
        if busy:
            batch.postponed = "BUSY"
            return
        if self.queue.before(batch) not in (0, max(self.last, default=0)) and batch.number not in self.last:
            batch.early = True
            return
        assert self.seen.setdefault(batch.number, list(batch.calls)) == batch.calls, "F2: repeated, but changed"
        if batch.number not in self.last:
            newest = max(self.last, default=0)
            assert batch.number > newest, "F2: a lower number after a higher one, or a third one under way"
            self.applied += batch.calls
            self.last = [newest, batch.number]
        if answered:
            assert self.queue.answered(batch)
            self.end([each for each in batch.calls if not each.done])

    @rule(time=st.integers(0, 4))
    def wait(self, time: int) -> None:
        """Time passes."""
        self.now += time
        unsent, unconfirmed = self.queue.expire(self.now)
        assert not any(each in self.applied for each in unsent), "F3: called unreachable, but applied"
        assert all(each.done for each in (*unsent, *unconfirmed))
        earliest = self.queue.earliest()
        assert earliest is None or earliest > self.now
        self.end([*unsent, *unconfirmed])

    def end(self, calls: list[Call]) -> None:
        """Answer or give up these."""
        for each in calls:
            assert each not in self.ended, "a call ends twice"
            each.done = True
        self.ended += calls

    def teardown(self) -> None:
        """At the end everybody has an answer, and all went in order."""
        unsent, unconfirmed = self.queue.expire(float("inf"))
        self.end([*unsent, *unconfirmed])
        assert sorted(map(id, self.ended)) == sorted(map(id, self.made))
        order = [self.made.index(each) for each in self.applied]
        assert order == sorted(order), "F1: not in the order they were made"


def test_whatever_happens_each_call_ends_once() -> None:
    """Random schedules of calls, losses and deadlines."""
    run_state_machine_as_test(
        Queueing,
        settings=settings(max_examples=300, stateful_step_count=40, deadline=None, derandomize=True, database=None),
    )


# The reply.


def test_a_batch_is_written_as_the_script_takes_it() -> None:
    """A letter for each operation, then all keys, then all data."""
    kinds = (Kind.FIRED, Kind.FAILED, Kind.PULSED, Kind.RESET)
    assert Batch(1, [call(kind=kind) for kind in kinds]).args[0] == b"FXPR"
    words = [b"FF", b"k", b"l", b"1", b"2"]
    assert Batch(1, [call("k", data=b"1"), call("l", data=b"2")]).args == words


def test_a_reply_is_read_call_by_call() -> None:
    """Each applied call has the next number; what was undone has spent one."""
    stands = pack(StoredRecord.of_call(Kind.FIRED, Revision(5, 2), 7, "other", b'"old"'))
    gone = pack(StoredRecord(Kind.RESET, Revision(5, 14), 99, "me", Tail((Kind.FIRED, 5, 2)), b'"old"'))
    reply = b"5 11 99\n+=%d:%s~!4:OOPS*%d:%s-+" % (len(stands), stands, len(gone), gone)
    kinds = [Kind.PULSED, Kind.FIRED, Kind.FAILED, Kind.RESET, Kind.RESET, Kind.FIRED]
    outcomes = list(parse_reply(reply, [call(kind=kind, data=b'"new"') for kind in kinds], "me"))
    assert [each.first for each in outcomes] == [True, False, False, True, False, True]
    assert [each.error for each in outcomes] == [None, None, "OOPS", None, None, None]
    assert [each.stored.revision.number if each.stored else None for each in outcomes] == [12, 2, None, 14, None, 15]
    made = outcomes[0].stored
    assert made is not None
    assert (made.kind, made.time, made.node, made.data) == (Kind.PULSED, 99, "me", b'"new"')


def test_l12_each_count_has_its_own_count() -> None:
    """L12: those of one key share a record and its number; one that changed nothing has none of its own."""
    a = pack(StoredRecord(Kind.COUNTED, Revision(5, 12), 99, "me", Tail(count=7), b""))
    b = pack(StoredRecord(Kind.COUNTED, Revision(5, 2), 7, "other", Tail(count=4), b""))
    reply = b"5 11 99\n1*%d:%s3&4=%d:%s+7&~!4:OOPS-" % (len(a), a, len(b), b)
    calls = [call(key, kind=Kind.COUNTED) for key in "aab"] + [call("c"), call("a", kind=Kind.COUNTED)]
    calls += [call("d", kind=Kind.COUNTED), call("e", kind=Kind.RESET)]
    outcomes = list(parse_reply(reply, calls, "me"))
    assert [each.count for each in outcomes] == [1, 3, 4, 0, 7, 0, 0]
    assert [each.first for each in outcomes] == [True, True, False, True, True, False, False]
    assert [each.stored and each.stored.revision.number for each in outcomes] == [12, 12, 2, 13, 12, None, None]
    assert outcomes[5].error == "OOPS"


def test_l12_a_goal_has_its_value_wherever_it_is_told() -> None:
    """L12, W7: the count is in the header, so a record that was replaced since wakes this node's waiters too."""
    header = pack(StoredRecord(Kind.FIRED, Revision(5, 12), 99, "me", Tail(count=7, goal=7)))
    (outcome,) = parse_reply(b"=5 11 99\n7*%d:%s" % (len(header), header), [call("a", kind=Kind.COUNTED)], "me")
    assert outcome.stored is not None
    assert (outcome.stored.data, outcome.count) == (b"7", 7)


@pytest.mark.parametrize("letter", [HOLD, LOCK])
def test_the_value_of_a_holder_that_was_replaced_is_omitted(letter: int) -> None:
    """F2: what was sent for a holder is not its value alone, and the owner may be another holder."""
    header = b'["fired",[5,12],99,"me",{"held":"i.1"}]'
    holding = call("a", data=b'i.1 i.1 1\n"value"')
    holding.letter = letter
    (outcome,) = parse_reply(b"=5 11 99\n*%d:%s" % (len(header), header), [holding], "me")
    assert outcome.stored is not None
    assert outcome.stored.data is None


def test_a_record_that_is_none_is_an_error_of_its_call_alone() -> None:
    """The others in the batch have their outcome."""
    outcomes = list(parse_reply(b"5 0 0\n=4:junk+", [call("a"), call("b")], "me"))
    assert outcomes[0].error is not None
    assert outcomes[0].error.startswith("CORRUPT")
    assert outcomes[1].first


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\n",
        b"5 0\n+",
        b"5 0 0 0\n+",
        b"x 0 0\n+",
        b"5 0 0\n",
        b"5 0 0\n?",
        b"5 0 0\n++",
        b"5 0 0\n=",
        b"5 0 0\n=4",
        b"5 0 0\n=:junk",
        b"5 0 0\n=x:junk",
        b"5 0 0\n=-4:junk",
        b"5 0 0\n=+4:junk",
        b"5 0 0\n=5:junk",
        b"5 0 0\n=3:junk",
        b"5 0 0\n~",
        b"5 0 0\n&",
        b"5 0 0\n1&",
        b"5 0 0\n1+",
    ],
)
def test_what_is_no_reply_is_a_value_error(reply: bytes) -> None:
    """Too short, too long, or not what the script writes: nothing is guessed."""
    with pytest.raises(ValueError, match=r"."):
        parse_reply(reply, [call()], "me")


@QUICK
@given(
    st.binary()
    | st.text("0123456789 \n+-*=!~:&FR").map(str.encode)
    | st.text("+-*=!~:&0123F ").map(lambda body: b"5 0 0\n" + body.encode()),
    st.lists(st.builds(call, kind=KINDS), max_size=4),
)
def test_nothing_but_a_value_error_is_raised_for_a_reply(reply: bytes, calls: list[Call]) -> None:
    """And what is read has an outcome for each call."""
    try:
        outcomes = list(parse_reply(reply, calls, "me"))
    except ValueError:
        return
    assert len(outcomes) == len(calls)


def test_f5_what_stands_for_a_name_is_exact_on_the_server() -> None:
    """F5: Lua's numbers are doubles; one that was rounded would be the number of other calls, too."""
    numbers = [CallName.of("n", "", "job", Kind.FIRED, b"%d" % key, b"1").number for key in range(50)]
    assert len(set(numbers)) == 50
    assert 0 < min(numbers) < max(numbers) < 2**53


def test_f5_a_named_call_follows_no_unanswered_batch() -> None:
    """F5: its number has no place among the others', so the server could not tell whether the one before is applied."""
    queue = queue_of(call("first"))
    first = sent(queue)
    named = call("named")
    named.name = CallName.of("n", "", "job", Kind.FIRED, b"named", b"true")
    for each in (named, *[call(f"k{n}") for n in range(MAX_BATCH_CALLS)]):
        queue.add(each)
    assert queue.next() is None
    assert queue.answered(first)
    assert sent(queue).calls == [named]
    assert queue.next() is None
