"""From argv to parameters, where click's own way would lose something."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

import coord

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["REVISION", "Command", "RunningCommand", "as_json", "key", "map_name", "prefix", "since"]

F = TypeVar("F", bound=Callable[..., object])

_NUMBER = re.compile(r"-\.?[0-9]")
# No word of argv can hold this one.
_SHIELD = "\0"


class Command(click.Command):
    """A command to which ``-5`` is a number and no option, and whose help ends with an example."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example as it is, whatever its length."""
        with formatter.section("Example"):
            formatter.write(f"{'':>{formatter.current_indent}}{self.example}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``args`` as click does, with the numbers behind a shield."""
        rest = super().parse_args(ctx, self._shielded(ctx, args))
        for argument in self.params:
            if isinstance(argument, click.Argument) and argument.name in ctx.params:
                ctx.params[argument.name] = _unshielded(ctx.params[argument.name])
        return rest

    def _shielded(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        # What follows one of these is its value, number or not.
        takes_value = {name for option in options if not option.is_flag for name in option.opts}
        end = args.index("--") if "--" in args else len(args)
        before = ["", *args]
        return [
            _SHIELD + word if at < end and _NUMBER.match(word) and before[at] not in takes_value else word
            for at, word in enumerate(args)
        ]


def _unshielded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_unshielded(item) for item in value)
    return value.removeprefix(_SHIELD) if isinstance(value, str) else value


class RunningCommand(Command):
    """A command with ``-- CMD [ARG]...`` at its end, split off before click drops the ``--``.

    The callback gets it as ``argv``, `None` where there was no ``--``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``; keep what stands behind as it is."""
        argv = None
        if "--" in args:
            at = args.index("--")
            args, argv = args[:at], tuple(args[at + 1 :])
            if not argv:
                raise click.UsageError("'--' is followed by no command.", ctx)
        rest = super().parse_args(ctx, args)
        ctx.params["argv"] = argv
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show in the usage line where the command goes."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD [ARG]...]"]


class _Since(click.ParamType["str | Revision"]):
    name = "now|start|REV"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Revision:
        if not isinstance(value, str) or value in ("now", "start"):
            return value  # type: ignore[no-any-return]
        from coord import Revision

        try:
            return Revision.parse(value)
        except coord.InvalidInput:
            self.fail(
                f"{value!r} is neither 'now' nor 'start' nor a revision like 1763820000000000.17",
                param,
                ctx,
            )


class _Revision(click.ParamType["Revision"]):
    name = "revision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Revision:
        from coord import Revision

        try:
            return Revision.parse(value)
        except coord.InvalidInput as error:
            self.fail(str(error), param, ctx)


SINCE = _Since()
REVISION = _Revision()


def map_name(function: F) -> F:
    """Add MAP."""
    return click.argument("map_name", metavar="MAP")(function)


def key(function: F) -> F:
    """Add KEY."""
    return click.argument("key", metavar="KEY")(function)


def prefix(function: F) -> F:
    """Add [PREFIX]."""
    return click.argument("prefix", metavar="[PREFIX]", default="", required=False)(function)


def as_json(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print whole records as JSON, one a line.")(function)


def since(function: F) -> F:
    """Add ``--since``."""
    words = "Start with what is new (now, the default), the whole history, or behind a revision."
    # Said again, because click would show it in capitals, which are not understood.
    return click.option("--since", type=SINCE, metavar=SINCE.name, help=words)(function)
