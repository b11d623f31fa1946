"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

import coord
from coord.cli._durations import parse_duration

if TYPE_CHECKING:
    from coord import Revision

__all__ = [
    "AGE",
    "REVISION",
    "as_json",
    "complete_key",
    "complete_map",
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
                f"{value!r} is not 'now', 'start', a time like 1h or a revision like 1763820000000000.17",
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
            self.fail(f"{value!r} is not allowed here: give a time like 1h, or a revision", param, ctx)
        return SINCE.convert(value, param, ctx)  # type: ignore[return-value]


def complete_map(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a MAP."""
    from coord.cli._completing import map_names

    return map_names(ctx, param, incomplete)


def complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a KEY of the MAP before it."""
    from coord.cli._completing import key_names

    return key_names(ctx, param, incomplete)


SINCE = _Since()
AGE = _Age()
REVISION = _Revision()


def map_name(function: F) -> F:
    """Add MAP."""
    return click.argument("map_name", metavar="MAP", shell_complete=complete_map)(function)


def key(function: F) -> F:
    """Add KEY."""
    return click.argument("key", metavar="KEY", shell_complete=complete_key)(function)


def keys(function: Callable[..., R]) -> Callable[..., R]:
    """Add KEY..., and ``--key`` for keys that begin with ``-``; the function gets ``keys``, without duplicates."""

    @some_keys
    @wraps(function)
    def command(*args: Any, keys: tuple[str, ...], **rest: Any) -> R:
        if not keys:
            raise click.UsageError("Missing argument 'KEY...'.")
        return function(*args, keys=keys, **rest)

    return command


def some_keys(function: Callable[..., R]) -> Callable[..., R]:
    """Add the same as `keys`, but allow none."""

    @click.argument("words", metavar="KEY...", nargs=-1, shell_complete=complete_key)
    @click.option(
        "--key",
        "options",
        metavar="KEY",
        multiple=True,
        shell_complete=complete_key,
        help="A KEY, even if it begins with '-'.",
    )
    @wraps(function)
    def command(*args: Any, words: tuple[str, ...], options: tuple[str, ...], **rest: Any) -> R:
        return function(*args, keys=tuple(dict.fromkeys((*words, *options))), **rest)

    return command


def prefix(function: Callable[..., R]) -> Callable[..., R]:
    """Add [PREFIX], and ``--prefix`` for a prefix that begins with ``-``; the function gets it as ``prefix``."""

    @click.argument("word", metavar="[PREFIX]", required=False, shell_complete=complete_key)
    @click.option("--prefix", "option", metavar="PREFIX", help="The PREFIX, even if it begins with '-'.")
    @wraps(function)
    def command(*args: Any, word: str | None, option: str | None, **rest: Any) -> R:
        if word is not None and option is not None:
            raise click.UsageError("PREFIX is given twice.")
        return function(*args, prefix=word or option or "", **rest)

    return command


def as_json(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print whole records as JSON, one per line.")(function)


def quiet(function: F) -> F:
    """Add ``--quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help="Print only errors; see the exit code.")(function)


def since(function: F) -> F:
    """Add ``--since``."""
    words = "Begin with new changes (now, the default), the whole history, the last hour, or after a revision."
    # The metavar is repeated because click would show it in capitals, which the option does not accept.
    return click.option("--since", type=SINCE, metavar=SINCE.name, help=words)(function)
