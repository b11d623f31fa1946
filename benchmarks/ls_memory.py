"""How much memory ``coord ls`` of many keys takes above a process at rest: ``python benchmarks/ls_memory.py [KEYS]``.

At rest is what `coord get` of one key of the same map takes. Linux, for its ``ru_maxrss``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from time import monotonic

from servers import server

FILL = """
local record = redis.call('HGET', KEYS[1], 'k')
for i = ARGV[1], ARGV[2] do redis.call('HSET', KEYS[1], string.format('some/key/%010d', i), record) end
"""
"""Puts copies of a record under keys of 19 bytes."""

CHUNK = 50_000


def run(url: str, *words: str) -> tuple[int, float, int]:
    """Return the most memory that a command has had, in bytes, its seconds, and how many lines it printed."""
    start = monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "coord.cli", "--url", url, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    lines = sum(1 for _ in process.stdout)
    _, status, usage = os.wait4(process.pid, 0)
    if status and words[0] != "get":
        raise RuntimeError(f"coord {' '.join(words)} failed")
    return usage.ru_maxrss * 1024, monotonic() - start, lines


def main() -> None:
    """Measure, and print the figures."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with server("redis") as url:
        run(url, "fire", "m", "k", '"some value"')
        port = url.rpartition(":")[2]
        for start in range(1, keys, CHUNK):
            words = ["EVAL", FILL, "1", "coord:{default/m}", str(start), str(min(keys - 1, start + CHUNK - 1))]
            subprocess.run(["redis-cli", "-p", port, *words], check=True, stdout=subprocess.DEVNULL)
        rest, _, _ = run(url, "get", "m", "k")
        for name, words in {"lines": ["ls", "m"], "json": ["ls", "m", "--json"]}.items():
            most, seconds, lines = run(url, *words)
            above = (most - rest) / 1e6
            print(json.dumps({"output": name, "keys": lines, "MB above rest": round(above, 1), "s": round(seconds, 1)}))
        print(json.dumps({"MB at rest": round(rest / 1e6, 1)}))


if __name__ == "__main__":
    main()
