"""``coord pulse``: wake whoever waits now, and re-arm."""

from __future__ import annotations

from typing import Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _calling as calling
from coord.cli._connection import Server, takes_server
from coord.cli._values import read_value

__all__ = ["command"]


@click.command("pulse", cls=arguments.Command, example="coord pulse config changed '{\"version\": 7}'")
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
    """Wake who waits for KEY now with VALUE. KEY stays pending, or becomes so.

    VALUE is JSON, or a string where it does not parse as JSON; true by default; - reads it from
    standard input.
    """
    sent = read_value(value, string=string)
    return calling.call(
        server,
        map_name,
        key,
        lambda events: events.pulse(key, sent, **options),
        as_json=as_json,
    )
