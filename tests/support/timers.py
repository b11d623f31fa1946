"""A look at who asks a reactor for a timer: nothing of coord's may, for those go by the wall clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from twisted.internet.base import ReactorBase

__all__ = ["no_timers_of_the_reactors"]

# The one place that may: what it asks for does not depend on what the wall clock shows.
_STEADY = "coord.clock.timers"


@contextmanager
def no_timers_of_the_reactors() -> Iterator[None]:
    """Raise `AssertionError` where coord, or Twisted on its behalf, calls the ``callLater`` of a reactor."""
    call_later: Any = ReactorBase.callLater

    def checked(self: Any, *arguments: Any, **options: Any) -> Any:
        asks = _asks(sys._getframe(1))
        assert asks == _STEADY or not asks.startswith("coord."), f"{asks} stands on a timer of the reactor's"
        return call_later(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        # On the class, where the clock looks whether a reactor has a way of its own.
        patch.setattr(ReactorBase, "callLater", checked)
        yield


def _asks(frame: FrameType | None) -> str:
    """Return the module that asks; Twisted's own are passed over, but for trial's, which ask for themselves."""
    if frame is not None and frame.f_code.co_name == "abortConnection":
        # A connection of an endpoint that was given to coord, and goes by what its maker gave it.
        return ""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith("twisted.") or name.startswith("twisted.trial."):
            return name
        frame = frame.f_back
    return ""
