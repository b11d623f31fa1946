"""What a release needs beside the build: ``python .ci/release.py check TAG`` and ``python .ci/release.py links BASE``.

``check`` compares a tag to the version of pyproject.toml, the changelog and the README. ``links`` makes the relative
links of README.md absolute, for an index page has no other files beside it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what speaks against releasing the tree under this tag."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, the version of pyproject.toml is {version}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    if f"**{version}**" not in (root / "README.md").read_text(encoding="utf-8"):
        found.append(f"the first lines of README.md do not say **{version}**")
    return found


def absolute(text: str, base: str) -> str:
    """Put ``base`` before every relative link of a page at the top of the tree.

    At the forge's address of a picture there is a page about it; ``raw`` asks for the picture itself.
    """
    return _LINK.sub(lambda found: f"]({base}{found[1]}{'?raw=true' if found[1].endswith('.png') else ''})", text)


def main(command: str, argument: str) -> str:
    """Run a command; return what is wrong."""
    if command == "check":
        return "\n".join(problems(argument))
    if command == "links":
        page = ROOT / "README.md"
        page.write_text(absolute(page.read_text(encoding="utf-8"), argument), encoding="utf-8")
        return ""
    return f"no command {command}: check TAG, or links BASE"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]) or None)
