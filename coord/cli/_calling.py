"""What fire, pulse, fail and reset have in common: one call, its outcome printed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coord.cli import _printing as printing
from coord.cli._connection import Server
from coord.cli._durations import DURATION
from coord.cli._running import Job, run

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from coord import Applied, EventMap

__all__ = ["call", "options", "string"]

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R")


def options(function: Callable[..., R]) -> Callable[..., R]:
    """Add what can be asked of any call; the function gets it as ``options``, to be passed on."""

    @click.option("--timeout", type=DURATION, help="How long the server may take to answer; 30s by default.")
    @click.option("--replicas", type=int, metavar="N", help="Count it as done once N replicas have it.")
    @click.option("--within", type=DURATION, help="How long the replicas may take; 2s by default.")
    @click.option("--once", metavar="NAME", help="Apply it once under this name, from wherever it is called.")
    @wraps(function)
    def command(
        *args: Any,
        timeout: float | None,
        replicas: int | None,
        within: float | None,
        once: str | None,
        **rest: Any,
    ) -> R:
        given: dict[str, Any] = {"timeout": timeout, "replicas": replicas, "within": within, "once": once}
        if within is not None and replicas is None:
            raise click.UsageError("--within is the time for --replicas, which is missing")
        return function(*args, options={name: value for name, value in given.items() if value is not None}, **rest)

    return command


def string(function: F) -> F:
    """Add ``--string``."""
    return click.option("--string", is_flag=True, help="Take it as a string, also where it is JSON.")(function)


def call(
    server: Server,
    map_name: str,
    key: str,
    operation: Callable[[EventMap], Deferred[Applied]],
    *,
    as_json: bool,
) -> int:
    """Make one call, and print ``first`` or ``already``."""

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        outcome = await job.first_answer(operation(events), patience=None)
        if as_json:
            await job.output.line(printing.record_json(map_name, key, outcome.record, first=outcome.first))
        else:
            await job.output.line("first" if outcome.first else "already")
        return 0

    return run(server, body)
