"""What one async test leaves in the reactor is its own failure, and no later one's."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.util import DirtyReactorAggregateError

from coord.clock import steady
from support import cases


@pytest.mark.parametrize("left", [0.0, 0.01, 60.0])
def test_a_timer_that_is_left_fails_its_own_test_alone(left: float) -> None:
    """Trial empties the reactor then; the clock's next call comes all the same, and the one that was left does not."""
    late: list[str] = []

    async def leave(_: cases.Case) -> None:
        def again() -> None:
            late.append("called")
            steady(reactor).callLater(left, again)

        again()

    async def wait(_: cases.Case) -> None:
        late.clear()
        await deferLater(steady(reactor), 0.05)

    with pytest.raises(DirtyReactorAggregateError):
        cases.run_case(cases.Case("leaves a timer", leave, 5.0))
    cases.run_case(cases.Case("waits for a timer", wait, 5.0))
    assert late == []
