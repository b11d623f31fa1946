"""``coord fail``: tell the waiters that an event will not happen."""

from __future__ import annotations

from typing import Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _calling as calling
from coord.cli._connection import Server, takes_server
from coord.cli._values import read_value

__all__ = ["command"]


@click.command("fail", cls=arguments.Command, example='coord fail mount /mnt/abc "disk on fire"')
@arguments.map_name
@arguments.key
@click.argument("reason", metavar="REASON")
@calling.string
@calling.options
@arguments.as_json
@takes_server
def command(
    server: Server,
    map_name: str,
    key: str,
    reason: str,
    string: bool,
    options: Any,
    as_json: bool,
) -> int:
    """Fail KEY: its waiters, now and later, fail with REASON.

    Prints `first`, or `already` where KEY was fired or failed before: then nothing changes. REASON
    is JSON, or a string where it does not parse as JSON; - reads it from standard input.
    """
    sent = read_value(reason, string=string)
    return calling.call(
        server,
        map_name,
        key,
        lambda events: events.fail(key, sent, **options),
        as_json=as_json,
    )
