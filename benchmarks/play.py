"""Plays one part of one peer: ``python benchmarks/play.py PEER ROLE URL PREFIX COUNT``; run by compare.py."""

from __future__ import annotations

import sys
from importlib import import_module

from peers.base import on_stage

if __name__ == "__main__":
    peer, role, url, prefix, count = sys.argv[1:]
    run = import_module(f"peers.{peer}").run
    with on_stage():
        run(role, url, [f"{prefix}.{number}" for number in range(int(count))])
