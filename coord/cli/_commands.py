"""The group ``coord``, which imports a command's module when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from coord.cli._connection import server_options
from coord.cli._usage import near

__all__ = ["COMMANDS", "coord"]

COMMANDS: Final = {
    "wait": "wait:command",
    "barrier": "hold:barrier",
    "fire": "calls:fire",
    "pulse": "calls:pulse",
    "fail": "calls:fail",
    "reset": "calls:reset",
    "expire": "calls:expire",
    "count": "calls:count",
    "ack": "ack:command",
    "hold": "hold:hold",
    "lock": "lock:lock",
    "elect": "lock:elect",
    "get": "get:command",
    "ls": "ls:command",
    "watch": "watch:command",
    "holders": "hold:holders",
    "members": "members:command",
    "on": "on:command",
    "mounts": "mounts:command",
    "web": "web:command",
    "server": "server:command",
    "systemd": "systemd:command",
    "ping": "ping:command",
    "doctor": "doctor:command",
    "demo": "demo.show:command",
    "completion": "completion:command",
    "man": "man:command",
}
"""The module of each command and its name there, in the order of `coord --help`."""

_GROUPS: Final = {
    "Wait for events": ("wait", "barrier"),
    "Tell others": ("fire", "pulse", "fail", "reset", "expire", "count", "ack"),
    "Own a key": ("hold", "lock", "elect"),
    "Look": ("get", "ls", "watch", "holders", "members"),
    "Run": ("on", "mounts", "web", "server", "systemd"),
    "Check and learn": ("ping", "doctor", "demo", "completion", "man"),
}
"""The commands by what one wants to do, for the help."""

_ELSEWHERE: Final = {
    "list": "ls",
    "set": "fire",
    "emit": "fire",
    "publish": "pulse",
    "notify": "pulse",
    "subscribe": "watch",
    "tail": "watch",
    "delete": "reset",
    "rm": "reset",
    "ttl": "expire",
    "join": "members",
    "incr": "count",
    "acknowledge": "ack",
    "health": "ping",
    "help": "--help",
    "version": "--version",
}
"""Names of these commands in other programs."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"coord.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by purpose, each with its whole summary."""
        for title, names in _GROUPS.items():
            with formatter.section(title):
                commands = {name: self.get_command(ctx, name) for name in names}
                formatter.write_dl(
                    [(name, command.get_short_help_str(200)) for name, command in commands.items() if command]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; raise for an unknown name, with the one that was perhaps meant."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        meant = _ELSEWHERE.get(name)
        hint = f" (that is coord {meant})" if meant else near(name, COMMANDS)
        raise click.UsageError(f"no such command {name!r}{hint}", ctx)


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"coord {version('coord')}")
        ctx.exit()


_EXIT_STATUS = """
Exit status: 0 done, 1 the event failed (or --exit-code: not the first), 2 usage or bad input, 3
pending (get, holders) or no such map (ls), 4 history lost, 5 warnings (doctor), evicted (hold) or
lost (lock), 65 record not written by coord, 69 server unreachable or call refused, 70 internal
error, 74 output not written, 75 unconfirmed, or too few replicas, 77 access denied, 124 timed out
(wait, barrier, lock) or not acknowledged (--acks), 126 or 127 CMD could not be run, 129 hung up,
130 interrupted, 131 quit, 141 output closed, 143 terminated; CMD's own status if CMD ran.
"""


@click.group(
    cls=_Commands,
    epilog=_EXIT_STATUS,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@server_options(environment=True)
def coord() -> None:
    """Wait for events that may not have happened yet, in a cluster that shares a Redis server.

    In one terminal, `coord wait mount /mnt/abc`; in another, on any machine, `coord fire mount
    /mnt/abc`. A late wait returns at once. Here mount is a MAP, a dictionary of events, and
    /mnt/abc a KEY in it; neither has to be declared first. `coord server` runs a server for this
    machine.

    The password is read from COORD_PASSWORD, from the file that COORD_PASSWORD_FILE names, or from
    the URL; that of `coord server` is found automatically. Write times as 30, 30s, 5m, 1h or 500ms.
    See also `coord COMMAND --help`.
    """
