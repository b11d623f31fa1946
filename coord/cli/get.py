"""``coord get``: the current records of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, PENDING
from coord.cli._job import Job
from coord.cli._running import run
from coord.cli._table import Table, on_terminal

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from coord import EventMap, Record

__all__ = ["command"]


@click.command("get", cls=Command, example="coord get mount /mnt/abc")
@arguments.map_name
@arguments.keys
@arguments.quiet
@arguments.as_json
@takes_server
def command(server: Server, map_name: str, keys: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Print the current record of KEY; exit with 3 if it is pending.

    Prints one tab-separated line per key: KEY, kind (fired, failed; counted, pulsed, reset, expired
    or pending), VALUE, REVISION, time, node, how many nodes are subscribed to KEY (- if the server
    does not say), and when it expires if it has a TTL; on a terminal, a table. With several keys, exits
    with 3 if any is pending.
    """
    return run(server, lambda job: _get(job, map_name, keys, quiet, as_json))


async def _get(job: Job, map_name: str, keys: Sequence[str], quiet: bool, as_json: bool) -> int:
    events = job.coordinator.events(map_name)
    found = dict(zip(keys, await _records(job, events, keys), strict=True))
    latched = all(record is not None and record.latched for record in found.values())
    if not quiet:
        nodes, holders = await job.subscribers(events, keys), await job.holders(events, found.values())
        if as_json:
            for key, record in found.items():
                more = printing.counted(nodes.get(key), holders.get(key))
                await job.output.line(printing.record_json(map_name, key, record, **more))
        else:
            lines = [
                printing.record_fields(
                    key,
                    record,
                    printing.or_dash(nodes.get(key)),
                    holders=holders.get(key, 0),
                    short=on_terminal(),
                )
                for key, record in found.items()
            ]
            await Table(job.output).lines(lines)
    return DONE if latched else PENDING


async def _records(job: Job, events: EventMap, keys: Sequence[str]) -> list[Record | None]:
    from twisted.internet.defer import DeferredList

    from coord.core.names import check_keys

    questions: Deferred[Any] = DeferredList([events.record(key) for key in check_keys(keys)], consumeErrors=True)
    answers = await job.first_answer(questions)
    for answered, failure in answers:
        if not answered:
            raise failure.value
    return [record for _, record in answers]
