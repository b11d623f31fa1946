"""How `coord` behaves among other programs: closed and full outputs, help, starting up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from cli.processes import COORD, RedisServer, Shell
from coord.cli._commands import COMMANDS
from coord.cli._main import status_of


def test_a_closed_stdout_is_not_another_file(shell: Shell) -> None:
    """Where stdout is closed, what is printed goes nowhere, and above all not into the next file or socket."""
    ended = shell.start("fire", "m", "k", preexec_fn=lambda: os.close(1)).end()
    assert ended == (0, "", "")
    assert shell.run("wait", "m", "k").out == "true\n"


def test_a_closed_stderr_is_no_matter(shell: Shell) -> None:
    """Where stderr is closed, the exit code tells all the same."""
    ended = shell.start("wait", "m", "k", "--timeout", "0", preexec_fn=lambda: os.close(2)).end()
    assert ended.status == 124


def test_a_full_disk_is_74(shell: Shell) -> None:
    """Output that cannot be written is an error, and CMD does not run as if it had been."""
    shell.do("fire", "m", "k")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ended = shell.start("wait", "m", "k", "--", "sh", "-c", "echo ran >&2", stdout=full).end()
    assert ended == (74, "", "coord: standard output: No space left on device\n")


def test_help_that_nobody_reads_is_quiet() -> None:
    """A help text into a closed pipe leaves as quietly as cat does."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as closed:
        ended = subprocess.run((*COORD, "--help"), stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_denied_access_is_one_sentence(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]
) -> None:
    """What the log warns of and what then ends the command is said once."""
    server = own_server("--requirepass", "secret")
    ended = shell_at(server.url).run("wait", "m", "k")
    assert ended.status == 77
    assert ended.err.startswith(f"coord: {server.url}: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_short_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells in a screenful what a command does, and shows one."""
    assert status_of([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: coord {name}")
    assert f"\n  coord {name}" in shown
    assert len(shown.splitlines()) <= 45


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints it."""
    assert status_of(["--version"]) == 0
    assert capsys.readouterr().out == f"coord {version('coord')}\n"


def test_a_command_without_words_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Bare `coord` is a question, answered with the help and a usage error's exit code."""
    assert status_of([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["fire", "--help"], ["fire", "m", "k", "--no-such-option"]])
def test_help_and_mistakes_load_no_reactor(argv: list[str]) -> None:
    """What needs no server loads neither the reactor nor the Redis client, and so answers at once."""
    script = (
        "import sys; from coord.cli._main import status_of; status_of(sys.argv[1:]);"
        "sys.exit(any(name in sys.modules for name in ('twisted.internet.reactor', 'txredisapi')))"
    )
    ended = subprocess.run((sys.executable, "-c", script, *argv), capture_output=True, check=False)
    assert ended.returncode == 0
