"""``coord fire``: let an event happen, once."""

from __future__ import annotations

from typing import Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _calling as calling
from coord.cli._connection import Server, takes_server
from coord.cli._values import read_value

__all__ = ["command"]


@click.command("fire", cls=arguments.Command, example="coord fire deploy ready v1.2")
@arguments.map_name
@arguments.key
@click.argument("value", metavar="[VALUE]", required=False)
@calling.string
@calling.options
@arguments.as_json
@takes_server
def command(
    server: Server,
    map_name: str,
    key: str,
    value: str | None,
    string: bool,
    options: Any,
    as_json: bool,
) -> int:
    """Fire KEY: its waiters get VALUE, and so does who comes later.

    Prints `first`, or `already` where KEY was fired or failed before: then nothing changes. VALUE
    is JSON, or a string where it does not parse as JSON; true by default; - reads it from standard
    input.
    """
    sent = read_value(value, string=string)
    return calling.call(
        server,
        map_name,
        key,
        lambda events: events.fire(key, sent, **options),
        as_json=as_json,
    )
