"""``coord members``: which nodes are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, PENDING
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._running import run
from coord.cli._table import Table, on_terminal
from coord.cli._talk import say

if TYPE_CHECKING:
    from coord import Record

__all__ = ["command"]

_WORDS = {"fired": "joined", "withdrawn": "left", "expired": "died"}


@click.command("members", cls=Command, example="coord members --watch")
@click.option("--watch", is_flag=True, help="Then print who joins, leaves and dies.")
@arguments.quiet
@arguments.as_json
@metrics_option
@takes_server
def command(server: Server, watch: bool, quiet: bool, as_json: bool) -> int:
    """Print the members of the cluster: node, VALUE and since when; exit with 3 if there are none.

    A node is a member from when it joins (in Python, `await c.join(value)`) until it leaves, or is
    dead for as long as its lease. With --watch, each later line begins with joined, left or died, or
    with passed if the name has passed to another process.
    """

    async def body(job: Job) -> int:
        members = job.coordinator.members
        listing = await job.first_answer(members.records())
        found = [record for record in listing.records if record.latched]
        table = Table(job.output)
        if not quiet:
            for record in found:
                await _print(job, table, record, as_json=as_json)
        if not watch:
            return DONE if found else PENDING
        from coord import CaughtUp

        with job.patient():
            async with members.watch(since=listing.revision) as changes:
                async for change in changes:
                    if not isinstance(change, CaughtUp):
                        await _print(job, table, change, as_json=as_json, word=_word(change))
                    else:
                        say("armed: watching the members")
                        job.supervisor.ready("watching the members")
        return DONE

    return run(server, body)


def _word(change: Record) -> str:
    return "passed" if change.passed else _WORDS.get(change.kind, change.kind)


async def _print(job: Job, table: Table, record: Record, *, as_json: bool, word: str | None = None) -> None:
    if as_json:
        await job.output.line(printing.record_json("members", record.key, record))
        return
    value = "-" if record.kind in printing.WITHOUT_VALUE else printing.in_line(record.value)
    fields = (printing.in_line(record.key), value, printing.time_text(record.time, short=on_terminal()))
    await table.line(fields if word is None else (word, *fields))
