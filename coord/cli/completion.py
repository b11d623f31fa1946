"""``coord completion``: the script with which a shell completes coord's commands."""

from __future__ import annotations

import click

from coord.cli._command import Command

__all__ = ["command"]

_VARIABLE = "_COORD_COMPLETE"


@click.command("completion", cls=Command, example="coord completion bash > ~/.coord-completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands and options.

    For bash and zsh, save it to a file once, and source the file in ~/.bashrc or ~/.zshrc (there
    after compinit): `. ~/.coord-completion`. For fish, save it as
    ~/.config/fish/completions/coord.fish.
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "coord", _VARIABLE).source())
