"""``coord web``: the gateway for HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from coord.cli._activation import inherited
from coord.cli._command import Command, Commands
from coord.cli._connection import Server, takes_server
from coord.cli._running import run

__all__ = ["command"]


class _Serving(Commands, Command):
    """A command that serves, and has commands of its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, the server options, and the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group("web", cls=_Serving, invoke_without_command=True, example="coord web --config /etc/coord/web.toml")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings: who may do what, and more. SIGHUP reads them again.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    help="Where to listen; may be repeated. Or unix:/PATH. 127.0.0.1:8181 by default.",
)
@click.option("--log/--no-log", default=True, help="Write a line for each request to stderr, or none.")
@takes_server
def command(server: Server, config: Path | None, listen: tuple[str, ...], log: bool) -> int:
    """Serve coord over HTTP, with a page to look at.

    Programs in any language wait and fire by HTTP, and follow changes as server-sent events. Without
    settings, everybody on this machine may read, and nobody may write. `coord web token` makes a token.

    SIGTERM and Ctrl-C end it in order, with status 0; a second one ends it at once.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return 0
    sockets = inherited()
    from coord.cli._serving import Serving

    return run(server, Serving(config, listen, sockets, log=log).run, orderly=True)


@command.command("token", cls=Command, example="coord web token ci --right 'read:*' --right 'fire:deploy/build-*'")
@click.argument("name", metavar="NAME")
@click.option("--right", "rights", metavar="RIGHT", multiple=True, default=("read:*",), help="May be repeated.")
def token(name: str, rights: tuple[str, ...]) -> int:
    """Make a token, and print it once.

    The lines for web.toml go to standard output too, behind the token: they have its SHA-256 alone.
    A right is VERB:MAP, VERB:MAP/KEY or VERB:MAP/PREFIX*, such as `read:*` or `fire:deploy/build-*`.
    """
    from coord.core.names import check_name
    from coord.web.config import Token
    from coord.web.tokens import digest_of, make_token

    check_name("token", name)
    text = make_token()
    made = Token(name=name, sha256=digest_of(text), rights=rights)
    made.check()
    words = ", ".join(f'"{right}"' for right in rights)
    click.echo(text)
    click.echo(f'\n# in web.toml:\n[[token]]\nname = "{name}"\nsha256 = "{made.sha256}"\nrights = [{words}]')
    return 0
