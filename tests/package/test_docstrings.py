"""Docstrings are valid reStructuredText, as Sphinx and editors read it."""

from __future__ import annotations

import ast
import io
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import coord

docutils: Any = pytest.importorskip("docutils")
for _part in ("frontend", "parsers.rst", "utils"):
    import_module(f"docutils.{_part}")

_PACKAGE = Path(coord.__file__).parent
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _complaints(parser: Any, settings: Any, text: str) -> str:
    """Return what docutils has to say of a text, from warnings on."""
    settings.warning_stream = io.StringIO()
    parser.parse(text, docutils.utils.new_document("", settings))
    said: str = settings.warning_stream.getvalue()
    return said


def test_every_docstring_is_valid() -> None:
    """No table, list or literal block of any is malformed."""
    parser = docutils.parsers.rst.Parser()
    settings = docutils.frontend.get_default_settings(parser)
    wrong = []
    for path in sorted(_PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            complaints = _complaints(parser, settings, text) if text else ""
            if complaints:
                wrong.append(f"{path.relative_to(_PACKAGE)}: {getattr(node, 'name', 'the module')}: {complaints}")
    assert wrong == []
