"""``coord ping``: check whether the server can be used, for health checks."""

from __future__ import annotations

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE
from coord.cli._job import Job
from coord.cli._reaching import reach
from coord.cli._running import run

__all__ = ["command"]

# An arbitrary key that never exists. A user who may run the doctor may read it too.
_MAP, _KEY = "coord-doctor", "ping"


@click.command("ping", cls=Command, example="coord ping --quiet --connect-timeout 2s")
@arguments.quiet
@click.option("--json", "as_json", is_flag=True, help="Print it as one line of JSON.")
@takes_server
def command(server: Server, quiet: bool, as_json: bool) -> int:
    """Check whether the server can be used, and how quickly it answers. Writes nothing.

    Connects as a node does, and checks that the server is a primary and has loaded its data, that
    messages arrive, and that records may be read. Each of its two steps may take --connect-timeout.
    Exits with 0 if all is well, 69 if the server is not reached, does not answer or is a replica, 77
    if it denies access. To find what could lose events, use `coord doctor`.
    """

    async def body(job: Job) -> int:
        await reach(job)
        began = job.reactor.seconds()
        await job.answer(job.coordinator.events(_MAP).record(_KEY), server.connect_timeout)
        took = job.reactor.seconds() - began
        if as_json:
            await job.output.line(printing.json_text({"server": job.coordinator.server, "round_trip": took}))
        elif not quiet:
            await job.output.line(f"{job.coordinator.server} answers in {took * 1000:.2f} ms")
        return DONE

    return run(server, body)
