"""Manual pages, made from the help."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from coord.cli._command import Commands, WithExample
from coord.cli._connection import SERVER_OPTIONS

__all__ = ["page", "pages"]


def pages(group: click.Group, version: str) -> dict[str, str]:
    """Return the page of each command by its name, such as ``coord-fire``; that of the group is ``coord``."""
    with click.Context(group, info_name="coord") as ctx:
        found = {"coord": page(ctx, version)}
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None
            with click.Context(command, parent=ctx, info_name=name) as own:
                found[f"coord-{name}"] = page(own, version)
    return found


def page(ctx: click.Context, version: str) -> str:
    """Return the page of a command, in the man macros."""
    command = ctx.command
    name = ctx.command_path.replace(" ", "-")
    lines = [f'.TH "{_text(name.upper())}" 1 "" "coord {_text(version)}" "coord"']
    summary, *paragraphs = _paragraphs(command.help or "")
    lines += [".SH NAME", f"{_text(name)} \\- {_text(summary.rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B {_text(ctx.command_path)}", _text(" ".join(command.collect_usage_pieces(ctx)))]
    if paragraphs:
        lines.append(".SH DESCRIPTION")
        lines += "\n.PP\n".join(map(_text, paragraphs)).split("\n")
    if isinstance(command, click.Group):
        lines += _commands(ctx, command)
    lines += _options(ctx, server=False)
    lines += _options(ctx, server=True)
    if isinstance(command, WithExample):
        lines += [".SH EXAMPLE", ".EX", _text(command.example), ".EE"]
    if command.epilog:
        lines += [".SH EXIT STATUS", _text(" ".join(command.epilog.split()).removeprefix("Exit status: "))]
    if name != "coord":
        lines += [".SH SEE ALSO", ".BR coord (1)"]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip())]


def _commands(ctx: click.Context, group: click.Group) -> Iterator[str]:
    yield ".SH COMMANDS"
    own_pages = not isinstance(group, Commands)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if command.hidden:
            continue
        yield ".TP"
        yield f".BR {_text(f'coord-{name}')} (1)" if own_pages else f".B {_text(name)}"
        yield _text(command.get_short_help_str(300))
        if not own_pages:
            with click.Context(command, parent=ctx, info_name=name) as own:
                for record in _records(own, server=False):
                    yield from (".RS", *_record(record), ".RE")


def _options(ctx: click.Context, *, server: bool) -> Iterator[str]:
    records = list(_records(ctx, server=server))
    if records:
        yield ".SH WHICH SERVER" if server else ".SH OPTIONS"
        for record in records:
            yield from _record(record)


def _records(ctx: click.Context, *, server: bool) -> Iterator[tuple[str, str]]:
    for param in ctx.command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None and (param.name in SERVER_OPTIONS) is server:
            yield record


def _record(record: tuple[str, str]) -> Iterator[str]:
    yield ".TP"
    yield f".B {_text(record[0])}"
    yield _text(record[1])


def _text(text: str) -> str:
    """Return text that is no request and no escape, whatever it holds; hyphens can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith(".") else text
