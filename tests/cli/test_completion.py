"""The TAB key: what coord proposes, and what each shell makes of that."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.processes import RedisServer, Shell
from coord.cli._completing import SHELLS, script

HARD = ["a b", "it's", "$HOME", "*", "a,b", "größe", "node1:/mnt/x"]


def proposed(shell: Shell, line: str, kind: str = "zsh", **more: str) -> list[str]:
    """Return the words that coord proposes at the end of a line; it may say nothing else."""
    ended = shell.start(more={"_COORD_COMPLETE": f"{kind}_complete", "COORD_LINE": line, **more}).end()
    assert (ended.status, ended.err) == (0, "")
    return [each.removesuffix("files").partition("\x1f")[0] for each in ended.out.split("\n") if each]


LINES = [
    ("coord fi", ["fire"]),
    ("coord fire --ti", ["--timeout"]),
    ("coord completion ", list(SHELLS)),
    ("coord systemd ", ["install", "unit"]),
    ("coord get de", ["deploy", "depot"]),
    ("coord get deploy ", ["build 1", "ready", "tests"]),
    ("coord get deploy r", ["ready"]),
    ("coord get deploy ready t", ["tests"]),
    ("coord wait deploy 'build ", ["build 1"]),
    ("coord wait deploy build\\ ", ["build 1"]),
    ("coord fire deploy re", ["ready"]),
    ("coord count deploy re", ["ready"]),
    ("coord hold deploy re", ["ready"]),
    ("coord ls dep", ["deploy", "depot"]),
    ("coord on deploy t", ["tests"]),
    ("coord wait deploy --key=r", ["ready"]),
    ("coord --namespace none get de", []),
    ("coord get --namespace none de", []),
    ("coord fire deploy ready ", []),
    ("coord get none ", []),
    ("coord wait deploy ready -- ", [""]),
    ("coord lock deploy ready -- ./b", [""]),
    ("coord fyre deploy ", []),
    ("coord get deploy 'it", []),
    ("coord get 'no map' ", []),
    ("coord get deploy --url nonsense r", []),
]


def test_what_is_proposed(shell: Shell) -> None:
    """Commands, options, maps and keys; an empty word for files; and nothing where nothing is known."""
    for map_name, key in (("deploy", "ready"), ("deploy", "tests"), ("deploy", "build 1"), ("depot", "x")):
        shell.do("fire", map_name, key)
    assert [(line, proposed(shell, line)) for line, _ in LINES] == LINES


def test_bash_gets_what_is_behind_the_last_break(shell: Shell) -> None:
    """It takes a colon for the end of a word, but not within quotes, and not if it is told otherwise."""
    shell.do("fire", "mount", "node1:/mnt/x")
    breaks = {"COORD_BREAKS": " \t:="}
    assert proposed(shell, "coord get mount node1:/m", "bash", **breaks) == ["/mnt/x"]
    assert proposed(shell, "coord get mount no", "bash", **breaks) == ["node1:/mnt/x"]
    assert proposed(shell, "coord get mount 'node1:/m", "bash", **breaks) == ["node1:/mnt/x"]
    assert proposed(shell, "coord get mount node1:/m", "bash") == ["node1:/mnt/x"]


def test_a_server_that_is_not_there_is_not_waited_for(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]
) -> None:
    """Whether nothing listens, it hangs, or it wants a password: no proposal, no word, and no more than a moment."""
    server = own_server("--requirepass", "secret")
    shell = shell_at(server.url)
    assert proposed(shell, "coord get ") == []
    server.hang()
    begun = time.monotonic()
    assert proposed(shell, "coord get m ") == []
    # A second, and what starting takes on a busy machine.
    assert time.monotonic() - begun < 15
    server.stop()
    assert proposed(shell, "coord get m ") == []


def test_no_more_is_proposed_than_can_be_read(shell: Shell) -> None:
    """Of many keys, the first 200 of those that the server names first."""
    keys = "".join(f"k{number}\n" for number in range(700)).encode()
    assert shell.run("fire", "m", "--from", "-", "-q", stdin=keys).status == 0
    assert len(proposed(shell, "coord get m k")) == 200


# What each shell has at the cursor after TAB, with a coord that proposes the hard words.

_BASH = """
    eval "$(cat "$1")"
    coord() { cat "$2"; }
    proposal() { cat "$ANSWER"; }
    COMP_WORDS=(coord get m "") COMP_CWORD=3 COMP_LINE="coord get m " COMP_POINT=12
    _coord_completion proposal
    eval "words=(${COMPREPLY[*]})"
    printf '%s\\n' "${words[@]}"
"""
_ZSH = """
    compdef() { }
    compadd() { printf '%s\\n' $values }
    proposal() { cat "$ANSWER" }
    eval "$(cat "$1")"
    words=(proposal get m "") CURRENT=4
    _coord_completion
"""
_FISH = """
    function env; cat $ANSWER; end
    source $argv[1]
    complete -C "coord get m " | string split -f 1 \\t
"""


def _in(name: str, commands: str, script: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run commands in a shell that reads no files of the user."""
    start = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "-N", "-c"]}[name]
    words = [*start, commands, *(["shell"] if name != "fish" else []), str(script)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(script.parent), **more}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)


def _needs(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize(("name", "commands"), [("bash", _BASH), ("zsh", _ZSH), ("fish", _FISH)])
def test_a_shell_inserts_what_is_the_key(name: str, commands: str, tmp_path: Path) -> None:
    """Blanks, quotes, dollars, globs, commas and colons in a key survive, and nothing is on stderr."""
    _needs(name)
    (tmp_path / "script").write_text(script(name))
    (tmp_path / "answer").write_text("".join(f"{word}\x1fhelp\n" for word in HARD))
    done = _in(name, commands, tmp_path / "script", ANSWER=str(tmp_path / "answer"))
    assert (done.stdout.splitlines(), done.stderr) == (HARD, "")


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_asks_coord(name: str, shell: Shell, tmp_path: Path) -> None:
    """What `coord completion` prints gets the keys of a real server into a real shell."""
    _needs(name)
    shell.do("fire", "deploy", "ready")
    (tmp_path / "script").write_text(shell.do("completion", name).out)
    (tmp_path / "coord").write_text(f'#!/bin/sh\nexec {shutil.which("coord", path=_path())} "$@"\n')
    (tmp_path / "coord").chmod(0o755)
    commands = {
        "bash": _BASH.replace("get m ", "get deploy ")
        .replace("=12", "=17")
        .replace("_completion proposal", "_completion coord"),
        "zsh": _ZSH.replace("(proposal get m ", "(coord get deploy "),
        "fish": 'source $argv[1]; complete -C "coord get deploy "',
    }[name].replace('coord() { cat "$2"; }', "")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = _in(name, commands, tmp_path / "script", PATH=path, ANSWER="", **_of_coord(shell))
    assert (done.stdout.strip(), done.stderr) == ("ready", "")


def _of_coord(shell: Shell) -> dict[str, str]:
    return {name: value for name, value in shell.env.items() if name.startswith("COORD_")}


def _path() -> str:
    import sys

    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"
