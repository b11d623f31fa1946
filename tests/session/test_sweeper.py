"""How often a node sweeps maps that are not called any more."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from coord.core.names import MapNames
from coord.link.replies import LinkLost
from coord.session.sweeper import Sweeper


class _Commands:
    """Commands whose answers are given by the test."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def idle_maps(self, *_: object) -> Deferred[Any]:
        """Ask for maps, or sweep one."""
        self.asked.append(Deferred())
        return self.asked[-1]

    sweep = idle_maps


def test_w5_one_sweep_at_a_time() -> None:
    """W5: a server that answers more slowly than hearts beat gets no second sweep before the first has ended."""
    commands = _Commands()
    sweeper = Sweeper(commands, lambda name: MapNames("default", name, 0), lambda *_: None)  # type: ignore[arg-type]
    sweeper.sweep()
    sweeper.sweep()
    assert len(commands.asked) == 1
    commands.asked[0].callback([b"a", b"b"])
    sweeper.sweep()
    assert len(commands.asked) == 3
    commands.asked[1].callback([])
    commands.asked[2].errback(LinkLost())
    sweeper.sweep()
    assert len(commands.asked) == 4
