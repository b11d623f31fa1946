"""What the pages refer to is there."""

from __future__ import annotations

import ast
import re
import signal
import tomllib
from pathlib import Path

import pytest

import coord
from coord.cli import _exits
from coord.cli._commands import COMMANDS
from docs.pages import PAGES, ROOT, of

SOURCE = ROOT / "coord"
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the project names a file that is there, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page.name]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name}: {target}"


def definitions(path: Path) -> set[str]:
    """Return the names of all classes, methods and functions of a module."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name")}
        if hasattr(node, "name"):
            found.add(node.name)
    return found


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+/[\w/.]+:[\w.]+)`", TEXTS["architecture.md"]))))
def test_the_architecture_names_code_that_is_there(name: str) -> None:
    """`path:Class.method` in the page is a definition in that file."""
    path, _, definition = name.partition(":")
    assert definition in definitions(SOURCE / path)


def test_the_readme_is_short() -> None:
    """The README has 120 lines at most; what is longer has a page of its own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


CODE = sorted(
    path
    for folder in ("coord", "tests", "benchmarks", "compose", ".github", ".ci")
    for path in [*(ROOT / folder).rglob("*")]
    # What is from others names sections of its own.
    if path.suffix in (".py", ".lua", ".yml", ".md", "") and path.is_file() and path.parent.name != "vendor"
) + [ROOT / name for name in ("pyproject.toml", "Dockerfile", "docker-compose.yml", "test")]
# A page, and perhaps the heading that is meant: docs/semantics.md, "Words".
_CITED = re.compile(r"\b((?:docs|benchmarks)/[\w-]+\.md)(?:,[\s#]+\"([^\"]+)\")?")
_NUMBERED = re.compile(r"\b[Ss]ections? \d|\bDESIGN\b|§")


def unknown_references(text: str) -> list[str]:
    """Return what a text of code refers to that is not in the repository."""
    wrong = [found[0] for found in _NUMBERED.finditer(text)]
    for path, heading in _CITED.findall(text):
        page = ROOT / path
        title = re.escape(" ".join(heading.replace("#", " ").split()))
        if not page.exists() or (heading and not re.search(rf"^#+ {title}$", page.read_text("utf-8"), re.MULTILINE)):
            wrong.append(f'{path}, "{heading}"' if heading else path)
    return wrong


def test_code_refers_to_pages_that_are_there() -> None:
    """A page that a comment, docstring or message names is in the repository, and so is the heading beside it."""
    texts = {path: path.read_text(encoding="utf-8") for path in CODE if path != Path(__file__)}
    assert {path: found for path, text in texts.items() if (found := unknown_references(text))} == {}


def test_no_merge_is_left_half_done() -> None:
    """No page and no code has the marks of a conflict."""
    marks = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert [path for path in [*CODE, *PAGES] if marks.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "text", ["see DESIGN, page 3", "by section 2's table", "docs/plan.md", 'docs/semantics.md, "Wrods"']
)
def test_a_reference_to_nowhere_is_found(text: str) -> None:
    """A document, a page or a heading that is not in the repository, and a number that no heading has, are found."""
    assert unknown_references(text)


TESTS = sorted({path for text in TEXTS.values() for path in re.findall(r"`(tests/[\w/.]+)`", text)})


@pytest.mark.parametrize("path", TESTS)
def test_the_pages_name_tests_that_are_there(path: str) -> None:
    """A path of tests in a page is a file or a folder."""
    assert (ROOT / path).exists()


def test_the_architecture_has_the_layers_that_are_checked() -> None:
    """The table of layers is the list that the layer check works from."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [rule["layers"] for rule in rules if rule["type"] == "layers"]
    table = TEXTS["architecture.md"].partition("| layer |")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert named == [name for layer in layers for name in layer.split(" | ")]


def test_every_command_and_every_error_is_written_of() -> None:
    """The pages leave out no command of the shell, and semantics and Python no error that a caller has to know."""
    for command in COMMANDS:
        assert re.search(rf"`?coord {command}\b", TEXTS["shell.md"]), command
    pages = "".join(TEXTS[name] for name in ("python.md", "semantics.md", "operations.md", "upgrades.md"))
    for name in coord.__all__:
        exported = getattr(coord, name)
        if isinstance(exported, type) and issubclass(exported, coord.Error) and exported is not coord.InvalidInput:
            assert f"{name}" in pages, name


def test_every_level_of_the_log_is_in_the_table() -> None:
    """The table of log levels has those that coord logs at, and no other."""
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    used = set(re.findall(r"\blog\.(debug|info|warn|error|critical|failure)\b", code.replace("_log.", " log.")))
    table = TEXTS["operations.md"].partition("| level |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    # Logger.failure logs at the level critical.
    assert sorted(listed) == sorted({"failure": "critical"}.get(level, level) for level in used)


def test_every_exit_code_is_in_the_table() -> None:
    """The table of exit codes has those that the command line ends with, and SIGTERM's."""
    table = TEXTS["shell.md"].partition("| code |")[2].partition("\n\n")[0]
    listed = {int(code) for line in table.splitlines() for code in re.findall(r"\d+", line.split("|")[1])}
    used = {value for name, value in vars(_exits).items() if name.isupper() and isinstance(value, int)}
    assert listed == used | {128 + signal.SIGTERM}


def test_the_continuous_integration_runs_the_commands_of_the_readme() -> None:
    """What the README says to type for a try and for the tests is what runs on the public forge, word for word."""
    setup = [step.command for block in of("sh", "setup") for step in block.steps if block.page == "README.md"]
    try_it, test_it = (command for command in setup if "&&" in command)
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert try_it in workflow
    assert "bash .ci/run" in workflow
    assert test_it in (ROOT / ".ci/run").read_text()
