"""``coord systemd``: units of systemd, and what they run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from coord.cli import _arguments as arguments
from coord.cli._command import Command, Commands
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, CannotWrite
from coord.cli._units import event_of, instance, units

__all__ = ["command"]

_SYSTEM: Final = Path("/etc/systemd/system")

_NEXT: Final = """\
next, as root:
  useradd --system --no-create-home coord
  write COORD_URL=redis://HOST and COORD_PASSWORD_FILE=FILE into /etc/coord/environment
  systemctl daemon-reload
  systemctl enable --now coord-mounts.service
"""
_NEXT_FOR_A_USER: Final = """\
next:
  write COORD_URL=redis://HOST into ~/.config/coord/environment
  systemctl --user daemon-reload
  systemctl --user enable --now coord-mounts.service
"""


@click.group("systemd", cls=Commands, example="coord systemd install --user")
def command() -> None:
    """Install units of systemd, and name those that stand for an event.

    coord-mounts runs the mount agent, coord-web the gateway for HTTP, coord-on@MAP a command for each
    change, and coord-hold@KEY holds a key. coord-event@KEY is active once the event was fired, so any
    unit of this host can be started after an event of the cluster. `coord systemd unit` prints its
    name.
    """


@command.command("install", cls=Command, example="coord systemd install --user")
@click.option("--user", is_flag=True, help="Install for the manager of this user, not of the system.")
@click.option("--force", is_flag=True, help="Replace units that were changed.")
@click.option(
    "--to", "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="The folder to write to."
)
def install(user: bool, force: bool, folder: Path | None) -> int:
    """Write the units, and say what to do next.

    They go to /etc/systemd/system, or with --user to ~/.config/systemd/user. A unit that is there
    already, and is not the same, is kept.
    """
    folder = folder or (_user_folder() if user else _SYSTEM)
    kept = [name for name, text in units(user=user).items() if not _write(folder / name, text, force=force)]
    click.echo(_NEXT_FOR_A_USER if user else _NEXT, nl=False)
    if kept:
        raise CannotWrite(f"kept, as they were changed (--force replaces them): {', '.join(kept)}")
    return DONE


def _user_folder() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME")
    return (Path(given) if given else Path("~/.config").expanduser()) / "systemd" / "user"


def _write(path: Path, text: str, *, force: bool) -> bool:
    """Write a unit, and print its path; return false if there is another one that is to be kept."""
    try:
        if path.exists() and not force:
            return path.read_text(encoding="utf-8") == text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotWrite(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    click.echo(f"wrote {path}")
    return True


@command.command("unit", cls=Command, example="coord systemd unit mount node1:/srv/db")
@arguments.map_name
@arguments.key
@click.option("--hold", is_flag=True, help="The unit that holds KEY, not the one that waits for it.")
def unit(map_name: str, key: str, hold: bool) -> int:
    """Print the name of the unit that is active once KEY was fired.

    A unit with this name behind Requires= and After= is started after that.
    """
    click.echo(f"coord-{'hold' if hold else 'event'}@{instance(map_name, key)}.service")
    return DONE


def _runs(name: str) -> Any:
    return command.command(name, cls=Command, hidden=True, example=f"coord systemd {name} deploy/ready")


@_runs("wait")  # type: ignore[untyped-decorator]
@click.argument("event", metavar="MAP/KEY")
@takes_server
def wait(server: Server, event: str) -> int:
    """Wait for an event, as coord-event@.service does."""
    from coord.cli.wait import wait_for

    return wait_for(server, *event_of(event))


@_runs("hold")  # type: ignore[untyped-decorator]
@click.argument("event", metavar="MAP/KEY")
@takes_server
def hold(server: Server, event: str) -> int:
    """Hold a key, as coord-hold@.service does."""
    from coord.cli.hold import hold_it

    return hold_it(server, *event_of(event))
