"""The tests of the contract through the doors: some of them here, more of them by ``./test --long``."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doors.skipped import MOST, SKIPPED

_TESTS = Path(__file__).parents[1]
_SOME = {
    "aio": (
        "w1_late",
        "w2_no_lost_wakeup",
        "w3_once",
        "w5_no_leak",
        "w6_closed",
        "f1_acknowledged",
        "f5_named",
        "watch",
    ),
    "blocking": ("w8_staleness", "f2_applied_once", "f5_named", "roles"),
}
# Nodes in a thread of their own need a server that is a process.
_SERVERS = {"aio": "memory", "blocking": "redis"}


def _names() -> list[str]:
    """Return the names of all tests of the contract."""
    trees = [ast.parse(path.read_text()) for path in (_TESTS / "contract").glob("test_*.py")]
    functions = [
        node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [function.name for function in functions if function.name.startswith("test_")]


@pytest.mark.parametrize("door", SKIPPED)
def test_few_are_skipped(door: str) -> None:
    """At most one in twenty, and each that is listed exists."""
    names = _names()
    assert {*SKIPPED[door]} <= {*names}
    assert len(SKIPPED[door]) <= MOST * len(names)


@pytest.mark.parametrize("door", _SOME)
def test_the_contract(door: str) -> None:
    """A process of its own, as its reactor is another one."""
    files = [str(_TESTS / "contract" / f"test_{name}.py") for name in _SOME[door]]
    options = ["-q", "-p", f"doors.{door}_client", "--servers", _SERVERS[door]]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=_TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(_TESTS)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr
