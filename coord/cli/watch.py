"""``coord watch``: the changes of a map, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._exits import OutputClosed
from coord.cli._running import Job, run
from coord.cli._talk import say

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["command"]


@click.command("watch", cls=arguments.Command, example="coord watch mount --since start")
@arguments.map_name
@arguments.prefix
@arguments.since
@click.option("--follow/--no-follow", default=True, help="Go on with what is new, or end where the past does.")
@arguments.as_json
@takes_server
def command(
    server: Server,
    map_name: str,
    prefix: str,
    since: str | Revision | None,
    follow: bool,
    as_json: bool,
) -> int:
    """Print the changes of MAP, each once and in order. With PREFIX, those of keys that begin so.

    A line a change, between tabs: KEY, what happened (fired, failed, pulsed, reset), VALUE,
    REVISION, when, by which node. Ends with 4 where the history no longer reaches back that far.
    """

    async def body(job: Job) -> int:
        from coord import CaughtUp

        watch = job.coordinator.events(map_name).watch(prefix, since or "now")
        job.output.on_hangup(lambda: job.end(OutputClosed()))
        with job.patient():
            # A watch waits for a server; one that denies access is not worth waiting for.
            await job.coordinator.connected()
            async with watch as changes:
                async for change in changes:
                    if not isinstance(change, CaughtUp):
                        text = printing.record_json(map_name, change.key, change) if as_json else None
                        await job.output.line(text or printing.record_line(change.key, change))
                    elif not follow:
                        break
                    else:
                        say(f"armed: watching map {map_name}, caught up at {change.revision}")
        return 0

    return run(server, body)
