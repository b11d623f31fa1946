"""The layers: imports run down only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]


def test_imports_run_down_only() -> None:
    """The layer check finds every rule of pyproject.toml kept."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_no_modules_import_each_other() -> None:
    """There is no cycle of imports, neither of those for types only nor of those inside functions."""
    graph = grimp.build_graph("coord", exclude_type_checking_imports=False, cache_dir=None)
    imports = [(module, each) for module in graph.modules for each in graph.find_modules_directly_imported_by(module)]
    back = (graph.find_shortest_chain(imported, module) for module, imported in imports)
    assert not {" -> ".join((chain[-1], *chain)) for chain in back if chain}
