"""The processes of a benchmark: each is a program of this folder that says JSON lines and goes on when told to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["Child"]

HERE = Path(__file__).parent


class Child:
    """One process, ended at the end of its ``with`` block."""

    def __init__(self, program: str, *words: object) -> None:
        self.command = [sys.executable, str(HERE / program), *map(str, words)]
        self.process = subprocess.Popen(
            self.command, cwd=HERE, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def hear(self, word: str) -> Any:
        """Return what the process says of ``word``, passing over what else it says."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if word in said:
                return said[word]
        raise RuntimeError(f"{self.command} ended with {self.process.wait()} before it said {word!r}")

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
