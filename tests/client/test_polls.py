"""Long polls: what happened between two of them is in the second, and nothing is in both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from coord import EventFailed, EventMap, Revision
from coord.client.polls import Goal, Poll, wake_of
from coord.testing import Cluster


@pytest.fixture
def world() -> Iterator[Cluster]:
    """A cluster in memory, which must leave nothing behind."""
    with Cluster() as world:
        yield world


def _map(world: Cluster, name: str = "n") -> EventMap:
    node = world.node(name)
    world.settle()
    return node.events("m")


class _Polling:
    """A poll that is under way."""

    def __init__(self, events: EventMap, *keys: str, goal: Goal = Goal.WAKE, since: Any = None, **more: Any) -> None:
        self.poll = Poll(events, keys, goal, of_any=more.pop("of_any", False), since=since, **more)
        self.answer = Deferred.fromCoroutine(self.poll.run())

    def values(self, world: Cluster) -> dict[str, Any]:
        """Return the value of each key in the answer."""
        found = world.result(self.answer).records
        return {key: wake_of(stored).record("m", key).value for key, stored in found.items() if stored is not None}

    def give_up(self, world: Cluster) -> Revision:
        """End it, as a time-out does; return the revision for the next."""
        world.settle()
        assert not self.answer.called
        self.answer.addErrback(lambda _: None)
        self.answer.cancel()
        world.settle()
        assert self.poll.revision is not None
        return self.poll.revision


def test_a_latched_key_answers_at_once(world: Cluster) -> None:
    """W1: whatever the revision that the caller has seen, without a subscription."""
    events = _map(world)
    first = world.result(events.fire("k", 7))
    assert first.record is not None
    assert _Polling(events, "k").values(world) == {"k": 7}
    assert _Polling(events, "k", since=first.record.revision).values(world) == {"k": 7}
    assert world.nodes[0].statistics().subscriptions == 0


@pytest.mark.parametrize("missed", ["pulse", "fire and reset", "pulse, and then another key"])
def test_what_came_between_two_polls_is_in_the_second(world: Cluster, missed: str) -> None:
    """W2 across polls: a wake that no poll was there for, and that the record says nothing of any more."""
    events = _map(world)
    revision = _Polling(events, "k").give_up(world)
    if missed == "fire and reset":
        world.result(events.fire("k", 7))
        world.result(events.reset("k"))
    else:
        world.result(events.pulse("k", 7))
    if "another" in missed:
        world.result(events.pulse("other", 8))
    second = _Polling(events, "k", since=revision)
    assert second.values(world) == {"k": 7}
    third = _Polling(events, "k", since=second.poll.revision)
    world.settle()
    assert not third.answer.called
    third.give_up(world)


def test_a_wake_from_before_the_first_poll_does_not_count(world: Cluster) -> None:
    """A poll without a revision is as a wait: what was pulsed earlier woke others."""
    events = _map(world)
    world.result(events.pulse("k", 7))
    polling = _Polling(events, "k")
    world.settle()
    assert not polling.answer.called
    world.result(events.pulse("k", 8))
    assert polling.values(world) == {"k": 8}


def test_a_poll_is_woken(world: Cluster) -> None:
    """By another node, while it waits; and it leaves no waiter and no subscription behind."""
    events, other = _map(world), _map(world, "other")
    polling = _Polling(events, "a", "b", of_any=True)
    world.settle()
    world.result(other.pulse("b", 8))
    assert polling.values(world) == {"b": 8}
    world.settle()
    now = world.nodes[0].statistics()
    assert (now.waiters, now.subscriptions) == (0, 0)


def test_all_keys_count_from_the_same_revision(world: Cluster) -> None:
    """A pulse that an unanswered poll for all has seen is still there for the next one."""
    events = _map(world)
    polling = _Polling(events, "a", "b")
    world.settle()
    world.result(events.pulse("a", 1))
    revision = polling.give_up(world)
    second = _Polling(events, "a", "b", since=revision)
    world.settle()
    assert not second.answer.called
    world.result(events.fire("b", 2))
    assert second.values(world) == {"a": 1, "b": 2}


def test_two_keys_woken_between_polls_are_both_told_once(world: Cluster) -> None:
    """A poll for the first of many tells of all that it finds, in order, and goes on behind the last."""
    events = _map(world)
    revision = _Polling(events, "a", "b").give_up(world)
    world.result(events.pulse("b", 1))
    world.result(events.pulse("a", 2))
    second = _Polling(events, "a", "b", since=revision, of_any=True)
    assert list(second.values(world).items()) == [("b", 1), ("a", 2)]
    third = _Polling(events, "a", "b", since=second.poll.revision, of_any=True)
    world.settle()
    assert not third.answer.called
    third.give_up(world)


def test_a_failure_ends_a_poll(world: Cluster) -> None:
    """Also for all keys, while others are missing; and also if it was reset since."""
    events = _map(world)
    polling = _Polling(events, "a", "b")
    revision = Revision(1, 1)
    world.settle()
    world.result(events.fail("b", "no disk"))
    with pytest.raises(EventFailed, match="no disk"):
        world.result(polling.answer)
    world.result(events.reset("b"))
    with pytest.raises(EventFailed, match="no disk"):
        world.result(_Polling(events, "b", since=revision).answer)


def test_the_end_of_an_event_between_two_polls(world: Cluster) -> None:
    """L10 across polls: it counts if the key was latched anew meanwhile."""
    events = _map(world)
    world.result(events.fire("k", 1))
    polling = _Polling(events, "k", goal=Goal.GONE)
    revision = polling.give_up(world)
    world.result(events.reset("k"))
    world.result(events.fire("k", 2))
    assert _Polling(events, "k", goal=Goal.GONE, since=revision).values(world) == {"k": 2}
    waiting = _Polling(events, "k", goal=Goal.GONE)
    world.settle()
    assert not waiting.answer.called
    world.result(events.reset("k"))
    assert waiting.values(world) == {"k": 2}


def test_a_count(world: Cluster) -> None:
    """Of several counters, each has to be high enough."""
    events = _map(world)
    polling = _Polling(events, "a", "b", goal=Goal.COUNT, least=2)
    world.result(events.count("a", 2))
    world.result(events.count("b"))
    world.settle()
    assert not polling.answer.called
    world.result(events.count("b"))
    assert set(world.result(polling.answer).records) == {"a", "b"}


def test_a_wake_while_the_link_is_lost(world: Cluster) -> None:
    """W2: a pulse that no message can tell of is found when the link is back."""
    events, other = _map(world), _map(world, "other")
    polling = _Polling(events, "k")
    world.settle()
    world.networks["n"].cut()
    world.result(other.pulse("k", 9))
    world.result(other.pulse("another", 9))
    assert polling.values(world) == {"k": 9}


def test_a_flush_by_a_server_whose_clock_is_behind(world: Cluster) -> None:
    """All that is there after it is new, though its revisions are lower."""
    events = _map(world)
    world.result(events.pulse("k", 1))
    future = Revision(9_000_000_000_000_000, 1)
    second = _Polling(events, "k", since=future)
    assert second.values(world) == {"k": 1}
    assert second.poll.revision is not None
    assert second.poll.revision < future


def test_an_event_with_a_ttl(world: Cluster) -> None:
    """It answers while it stands, and afterwards as a wake that was."""
    events = _map(world)
    revision = _Polling(events, "k").give_up(world)
    world.result(events.fire("k", 1, ttl=5))
    found = world.result(_Polling(events, "k", since=revision).answer)
    assert found.left == {"k": 5000}
    world.advance(20)
    assert _Polling(events, "k", since=revision).values(world) == {"k": 1}
    assert _Polling(events, "k", goal=Goal.GONE).values(world) == {"k": 1}
