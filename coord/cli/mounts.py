"""``coord mounts``: the mount agent of this host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import coord
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._durations import spell
from coord.cli._job import Job
from coord.cli._metrics import metrics_option
from coord.cli._running import run
from coord.cli._talk import say
from coord.cli.hold import lease_options

if TYPE_CHECKING:
    from coord.mounts import MountAgent, Selection

__all__ = ["command"]

_OWN_TABLE = Path("/proc/self/mountinfo")
# Seconds to withdraw everything: supervisors kill after ten.
_WITHDRAW_TIMEOUT = 5.0


@click.command("mounts", cls=Command, example="coord mounts --only '/mnt/*' --on-stop reset")
@click.option("--map", "map_name", metavar="MAP", default="mount", show_default=True, help="The map to announce in.")
@click.option(
    "--only",
    metavar="GLOB",
    multiple=True,
    help="Announce only matching mount points, even of kernel file systems; may be repeated.",
)
@click.option("--except", "exclude", metavar="GLOB", multiple=True, help="Skip matching mount points.")
@click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    help="Announce only file systems of this type, such as nfs4, ext4,xfs or 'fuse.*'; may be repeated.",
)
@click.option("--except-type", "exclude_types", metavar="TYPE", multiple=True, help="Skip this type.")
@click.option(
    "--mountinfo",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=_OWN_TABLE,
    show_default=True,
    help="The mount table to follow, such as /proc/1/mountinfo. When that process ends, its mounts are "
    "withdrawn, and the agent ends with status 69.",
)
@click.option(
    "--on-stop",
    type=click.Choice(["keep", "reset"]),
    default="keep",
    show_default=True,
    help="At its end, keep the announcements until their lease is over, for the next start, or withdraw them.",
)
@lease_options
@metrics_option
@takes_server
def command(
    server: Server,
    /,
    map_name: str,
    mountinfo: Path,
    on_stop: str,
    lease: float | None,
    grace: float | None,
    **patterns: tuple[str, ...],
) -> int:
    """Announce the mounts of this host, as they come and go.

    For each mount the agent holds two keys of MAP: the mount point (latched while it is mounted
    somewhere in the cluster) and NODE:MOUNTPOINT (while it is mounted on that node). The value is an
    object with node, source, target, fstype and options. Unmounting withdraws both; if the host dies,
    they expire when their lease is over. Kernel file systems (proc, sysfs, ...) are announced only if
    --only or --type selects them, automount points (autofs) only if --type does.

    The node's name must be unique to this host and stay the same after a restart. Ctrl-C and SIGTERM
    end the agent with status 130 and 143 (for systemd: SuccessExitStatus=130 143).
    """

    async def body(job: Job) -> int:
        from twisted.internet.defer import CancelledError

        from coord.mounts import MountAgent

        node = job.coordinator.node
        if server.node is None:
            _check_host_name(node)
        events = job.coordinator.events(map_name)
        selection = _selection(**patterns)
        agent = MountAgent(events, node, mountinfo=mountinfo, selection=selection, reactor=job.reactor)
        if mountinfo == _OWN_TABLE:
            _check_patterns("--only", patterns["only"], node)
            _check_patterns("--except", patterns["exclude"], node)
        with job.patient(), _log_on_stderr():
            try:
                await _start(agent, mountinfo)
                # With nothing mounted, the agent needs no server.
                await job.coordinator.connected()
                _say_started(agent, node, map_name, mountinfo)
                job.supervisor.ready(f"announcing the mounts of {node} in map {map_name}")
                await _ended(agent, mountinfo)
            except CancelledError:
                if on_stop == "reset":
                    await _withdraw(job, agent)
                else:
                    agent.stop()
                raise
        return 0

    return run(server._replace(lease=lease, grace=grace), body, withdraw=lambda: on_stop == "reset")


def _check_host_name(node: str) -> None:
    import socket

    from coord.mounts.names import doubt

    if doubts := doubt(socket.gethostname(), node):
        say(f"warning: {doubts}; choose a name with --node or COORD_NODE")


def _check_patterns(option: str, patterns: tuple[str, ...], node: str) -> None:
    """Warn of patterns that match nothing because their folder is a symbolic link."""
    import re

    from coord.mounts.paths import announced_as

    for pattern in patterns:
        literal = re.split(r"[*?[]", pattern, maxsplit=1)[0]
        folder = literal if literal == pattern else literal.rpartition("/")[0]
        for given, announced in announced_as([folder], node).items():
            say(f"warning: {option} {pattern!r} matches nothing: {given} leads through a link to {announced}")


def _selection(
    only: tuple[str, ...], exclude: tuple[str, ...], types: tuple[str, ...], exclude_types: tuple[str, ...]
) -> Selection:
    from coord.mounts import Selection

    return Selection(only, exclude=exclude, types=_split(types), exclude_types=_split(exclude_types))


def _split(types: tuple[str, ...]) -> list[str]:
    """Split at commas, as mount(8) does; no type name contains one."""
    return [each.strip() for word in types for each in word.split(",")]


async def _start(agent: MountAgent, mountinfo: Path) -> None:
    """Start the agent; raise `InvalidInput` if the file is not a readable mount table."""
    try:
        await agent.start()
    except coord.Error:  # Some of coord's errors are OSErrors and ValueErrors too.
        raise
    except OSError as error:
        raise coord.InvalidInput(f"cannot read the mount table {mountinfo}: {error.strerror or error}") from None
    except ValueError as error:
        raise coord.InvalidInput(str(error)) from None


def _say_started(agent: MountAgent, node: str, map_name: str, mountinfo: Path) -> None:
    say(f"armed: announcing the mounts of {node} in map {map_name}")
    if not agent.live:
        say(f"warning: {mountinfo} is a regular file: the kernel reports no changes, it is read every 10s")


async def _ended(agent: MountAgent, mountinfo: Path) -> None:
    """Wait for the agent's end; cancelling this does not cancel the agent's own Deferred."""
    from twisted.internet.defer import Deferred

    over: Deferred[None] = Deferred()
    agent.ended.addBoth(lambda result: None if over.called else over.callback(result))
    try:
        await over
    except ProcessLookupError:
        raise coord.Error(f"the process of {mountinfo} has ended: its mounts are withdrawn") from None


async def _withdraw(job: Job, agent: MountAgent) -> None:
    from twisted.internet import defer

    try:
        await agent.stop(reset=True).addTimeout(_WITHDRAW_TIMEOUT, job.reactor)
    except defer.TimeoutError:
        say(f"the announcements remain until their lease ends: no answer within {spell(_WITHDRAW_TIMEOUT)}")
    except coord.Error as error:
        say(f"the announcements remain until their lease ends: {error}")


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Log what the agent does to stderr; its warnings go there anyway."""
    from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
    from zope.interface import provider

    @provider(ILogObserver)  # type: ignore[untyped-decorator]
    def observer(event: LogEvent) -> None:
        namespace: Any = event.get("log_namespace") or ""
        if namespace.startswith("coord.mounts") and event.get("log_level") is LogLevel.info:
            say(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)
