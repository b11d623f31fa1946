"""How often a node sweeps maps that are not called any more."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from coord.core.names import MapNames
from coord.link.replies import LinkLost, ServerError
from coord.session.sweeper import _FIELDS, _MAPS, Sweeper


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
    sweeper = Sweeper(commands, lambda name: MapNames("default", name, 0), lambda *_: succeed(True))  # type: ignore[arg-type]
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


def test_l11_a_heartbeat_ends_all_that_is_over() -> None:
    """L11: while a sweep is full, another one follows once its events are ended; a refused one ends it."""
    commands, ending = _Commands(), list[Deferred[bool]]()

    def end(*_: object) -> Deferred[bool]:
        ending.append(Deferred())
        return ending[-1]

    sweeper = Sweeper(commands, lambda name: MapNames("default", name, 0), end)  # type: ignore[arg-type]
    sweeper.sweep()
    commands.asked[0].callback([b"a"])
    commands.asked[1].callback([b"E", b"k", b"1,1"] * _FIELDS)
    for each in ending[:-1]:
        each.callback(True)
    assert len(commands.asked) == 2
    ending[-1].callback(True)
    assert len(commands.asked) == 3
    commands.asked[2].callback([b"E", b"k", b"1,1"] * _FIELDS)
    for each in ending[_FIELDS:]:
        each.callback(False)
    assert len(commands.asked) == 3
    sweeper.sweep()
    assert len(commands.asked) == 4


def test_l11_a_heartbeat_asks_for_maps_until_there_are_no_more() -> None:
    """L11: whatever becomes of each."""
    commands = _Commands()
    sweeper = Sweeper(commands, lambda name: MapNames("default", name, 0), lambda *_: succeed(True))  # type: ignore[arg-type]
    sweeper.sweep()
    commands.asked[0].callback([b"m%d" % number for number in range(_MAPS)])
    for each in commands.asked[1:-1]:
        each.callback([])
    assert len(commands.asked) == 1 + _MAPS
    commands.asked[-1].errback(LinkLost())
    assert len(commands.asked) == 2 + _MAPS
    commands.asked[-1].callback([])
    sweeper.sweep()
    assert len(commands.asked) == 3 + _MAPS


def test_l11_maps_that_cannot_be_swept_are_asked_for_once() -> None:
    """L11: the server returns them again, as other nodes may be allowed to sweep them."""
    commands = _Commands()
    sweeper = Sweeper(commands, lambda name: MapNames("default", name, 0), lambda *_: succeed(True))  # type: ignore[arg-type]
    sweeper.sweep()
    names = [b"m%d" % number for number in range(_MAPS)]
    commands.asked[0].callback(names)
    for each in commands.asked[1:]:
        each.errback(ServerError("NOPERM"))
    commands.asked[-1].callback(names)
    assert len(commands.asked) == 2 + _MAPS
