"""What the documentation site needs beside the pages; mkdocs.yml names this file as its hook.

The pages are written for the forge. The README is the home page, links lead up to files beside docs/, and the word
behind a fence says how a test runs the block. The site gets the same pages, with links and fences that it understands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Pages at the top of the tree, and what the site calls them. security.md is taken by the page in docs/.
ABOVE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
LICENSE = "license.txt"

_FENCE = re.compile(r"^(```+)(\w+) .*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the top of the tree."""
    for name, shown in ABOVE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, shown, content=_LINK.sub(_from_above, text)))
    files.append(File.generated(config, LICENSE, content=(ROOT / "LICENSE").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Rewrite the links of a page, and leave of each fence the language alone."""
    return _FENCE.sub(r"\1\2", _LINK.sub(_from_docs, markdown))


def _from_above(found: re.Match[str]) -> str:
    """Rewrite a link of a page at the top of the tree."""
    path, mark, anchor = found[1].partition("#")
    return f"]({_named(path).removeprefix('docs/')}{mark}{anchor})"


def _from_docs(found: re.Match[str]) -> str:
    """Rewrite a link of a page in docs/."""
    path, mark, anchor = found[1].partition("#")
    return f"]({_named(path.removeprefix('../'))}{mark}{anchor})" if path.startswith("../") else found[0]


def _named(path: str) -> str:
    return LICENSE if path == "LICENSE" else ABOVE.get(path, path)
