"""``coord reset``: make a key pending again."""

from __future__ import annotations

from typing import Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _calling as calling
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE
from coord.cli._running import Job, run

__all__ = ["command"]


@click.command("reset", cls=arguments.Command, example="coord reset mount /mnt/abc")
@arguments.map_name
@click.argument("key", metavar="KEY", required=False)
@click.option("--revision", type=arguments.REVISION, help="Only if this is still the revision of KEY.")
@click.option("--foreign", is_flag=True, help="Without KEY: remove what can be no key, and print it.")
@calling.options
@arguments.as_json
@takes_server
def command(
    server: Server, map_name: str, key: str | None, revision: Any, foreign: bool, options: Any, as_json: bool
) -> int:
    """Make KEY pending again: later waits are for the next fire.

    Prints `first`, or `already` where KEY was pending (or, with --revision, is another's by now).

    With --foreign it removes what somebody else has put into MAP under names that can be no keys
    (with control characters, not in UTF-8, too long), and prints these names, escaped.
    """
    if foreign:
        if key is not None or revision is not None or options:
            raise click.UsageError("--foreign is for a whole map, without KEY and what goes with it")
        return run(server, lambda job: _remove_foreign(job, map_name, as_json))
    if key is None:
        raise click.UsageError("Missing argument 'KEY'.")
    return calling.call(
        server,
        map_name,
        key,
        lambda events: events.reset(key, revision, **options),
        as_json=as_json,
    )


async def _remove_foreign(job: Job, map_name: str, as_json: bool) -> int:
    for name in await job.first_answer(job.coordinator.events(map_name).remove_foreign()):
        text = (
            printing.json_text({"map": map_name, "removed": name}) if as_json else printing.in_line(name) or repr(name)
        )
        await job.output.line(text)
    return DONE
