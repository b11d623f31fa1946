"""From argv to parameters."""

from __future__ import annotations

from typing import Any

import click
import pytest

from coord.cli import _arguments as arguments
from coord.cli._command import Command, RunningCommand
from coord.cli._usage import sentence


@click.command("run", cls=RunningCommand, example="run m k -- CMD")
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
    with pytest.raises(click.UsageError, match="no command follows"):
        _parsed("m", "--")


def test_the_help_shows_where_the_command_goes_and_an_example() -> None:
    """The usage line and the example are in the help text."""
    shown = _run.get_help(_run.make_context("run", []))
    assert "[-- CMD [ARG]...]" in shown.splitlines()[0]
    assert shown.endswith("Example:\n  run m k -- CMD")


@click.command("run", cls=RunningCommand, example="run m k -- CMD")
@arguments.map_name
@arguments.keys
@click.option("--flag", is_flag=True)
def _wait(**given: Any) -> Any:
    """Run."""
    return given


@click.command("look", cls=Command, example="look m")
@arguments.map_name
@arguments.prefix
def _look(**given: Any) -> Any:
    """Look."""
    return given


def _given(command: click.Command, *args: str) -> Any:
    return command.main(list(args), standalone_mode=False)


@pytest.mark.parametrize("key", ["-k", "--", "--flag", "--help", "-5", "-", "--key=x", "-h", "a=b"])
def test_a_key_may_look_like_an_option(key: str) -> None:
    """--key and --prefix take any word, behind = or as the next one; and so does --map where -- is taken."""
    for words in ((f"--key={key}",), *[("--key", key)] * (key != "--")):
        assert _given(_wait, "m", *words, "--flag", "z", "--", "CMD")["keys"] == ("z", key)
        assert _given(_wait, *words, "m")["keys"] == (key,)
    assert _given(_look, "m", f"--prefix={key}")["prefix"] == key
    assert _given(_look, "--", "m", key)["prefix"] == key
    mapped = _given(_wait, "k", f"--map={key}", "--flag")
    assert (mapped["map_name"], mapped["keys"], mapped["flag"]) == (key, ("k",), True)


def test_a_key_is_taken_once() -> None:
    """However it is given, a key counts once, in the order of the line."""
    assert _given(_wait, "m", "b", "a", "--key", "b", "--key=c", "a")["keys"] == ("b", "a", "c")


@pytest.mark.parametrize(
    ("command", "args", "hint"),
    [
        (_wait, ("m", "-k"), "use --map=-k or --key=-k"),
        (_wait, ("m", "--qq=1"), "use --map=--qq=1 or --key=--qq=1"),
        (_look, ("m", "-pq"), "use --prefix=-p"),
        (_run, ("-m", "k"), "use --map=-m"),
    ],
)
def test_the_error_says_how_to_give_such_a_key(command: click.Command, args: tuple[str, ...], hint: str) -> None:
    """Who meant a key and gets an unknown option reads what to write."""
    with pytest.raises(click.NoSuchOption) as raised:
        _given(command, *args)
    assert hint in sentence(raised.value)


def test_missing_and_doubled_words_are_named() -> None:
    """No key at all, and a prefix given in both ways, are usage errors."""
    with pytest.raises(click.UsageError, match="Missing argument 'KEY"):
        _given(_wait, "m", "--flag")
    with pytest.raises(click.UsageError, match="PREFIX is given twice"):
        _given(_look, "m", "a", "--prefix", "b")
