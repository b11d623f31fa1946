"""How `coord` behaves among other programs: closed and full outputs, help, starting up."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from cli.processes import COORD, RedisServer, Shell
from coord.cli._commands import COMMANDS
from coord.cli._main import Stdout, status_of

pytestmark = pytest.mark.own_interpreter


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


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_to_a_full_disk_is_74(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command prints about itself, and cannot, is an error like any other output's."""
    full = Stdout(io.BufferedWriter(io.FileIO("/dev/full", "w")), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", full)
    assert status_of(argv) == 74
    assert capsys.readouterr().err == "coord: standard output: No space left on device\n"
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, full.fileno())
    os.close(null)
    full.close()


def test_version_to_a_full_disk_is_74() -> None:
    """The same in a process, which leaves without a second complaint."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ended = subprocess.run((*COORD, "--version"), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (74, b"coord: standard output: No space left on device\n")


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
    options = shown.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert options.lstrip().startswith("-")
    assert "--url" not in options
    assert len(shown.splitlines()) <= 45


def test_the_help_leaves_no_command_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`coord --help` lists each command once, by what one wants, with its whole sentence."""
    assert status_of(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = [
        line.split()[0] for line in shown.partition("\nWait for events:")[2].splitlines() if line.startswith("  ")
    ]
    assert sorted(word for word in listed if word in COMMANDS) == sorted(COMMANDS)
    assert "..." not in shown.partition("\nWait for events:")[2]


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints it."""
    assert status_of(["--version"]) == 0
    assert capsys.readouterr().out == f"coord {version('coord')}\n"


def test_a_command_without_words_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Bare `coord` is a question, answered with the help and a usage error's exit code."""
    assert status_of([]) == 2
    assert "Wait for events:" in capsys.readouterr().err


_WITHOUT_A_SERVER = [
    ["--help"],
    ["--version"],
    ["completion", "zsh"],
    *([name, "--help"] for name in COMMANDS),
    ["fyre"],
    ["fire", "m", "k", "--no-such-option"],
    ["fire", "m"],
    ["wait", "m", "k", "--timeout", "soon"],
]


@pytest.mark.parametrize("argv", _WITHOUT_A_SERVER, ids=" ".join)
def test_what_needs_no_server_loads_no_twisted(argv: list[str]) -> None:
    """Help, the version and a mistyped line answer at once: they import neither Twisted nor the Redis client."""
    assert _imported(argv) == set()


@pytest.mark.parametrize("line", ["coord ", "coord fi", "coord fire --t", "coord wait m k --", "coord completion "])
def test_completion_loads_no_twisted(line: str) -> None:
    """The TAB key gets its answer as quickly as that."""
    assert _imported([], _COORD_COMPLETE="bash_complete", COORD_LINE=line) == set()


def _imported(argv: list[str], **more: str) -> set[str]:
    """Return which of the dear packages a command line imports."""
    script = (
        "import sys; from coord.cli._main import status_of; status_of(sys.argv[1:]);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    argv = [sys.executable, "-c", script, *argv]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **more})
    return {"twisted", "asyncio", "OpenSSL", "txredisapi", "hiredis"} & {*ended.stderr.splitlines()[-1].split()}


def test_garbage_is_collected_while_a_command_runs() -> None:
    """Collection is off while `coord` starts, and on when it works."""
    script = """if True:
        import gc, sys
        from coord.cli import _main, main
        from coord.cli._running import run_work
        async def work(reactor, end):
            return 7 if gc.isenabled() else 8
        _main.status_of = lambda argv: run_work(work) if not gc.isenabled() else 9
        main()
        """
    assert subprocess.run((sys.executable, "-c", script), check=False).returncode == 7
