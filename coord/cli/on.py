"""``coord on``: run a command for each change of a map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import RunningCommand
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._running import run
from coord.cli._since import beginning, cutoff
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import CaughtUp, EventMap, Record, Revision
    from coord.cli._cursor import Cursor
    from coord.cli._guarded_commands import Commands

__all__ = ["command"]

_ACKNOWLEDGED: Final = ("fired", "failed", "pulsed")


@click.command(
    "on",
    cls=RunningCommand,
    example="coord on mount /mnt/ --cursor /var/lib/backup/cursor -- backup-one",
)
@arguments.map_name
@arguments.prefix
@arguments.since
@click.option(
    "--cursor",
    "cursor_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the position there, and continue from it, whatever --since says.",
)
@click.option("--keep-going", is_flag=True, help="Continue when CMD fails.")
@click.option("--ack", is_flag=True, help="Acknowledge each fire, failure and pulse for which CMD succeeds.")
@click.option("--join", is_flag=True, help="Be a member (`coord members`) while this runs.")
@click.option("--passings", is_flag=True, help="Also when a held event passes to another holder; COORD_PASSED is 1.")
@click.option(
    "--grace",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Time between SIGTERM and SIGKILL for CMD when coord ends.",
)
@metrics_option
@takes_server
def command(
    server: Server,
    map_name: str,
    prefix: str,
    since: str | Revision | float | None,
    cursor_path: Path | None,
    keep_going: bool,
    ack: bool,
    join: bool,
    passings: bool,
    grace: float,
    argv: tuple[str, ...] | None,
) -> int:
    """Run CMD for each change of MAP, one at a time, in order. With PREFIX, of keys with this prefix.

    CMD gets COORD_KEY, COORD_KIND (fired, failed, pulsed, reset, expired, withdrawn, counted),
    COORD_VALUE (JSON), COORD_TEXT (without the quotes of a string) and COORD_REVISION in its
    environment, and the whole record as JSON on its standard input. A counter that counts on after
    its goal runs nothing. COORD_VALUE and COORD_TEXT are unset if the history left out a large value.
    If CMD fails, coord exits with its exit code. When coord ends, even by SIGKILL, CMD and its children end too. With
    --cursor, a change counts as handled once CMD has ended: after a crash it may be repeated. A
    second `coord on` with the same cursor file exits with 69.

    With --join, `coord fire --acks members` waits for this node, too, as long as coord runs.
    """
    if argv is None:
        raise click.UsageError("Missing command: coord on MAP [PREFIX] -- CMD [ARG]...")
    from coord.cli._cursor import Cursor

    cursor = None if cursor_path is None else Cursor(cursor_path)
    held = () if cursor is None else (cursor.lock(),)
    start = (cursor.revision if cursor else None) or since
    on = _On(map_name, argv, cursor, held, keep_going, ack, join, grace, passings)
    return run(server, lambda job: on.run(job, prefix, start))


@dataclass
class _On:
    map_name: str
    argv: tuple[str, ...]
    cursor: Cursor | None
    # Descriptors for the guards too: the cursor's lock lasts until CMD has ended, also if coord is killed.
    held: tuple[int, ...]
    keep_going: bool
    ack: bool
    join: bool
    grace: float
    passings: bool
    commands: Commands = field(init=False)

    async def run(self, job: Job, prefix: str, since: str | Revision | float | None) -> int:
        """Run CMD for each change; return the exit code of a CMD that failed."""
        from coord.cli._guarded_commands import Commands

        with Commands(job.reactor, self.argv, self.grace, self.held) as self.commands:
            return await self._watch(job, prefix, since)

    async def _watch(self, job: Job, prefix: str, since: str | Revision | float | None) -> int:
        from coord import Record

        events = job.coordinator.events(self.map_name)
        watch = events.watch(prefix, beginning(since))
        with job.patient(), self._naming_the_cursor():
            # A watch waits for a server without limit; raise now if the server denies access.
            await job.coordinator.connected()
            earliest = await cutoff(job, self.map_name, since)
            # It watches first, so that it handles all that is changed while it is a member.
            async with watch as changes, job.coordinator.join() if self.join else nullcontext():
                async for change in changes:
                    if isinstance(change, Record) and change.time < earliest:
                        continue
                    if not isinstance(change, Record):
                        job.supervisor.ready(f"watching map {self.map_name}")
                    if status := await self._take(events, change):
                        return status
        return 0

    @contextmanager
    def _naming_the_cursor(self) -> Iterator[None]:
        try:
            yield
        except coord.HistoryLost as error:
            if self.cursor is None:
                raise
            raise coord.HistoryLost(f"{error}; remove {self.cursor.path} to start over") from None

    async def _take(self, events: EventMap, change: Record | CaughtUp) -> int:
        """Handle a change and save the position; return the exit code of a CMD that failed."""
        from coord import Record

        if isinstance(change, Record) and change.passed and not self.passings:
            pass
        elif isinstance(change, Record):
            text = printing.record_json(self.map_name, change.key, change)
            status = await self.commands.run(_variables(change), f"{text}\n".encode())
            if status and not self.keep_going:
                say(f"{quoted(self.argv[0])} failed with {status} for {quoted(change.key)} at {change.revision}")
                return status
            if not status and self.ack and change.kind in _ACKNOWLEDGED and not change.passed:
                await _acknowledge(events, change)
        elif not isinstance(change, Record):
            say(f"armed: watching map {self.map_name}, caught up at {change.revision}")
        if self.cursor is not None:
            self.cursor.move(change.revision)
        return 0


async def _acknowledge(events: EventMap, change: Record) -> None:
    while True:
        # Without a server, wait for it; to repeat an acknowledgement changes nothing.
        with suppress(coord.Unreachable, coord.Unconfirmed):
            await events.ack(change)
            return


def _variables(record: Record) -> dict[str, str | None]:
    omitted = dict.fromkeys(("COORD_VALUE", "COORD_TEXT"))
    return {
        "COORD_KEY": record.key,
        "COORD_KIND": record.kind,
        "COORD_REVISION": str(record.revision),
        "COORD_PASSED": "1" if record.passed else None,
        **(omitted if record.value_omitted else printing.variables_of(record.value)),
    }
