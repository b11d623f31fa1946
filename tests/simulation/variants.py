"""coord, broken on purpose: one mistake each, of the kind that somebody may make some day.

Each variant is a context manager that breaks something while it is open, and names the promises of which at least one
has to be seen broken.
"""

from __future__ import annotations

from simulation import (
    broken_acks,
    broken_calls,
    broken_counts,
    broken_data,
    broken_ends,
    broken_holds,
    broken_links,
    broken_locks,
    broken_shards,
    broken_waits,
    broken_watches,
)
from simulation.breaking import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "Variant",
    "broken_acks",
    "broken_calls",
    "broken_counts",
    "broken_data",
    "broken_ends",
    "broken_holds",
    "broken_links",
    "broken_locks",
    "broken_shards",
    "broken_waits",
    "broken_watches",
]
