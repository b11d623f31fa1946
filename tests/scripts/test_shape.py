"""The scripts are held to a length and a complexity, as the Python is: functions, and the sections between headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

SCRIPTS = sorted(path.name for path in files("coord.link").joinpath("lua").iterdir() if path.name.endswith(".lua"))
MOST_LINES = 50
MOST_BRANCHES = 12
MOST_COLUMNS = 120

_BRANCH = re.compile(r"\b(if|elseif|for|while|repeat)\b")
_HEADING = re.compile(r"-- == (.+) ==")


def _code(name: str) -> list[str]:
    """Return the lines of a script, without what is no code in them."""
    text = files("coord.link").joinpath("lua", name).read_text()
    text = re.sub(r"--\[\[.*?\]\]", "", text, flags=re.DOTALL)
    return text.split("\n")


def _parts(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each function, and what each section has beside its functions."""
    title, section, function = "the beginning", [], []  # type: str, list[str], list[str]
    for line in _code(name):
        heading = _HEADING.fullmatch(line)
        if heading:
            yield title, section
            title, section = heading[1], []
        elif line.startswith("local function ") or function:
            function.append(line)
            if line == "end":
                yield function[0].removeprefix("local function "), function
                function = []
        else:
            section.append(line)
    assert not function
    yield title, section


def _of_code(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and not line.strip().startswith("--")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_part_of_a_script_is_long_or_branches_much(name: str) -> None:
    """Each function and each section can be read at once."""
    for title, lines in _parts(name):
        code = _of_code(lines)
        branches = sum(len(_BRANCH.findall(line.partition(" -- ")[0])) for line in code)
        assert len(code) <= MOST_LINES, f"{name}, {title}: {len(code)} lines"
        assert branches <= MOST_BRANCHES, f"{name}, {title}: {branches} branches"


@pytest.mark.parametrize("name", SCRIPTS)
def test_lines_fit(name: str) -> None:
    """The width is that of the Python."""
    assert max(map(len, _code(name))) <= MOST_COLUMNS
