"""The size of functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONG = 30
"""Lines of a function, with its signature and docstring, that few exceed."""


def sizes() -> Iterator[tuple[int, str]]:
    """Yield the length of each function of coord, and its place."""
    for path in sorted((ROOT / "coord").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield node.end_lineno - node.lineno + 1, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_few_functions_are_long() -> None:
    """At most one function in a hundred has more than 30 lines; the failure lists those that do."""
    functions = list(sizes())
    long = sorted(((lines, place) for lines, place in functions if lines > LONG), reverse=True)
    assert len(functions) > 1_000, "the package was not found"
    listed = "\n".join(f"{lines} lines: {place}" for lines, place in long)
    assert len(long) <= len(functions) / 100, f"{len(long)} of {len(functions)}:\n{listed}"
