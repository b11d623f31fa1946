"""Calls that wait for their replicas, with a scripted link: what each count answers, and when it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from coord import NotReplicated
from coord.core.calls import Call
from coord.core.records import Applied, Kind
from coord.link.replies import LinkLost, ServerError
from coord.session.counters import Counters
from coord.session.replicas import Replicas
from coord.testing import Cluster
from support.cluster import Seen


class _Link:
    """A link on which each count is asked, and answered when the test says so."""

    def __init__(self) -> None:
        self.up = True
        self.data = "data"
        self.counts: list[tuple[int, float, bool]] = []
        self.answer: Deferred[int] = Deferred()
        self.progress: Any = None
        self.abandoned: list[str] = []

    def abandon(self, reason: str) -> None:
        """Note that something in coord went wrong."""
        self.abandoned.append(reason)

    def has_still(self, data: object) -> bool:
        """Whether the data are the same."""
        return data == self.data

    def count_replicas(self, wanted: int, due: float, on_progress: Any, *, new: bool) -> Deferred[int]:
        """Note what is asked."""
        self.counts.append((wanted, due, new))
        self.progress = on_progress
        self.answer = Deferred()
        return self.answer


class _Node:
    """The calls of a node, and what becomes of each."""

    def __init__(self) -> None:
        self.clock, self.link = Clock(), _Link()
        link: Any = self.link
        self.replicas = Replicas(link, self.clock, Counters())

    def add(self, key: str, within: float = 10.0, wanted: int = 1) -> Seen:
        """Add an applied call, and ask."""
        call = Call(Kind.FIRED, key.encode(), b"1", 60.0, 0, replication=(wanted, int(within * 1000)))
        call.result = Deferred(call)
        self.replicas.add(call, Applied(None, True))
        seen = Seen(call.result)
        self.replicas.count()
        return seen

    def later(self, count: int) -> None:
        """Answer the count after as long as WAIT takes."""
        self.clock.advance(0.1)
        self.link.answer.callback(count)


def test_one_count_at_a_time_serves_all() -> None:
    """Calls that come during a count are not in it: the next one serves them together."""
    node = _Node()
    first = node.add("first")
    others = [node.add(f"k{number}") for number in range(5)]
    assert node.link.counts == [(1, 10.0, True)]
    node.later(1)
    assert (len(first.values), [each.count for each in others]) == (1, [0] * 5)
    assert node.link.counts[1:] == [(1, 10.0, True)]
    node.later(1)
    assert [len(each.values) for each in others] == [1] * 5
    assert (len(node.link.counts), len(node.replicas)) == (2, 0)
    node.replicas.close()


def test_a_count_is_asked_for_as_few_as_somebody_wants_and_by_when() -> None:
    """The nearest deadline; what is asked again is not new."""
    node = _Node()
    two = node.add("two", wanted=2)
    node.later(1)
    one = node.add("one", within=5.0)
    node.later(1)
    assert node.link.counts == [(2, 10.0, True), (2, 10.0, False), (1, 5.1, True)]
    node.later(1)
    assert (len(one.values), two.count) == (1, 0)
    node.later(2)
    assert len(two.values) == 1
    node.replicas.close()


def test_progress_acknowledges_what_one_wait_is_too_short_for() -> None:
    """The first look tells an offset after the call; a replica that has reached it on a later look has the call."""
    node = _Node()
    call = node.add("k")
    assert [node.link.progress] == [None]
    node.later(0)
    node.link.progress(10, [10])
    assert call.count == 0
    node.later(0)
    node.link.progress(20, [9])
    assert call.count == 0
    node.later(0)
    node.link.progress(30, [9, 10])
    assert len(call.values) == 1
    node.later(0)
    node.replicas.close()
    assert (len(call.values), call.errors) == (1, [])


def test_an_unknown_offset_acknowledges_nothing() -> None:
    """Every replica has got to -1."""
    node = _Node()
    call = node.add("k")
    for _ in range(3):
        node.later(0)
        node.link.progress(-1, [5])
    assert call.count == 0
    node.replicas.close()
    assert [type(error) for error in call.errors] == [NotReplicated]


def test_a_callback_may_cancel_what_the_same_count_acknowledges() -> None:
    """That one is cancelled, and nobody is told twice."""
    node = _Node()
    calls: list[Call] = []
    for key in ("a", "b"):
        call = Call(Kind.FIRED, key.encode(), b"1", 60.0, 0, replication=(1, 10_000))
        call.result = Deferred(call)
        calls.append(call)
        node.replicas.add(call, Applied(None, True))
    calls[0].result.addCallback(lambda _: calls[1].result.cancel())
    seen = Seen(*(call.result for call in calls))
    node.replicas.count()
    node.later(1)
    assert (len(seen.values), len(seen.errors)) == (1, 1)
    assert node.link.abandoned == []
    assert len(node.replicas) == 0
    node.replicas.close()


@pytest.mark.parametrize("order", [(1.0, 12.0), (12.0, 1.0)])
def test_each_is_told_at_its_own_time(order: tuple[float, float]) -> None:
    """With one timer for both, whichever came first, and how many replicas there were."""
    node = _Node()
    seen = {within: node.add(f"{within}", within, wanted=2) for within in order}
    node.later(1)
    node.later(1)
    node.clock.advance(0.75)
    assert seen[1.0].count == 0
    node.clock.advance(0.1)
    assert "1 of 2 replicas have it after 1 s" in str(seen[1.0].errors[0])
    assert seen[12.0].count == 0
    node.clock.advance(11)
    assert [type(error) for error in seen[12.0].errors] == [NotReplicated]
    node.replicas.close()
    assert node.clock.getDelayedCalls() == []


def test_a_denied_count_is_final() -> None:
    """Those that it would have served are told, and it is not asked again."""
    node = _Node()
    denied = node.add("denied")
    node.link.answer.errback(ServerError("NOPERM this user has no permissions to run the 'wait' command"))
    assert "no permissions" in str(denied.errors[0])
    assert len(node.link.counts) == 1
    node.replicas.close()


def test_a_refused_count_is_asked_again_after_a_pause() -> None:
    """Its words are the reason where time runs out."""
    node = _Node()
    call = node.add("k", within=0.15)
    node.link.answer.errback(ServerError("ERR not now"))
    assert len(node.link.counts) == 1
    node.clock.advance(0.1)
    assert len(node.link.counts) == 2
    node.link.answer.errback(ServerError("ERR not now"))
    node.clock.advance(0.1)
    assert "not now" in str(call.errors[0])
    node.replicas.close()
    assert node.clock.getDelayedCalls() == []


@pytest.mark.parametrize("same", [True, False])
def test_the_next_link_goes_on_where_the_data_are_the_same(same: bool) -> None:
    """Else the calls may be gone with the old ones; without a link nothing is asked."""
    node = _Node()
    call = node.add("k")
    node.link.up = False
    node.link.answer.errback(LinkLost())
    node.replicas.count()
    assert len(node.link.counts) == 1
    node.link.up = True
    node.link.data = "data" if same else "other"
    node.replicas.link_made()
    assert len(node.link.counts) == (2 if same else 1)
    assert ["other data" in str(error) for error in call.errors] == ([] if same else [True])
    if same:
        node.later(1)
        assert len(call.values) == 1
    node.replicas.close()


@pytest.mark.parametrize("late", [None, 0, 1, Failure(LinkLost()), Failure(ServerError("NOPERM x"))])
def test_f4_the_next_link_does_not_wait_for_a_count_of_the_last_one(late: Any) -> None:
    """F4: a map of a cluster has left a server that may hang, or be lost later; its next one counts alone."""
    node = _Node()
    first = node.add("first")
    left = node.link.answer
    node.link.data = "other"
    node.replicas.link_made()
    assert [type(error) for error in first.errors] == [NotReplicated]
    second = node.add("second")
    assert len(node.link.counts) == 2
    if late is not None:
        left.callback(late)
    assert (len(node.link.counts), second.count) == (2, 0)
    node.later(1)
    assert len(second.values) == 1
    third = node.add("third")
    node.later(1)
    assert (len(third.values), len(node.link.counts)) == (1, 3)
    node.replicas.close()
    assert node.clock.getDelayedCalls() == []


def test_a_call_that_is_answered_while_the_node_closes_ends_at_once() -> None:
    """Another call of its batch may have a callback that closes the node; nothing is left behind."""
    with Cluster() as cluster:
        node = cluster.node("n")
        cluster.result(node.connected())
        events = node.events("m")
        first = Seen(events.fire("a", replicas=1))
        cluster.settle()
        events.fire("x").addCallback(lambda _: node.close())
        late = Seen(events.fire("b", replicas=1, within=100))
        cluster.settle()
        for seen in (first, late):
            (error,) = seen.errors
            assert isinstance(error, NotReplicated)
            assert "closed" in str(error)
        assert node.statistics().pending_calls == 0
        assert cluster.clock.getDelayedCalls() == []
