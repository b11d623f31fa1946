"""The public API: what `import coord` gives, and when it is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import coord

_SOURCE = ast.parse(Path(coord.__file__).read_text(encoding="utf-8"))
# What type checkers and editors see: name and module.
SEEN = {name.name: node.module for node in ast.walk(_SOURCE) if isinstance(node, ast.ImportFrom) for name in node.names}


def _python(script: str) -> str:
    ended = subprocess.run((sys.executable, "-W", "error", "-c", script), capture_output=True, text=True, check=True)
    return ended.stdout


@pytest.mark.parametrize("name", coord.__all__)
def test_each_name_is_what_type_checkers_see(name: str) -> None:
    """A name that is resolved on first use is the one of the module that it is said to be from."""
    assert getattr(coord, name) is getattr(import_module(str(SEEN[name])), name)


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    """`import coord` alone imports nothing that is not of the standard library, and of that not much."""
    script = "import sys; before = {*sys.modules}; import coord; print(*({*sys.modules} - before - {'coord'}))"
    imported = {name.partition(".")[0] for name in _python(script).split()}
    assert imported <= sys.stdlib_module_names
    assert not imported & {"asyncio", "socket", "ssl", "urllib"}


def test_a_first_use_may_be_of_any_kind() -> None:
    """An attribute, an import of a name and an import of all names each work where they come first."""
    assert _python("import coord; print(coord.connect.__module__)") == "coord.client.coordinator\n"
    assert _python("from coord import launch; print(launch.__module__)") == "coord.embedded.launch\n"
    assert _python("from coord import errors; print(errors.__name__)") == "coord.errors\n"
    names = _python("from coord import *; print(*(name for name in dir() if not name.startswith('_')))")
    assert names.split() == sorted(coord.__all__)


def test_it_can_be_looked_at() -> None:
    """dir() shows every public name before its first use, and what is not there is said as Python says it."""
    assert set(coord.__all__) <= set(_python("import coord; print(*dir(coord))").split())
    with pytest.raises(AttributeError, match="module 'coord' has no attribute 'conect'"):
        getattr(coord, "conect")  # noqa: B009 - mypy knows better than to allow coord.conect
