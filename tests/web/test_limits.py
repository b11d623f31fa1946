"""Buckets and quotas."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from coord.web.limits import Hourly, Quota, Rate
from coord.web.problems import Problem


def spent(rate: Rate | Hourly, name: str = "a") -> int:
    """Spend until it is refused; return how often that went well."""
    for count in range(10_000):
        try:
            rate.spend(name)
        except Problem as problem:
            return count if problem.status == 429 and int(problem.headers["Retry-After"]) >= 1 else -1
    raise AssertionError("never refused")


def test_a_bucket_has_a_burst_and_then_its_rate() -> None:
    """Who pauses may hurry, up to the burst; each name has a bucket of its own."""
    clock = Clock()
    rate = Rate(10, 30, clock.seconds)
    assert spent(rate) == 30
    assert spent(rate) == 0
    clock.advance(0.5)
    assert spent(rate) == 5
    assert spent(rate, "b") == 30
    clock.advance(1_000)
    assert spent(rate) == 30


def test_some_requests_take_many_at_once() -> None:
    """All at most: who asks for more than ever fits in a bucket waits until it is full."""
    clock = Clock()
    rate = Rate(10, 30, clock.seconds)
    rate.spend("a", 20)
    assert spent(rate) == 10
    clock.advance(2.9)
    with pytest.raises(Problem):
        rate.spend("a", 1_000)
    clock.advance(0.1)
    rate.spend("a", 1_000)
    assert spent(rate) == 0


def test_a_bucket_says_when_to_come_again() -> None:
    """The seconds are rounded up, and never 0."""
    rate = Rate(0.25, 1, Clock().seconds)
    rate.spend("a")
    with pytest.raises(Problem) as caught:
        rate.spend("a")
    assert caught.value.headers["Retry-After"] == "4"


def test_buckets_of_who_comes_once_are_forgotten() -> None:
    """Any number of addresses takes bounded memory."""
    clock = Clock()
    rate = Rate(1, 2, clock.seconds)
    for number in range(25_000):
        rate.spend(str(number))
        clock.advance(0.001)
    assert len(rate._empty_at) <= 10_000


def test_a_quota_is_for_all_and_for_each() -> None:
    """What is given back, once or twice, is there once."""
    quota = Quota("things", 5, 3)
    back = quota.take("a", 3)
    with pytest.raises(Problem, match="3 of one"):
        quota.take("a")
    quota.take("b", 2)
    with pytest.raises(Problem, match="5 in all"):
        quota.take("c")
    back()
    back()
    assert quota.taken == 2
    assert quota.of("a") == 0
    quota.take("", 3)  # nobody in particular


def test_an_hour_begins_anew() -> None:
    """So many an hour, and the answer says when the next one begins."""
    clock = Clock()
    hourly = Hourly("calls", 3, clock.seconds)
    assert spent(hourly) == 3
    clock.advance(3_590)
    with pytest.raises(Problem) as caught:
        hourly.spend("a")
    assert caught.value.headers["Retry-After"] == "10"
    assert spent(hourly, "b") == 3
    clock.advance(10)
    assert spent(hourly) == 3
