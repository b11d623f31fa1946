"""``coord ls``: what stands for the keys of a map now."""

from __future__ import annotations

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._exits import CORRUPT, DONE
from coord.cli._running import Job, run
from coord.cli._talk import say

__all__ = ["command"]


@click.command("ls", cls=arguments.Command, example="coord ls mount /mnt/")
@arguments.map_name
@arguments.prefix
@arguments.as_json
@takes_server
def command(server: Server, map_name: str, prefix: str, as_json: bool) -> int:
    """Print what stands now for the keys of MAP. They begin with PREFIX, if there is one.

    A line a key, between tabs: KEY, its kind (fired, failed, pulsed, reset), VALUE, REVISION, when,
    by which node, and how many nodes are subscribed to it. Says on stderr as of which revision:
    `coord watch --since` goes on from there.
    """

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        listing = await job.first_answer(events.records(prefix))
        nodes = await job.answer(events.subscribers([record.key for record in listing.records]))
        for record in listing.records:
            count = nodes[record.key]
            if as_json:
                await job.output.line(printing.record_json(map_name, record.key, record, subscribers=count))
            else:
                await job.output.line(printing.record_line(record.key, record, count))
        say(f"as of {listing.revision}")
        for broken in listing.corrupt:
            say(f"{printing.in_line(broken)}: what stands in Redis for it is not a record of coord's; reset repairs it")
        return CORRUPT if listing.corrupt else DONE

    return run(server, body)
