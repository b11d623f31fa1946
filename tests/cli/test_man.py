"""The manual pages, as `man` and `mandoc` read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from coord.cli._commands import COMMANDS
from coord.cli._main import status_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all pages."""
    folder = tmp_path_factory.mktemp("man")
    assert status_of(["man", "--to", str(folder / "man1")]) == 0
    return folder / "man1"


def test_each_command_has_a_page(folder: Path) -> None:
    """There is one for coord and for each command, and no other."""
    assert {path.name for path in folder.iterdir()} == {"coord.1", *(f"coord-{name}.1" for name in COMMANDS)}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_warns_of_nothing(folder: Path) -> None:
    """No page has a macro or an escape that groff does not know, with all its warnings on."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", *sorted(folder.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", ["fire", "systemd", "wait"])
def test_a_page_says_what_the_help_says(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every word of --help is in what is shown, options and example included."""
    groff = ["groff", "-man", "-Tascii", "-P-cbou", "-rLL=200n", "-rHY=0", str(folder / f"coord-{name}.1")]
    shown = subprocess.run(groff, capture_output=True, text=True, check=True).stdout
    assert status_of([name, "--help"]) == 0
    said = capsys.readouterr().out.partition("\n\n")[2]
    words = re.findall(r"[\w-]+", said)
    headings = {"Options", "Which", "Commands", "Example"}
    missing = {word for word in words if word not in shown} - headings
    assert missing == set()


def test_one_page_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`coord man wait | man -l -` shows it."""
    assert status_of(["man", "wait"]) == 0
    assert capsys.readouterr().out == (folder / "coord-wait.1").read_text()
    assert status_of(["man"]) == 0
    assert capsys.readouterr().out == (folder / "coord.1").read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("fyre",), 2, "coord: no such command 'fyre' (did you mean fire?); see coord man --help\n"),
        (("fire", "--to", "x"), 2, "coord: COMMAND and --to exclude each other; see coord man --help\n"),
        (("--to", "/dev/null/man"), 74, "coord: /dev/null/man: Not a directory\n"),
    ],
)
def test_what_is_wrong_is_said(
    words: tuple[str, ...], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that does not exist, and a folder that cannot be written."""
    assert status_of(["man", *words]) == status
    assert capsys.readouterr().err == said
