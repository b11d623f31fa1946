"""How fuzz tests run: the same inputs each time, and a count of them at the end. ``COORD_FUZZ=100000`` for a hunt."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from hypothesis import HealthCheck, settings

__all__ = ["TRIED", "counted", "fuzzing"]

TRIED: Final[Counter[str]] = Counter()

_EXAMPLES: Final = int(os.environ.get("COORD_FUZZ", "300"))
_HUNT: Final = "COORD_FUZZ" in os.environ

fuzzing: Final[Callable[[Any], Any]] = settings(
    max_examples=_EXAMPLES,
    # A hunt looks elsewhere each time; the test command must not.
    derandomize=not _HUNT,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@contextmanager
def counted(what: str) -> Iterator[None]:
    """Count one more input of this kind."""
    TRIED[what] += 1
    yield
