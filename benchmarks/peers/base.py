"""The two processes of a peer, and how they talk to the benchmark: one JSON value a line."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

__all__ = ["BATCH", "chunks", "now", "on_stage", "read_command", "say"]

BATCH = 500
"""Keys in a pipeline, where a peer has pipelines."""

now = perf_counter


def say(**words: object) -> None:
    """Tell the benchmark something."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def read_command() -> str:
    """Wait for the benchmark's, or the other process's, next word. Blocks: there is nothing else to do."""
    return sys.stdin.readline().strip()


def chunks(keys: list[T]) -> Iterator[list[T]]:
    """Cut the keys into batches."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


@contextmanager
def on_stage() -> Iterator[None]:
    """Play a part inside of this, so that what it costs a process to begin and to end is in nobody's figures.

    Its first full garbage collection visits all that it has imported: in a run of a fifth of a second, a tenth of one
    peer's time, and of another's nothing. And when it ends, the core that it takes may be one that the others need: it
    stays until it is killed.
    """
    gc.collect()
    try:
        yield
    except SystemExit as end:  # Twisted's react
        if end.code:
            raise
    read_command()
