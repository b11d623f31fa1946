"""``coord hold``, ``barrier`` and ``holders``: events that last as long as somebody holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command, RunningCommand
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION
from coord.cli._exits import DONE, PENDING
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._running import run
from coord.cli._table import Table, on_terminal
from coord.cli._talk import say
from coord.cli._values import read_value
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from coord import Hold

__all__ = ["barrier", "hold", "hold_it", "holders"]

# Seconds between two looks at whether the hold is still valid.
_LOOK_EVERY = 0.5


def lease_options(function: Any) -> Any:
    """Add ``--lease`` and ``--grace``."""
    words = "How long KEY is kept after this host died or was cut off, at least; 20s by default."
    function = click.option("--grace", type=DURATION, help="How much longer, at most; 10s by default.")(function)
    return click.option("--lease", type=DURATION, help=words)(function)


kill_after_option = click.option(
    "--kill-after",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Time between SIGTERM and SIGKILL for CMD when coord ends.",
)


@click.command("hold", cls=RunningCommand, example="coord hold services web1 '\"10.0.0.7:80\"' -- ./serve")
@arguments.map_name
@arguments.key
@click.argument("value", metavar="[VALUE]", required=False)
@click.option("--string", is_flag=True, help="Take VALUE as a string, even if it is JSON.")
@click.option("--need", type=int, default=1, metavar="N", help="KEY is latched only while at least N hold it.")
@lease_options
@kill_after_option
@click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")
@metrics_option
@takes_server
def hold(
    server: Server,
    map_name: str,
    key: str,
    value: str | None,
    string: bool,
    need: int,
    lease: float | None,
    grace: float | None,
    kill_after: float,
    quiet: bool,
    argv: tuple[str, ...] | None,
) -> int:
    """Hold KEY while CMD runs; without CMD, until interrupted.

    KEY is latched with VALUE, as if fired, while at least one process holds it. When the first
    holder ends, KEY passes to the next without a gap; when the last one ends, KEY is pending again
    (withdrawn). If a holder is killed or its host dies, that takes until its lease is over
    (expired): all holders of a map must agree on --lease and --grace.

    If somebody ends all holds of KEY (coord reset --evict), coord ends CMD and exits with 5.

    VALUE is JSON, or a string if it does not parse as JSON; the default is true; - reads standard
    input. CMD gets COORD_KEY; coord exits with its status. When coord ends, even by SIGKILL, CMD
    and its children end too.
    """
    held = _Hold(map_name, key, read_value(value, string=string, strict=False), need, argv, kill_after, quiet)
    return run(server._replace(lease=lease, grace=grace), held.run)


def hold_it(server: Server, map_name: str, key: str) -> int:
    """Hold a key until we are ended."""
    return run(server, _Hold(map_name, key, value=True, need=1, argv=None, kill_after=0.0, quiet=True).run)


@click.command("barrier", cls=RunningCommand, example="coord barrier deploy start 3 -- ./start")
@arguments.map_name
@arguments.key
@click.argument("parties", metavar="N", type=int)
@click.option("--timeout", type=DURATION, help="Exit with 124 if N are not there by then.")
@lease_options
@kill_after_option
@click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")
@takes_server
def barrier(
    server: Server,
    map_name: str,
    key: str,
    parties: int,
    timeout: float | None,
    lease: float | None,
    grace: float | None,
    kill_after: float,
    quiet: bool,
    argv: tuple[str, ...] | None,
) -> int:
    """Wait until N processes have come to the barrier KEY; then run CMD.

    Each holds KEY from when it comes until its CMD ends; without CMD, until it passes. A process that
    is killed, or whose host dies, is not counted any more once its lease is over. Who comes while N
    are inside passes at once: use another KEY for each round.
    """

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        with job.patient():
            async with events.barrier(key, parties, timeout=timeout):
                job.supervisor.ready(f"inside the barrier {quoted(key)} of map {map_name}")
                if not quiet:
                    say(f"{quoted(key)} of map {map_name} is open")
                if argv is None:
                    return DONE
                from coord.cli._guarded_commands import Commands

                with Commands(job.reactor, argv, kill_after) as commands:
                    return await commands.run({"COORD_KEY": key})

    return run(server._replace(lease=lease, grace=grace), body)


class _Hold:
    def __init__(
        self,
        map_name: str,
        key: str,
        value: object,
        need: int,
        argv: tuple[str, ...] | None,
        kill_after: float,
        quiet: bool,
    ) -> None:
        self._map_name, self._key, self._value, self._need = map_name, key, value, need
        self._argv, self._kill_after, self._quiet = argv, kill_after, quiet
        self._valid = True
        self._over = False

    async def run(self, job: Job) -> int:
        """Hold the key; return the exit code of CMD."""
        from twisted.internet.defer import Deferred
        from twisted.internet.task import LoopingCall

        events = job.coordinator.events(self._map_name)
        hold = await job.first_answer(events.hold(self._key, self._value, need=self._need), patience=None)
        self._say_held(hold)
        job.supervisor.ready(f"holding {quoted(self._key)} of map {self._map_name}")
        hold.lost().addErrback(self._lost, job)
        looking = LoopingCall(self._look, hold)
        looking.clock = job.reactor
        looking.start(_LOOK_EVERY, now=False).addErrback(lambda failure: failure.printTraceback())
        try:
            if self._argv is None:
                with job.patient():
                    await Deferred[None]()
            return await self._run_command(job)
        finally:
            looking.stop()
            # The coordinator withdraws it when it is closed.

    async def _run_command(self, job: Job) -> int:
        from coord.cli._guarded_commands import Commands

        assert self._argv is not None
        with Commands(job.reactor, self._argv, self._kill_after) as commands:
            return await commands.run({"COORD_KEY": self._key})

    def _say_held(self, hold: Hold) -> None:
        if self._quiet:
            return
        record = hold.record
        what = f"{quoted(self._key)} of map {self._map_name}"
        if record is None or not record.latched:
            say(f"holding {what}: pending until {self._need} hold it")
        elif hold.first:
            say(f"holding {what}")
        else:
            say(f"holding {what}, behind {record.node}")

    def _look(self, hold: Hold) -> None:
        """Say when the server may have let go, and when it has it again."""
        if hold.valid is not self._valid and not self._over:
            self._valid = not self._valid
            if self._valid:
                say(f"holding {quoted(self._key)} again")
            else:
                say(f"the lease could not be renewed for so long that {quoted(self._key)} may be over; trying again")

    def _lost(self, failure: Failure, job: Job) -> None:
        self._over = True
        if failure.check(coord.HoldLost):
            job.end(failure.value)  # type: ignore[arg-type]


@click.command("holders", cls=Command, example="coord holders services web1")
@arguments.map_name
@arguments.key
@arguments.quiet
@arguments.as_json
@takes_server
def holders(server: Server, map_name: str, key: str, quiet: bool, as_json: bool) -> int:
    """Print who holds KEY, the oldest first: node, VALUE and since when; exit with 3 if nobody does."""

    async def body(job: Job) -> int:
        number, found = await job.first_answer(job.coordinator.events(map_name).holders(key))
        if quiet:
            return DONE if number else PENDING
        if as_json:
            for each in found:
                fields = {"map": map_name, "key": key, "node": each.node, "value": each.value, "time": each.time}
                await job.output.line(printing.json_text(fields))
        else:
            lines = [
                (each.node, printing.in_line(each.value), printing.time_text(each.time, short=on_terminal()))
                for each in found
            ]
            await Table(job.output).lines(lines)
            if number > len(found):
                say(f"and {number - len(found)} more")
        return DONE if number else PENDING

    return run(server, body)
