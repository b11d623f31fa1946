"""``coord reset``: make a key pending again."""

from __future__ import annotations

from typing import Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _calling as calling
from coord.cli._connection import Server, takes_server

__all__ = ["command"]


@click.command("reset", cls=arguments.Command, example="coord reset mount /mnt/abc")
@arguments.map_name
@arguments.key
@click.option("--revision", type=arguments.REVISION, help="Only if this is still the revision of KEY.")
@calling.options
@arguments.as_json
@takes_server
def command(server: Server, map_name: str, key: str, revision: Any, options: Any, as_json: bool) -> int:
    """Make KEY pending again: later waits are for the next fire.

    Prints `first`, or `already` where KEY was pending (or, with --revision, is another's by now).
    """
    return calling.call(
        server,
        map_name,
        key,
        lambda events: events.reset(key, revision, **options),
        as_json=as_json,
    )
