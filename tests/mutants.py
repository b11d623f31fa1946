"""Make small mistakes in coord, one at a time, and show those that no test notices.

Run by hand, the cheapest tests first; ``--since`` takes only lines that are newer than a revision::

    nice .venv/bin/python tests/mutants.py --since v1.0 coord/core -- tests/core

Each is tried in a copy of the tree. One that lives is equivalent, which no caller can tell; or what was left out is not
needed, and goes; or a test is missing: write it, and see it fail on the mutant.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300  # Seconds for one mutant: what hangs is noticed.

_PAIRS = ["Lt LtE", "Gt GtE", "Eq NotEq", "Is IsNot", "In NotIn", "And Or", "Add Sub", "Mult FloorDiv"]
_OTHER: dict[str, str] = {pair.split()[turn]: pair.split()[1 - turn] for pair in _PAIRS for turn in (0, 1)}


def _swapped(operator: ast.AST) -> Any:
    return getattr(ast, _OTHER[type(operator).__name__])()


def wrong(node: ast.AST) -> ast.AST | None:
    """Return what stands in a mutant for ``node``; ``None`` for what is left alone."""
    match node:
        case ast.Compare(left, [op], right):
            return ast.Compare(left, [_swapped(op)], right)
        case ast.BoolOp(op) | ast.BinOp(op=op) if type(op).__name__ in _OTHER:
            return type(node)(**{**dict(ast.iter_fields(node)), "op": _swapped(op)})
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case ast.Constant(int(value)):
            return ast.Constant(not value if isinstance(value, bool) else value + 1)
        case ast.If(ast.Name() | ast.Attribute() | ast.Call() as test, body, orelse):
            return ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(ast.AST() as value) if not isinstance(value, ast.Constant):
            return ast.Return(ast.Constant(None))
        case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Assign([ast.Attribute() | ast.Subscript()]):
            return ast.Pass()
    return None


class Mutator(ast.NodeTransformer):
    """Finds the mistakes that a module may have, and makes the ``chosen`` one."""

    def __init__(self, chosen: int = -1) -> None:
        self.found: list[tuple[int, str]] = []
        self._chosen = chosen

    def visit(self, node: ast.AST) -> ast.AST:
        """Visit a node, and what is in it."""
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node
        node = self.generic_visit(node)
        mistake = wrong(node)
        if mistake is None:
            return node
        words = [ast.unparse(ast.fix_missing_locations(each)).split("\n")[0] for each in (node, mistake)]
        self.found.append((getattr(node, "lineno", 0), "  ->  ".join(words)))
        return mistake if len(self.found) - 1 == self._chosen else node


def mutants(path: Path, since: str) -> Iterator[tuple[Path, int, str]]:
    """Yield path, number and words of each mutant of a module; of its newer lines alone, if a revision is given."""
    mutator = Mutator()
    mutator.visit(ast.parse((ROOT / path).read_text()))
    blame = ["git", "blame", "-s", f"{since}..HEAD" if since else "HEAD", "--", str(path)]
    lines = subprocess.check_output(blame, cwd=ROOT, text=True).splitlines()
    for number, (line, words) in enumerate(mutator.found):
        if not (since and lines[line - 1].startswith("^")):
            yield path, number, f"{path}:{line}: {words}"


def noticed(tree: Path, tests: list[str]) -> str:
    """Return the test that fails first in a tree, "" if none does."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:xdist", *tests]
    try:
        run = subprocess.run(command, cwd=tree, text=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "it hangs"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
    return (failed[1] if failed else "nothing can be run") if run.returncode else ""


def main() -> None:
    """Try a sample, and show what became of each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("paths", nargs="+", type=Path, help="modules and packages, from the root of the tree")
    for name, default in (("--count", 100), ("--seed", 1), ("--since", "")):
        arguments.add_argument(name, type=type(default), default=default)
    at = sys.argv.index("--")
    given, tests = arguments.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    modules = [module for path in given.paths for module in ([path] if path.suffix else sorted(path.glob("*.py")))]
    found = [mutant for module in modules for mutant in mutants(module, given.since)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "coord")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__"))
        for path, number, words in random.Random(given.seed).sample(found, min(given.count, len(found))):
            right = (ROOT / path).read_text()
            mutant = Mutator(number).visit(ast.parse(right))
            (tree / path).write_text(ast.unparse(ast.fix_missing_locations(mutant)))
            print(f"{words}\n    {noticed(tree, tests) or 'LIVES'}", flush=True)  # noqa: T201
            (tree / path).write_text(right)


if __name__ == "__main__":
    main()
