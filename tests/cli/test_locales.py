"""Keys and values are UTF-8, whatever the locale says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.processes import Shell

pytestmark = pytest.mark.own_interpreter

KEY, VALUE = "é日", '{"ü":"日"}'
# Without the first two, Python takes UTF-8 in the locale C anyway.
_PLAIN = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = {
    "C": {"LC_ALL": "C", **_PLAIN},
    "streams": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"},
    "Latin-1": {"LC_CTYPE": "de_DE.ISO-8859-1", "LANG": "C.UTF-8"},
    "EUC-JP": {"LC_ALL": "ja_JP.EUC-JP"},
}


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make locales that are not UTF-8; give their folder."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("needs localedef(1), to make a locale that is not UTF-8")
    for language, encoding in (("de_DE", "ISO-8859-1"), ("ja_JP", "EUC-JP")):
        words = ("localedef", "-i", language, "-f", encoding, str(folder / f"{language}.{encoding}"))
        ended = subprocess.run(words, capture_output=True, check=False)
        if ended.returncode > 1:  # 1: warnings
            pytest.skip(f"localedef makes no {language}.{encoding}: {ended.stderr!r}")
    return folder


def _without_locale(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}


@pytest.fixture(params=LOCALES)
def odd_shell(request: pytest.FixtureRequest, shell: Shell, locales: Path) -> Shell:
    """Give a shell in another locale; only Latin-1 and EUC-JP need one made for them."""
    shell.env = {**_without_locale(shell.env), "LOCPATH": str(locales), **LOCALES[request.param]}
    return shell


def test_what_is_utf8_stays_utf8(odd_shell: Shell, tmp_path: Path) -> None:
    """From the command line, from stdin and to a command; on stdout, on stderr and in the names of files."""
    shell = odd_shell
    assert shell.run("fire", "m", KEY, VALUE) == (0, "first\n", "")
    show = ("sh", "-c", 'printf "%s|" "$COORD_KEY" "$COORD_VALUE" "$@"', "sh", KEY)
    assert shell.run("wait", "m", KEY, "--", *show) == (0, f"{VALUE}\n{KEY}|{VALUE}|{KEY}|", "")
    assert shell.run("fire", "m", "stdin", "-", stdin=f"{VALUE}\n".encode()).status == 0
    assert shell.do("wait", "m", "stdin").out == f"{VALUE}\n"
    pending = shell.run("wait", "--timeout", "0", "m", f"{KEY}x")
    assert pending == (124, "", f"coord: pending: {KEY}x\n")
    assert json.loads(shell.run("ls", "--json", "m", KEY).out)["key"] == KEY
    cursor = tmp_path / f"{KEY}.cursor"
    words = ("on", "m", KEY, "--since", "start", "--cursor", str(cursor), "--", *show)
    handled = shell.start(*words).says("armed").end(signal.SIGTERM)
    assert handled.out == f"{KEY}|{VALUE}|{KEY}|"
    assert cursor.exists()


@pytest.mark.parametrize("settings", [LOCALES["Latin-1"], {"LC_ALL": "C.UTF-8"}], ids=["Latin-1", "UTF-8"])
def test_what_is_not_utf8_is_refused_by_name(shell: Shell, locales: Path, settings: dict[str, str]) -> None:
    """Bytes that are not UTF-8 are no letters of the locale: each place that they come to names itself."""
    shell.env = {**_without_locale(shell.env), "LOCPATH": str(locales), **settings}
    latin = os.fsdecode("é".encode("latin-1"))
    refused = {
        "key": ("fire", "m", latin),
        "value": ("fire", "m", "k", latin),
        "map": ("fire", latin, "k"),
        "prefix": ("ls", "m", latin),
        "node": ("fire", "m", "k", "--node", latin),
        "namespace": ("fire", "m", "k", "--namespace", latin),
        "once": ("fire", "m", "k", "--once", latin),
    }
    for name, words in refused.items():
        ended = shell.run(*words)
        assert (ended.status, ended.out) == (2, ""), words
        assert name in ended.err
    assert shell.run("fire", "m", "k", "-", stdin=b"\xe9") == (2, "", "coord: value on standard input: not UTF-8\n")
    assert shell.run("ls") == (0, "", "")
    # A command gets its words as they are.
    shell.do("fire", "m", "k")
    passed = shell.run("wait", "m", "k", "--", "sh", "-c", 'printf %s "$1" | od -An -tx1', "sh", latin)
    assert (passed.status, passed.out) == (0, "true\n e9\n")


def test_a_commands_python_keeps_its_own_mode(shell: Shell, locales: Path) -> None:
    """What coord does about the locale is not inherited."""
    shell.do("fire", "m", "k")
    shell.env = {**_without_locale(shell.env), "LOCPATH": str(locales), **LOCALES["Latin-1"]}
    ask = (sys.executable, "-ISc", "import sys; print(sys.getfilesystemencoding(), sys.flags.utf8_mode)")
    assert shell.run("wait", "m", "k", "--", *ask).out == "true\niso8859-1 0\n"


def test_without_an_interpreter_other_letters_are_refused() -> None:
    """Where coord cannot begin anew, it says which locale would do, and takes what every locale has."""
    script = "import sys; sys.executable = '/nowhere/at/all'; from coord.cli import main; main()"
    env = {"PATH": os.environ["PATH"], **LOCALES["C"]}
    for key, status, words in (("é", 2, b"coord needs UTF-8: set LC_ALL=C.UTF-8\n"), ("", 2, b"key '': ")):
        ended = subprocess.run(
            (sys.executable, "-c", script, "fire", "m", key), env=env, capture_output=True, check=False
        )
        assert ended.returncode == status
        assert words in ended.stderr
