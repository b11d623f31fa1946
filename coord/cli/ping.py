"""``coord ping``: check whether the server can be used, for health checks."""

from __future__ import annotations

from collections.abc import Sequence

import click

import coord
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
    messages arrive, and that records may be read; of a cluster, at every server that has slots. Each of
    its steps may take --connect-timeout. Exits with 0 if all is well, 69 if the server is not reached,
    does not answer or is a replica, 77 if it denies access. To find what could lose events, use
    `coord doctor`.
    """

    async def body(job: Job) -> int:
        await reach(job)
        maps = await _maps(job)
        if maps != [_MAP]:
            # The links to the other servers are made now.
            await _read(job, maps)
        began = job.reactor.seconds()
        await _read(job, maps)
        took = job.reactor.seconds() - began
        if as_json:
            await job.output.line(printing.json_text({"server": job.coordinator.server, "round_trip": took}))
        elif not quiet:
            whole = "" if job.server.target.cluster is None else f": {len(maps)} servers with slots"
            answer = "answer" if whole else "answers"
            await job.output.line(f"{job.coordinator.server}{whole} {answer} in {took * 1000:.2f} ms")
        return DONE

    return run(server, body)


async def _maps(job: Job) -> list[str]:
    """Return a map at each server."""
    target = job.server.target
    if target.cluster is None:
        return [_MAP]
    from coord.doctor import Askers, scratch_maps

    asker = Askers(target, job.reactor)
    return await scratch_maps(job.coordinator.namespace, lambda *words: asker.any_of(job.coordinator, *words))


async def _read(job: Job, maps: Sequence[str]) -> None:
    from twisted.internet.defer import FirstError, gatherResults

    found = [job.coordinator.events(name).record(_KEY) for name in maps]
    try:
        await job.answer(gatherResults(found, consumeErrors=True), job.server.connect_timeout)
    except FirstError as first:
        error: Exception = first.subFailure.value  # type: ignore[assignment]
        raise error from None
    except coord.Unreachable as error:
        away = [link for link in job.coordinator.links if link.state is not coord.LinkState.CONNECTED]
        if not away or job.coordinator.reason != "connected":
            raise
        # The node is linked, and the first attempt at another server is still under way.
        raise coord.Unreachable(f"{error} ({away[0].address}: {away[0].reason})") from None
