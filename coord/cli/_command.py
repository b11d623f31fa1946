"""From argv to parameters, without what click would lose; and the help."""

from __future__ import annotations

import re
from typing import Any

import click

from coord.cli._connection import SERVER_OPTIONS
from coord.cli._exits import NOT_FOUND, CannotRun
from coord.cli._usage import near

__all__ = ["Command", "Commands", "RunningCommand", "WithExample"]

_NUMBER = re.compile(r"-\.?[0-9]")
# A NUL cannot occur in argv.
_SHIELD = "\0"


class WithExample(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example unwrapped, whatever its length."""
        with formatter.section("Example"):
            formatter.write(f"{'':>{formatter.current_indent}}{self.example}\n")


class Commands(WithExample, click.Group):
    """A command with commands of its own, whose help ends with an example."""


class Command(WithExample):
    """A command that takes ``-5`` as a number, not an option, and whose help ends with an example."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then the server options that most commands share."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Which server": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections["Which server" if param.name in SERVER_OPTIONS else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``args`` as click does, with numbers shielded from its option parser."""
        try:
            rest = super().parse_args(ctx, self._shielded(ctx, args))
        except click.NoSuchOption as error:
            raise self._explained(error, args) from None
        for argument in self.params:
            if isinstance(argument, click.Argument) and argument.name in ctx.params:
                ctx.params[argument.name] = _unshielded(ctx.params[argument.name])
        return rest

    def _explained(self, error: click.NoSuchOption, args: list[str]) -> click.NoSuchOption:
        """Return the error with a hint: similar options, or how to give a key that looks like an option."""
        known = {name for option in self.params if isinstance(option, click.Option) for name in option.opts}
        meant = near(error.option_name, known)
        message = error.message.rstrip(".")
        if not meant:
            word = next((word for word in args if word.startswith(error.option_name)), error.option_name)
            ways = [f"{name}={word}" for name in ("--map", "--key", "--prefix") if name in known] or [f"-- {word}"]
            meant = f" (to pass a word that begins with '-', use {' or '.join(ways)})"
        return click.NoSuchOption(error.option_name, f"{message}{meant}", ctx=error.ctx)

    def _shielded(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        # The next word is the value of one of these, number or not.
        takes_value = {name for option in options if not option.is_flag for name in option.opts}
        end = args.index("--") if "--" in args else len(args)
        before = ["", *args]
        return [
            _SHIELD + word if at < end and _NUMBER.match(word) and before[at] not in takes_value else word
            for at, word in enumerate(args)
        ]


def _with_map_first(args: list[str]) -> list[str]:
    """Return ``args`` with the value of ``--map`` moved to the first argument, even if it begins with ``-``."""
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name == "--map" and (equals or args[at + 1 :]):
            following = args[at + 1 :]
            value = value if equals else following.pop(0)
            return [_SHIELD + value, *args[:at], *following]
    return args


def _unshielded(value: Any) -> Any:
    # A revision is a named tuple.
    if type(value) is tuple:
        return tuple(_unshielded(item) for item in value)
    return value.removeprefix(_SHIELD) if isinstance(value, str) else value


class RunningCommand(Command):
    """A command with ``-- CMD [ARG]...`` at its end, split off before click drops the ``--``.

    The callback gets it as ``argv``, `None` without a ``--``. Since ``--`` is taken, a MAP that begins with ``-`` is
    given as ``--map``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        words = "MAP, if it begins with '-'."
        first = next((at for at, each in enumerate(self.params) if isinstance(each, click.Option)), len(self.params))
        self.params.insert(first, click.Option(["--map"], metavar="MAP", expose_value=False, help=words))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words before ``--``; keep the words after it unparsed."""
        argv = None
        if "--" in args:
            at = args.index("--")
            args, argv = args[:at], tuple(args[at + 1 :])
            if not argv and not ctx.resilient_parsing:
                raise click.UsageError("no command follows '--'.", ctx)
            if argv and not argv[0]:
                # Check now: the system's error for an empty name depends on PATH, and comes only after the event.
                raise CannotRun(argv[0], "command not found", NOT_FOUND)
        rest = super().parse_args(ctx, _with_map_first(args))
        ctx.params["argv"] = argv
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the command's position in the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD [ARG]...]"]
