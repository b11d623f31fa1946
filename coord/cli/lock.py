"""``coord lock`` and ``elect``: commands of which one runs at a time in the whole cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli._command import RunningCommand
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION, spell
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._queueing import queueing
from coord.cli._running import run
from coord.cli._talk import say
from coord.cli._values import read_value
from coord.cli.hold import lease_options
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from coord import EventMap, Lock
    from coord.cli._guarded_commands import Commands

__all__ = ["elect", "lock"]

_LEASE: Final = 20.0
_GRACE: Final = 10.0
_KILL_AFTER: Final = 5.0


def _options(function: Any) -> Any:
    """Add the options of both commands."""
    function = click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")(function)
    words = "Time from SIGTERM to SIGKILL for CMD; 5s, or a quarter of --lease or half of --grace if that is less."
    function = click.option("--kill-after", type=DURATION, help=words)(function)
    function = lease_options(function)
    function = metrics_option(function)
    return click.option("--string", is_flag=True, help="Take VALUE as a string, even if it is JSON.")(function)


@click.command("lock", cls=RunningCommand, example="coord lock jobs nightly --timeout 0 -- ./nightly")
@arguments.map_name
@arguments.key
@click.argument("value", metavar="[VALUE]", required=False)
@click.option("--timeout", type=DURATION, help="Exit with 124 if the lock is not granted by then; 0 tries once.")
@click.option("--conflict-exit-code", type=click.IntRange(0, 255), metavar="N", help="Exit with N instead of 124.")
@click.option("--slots", type=int, metavar="N", help="Let up to N run at a time: locks KEY/0 to KEY/N-1.")
@_options
@takes_server
def lock(server: Server, /, map_name: str, key: str, argv: tuple[str, ...] | None, **options: Any) -> int:
    """Wait for the lock KEY, and run CMD: at most one at a time in the whole cluster.

    Locks are granted in the order in which they were asked for. CMD gets COORD_KEY, COORD_TOKEN, a
    text that is higher than those of all earlier owners, and with --slots COORD_SLOT. While CMD runs,
    KEY is latched with VALUE: JSON, or a string if it does not parse as JSON; true by default. coord
    exits with CMD's status.

    If coord cannot renew its lease in time, the lock is lost: CMD gets SIGTERM, then SIGKILL before
    anybody else can own the lock, and coord exits with 5. A guard process does that even if coord is
    stopped or killed. On Linux it ends all that CMD has started, also when CMD ends by itself.
    """
    return _run(server, "lock", map_name, key, argv, options)


@click.command("elect", cls=RunningCommand, example="coord elect jobs scheduler '\"10.0.0.7:80\"' -- ./schedule")
@arguments.map_name
@arguments.key
@click.argument("value", metavar="[VALUE]", required=False)
@_options
@takes_server
def elect(server: Server, /, map_name: str, key: str, argv: tuple[str, ...] | None, **options: Any) -> int:
    """Stand for election as KEY, run CMD while leading, and stand again after a loss.

    One at a time leads. While it does, KEY is latched with its VALUE, so that `coord wait` and `coord
    get` tell who leads. If the leader dies or is cut off, or its CMD ends, the next one leads. It is as
    `coord lock`, except that coord does not exit when it has lost KEY. It exits with CMD's status.
    """
    return _run(server, "elect", map_name, key, argv, options)


def _run(
    server: Server, name: str, map_name: str, key: str, argv: tuple[str, ...] | None, options: dict[str, Any]
) -> int:
    if argv is None:
        raise click.UsageError(f"Missing command: coord {name} MAP KEY [VALUE] -- CMD [ARG]...")
    owner = _Owner(
        map_name,
        key,
        read_value(options["value"], string=options["string"], strict=False),
        argv,
        _kill_after(options["kill_after"], options["lease"], options["grace"]),
        quiet=options["quiet"],
        stands=name == "elect",
        slots=options.get("slots"),
        timeout=options.get("timeout"),
        conflict_status=options.get("conflict_exit_code"),
    )
    server = server._replace(lease=options["lease"], grace=options["grace"])
    return run(server, owner.run, withdraw=lambda: not owner.left)


def _kill_after(given: float | None, lease: float | None, grace: float | None) -> float:
    """Return how long before the end of a lease that is not renewed CMD gets SIGTERM."""
    lease, grace = _LEASE if lease is None else lease, _GRACE if grace is None else grace
    # A renewal that fails once, as when a link breaks, must not end CMD; and a lock that was evicted is released when
    # the grace time is over.
    most = min(lease / 3, grace / 2)
    if given is None:
        return min(_KILL_AFTER, lease / 4, most)
    if given > most:
        words = f"a third of --lease and half of --grace, here {spell(round(most, 3))}"
        raise click.UsageError(f"--kill-after is at most {words}.")
    return given


@dataclass
class _Owner:
    map_name: str
    key: str
    value: object
    argv: tuple[str, ...]
    kill_after: float
    quiet: bool
    # Whether it asks again after a loss.
    stands: bool
    slots: int | None
    timeout: float | None
    conflict_status: int | None
    # Whether processes of CMD could not be ended: then the lock is left to its lease.
    left: bool = False

    async def run(self, job: Job) -> int:
        """Run CMD under the lock; return its exit code."""
        events = job.coordinator.events(self.map_name)
        with job.patient():
            while True:
                try:
                    return await self._once(job, events)
                except coord.HoldLost as error:
                    if not self.stands or self.left:
                        raise
                    say(f"{error}; standing for election again")
                except coord.TimedOut as error:
                    if self.conflict_status is None:
                        raise
                    say(str(error))
                    return self.conflict_status

    async def _once(self, job: Job, events: EventMap) -> int:
        from coord.cli._guarded_commands import Commands

        with Commands(job.reactor, self.argv, self.kill_after, exclusive=True) as commands:
            lock = await self._granted(job, events)
            try:
                return await self._run_command(lock, commands)
            finally:
                self.left = commands.left
                if self.left:
                    say(f"processes of {quoted(self.argv[0])} could not be ended: the lock ends with its lease")
                elif self.stands:
                    # It may be out of reach; the answer to the next request comes after this one's.
                    lock.release().addErrback(lambda failure: failure.trap(coord.Error))

    async def _granted(self, job: Job, events: EventMap) -> Lock:
        if self.timeout is not None:
            from coord.core.names import check_key
            from coord.core.values import encode

            # The time to connect does not count. Refuse bad input before that.
            check_key(self.key)
            encode(self.value)
            await job.reach()
        if self.slots is None:
            answer = events.lock(self.key, self.value, timeout=self.timeout)
        else:
            answer = events.semaphore(self.key, self.slots, self.value, timeout=self.timeout)
        if self.stands:
            # Who does not lead has started, too.
            standing = f"standing for election as {quoted(self.key)} of map {self.map_name}"
            job.coordinator.connected().addCallbacks(lambda _: job.supervisor.ready(standing), lambda _: None)
        with queueing(job, events, self.key, self.slots, quiet=self.quiet):
            lock = await answer
        words = f"{'leading' if self.stands else 'locked'} {quoted(lock.key)} of map {self.map_name}"
        job.supervisor.ready(words)
        if not self.quiet:
            say(words)
        return lock

    async def _run_command(self, lock: Lock, commands: Commands) -> int:
        from twisted.internet.defer import CancelledError, Deferred

        variables: dict[str, str | None] = {"COORD_KEY": lock.key, "COORD_TOKEN": lock.token}
        if self.slots is not None:
            variables["COORD_SLOT"] = lock.key.rpartition("/")[2]
        why: list[BaseException] = []

        def lost(error: BaseException | None) -> None:
            if not why and error is not None:
                why.append(error)
                running.cancel()

        def on_failure(failure: Failure) -> None:
            lost(failure.value)

        def due() -> None:
            lost(coord.HoldLost(f"{lock.key}: the lock could not be renewed in time, so CMD was ended"))

        running = Deferred.fromCoroutine(commands.run(variables, deadline=lock.deadline, on_due=due))
        lock.on_renewed(commands.extend)
        lock.lost().addErrback(on_failure)
        try:
            return await running
        except CancelledError:
            if why:
                raise why[0] from None
            raise
