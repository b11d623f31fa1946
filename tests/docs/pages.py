"""The pages and their fenced blocks.

The word behind the fence says what becomes of a block:

``console``   commands behind ``$`` (``>`` goes on with the last one) and what they print, stderr included; run in bash.
              A line ``...`` stands for any lines, ``...`` within a line for anything, a generation and a time for any
              other, blanks for a tab. A command that fails must be
              followed by ``$ echo $?``. All of one section run in one place, against one server. ``terminal=NAME``
              is a terminal of its own, where the last command may go on while others run.
``sh``        commands to be copied, one a line; otherwise as ``console``, whatever they print.
``python``    a fragment, run with ``await`` at its top level, after the earlier ones of the page; or with ``program``
              a file of its own.
``text``      not run; with ``output`` what the Python block before it prints.
``conf``      a configuration that real servers are started with.
``ini``       a unit of systemd; it is read, and the command in it parsed.
``toml``      settings of the gateway; they are read.
``yaml``      services of Compose; `tests/compose` reads them, and runs what waits in them.

The exceptions: a section with ``root`` is run only where file systems can be mounted, one with ``docker`` needs an
engine, one with ``setup`` the network, one with ``long`` hours. Their commands are checked for syntax everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

__all__ = [
    "BLOCKS",
    "EXCEPTIONS",
    "LANGUAGES",
    "PAGES",
    "ROOT",
    "SECTIONS",
    "Block",
    "Section",
    "Step",
    "matches",
    "of",
]

ROOT: Final = Path(__file__).parents[2]
ABOVE: Final = tuple(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))
PAGES: Final = (*ABOVE, *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES: Final = {"console", "sh", "python", "text", "conf", "ini", "toml", "yaml"}
# What a section needs that a machine may not have, by its mark.
EXCEPTIONS: Final = {
    "docker": "an engine",
    "long": "hours",
    "root": "the right to mount",
    "setup": "the network",
}

# What is another one each time.
_GENERATION: Final = re.compile(r"\d{16}")
_TIME: Final = re.compile(r"\d{4}\\-\d\d\\-\d\dT\d\d:\d\d:\d\d\\.\d{3}Z")
_FENCE: Final = re.compile(r"^(```+)(.*)$")


@dataclass(frozen=True)
class Step:
    """One command and what it prints."""

    command: str
    output: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is that of its first line of text."""

    page: str
    section: str
    line: int
    language: str
    marks: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def terminal(self) -> str:
        """The terminal that a console block is typed into; the empty name is that of the one for everything else."""
        return next((mark.partition("=")[2] for mark in self.marks if mark.startswith("terminal=")), "")

    @cached_property
    def steps(self) -> list[Step]:
        """The commands of a console or sh block."""
        if self.language == "sh":
            return [Step(line, ("...",), number) for number, line in enumerate(self.text.splitlines(), self.line)]
        steps: list[tuple[list[str], list[str], int]] = []
        for number, line in enumerate(self.text.splitlines(), self.line):
            if line.startswith("$ "):
                steps.append(([line[2:]], [], number))
            elif line.startswith("> ") and not steps[-1][1]:
                steps[-1][0].append(line[2:])
            else:
                assert steps, f"{self.page}:{number}: output before any command"
                steps[-1][1].append(line)
        return [Step("\n".join(command), tuple(output), line) for command, output, line in steps]


@dataclass(frozen=True)
class Section:
    """The commands below one heading."""

    page: str
    title: str
    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"

    @property
    def exceptions(self) -> frozenset[str]:
        """What this section needs that a machine may not have."""
        return frozenset(mark for block in self.blocks for mark in block.marks & EXCEPTIONS.keys())

    def starts_a_server(self) -> bool:
        """Whether one of its commands is the server."""
        return any(step.command.startswith("coord server") for block in self.blocks for step in block.steps)


def _blocks_of(page: Path) -> list[Block]:
    """Return all fenced blocks of a page."""
    return list(_fenced(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")))


def _fenced(name: str, text: str) -> Iterator[Block]:
    section, fence, language, marks = "", "", "", frozenset[str]()
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if fence:
            if line.strip() == fence:
                yield Block(name, section, number - len(lines), language, marks, "".join(lines))
                fence, lines = "", []
            else:
                lines.append(f"{line}\n")
        elif found:
            words = found[2].split()
            fence, language, marks = found[1], words[0] if words else "", frozenset(words[1:])
        elif line.startswith("#"):
            section = line.lstrip("#").strip()
    assert not fence, f"{name}: a fence is not closed"


def _sections_of(page: Path) -> list[Section]:
    """Return the sections of a page that have commands."""
    found: dict[str, list[Block]] = {}
    for block in _blocks_of(page):
        if block.language in ("console", "sh"):
            found.setdefault(block.section, []).append(block)
    return [Section(own[0].page, title, tuple(own)) for title, own in found.items()]


def matches(expected: tuple[str, ...], printed: list[str]) -> bool:
    """Whether what was printed is what the page shows; see the module's text for ``...``."""
    pattern = "".join("(?:.*\n)*?" if line.strip() == "..." else f"{_line(line)}\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def _line(expected: str) -> str:
    # In a browser a tab is a few blanks, so pages have blanks where a command prints a tab.
    parts = (re.escape(part) for part in expected.rstrip().split("..."))
    pattern = re.sub(r"(\\ )+", r"[ \\t]+", ".*".join(parts)) + r"[ \t]*"
    return _TIME.sub(r"\\d+-\\d+-\\d+T[0-9:.]+Z", _GENERATION.sub(r"\\d{16}", pattern))


BLOCKS: Final = [block for page in PAGES for block in _blocks_of(page)]
SECTIONS: Final = [section for page in PAGES for section in _sections_of(page)]


def of(language: str, *marks: str) -> list[Block]:
    """Return the blocks in one language that have all these marks."""
    return [block for block in BLOCKS if block.language == language and block.marks >= set(marks)]
