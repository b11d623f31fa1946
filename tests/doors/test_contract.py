"""The tests of the contract through coord.aio: some of them here, all of them by ``./test --long``."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doors.skipped import MOST, SKIPPED

_TESTS = Path(__file__).parents[1]
_SOME = (
    "test_w1_late",
    "test_w2_no_lost_wakeup",
    "test_w3_once",
    "test_w5_no_leak",
    "test_w6_closed",
    "test_f1_acknowledged",
    "test_watch",
)


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


def test_the_contract_through_aio() -> None:
    """A process of its own, as its reactor is another one."""
    files = [str(_TESTS / "contract" / f"{name}.py") for name in _SOME]
    program = [sys.executable, "-m", "pytest", "-q", "-p", "doors.aio_client", "--servers", "memory", *files]
    ended = subprocess.run(
        program, cwd=_TESTS.parent, env={**os.environ, "PYTHONPATH": str(_TESTS)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr
