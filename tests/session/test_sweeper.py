"""How often a node sweeps maps that are not called any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from coord.core.names import MapNames
from coord.link.replies import LinkLost, ServerError
from coord.session.commands import Swept
from coord.session.settings import Settings
from coord.session.sweeper import _FIELDS, _MAPS, Sweeper

_OVER = (ord("E"), b"k", b"1,1")
HEARTBEAT = 5.0


class _Commands:
    """Commands whose answers are given by the test."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def idle_maps(self, *_: object) -> Deferred[Any]:
        """Ask for maps, or sweep one."""
        self.asked.append(Deferred())
        return self.asked[-1]

    sweep = idle_maps


def _sweeper(commands: _Commands, end: Any = lambda *_: succeed(True), clock: Clock | None = None) -> Sweeper:
    node: Any = SimpleNamespace(clock=clock or Clock(), settings=Settings(heartbeat=HEARTBEAT))
    return Sweeper(node, commands, lambda name: MapNames("default", name, 0), end)  # type: ignore[arg-type]


def _swept(*over: tuple[int, bytes, bytes], following: int = 0, passed: int = 0) -> Swept:
    return Swept(following, passed, [*over])


def test_w5_one_sweep_at_a_time() -> None:
    """W5: a server that answers more slowly than hearts beat gets no second sweep before the first has ended."""
    commands = _Commands()
    sweeper = _sweeper(commands)
    sweeper.sweep()
    sweeper.sweep()
    assert len(commands.asked) == 1
    commands.asked[0].callback([b"a", b"b"])
    sweeper.sweep()
    assert len(commands.asked) == 3
    commands.asked[1].callback(_swept())
    commands.asked[2].errback(LinkLost())
    sweeper.sweep()
    assert len(commands.asked) == 4


def test_l11_a_heartbeat_ends_all_that_is_over() -> None:
    """L11: while a sweep is full, another one follows once its events are ended; a refused one ends it."""
    commands, ending = _Commands(), list[Deferred[bool]]()

    def end(*_: object) -> Deferred[bool]:
        ending.append(Deferred())
        return ending[-1]

    sweeper = _sweeper(commands, end)
    sweeper.sweep()
    commands.asked[0].callback([b"a"])
    commands.asked[1].callback(_swept(*[_OVER] * _FIELDS))
    for each in ending[:-1]:
        each.callback(True)
    assert len(commands.asked) == 2
    ending[-1].callback(True)
    assert len(commands.asked) == 3
    commands.asked[2].callback(_swept(*[_OVER] * _FIELDS))
    for each in ending[_FIELDS:]:
        each.callback(False)
    assert len(commands.asked) == 3
    sweeper.sweep()
    assert len(commands.asked) == 4


def test_l11_a_heartbeat_asks_for_maps_until_there_are_no_more() -> None:
    """L11: whatever becomes of each."""
    commands = _Commands()
    sweeper = _sweeper(commands)
    sweeper.sweep()
    commands.asked[0].callback([b"m%d" % number for number in range(_MAPS)])
    for each in commands.asked[1:-1]:
        each.callback(_swept())
    assert len(commands.asked) == 1 + _MAPS
    commands.asked[-1].errback(LinkLost())
    assert len(commands.asked) == 2 + _MAPS
    commands.asked[-1].callback([])
    sweeper.sweep()
    assert len(commands.asked) == 3 + _MAPS


def test_l11_maps_that_cannot_be_swept_are_asked_for_once() -> None:
    """L11: the server returns them again, as other nodes may be allowed to sweep them."""
    commands = _Commands()
    sweeper = _sweeper(commands)
    sweeper.sweep()
    names = [b"m%d" % number for number in range(_MAPS)]
    commands.asked[0].callback(names)
    for each in commands.asked[1:]:
        each.errback(ServerError("NOPERM"))
    commands.asked[-1].callback(names)
    assert len(commands.asked) == 2 + _MAPS


def test_l2_a_map_with_short_leases_is_swept_between_heartbeats() -> None:
    """L2: its lease clock has to be looked at more often than a node's heart beats, or it falls behind."""
    commands, clock = _Commands(), Clock()
    sweeper = _sweeper(commands, clock=clock)
    sweeper.sweep()
    commands.asked[0].callback([b"a"])
    commands.asked[1].callback(_swept(following=1000, passed=1000))
    for number in range(2, 5):
        clock.advance(0.9)
        assert len(commands.asked) == number
        clock.advance(0.1)
        assert len(commands.asked) == number + 1
        commands.asked[number].callback(_swept(following=1000, passed=1000))
    sweeper.cancel()
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(("following", "passed"), [(0, 9000), (5000, 5000), (1000, 499)])
def test_l2_other_maps_wait_for_the_next_heartbeat(following: int, passed: int) -> None:
    """L2: those without leases or with long ones, and those that others look at."""
    commands, clock = _Commands(), Clock()
    sweeper = _sweeper(commands, clock=clock)
    sweeper.sweep()
    commands.asked[0].callback([b"a"])
    commands.asked[1].callback(_swept(following=following, passed=passed))
    assert not clock.getDelayedCalls()


def test_l2_a_full_sweep_still_looks_again() -> None:
    """L2: what counts is the time before the first of several sweeps."""
    commands, clock = _Commands(), Clock()
    sweeper = _sweeper(commands, clock=clock)
    sweeper.sweep()
    commands.asked[0].callback([b"a"])
    commands.asked[1].callback(_swept(*[_OVER] * _FIELDS, following=1000, passed=1000))
    commands.asked[2].callback(_swept(following=1000, passed=1))
    assert len(clock.getDelayedCalls()) == 1
