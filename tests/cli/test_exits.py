"""Exit codes and the sentences that go with them."""

from __future__ import annotations

import re
import signal

import pytest

import coord
from coord.cli import _exits as exits
from coord.cli._main import status_of
from coord.cli._signals import ENDING, Interrupted

CODES = [
    (coord.EventFailed("k", "r"), 1),
    (coord.InvalidKey(), 2),
    (coord.InvalidName(), 2),
    (coord.InvalidTime(), 2),
    (coord.InvalidURL(), 2),
    (coord.InvalidValue(), 2),
    (coord.HistoryLost(), 4),
    (coord.CorruptRecord(), 65),
    (coord.Unreachable(), 69),
    (coord.ServerRefused(), 69),
    (coord.NoEmbeddedServer(), 69),
    (exits.CannotWrite("disk full"), 74),
    (coord.Unconfirmed(), 75),
    (coord.NotReplicated("too few"), 75),
    (coord.AccessDenied(), 77),
    (coord.TimedOut(), 124),
    (exits.CannotRun("cmd", "why"), 126),
    (exits.CannotRun("other", "why", 127), 127),
]


@pytest.mark.parametrize(
    ("error", "code"), CODES, ids=lambda it: type(it).__name__ if isinstance(it, Exception) else ""
)
def test_each_error_has_its_code_and_one_line(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Every error becomes the contract's exit code, and one line on stderr."""
    assert exits.explain(error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("coord: ")
    assert shown.err.count("\n") == 1


def test_every_public_error_has_a_code() -> None:
    """No error of coord's own is an internal one to the shell."""
    exported = [getattr(coord, name) for name in coord.__all__]
    public = [each for each in exported if isinstance(each, type) and issubclass(each, coord.Error)]
    assert {status for each in public if (status := exits.status_of(each.__new__(each)))} >= {1, 2, 4, 69, 75, 77, 124}
    assert exits.INTERNAL not in map(exits.status_of, (each.__new__(each) for each in public))


def test_the_help_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    """`coord --help` has each exit code that there is, those of signals and of a closed pipe too."""
    assert status_of(["--help"]) == 0
    listed = {int(code) for code in re.findall(r"\b\d+\b", capsys.readouterr().out.partition("Exit status:")[2])}
    assert listed == {code for name, code in vars(exits).items() if name.isupper() and isinstance(code, int)}
    assert listed >= {128 + signum for signum in (*ENDING, signal.SIGPIPE)}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_are_quiet(signum: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What a signal ended has its code, and nothing to say."""
    assert exits.explain(Interrupted(signum)) == code
    assert capsys.readouterr() == ("", "")


def test_a_closed_output_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """That nobody reads us any more is no error to report."""
    assert exits.explain(exits.OutputClosed()) == 141
    assert capsys.readouterr() == ("", "")


def test_a_reason_is_shown_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure's reason prints as values do."""
    exits.explain(coord.EventFailed("/mnt/a", {"disk": None}))
    assert capsys.readouterr().err == 'coord: /mnt/a failed: {"disk":null}\n'


def test_the_unexpected_is_a_line_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception prints one line that says how to get more."""
    monkeypatch.delenv("COORD_DEBUG", raising=False)
    assert exits.explain(ZeroDivisionError("by\nzero")) == 70
    assert capsys.readouterr().err == "coord: internal error: ZeroDivisionError: by zero (COORD_DEBUG=1 shows where)\n"


def test_the_unexpected_shows_where_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With COORD_DEBUG=1 the traceback is there."""
    monkeypatch.setenv("COORD_DEBUG", "1")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        exits.explain(error)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["redis://:secret@host", "redis://u:s3cret@secret/x@host:1/0", "unix://secret@/run/redis"]
)
def test_no_password_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Users and passwords go out of whatever is said."""
    exits.explain(coord.InvalidURL(f"{url}: cannot be understood"))
    shown = capsys.readouterr().err
    assert "secret" not in shown
    assert "://" in shown
