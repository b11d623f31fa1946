"""The documentation site is built from the pages, and a warning is an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from coord.web.problems import PROBLEMS
from docs.pages import PAGES, ROOT

pytestmark = pytest.mark.skipif(not find_spec("material"), reason="mkdocs-material is not installed (extra docs)")

# What the build reads.
SOURCES = ("docs", ".ci", "mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")


class Page(HTMLParser):
    """What a page of the site links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link, a picture or an anchor."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" and value is not None:
                self.anchors.add(value)


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a tree."""
    # Not with -q: mkdocs then counts no warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_it_with_its_blocks_highlighted(site: Path) -> None:
    """Each page has one in the site, and no fence is left in it as text."""
    shown = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    assert len(shown) == len(PAGES) + 1  # and 404.html
    assert [name for name, text in shown.items() if "```" in text] == []
    assert '<div class="highlight">' in shown["index.html"]


def test_links_lead_to_files_and_anchors_of_the_site(site: Path) -> None:
    """Every link, picture and style sheet of every page is there, and so is the anchor behind it."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            found = (path.parent / target).resolve() if target else path
            found = found / "index.html" if found.is_dir() else found
            assert found.exists(), f"{path.relative_to(site)}: {link}"
            if found in pages:
                assert anchor in pages[found].anchors, f"{path.relative_to(site)}: {link}"
            checked += 1
    assert checked > 500


def test_each_problem_has_a_line_to_link_to(site: Path) -> None:
    """The page about HTTP has an anchor of its name."""
    assert {*PROBLEMS} <= Page((site / "http" / "index.html").read_text()).anchors


def test_no_page_asks_another_server(site: Path) -> None:
    """Fonts, scripts and styles are the site's own."""
    for path in site.rglob("*.html"):
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:[^"]*"', path.read_text()) == []


def test_links_to_nowhere_stop_the_build(tmp_path: Path) -> None:
    """A page, a heading or a file above that is not there is an error, each of them."""
    links = ("nowhere.md", "python.md#nowhere", "../nowhere.md")
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    page = tmp_path / "docs" / "shell.md"
    page.write_text("\n".join([page.read_text(), *(f"[a link]({link})\n" for link in links)]))
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert f"Aborted with {len(links)} warnings in strict mode" in done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    for link in links:
        wrong = link.removeprefix("../").partition("#")[2 if "#" in link else 0]
        assert any(wrong in line for line in told), link
