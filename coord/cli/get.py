"""``coord get``: what stands for a key now."""

from __future__ import annotations

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, PENDING
from coord.cli._running import Job, run

__all__ = ["command"]


@click.command("get", cls=arguments.Command, example="coord get mount /mnt/abc")
@arguments.map_name
@arguments.key
@arguments.as_json
@takes_server
def command(server: Server, map_name: str, key: str, as_json: bool) -> int:
    """Print what stands for KEY now; exit with 3 where it is pending.

    One line, between tabs: KEY, its kind (fired, failed; pulsed, reset or pending), VALUE,
    REVISION, when, by which node, and how many nodes are subscribed to it (- if the server does not
    say).
    """

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        stands = await job.first_answer(events.record(key))
        nodes = (await job.subscribers(events, [key])).get(key)
        if as_json:
            await job.output.line(printing.record_json(map_name, key, stands, **printing.counted(nodes)))
        else:
            await job.output.line(printing.record_line(key, stands, printing.or_dash(nodes)))
        return DONE if stands is not None and stands.latched else PENDING

    return run(server, body)
