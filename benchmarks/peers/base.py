"""The two processes of a peer, and how they talk to the benchmark: one JSON value a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from time import perf_counter

__all__ = ["BATCH", "chunks", "ears", "now", "say"]

BATCH = 500
"""Keys in a pipeline, where a peer has pipelines."""

now = perf_counter


def say(**words: object) -> None:
    """Tell the benchmark something."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def ears() -> str:
    """Wait for the benchmark's, or the other process's, next word. Blocks: there is nothing else to do."""
    return sys.stdin.readline().strip()


def chunks(keys: list[str]) -> Iterator[list[str]]:
    """Cut the keys into batches."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]
