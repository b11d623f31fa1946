"""Bad input: each gets its own clear error, before a server is even looked for."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from cli.processes import Shell

CASES: dict[tuple[str, ...], str] = {
    ("fire", "m", ""): "key",
    ("fire", "m", "a\tb"): "control",
    ("fire", "m", "x" * 513): "512",
    ("fire", "m", "k\udcff"): "UTF-8",
    ("fire", "m", "k", "v\udcff"): "UTF-8",
    ("fire", "m m", "k"): "map",
    ("wait", "m", "k", ""): "key",
    ("wait", "m", "k", "", "--timeout", "0"): "key",
    ("wait", "m", "k", "", "--any"): "key",
    ("get", "m", ""): "key",
    ("fire", "m", "k", "--node", "a b"): "node",
    ("fire", "m", "k", "--namespace", "{}"): "namespace",
    ("get", "m", "k", "--url", "http://x"): "scheme",
    ("get", "m", "k", "--url", "redis://h:99999"): "port",
    ("get", "m", "k", "--url", "redis://me:secret@:6379"): "host",
    ("wait", "m", "k", "--timeout", "-5"): "a time is",
    ("wait", "m", "k", "--timeout", "99999d"): "days",
    ("get", "m", "k", "--connect-timeout", "soon"): "a time is",
    ("fire", "m", "k", "--timeout", "1h"): "timeout",
    ("fire", "m", "k", "--ttl", "0"): "'0': this time is at least 1ms",
    ("fire", "m", "k", "--ttl", "-5"): "'-5': a time is",
    ("fire", "m", "k", "--ttl", "soon"): "'soon': a time is",
    ("fire", "m", "--from", "/no/such", "--ttl", "0ms"): "'0ms': this time is at least 1ms",
    ("pulse", "m", "k", "--ttl", "1s"): "--ttl",
    ("expire", "m", "k", "0"): "'0': this time is at least 1ms",
    ("expire", "m", "k", "-5"): "'-5': a time is",
    ("expire", "m", "k", "soon"): "'soon': a time is",
    ("expire", "m", "k", "99999d"): "days",
    ("expire", "m", "k"): "TIME",
    ("expire", "m", "", "1s"): "key",
    ("count", "m"): "KEY",
    ("count", "m", ""): "key",
    ("count", "m", "k", "-5"): "N: a whole number from 1 to 1000000000, not -5",
    ("count", "m", "k", "0"): "N: a whole number from 1 to 1000000000, not 0",
    ("count", "m", "k", "1.5"): "N: a whole number from 1 to 1000000000, not '1.5'",
    ("count", "m", "k", "9" * 5000): "N: a whole number",
    ("count", "m", "k", "--goal", "0"): "goal: a whole number from 1 to 1000000000000000, not 0",
    ("count", "m", "k", "--goal", "-1"): "goal: a whole number",
    ("count", "m", "k", "--who", ""): "who '': a name is",
    ("count", "m", "k", "--from", "x"): "exclude",
    ("count", "m", "k", "--json-lines"): "--from",
    ("count", "m", "--from", "/no/such"): "/no/such",
    ("wait", "--at-least", "0", "m", "k"): "--at-least: a whole number from 1",
    ("wait", "--at-least", "x", "m", "k"): "--at-least: a whole number from 1",
    ("wait", "--at-least", "1", "--gone", "m", "k"): "exclude",
    ("wait", "--at-least", "1", "m"): "KEY",
    ("wait", "--gone", "m"): "KEY",
    ("wait", "--gone", "m", "k", ""): "key",
    ("fire", "m", "k", "[" * 200 + "]" * 200): "deep",
    ("fire", "m", "k", '"' + "x" * 70_000 + '"'): "65536",
    ("fire", "m", "k", "1e999"): "JSON",
    ("fail", "m", "k"): "REASON",
    ("watch", "m", "--since", "yesterday"): "revision",
    ("watch", "m", "a\nb"): "control",
    ("reset", "m", "k", "--revision", "7"): "revision",
    ("ls", "m", "a\nb"): "control",
    ("ls", "m", "--since", "start"): "is not allowed here",
    ("ls", "m", "--since", "60"): "a time like 1h",
    ("ls", "--since", "1h"): "MAP",
    ("ls", "--prefix", "x"): "MAP",
    ("wait", "m"): "KEY",
    ("wait", "m", "k", "--"): "--",
    ("on", "m"): "CMD",
    ("on", "m", "--cursor", "/nowhere/at/all", "--", "true"): "/nowhere/at/all",
    ("fire", "m", "k", "--tiemout", "3"): "--tiemout",
    ("fire", "m", "k", "-x"): "-x",
    ("fire", "m", "k", "1", "redis://:secret@host"): "unexpected",
    ("fly",): "coord: no such command 'fly'; see coord --help\n",
    ("fyre", "m", "k"): "coord: no such command 'fyre' (did you mean fire?); see coord --help\n",
    ("wbe",): "coord: no such command 'wbe' (did you mean web?); see coord --help\n",
    ("list",): "(that is coord ls)",
    ("--urll", "x", "ls"): "(did you mean --url?)",
    ("ls", "m", "--jsno"): "coord: no such option '--jsno' (did you mean --json?); see coord ls --help\n",
    ("watch", "m", "--sinse", "now"): "(did you mean --since?)",
    ("completion", "tcsh"): "'bash', 'zsh', 'fish'",
}

# One process for all of them: most of what a run takes is the interpreter's start.
_RUN_ALL = """
import io, json, sys
from coord.cli._main import status_of
outcomes = []
for argv in json.load(sys.stdin):
    sys.stderr = io.StringIO()
    outcomes.append((status_of(argv), sys.stderr.getvalue()))
json.dump(outcomes, sys.stdout)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, ...], Any]:
    """Run every case; give each one's exit status and stderr."""
    environment = {"COORD_URL": "redis://127.0.0.1:1", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        (sys.executable, "-c", _RUN_ALL),
        input=json.dumps(list(CASES)),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(zip(CASES, json.loads(ended.stdout), strict=True))


@pytest.mark.parametrize("argv", CASES, ids=lambda argv: ascii(" ".join(argv))[:40])
def test_bad_input_is_2_and_says_why(outcomes: dict[tuple[str, ...], Any], argv: tuple[str, ...]) -> None:
    """What breaks a rule exits with 2 and names the input or the rule, in one line without a password."""
    status, said = outcomes[argv]
    assert status == 2
    assert CASES[argv] in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert said.startswith("coord: ")
    assert said.count("\n") == 1
    assert len(said) < 500


def test_stdin_that_is_no_utf8_is_2(shell: Shell) -> None:
    """Bytes on stdin that are no UTF-8 are refused."""
    ended = shell.run("fire", "m", "k", "-", stdin=b"\xff")
    assert ended == (2, "", "coord: value on standard input: not UTF-8\n")
