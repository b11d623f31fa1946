"""``coord watch``: the changes of a map, one per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import OutputClosed
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._running import run
from coord.cli._since import beginning, cutoff
from coord.cli._table import Table, on_terminal
from coord.cli._talk import say

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["command"]


@click.command("watch", cls=Command, example="coord watch mount --since start")
@arguments.map_name
@arguments.prefix
@arguments.since
@click.option("--follow/--no-follow", default=True, help="Continue with new changes, or end after the past ones.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say that it has caught up.")
@arguments.as_json
@metrics_option
@takes_server
def command(
    server: Server,
    map_name: str,
    prefix: str,
    since: str | Revision | float | None,
    follow: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Print the changes of MAP, each once and in order. With PREFIX, those of keys with this prefix.

    Prints one tab-separated line per change: KEY, kind (fired, failed, pulsed, reset, expired,
    counted), VALUE, REVISION, time, node; on a terminal, a table. Exits with 4 if the history no longer
    reaches back to a revision.
    """

    async def body(job: Job) -> int:
        from coord import CaughtUp

        watch = job.coordinator.events(map_name).watch(prefix, beginning(since))
        table = Table(job.output)
        job.output.on_hangup(lambda: job.end(OutputClosed()))
        with job.patient():
            # A watch waits for a server without limit; raise now if the server denies access.
            await job.coordinator.connected()
            earliest = await cutoff(job, map_name, since)
            async with watch as changes:
                async for change in changes:
                    if not isinstance(change, CaughtUp):
                        if change.time < earliest:
                            continue
                        if as_json:
                            await job.output.line(printing.record_json(map_name, change.key, change))
                        else:
                            await table.line(printing.record_fields(change.key, change, short=on_terminal()))
                    elif not follow:
                        break
                    else:
                        job.supervisor.ready(f"watching map {map_name}")
                        if not quiet:
                            say(f"armed: watching map {map_name}, caught up at {change.revision}")
        return 0

    return run(server, body)
