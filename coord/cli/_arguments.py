"""From argv to parameters, where click's own way would lose something."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

import coord
from coord.cli._durations import parse_duration
from coord.cli._exits import NOT_FOUND, CannotRun
from coord.cli._usage import near

if TYPE_CHECKING:
    from coord import Revision

__all__ = [
    "AGE",
    "REVISION",
    "Command",
    "RunningCommand",
    "as_json",
    "key",
    "keys",
    "map_name",
    "prefix",
    "quiet",
    "since",
    "some_keys",
]

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R")

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
        try:
            rest = super().parse_args(ctx, self._shielded(ctx, args))
        except click.NoSuchOption as error:
            raise self._explained(error, args) from None
        for argument in self.params:
            if isinstance(argument, click.Argument) and argument.name in ctx.params:
                ctx.params[argument.name] = _unshielded(ctx.params[argument.name])
        return rest

    def _explained(self, error: click.NoSuchOption, args: list[str]) -> click.NoSuchOption:
        """Return the error with what to do: the options that may be meant, or how to give a key that looks like one."""
        known = {name for option in self.params if isinstance(option, click.Option) for name in option.opts}
        meant = near(error.option_name, known)
        message = error.message.rstrip(".")
        if not meant:
            word = next((word for word in args if word.startswith(error.option_name)), error.option_name)
            ways = [f"{name}={word}" for name in ("--map", "--key", "--prefix") if name in known] or [f"-- {word}"]
            meant = f" (a word that begins with '-' and is no option is given as {' or '.join(ways)})"
        return click.NoSuchOption(error.option_name, f"{message}{meant}", ctx=error.ctx)

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


def _with_map_first(args: list[str]) -> list[str]:
    """Return ``args`` with the value of ``--map`` as the first argument, whatever it looks like."""
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name == "--map" and (equals or args[at + 1 :]):
            following = args[at + 1 :]
            value = value if equals else following.pop(0)
            return [_SHIELD + value, *args[:at], *following]
    return args


def _unshielded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_unshielded(item) for item in value)
    return value.removeprefix(_SHIELD) if isinstance(value, str) else value


class RunningCommand(Command):
    """A command with ``-- CMD [ARG]...`` at its end, split off before click drops the ``--``.

    The callback gets it as ``argv``, `None` where there was no ``--``. Since ``--`` is taken, a MAP that begins with
    ``-`` is given as ``--map``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        words = "MAP, if it begins with '-'."
        first = next((at for at, each in enumerate(self.params) if isinstance(each, click.Option)), len(self.params))
        self.params.insert(first, click.Option(["--map"], metavar="MAP", expose_value=False, help=words))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``; keep what stands behind as it is."""
        argv = None
        if "--" in args:
            at = args.index("--")
            args, argv = args[:at], tuple(args[at + 1 :])
            if not argv:
                raise click.UsageError("'--' is followed by no command.", ctx)
            if not argv[0]:
                # The system's answer to an empty name depends on PATH, and comes to `wait` when the event does.
                raise CannotRun(argv[0], "command not found", NOT_FOUND)
        rest = super().parse_args(ctx, _with_map_first(args))
        ctx.params["argv"] = argv
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show in the usage line where the command goes."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD [ARG]...]"]


class _Since(click.ParamType["str | Revision | float"]):
    name = "now|start|1h|REV"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Revision | float:
        if not isinstance(value, str) or value in ("now", "start"):
            return value  # type: ignore[no-any-return]
        with suppress(ValueError):
            return parse_duration(value, unit=True)
        from coord import Revision

        try:
            return Revision.parse(value)
        except coord.InvalidInput:
            self.fail(
                f"{value!r} is neither 'now' nor 'start' nor a time like 1h nor a revision like 1763820000000000.17",
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


class _Age(click.ParamType["Revision | float"]):
    name = "1h|REV"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Revision | float:
        if value in ("now", "start"):
            self.fail(f"{value!r} is for changes; this is a time like 1h, or a revision", param, ctx)
        return SINCE.convert(value, param, ctx)  # type: ignore[return-value]


SINCE = _Since()
AGE = _Age()
REVISION = _Revision()


def map_name(function: F) -> F:
    """Add MAP."""
    return click.argument("map_name", metavar="MAP")(function)


def key(function: F) -> F:
    """Add KEY."""
    return click.argument("key", metavar="KEY")(function)


def keys(function: Callable[..., R]) -> Callable[..., R]:
    """Add KEY..., and ``--key`` for one that begins with ``-``; the function gets them as ``keys``, each once."""

    @some_keys
    @wraps(function)
    def command(*args: Any, keys: tuple[str, ...], **rest: Any) -> R:
        if not keys:
            raise click.UsageError("Missing argument 'KEY...'.")
        return function(*args, keys=keys, **rest)

    return command


def some_keys(function: Callable[..., R]) -> Callable[..., R]:
    """Add what `keys` adds, and let there be none."""

    @click.argument("words", metavar="KEY...", nargs=-1)
    @click.option("--key", "options", metavar="KEY", multiple=True, help="A KEY, also if it begins with '-'.")
    @wraps(function)
    def command(*args: Any, words: tuple[str, ...], options: tuple[str, ...], **rest: Any) -> R:
        return function(*args, keys=tuple(dict.fromkeys((*words, *options))), **rest)

    return command


def prefix(function: Callable[..., R]) -> Callable[..., R]:
    """Add [PREFIX], and ``--prefix`` for one that begins with ``-``; the function gets it as ``prefix``."""

    @click.argument("word", metavar="[PREFIX]", required=False)
    @click.option("--prefix", "option", metavar="PREFIX", help="The PREFIX, also if it begins with '-'.")
    @wraps(function)
    def command(*args: Any, word: str | None, option: str | None, **rest: Any) -> R:
        if word is not None and option is not None:
            raise click.UsageError("PREFIX is given twice.")
        return function(*args, prefix=word or option or "", **rest)

    return command


def as_json(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print whole records as JSON, one a line.")(function)


def quiet(function: F) -> F:
    """Add ``--quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors: the exit code tells.")(function)


def since(function: F) -> F:
    """Add ``--since``."""
    words = "Begin with what is new (now, the default), the whole history, the last hour, or behind a revision."
    # Said again, because click would show it in capitals, which are not understood.
    return click.option("--since", type=SINCE, metavar=SINCE.name, help=words)(function)
