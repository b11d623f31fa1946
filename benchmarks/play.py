"""Plays one part of one peer: ``python benchmarks/play.py PEER ROLE URL PREFIX COUNT``; run by compare.py."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

if __name__ == "__main__":
    peer, role, url, prefix, count = sys.argv[1:]
    run = import_module(f"peers.{peer}").run
    # A process's first full collection visits all that it has imported. In a run of a fifth of a second it would be a
    # tenth of one peer's time, and of another's nothing.
    gc.collect()
    run(role, url, [f"{prefix}.{number}" for number in range(int(count))])
