"""Deadlines end in their order, and what they cost does not grow with how many wait: steps are counted, not time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count
from random import Random
from typing import Any

import pytest

from coord.core.calls import CallQueue
from coord.core.deadlines import EarlyDeadlines


class Counted:
    """As much of a call as deadlines look at; each look is a step."""

    steps = 0

    def __init__(self, order: int, deadline: float) -> None:
        self.order = order
        self._deadline = deadline
        self._done = False
        # What a queue wants to know besides.
        self.taken = False
        self.data = b""
        self.replication = (0, 0)
        self.name = None

    @property
    def deadline(self) -> float:
        """When it ends."""
        Counted.steps += 1
        return self._deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether it is over."""
        Counted.steps += 1
        return self._done

    @done.setter
    def done(self, value: bool) -> None:
        self._done = value


Due = Callable[[int], float]

WAYS: dict[str, Due] = {
    "one time for all": lambda number: 30.0 + number,
    "two times in turn": lambda number: number + (30.0 if number % 2 else 5.0),
    "one that is last behind all": lambda number: 1e6 if number == 0 else float(number),
    "each a time of its own": lambda number: Random(number).uniform(0, 1_000),
}


def _steps(number: int, due: Due) -> float:
    """Return the steps a call, where each ends alone in a queue that nothing is taken from."""
    queue = CallQueue()
    calls = [Counted(order, due(order)) for order in range(number)]
    Counted.steps = 0
    for call in calls:
        queue.add(call)  # type: ignore[arg-type]
    for deadline in sorted(call._deadline for call in calls):
        assert queue.expire(deadline)[1] == []
        queue.earliest()
    assert len(queue) == 0
    return Counted.steps / number


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_costs_the_same_however_many_wait(way: str) -> None:
    """Eight times as many calls, each of which ends alone, take no more steps a call."""
    few, many = _steps(250, WAYS[way]), _steps(2_000, WAYS[way])
    assert many < 30
    assert many < 1.2 * few + 1


@pytest.mark.parametrize("way", WAYS)
def test_they_end_in_the_order_of_their_deadlines(way: str) -> None:
    """Whatever was cancelled, answered and added in between, each that is left ends at its time."""
    random, order = Random(way), count()
    queue, waiting = CallQueue(), []  # type: CallQueue, list[Counted]
    for now in range(600):
        for _ in range(random.randrange(4)):
            call = Counted(number := next(order), now + WAYS[way](number) % 97)
            queue.add(call)  # type: ignore[arg-type]
            waiting.append(call)
        for call in random.sample(waiting, min(len(waiting), random.randrange(3))):
            call.done = True
        if now % 7 == 0:
            batch = queue.next()
            if batch is not None and random.randrange(2):
                queue.answered(batch)
                for each in batch.calls:
                    each.done = True
        waiting = [call for call in waiting if not call._done]
        expected: list[Any] = [call for call in waiting if not call._done and call._deadline <= now]
        assert sorted([*chain(*queue.expire(now))], key=lambda call: call.order) == expected
        waiting = [call for call in waiting if not call._done]
        assert queue.earliest() == min((call._deadline for call in waiting), default=None)


def test_what_is_over_is_not_kept() -> None:
    """Ten thousand calls that are over leave no more than a hundred in memory."""
    deadlines: EarlyDeadlines[Counted] = EarlyDeadlines()
    for order in range(1, 10_000):
        call = Counted(order, 30.0 + order / 1_000)
        deadlines.add(call)
        call.done = bool(order % 2)
        call.taken = not order % 2
        assert len(deadlines) < 100


def test_a_queue_lets_go_of_what_ended_behind_one_that_waits() -> None:
    """The calls that ended are dropped from a queue also if the first one is still waited for."""
    queue = CallQueue()
    for order in range(1_000):
        queue.add(Counted(order, 9_999.0 if order == 0 else float(order)))  # type: ignore[arg-type]
    queue.expire(999.0)
    assert len(queue) == 1
