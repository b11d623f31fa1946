"""The pauses after which is asked again what a server has put off."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.task import Clock

from coord.session.retry import Retry


def test_the_pauses_grow_and_are_short_again_after_a_calm() -> None:
    """From a tenth of a second to five, one at a time; where nothing was put off for a while they begin anew."""
    clock, asked = Clock(), [0.0]
    retry = Retry(clock, lambda: asked.append(clock.seconds()))
    for round_ in range(14):
        assert retry.begin() is (round_ == 0)
        assert not retry.begin()
        over = retry.wait_over()
        while not over.called:
            clock.advance(0.01)
    pauses = [after - before for before, after in pairwise(asked)]
    assert len(pauses) == 14
    assert pauses[0] < 0.12
    assert all(2.5 <= pause < 5.1 for pause in pauses[-3:])
    clock.advance(12)
    assert retry.begin()
    clock.advance(0.11)
    assert len(asked) == 16


def test_what_is_given_up_or_closed_leaves_no_timer() -> None:
    """A question that is cancelled meanwhile is not told; closing tells the others at once."""
    clock, asked = Clock(), []
    retry = Retry(clock, lambda: asked.append(1))
    retry.begin()
    cancelled, waiting = retry.wait_over(), retry.wait_over()
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    retry.close()
    assert waiting.called
    assert not clock.getDelayedCalls()
    assert asked == []
    retry.close()
