"""From argv to parameters."""

from __future__ import annotations

from typing import Any

import click
import pytest

from coord.cli import _arguments as arguments


@click.command("run", cls=arguments.RunningCommand, example="run m k -- CMD")
@click.argument("words", nargs=-1)
@click.option("--flag", is_flag=True)
@click.option("--of", type=str)
def _run(**_: Any) -> None:
    """Run."""


def _parsed(*args: str) -> dict[str, Any]:
    return _run.make_context("run", list(args)).params


def test_a_number_is_no_option() -> None:
    """A negative number is an argument wherever it stands, and no option."""
    assert _parsed("m", "-5", "-.5", "--flag", "-1e3")["words"] == ("m", "-5", "-.5", "-1e3")


def test_an_options_value_may_be_a_negative_number() -> None:
    """What follows an option that takes a value is its value."""
    parsed = _parsed("m", "--of", "-5", "-6")
    assert (parsed["of"], parsed["words"]) == ("-5", ("m", "-6"))


def test_a_mistyped_option_is_still_one() -> None:
    """A misspelt option is refused, and not taken for an argument."""
    with pytest.raises(click.NoSuchOption):
        _parsed("m", "--flagg")
    with pytest.raises(click.NoSuchOption):
        _parsed("m", "-x")


def test_the_command_is_untouched() -> None:
    """Everything behind the first -- is the command: options, numbers, another --, empty words."""
    parsed = _parsed("m", "--", "cmd", "--flag", "-5", "--", "", "\udcff")
    assert parsed["argv"] == ("cmd", "--flag", "-5", "--", "", "\udcff")
    assert parsed["words"] == ("m",)
    assert parsed["flag"] is False


def test_no_command_is_not_an_empty_one() -> None:
    """Without -- there is no command; with nothing behind it that is an error."""
    assert _parsed("m")["argv"] is None
    with pytest.raises(click.UsageError, match="followed by no command"):
        _parsed("m", "--")


def test_the_help_shows_where_the_command_goes_and_an_example() -> None:
    """The usage line and the example are in the help text."""
    shown = _run.get_help(_run.make_context("run", []))
    assert "[-- CMD [ARG]...]" in shown.splitlines()[0]
    assert shown.endswith("Example:\n  run m k -- CMD")
