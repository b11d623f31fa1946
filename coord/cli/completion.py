"""``coord completion``: what a shell needs to complete coord's words."""

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

    Bash and zsh read it from ~/.bashrc and ~/.zshrc (in zsh, after compinit), best from a file that
    was written once: `. ~/.coord-completion`. Fish reads ~/.config/fish/completions/coord.fish.
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "coord", _VARIABLE).source())
