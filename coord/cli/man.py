"""``coord man``: manual pages."""

from __future__ import annotations

from pathlib import Path

import click

from coord.cli._command import Command
from coord.cli._exits import CannotWrite
from coord.cli._usage import near

__all__ = ["command"]


@click.command("man", cls=Command, example="coord man --to ~/.local/share/man/man1")
@click.argument("name", metavar="[COMMAND]", required=False)
@click.option(
    "--to", "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write all pages there."
)
@click.pass_context
def command(ctx: click.Context, name: str | None, folder: Path | None) -> None:
    """Print the manual page of coord or of COMMAND, for `man -l -`.

    The pages say what `--help` says. With --to, it writes coord.1, coord-wait.1 and so on into a folder.
    `man coord-wait` finds them in ~/.local/share/man/man1 if ~/.local/bin is in PATH.
    """
    from importlib.metadata import version

    from coord.cli._manual import pages

    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    found = pages(group, version("coord"))
    if folder is not None:
        if name is not None:
            raise click.UsageError("COMMAND and --to exclude each other")
        _write(folder, found)
        return
    page = "coord" if name is None else f"coord-{name}"
    if page not in found:
        raise click.UsageError(f"no such command {name!r}{near(name or '', group.list_commands(ctx))}")
    click.echo(found[page], nl=False)


def _write(folder: Path, pages: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (folder / f"{name}.1").write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotWrite(f"{folder}: {error.strerror}") from None
