"""How often a node sweeps maps that are not called any more."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from coord.link.replies import LinkLost
from coord.session.sweeper import Sweeper


class _Link:
    """A link whose answers are given by the test."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def run_script(self, *_: object) -> Deferred[Any]:
        """Run a script."""
        self.asked.append(Deferred())
        return self.asked[-1]


def test_w5_one_sweep_at_a_time() -> None:
    """W5: a server that answers more slowly than hearts beat gets no second sweep before the first has ended."""
    link = _Link()
    sweeper = Sweeper(link, "default", 0)  # type: ignore[arg-type]
    sweeper.sweep()
    sweeper.sweep()
    assert len(link.asked) == 1
    link.asked[0].callback([b"a", b"b"])
    sweeper.sweep()
    assert len(link.asked) == 3
    link.asked[1].callback(0)
    link.asked[2].errback(LinkLost())
    sweeper.sweep()
    assert len(link.asked) == 4
