"""``coord completion``: the script with which a shell completes coord's commands."""

from __future__ import annotations

import click

from coord.cli._command import Command

__all__ = ["command"]


@click.command("completion", cls=Command, example="coord completion bash > ~/.coord-completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes a shell complete commands, options, and names of maps and keys.

    For bash and zsh, save it to a file once, and source the file in ~/.bashrc or ~/.zshrc (there
    after compinit): `. ~/.coord-completion`. For fish, save it as
    ~/.config/fish/completions/coord.fish.

    Maps and keys are those of the server, which is asked for at most a second. Maps need the
    permission to SCAN. Nothing is proposed if the server is not there.
    """
    from coord.cli._completing import script

    click.echo(script(shell), nl=False)
