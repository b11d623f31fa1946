"""Random schedules of changes, clients and faults: every client sees each change once and in order, or is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from web.broken_streams import VARIANTS
from web.stream_client import Broken
from web.stream_world import play


def test_no_schedule_loses_a_change(stream_schedules: int) -> None:
    """Streams over gateways that die and stop, links that are cut and stall, and servers that lose their data."""
    shown = lost = 0
    for seed in range(stream_schedules):
        try:
            some, losses = play(seed)
        except Broken as broken:
            pytest.fail(f"web.stream_world.play({seed}): {broken}", pytrace=False)
        shown, lost = shown + some, lost + losses
    # A run that shows nothing, or loses nothing, has tried nothing.
    assert shown > 50 * stream_schedules
    assert lost > stream_schedules


@pytest.mark.parametrize(("variant", "seed"), VARIANTS, ids=lambda each: getattr(each, "__name__", None))
def test_the_schedules_notice(variant: Callable[[], AbstractContextManager[Any]], seed: int) -> None:
    """A mistake in the hub breaks a promise on some schedule."""
    with variant():
        assert any(_breaks(each) for each in (seed, *range(40)))


def _breaks(seed: int) -> bool:
    try:
        play(seed)
    except Broken:
        return True
    return False


def test_a_schedule_replays() -> None:
    """The same seed gives the same run."""
    assert play(3) == play(3)
