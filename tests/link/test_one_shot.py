"""Results that many callers wait for, each with a Deferred of its own."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.errors import Closed, Unreachable
from coord.link.one_shot import OneShot, Waiters


def caught(waiting: Deferred[Any]) -> list[type[BaseException]]:
    """Return the type of the error that a Deferred has, without leaving it unhandled."""
    errors: list[Any] = []

    def note(failure: Failure) -> None:
        errors.append(failure.type)

    waiting.addErrback(note)
    return errors


def test_all_who_wait_get_the_result_and_later_ones_the_next() -> None:
    """Each has a Deferred of its own, and is forgotten once it has fired."""
    waiters: Waiters[int] = Waiters()
    first, second = waiters.wait(), waiters.wait()
    assert len(waiters) == 2
    waiters.fire(1)
    third = waiters.wait()
    assert len(waiters) == 1
    waiters.fire(2)
    assert [each.result for each in (first, second, third)] == [1, 1, 2]


def test_an_error_is_a_result() -> None:
    """It errbacks; of `Closed`, which nobody need handle, Twisted logs nothing."""
    waiters: Waiters[int] = Waiters()
    waiting, careless = waiters.wait(), waiters.wait()
    waiters.fire(Closed())
    assert caught(waiting) == [Closed]
    assert careless.called


def test_a_waiter_may_cancel_itself_another_or_wait_again() -> None:
    """One that was cancelled is forgotten, or passed over during a fire; one that comes during a fire gets the next."""
    waiters: Waiters[int] = Waiters()
    gone = waiters.wait()
    gone.cancel()
    assert caught(gone) == [CancelledError]
    assert len(waiters) == 0
    first, sibling = waiters.wait(), waiters.wait()
    again: list[Deferred[int]] = []

    def callback(_: int) -> None:
        sibling.cancel()
        again.append(waiters.wait())

    first.addCallback(callback)
    waiters.fire(1)
    assert caught(sibling) == [CancelledError]
    assert not again[0].called


def test_the_deferreds_are_made_as_wanted() -> None:
    """The maker gets the canceller."""

    class Named(Deferred[int]):
        pass

    waiters: Waiters[int] = Waiters(Named)
    waiting = waiters.wait()
    assert isinstance(waiting, Named)
    waiting.cancel()
    assert caught(waiting) == [CancelledError]
    assert len(waiters) == 0


@pytest.mark.parametrize("result", [3, Unreachable("gone")])
def test_a_one_shot_is_there_for_later_callers(result: int | Exception) -> None:
    """The first result counts; what a caller makes of it does not concern the others."""
    shot: OneShot[int] = OneShot()
    early = shot.wait()
    fired = [shot.fired]
    shot.fire(result)
    shot.fire(4)
    fired.append(shot.fired)
    assert fired == [False, True]
    got: list[object] = []

    def note(value: object) -> None:
        got.append(value.value if isinstance(value, Failure) else value)

    early.addBoth(note)
    shot.wait().addBoth(note)
    assert got == [result, result]
