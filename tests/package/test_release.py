"""What a release needs: one version everywhere, links for an index page, and workflows that run what they should."""

from __future__ import annotations

import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.name: path.read_text() for path in (ROOT / ".github" / "workflows").iterdir()}
BASE = "https://example.org/coord/blob/v1/"


def script() -> ModuleType:
    """Return .ci/release.py as a module."""
    spec = spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree that may be released as v1.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2026-12-01\n\n## [1.1.0] - 2026-11-01\n")
    (tmp_path / "README.md").write_text("# coord\n\n**1.2.0** and more\n")
    return tmp_path


def test_a_tree_in_order_may_be_released(tree: Path) -> None:
    """Nothing speaks against a tag that is the version of project, changelog and README."""
    assert script().problems("v1.2.0", tree) == []


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("pyproject.toml", "1.2.0", "1.2.1"),
        ("CHANGELOG.md", "2026-12-01", "not released yet"),
        ("CHANGELOG.md", "1.2.0", "1.20"),
        ("README.md", "1.2.0", "1.1.0"),
    ],
)
def test_a_version_that_differs_is_found(tree: Path, name: str, before: str, after: str) -> None:
    """Another version in any of the three, or a changelog without a date, stops the release."""
    page = tree / name
    page.write_text(page.read_text().replace(before, after))
    assert script().problems("v1.2.0", tree)


def test_the_readme_says_the_version() -> None:
    """The first lines of the README have the version of pyproject.toml."""
    head = (ROOT / "README.md").read_text().split("\n\n")[1]
    assert f"**{PROJECT['version']}" in head


def test_links_of_the_readme_are_alive_on_an_index_page() -> None:
    """Made absolute, every link of the README that was relative leads to a file of the tree; the others stay."""
    text = (ROOT / "README.md").read_text()
    shown = script().absolute(text, BASE)
    links = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert all(re.match(r"https?:|#", link) for link in links)
    paths = [re.sub(r"[#?].*", "", link.removeprefix(BASE)) for link in links if link.startswith(BASE)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert shown.replace(BASE, "").replace("?raw=true", "") == text


def test_a_picture_is_shown_on_an_index_page() -> None:
    """Its address is that of the picture, and not that of the forge's page about it."""
    page = "[![a](docs/images/a.png)](pages/a.md)"
    assert script().absolute(page, BASE) == f"[![a]({BASE}docs/images/a.png?raw=true)]({BASE}pages/a.md)"


def test_what_is_published_is_built_from_absolute_links_and_inspected() -> None:
    """The workflow makes the links absolute, then builds, then checks the description, before it uploads."""
    steps = ("release.py links", "-m build", "twine check --strict dist/*", "upload-artifact@")
    places = [WORKFLOWS["release.yml"].index(step) for step in steps]
    assert places == sorted(places)


def test_absolute_links_and_anchors_are_left_alone() -> None:
    """Only a relative link gets the base."""
    page = "[a](pages/a.md#b) [c](#d) [e](https://example.org/f) [g](mailto:h@example.org)"
    assert script().absolute(page, BASE) == page.replace("pages/a.md", f"{BASE}pages/a.md")


@pytest.mark.parametrize("name", ["test.yml", "release.yml"])
def test_the_workflows_run_every_python_that_is_claimed(name: str) -> None:
    """The matrix has each version of the classifiers, on Linux and macOS."""
    claimed = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    (matrix,) = re.findall(r"python: \[(.*)\]", WORKFLOWS[name])
    assert re.findall(r'"([^"]+)"', matrix) == claimed
    assert "[ubuntu-latest, macos-latest]" in WORKFLOWS[name]


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_actions_are_pinned_and_get_no_more_than_they_need(name: str) -> None:
    """Each action of others is pinned to a commit, and a workflow may only read."""
    used = re.findall(r"uses: (\S+)", WORKFLOWS[name])
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each)] == []
    assert "permissions:\n  contents: read\n" in WORKFLOWS[name]


def test_the_lowest_twisted_of_the_workflow_is_that_of_the_project() -> None:
    """.ci/run finds the lower bound that pyproject.toml names."""
    (requirement,) = [each for each in PROJECT["dependencies"] if each.startswith("twisted")]
    found = re.search(r"sed -n '(s/[^']+)'", (ROOT / ".ci" / "run").read_text())
    assert found is not None
    pattern = found[1].split("/")[1].replace(r"\(", "(").replace(r"\)", ")")
    assert re.findall(pattern, (ROOT / "pyproject.toml").read_text(), re.MULTILINE) == [requirement.partition(">=")[2]]
