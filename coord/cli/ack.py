"""``coord ack``: what handlers in the shell say when they have done their work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, PENDING
from coord.cli._job import Job
from coord.cli._running import run
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["command"]


@click.command("ack", cls=Command, example='coord ack config v7 "$COORD_REVISION"')
@arguments.map_name
@arguments.key
@click.argument("revision", metavar="[REVISION]", type=arguments.REVISION, required=False)
@takes_server
def command(server: Server, map_name: str, key: str, revision: Revision | None) -> int:
    """Acknowledge a change of KEY, for `coord fire --acks`, once you have done what it asks for.

    REVISION says which change; by default it is the present one. You acknowledge by the name of
    this node, which an hour later is forgotten; to repeat it changes nothing. If processes of this
    name are members (`coord members`), each of them has to acknowledge itself, and this does not
    count. `coord on --ack` acknowledges each change for which its command has succeeded.

    Exits with 3 if KEY has no such change.
    """

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        record = await job.first_answer(events.record(key))
        if record is None or (revision is not None and revision > record.revision):
            say(f"{quoted(key)} has no {'record' if revision is None else f'change {revision}'}")
            return PENDING
        await job.answer(events.ack(record if revision in (None, record.revision) else coord.Revision.of(revision)))
        return DONE

    return run(server, body)
