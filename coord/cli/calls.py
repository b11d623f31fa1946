"""``coord fire``, ``pulse``, ``fail`` and ``reset``: one call, its outcome printed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION
from coord.cli._exits import DONE
from coord.cli._running import Job, run
from coord.cli._values import read_value

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from coord import Applied, EventMap

__all__ = ["fail", "fire", "pulse", "reset"]

R = TypeVar("R")


def _call_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add what can be asked of any call; the function gets it as ``options``, to be passed on."""

    @click.option("--timeout", type=DURATION, help="How long the server may take to answer; 30s by default.")
    @click.option("--replicas", type=int, metavar="N", help="Count it as done once N replicas have it.")
    @click.option("--within", type=DURATION, help="How long the replicas may take; 2s by default.")
    @click.option("--once", metavar="NAME", help="Apply it once under this name, from wherever it is called.")
    @arguments.as_json
    @takes_server
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


def _value_argument(name: str, *, required: bool = False) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add VALUE and ``--string``; the function gets the value as ``value``."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @click.argument("value", metavar=name if required else f"[{name}]", required=required)
        @click.option("--string", is_flag=True, help="Take it as a string, also where it is JSON.")
        @wraps(function)
        def command(*args: Any, value: str | None, string: bool, **rest: Any) -> R:
            return function(*args, value=read_value(value, string=string), **rest)

        return command

    return decorate


@click.command("fire", cls=arguments.Command, example="coord fire deploy ready v1.2")
@arguments.map_name
@arguments.key
@_value_argument("VALUE")
@_call_options
def fire(server: Server, map_name: str, key: str, value: Any, options: Any, as_json: bool) -> int:
    """Fire KEY: its waiters get VALUE, and so does who comes later.

    Prints `first`, or `already` where KEY was fired or failed before: then nothing changes. VALUE
    is JSON, or a string where it does not parse as JSON; true by default; - reads it from standard
    input.
    """
    return _call(server, map_name, key, lambda events: events.fire(key, value, **options), as_json)


@click.command("pulse", cls=arguments.Command, example="coord pulse config changed '{\"version\": 7}'")
@arguments.map_name
@arguments.key
@_value_argument("VALUE")
@_call_options
def pulse(server: Server, map_name: str, key: str, value: Any, options: Any, as_json: bool) -> int:
    """Wake who waits for KEY now with VALUE. KEY stays pending, or becomes so.

    VALUE is JSON, or a string where it does not parse as JSON; true by default; - reads it from
    standard input.
    """
    return _call(server, map_name, key, lambda events: events.pulse(key, value, **options), as_json)


@click.command("fail", cls=arguments.Command, example='coord fail mount /mnt/abc "disk on fire"')
@arguments.map_name
@arguments.key
@_value_argument("REASON", required=True)
@_call_options
def fail(server: Server, map_name: str, key: str, value: Any, options: Any, as_json: bool) -> int:
    """Fail KEY: its waiters, now and later, fail with REASON.

    Prints `first`, or `already` where KEY was fired or failed before: then nothing changes. REASON
    is JSON, or a string where it does not parse as JSON; - reads it from standard input.
    """
    return _call(server, map_name, key, lambda events: events.fail(key, value, **options), as_json)


@click.command("reset", cls=arguments.Command, example="coord reset mount /mnt/abc")
@arguments.map_name
@click.argument("key", metavar="KEY", required=False)
@click.option("--revision", type=arguments.REVISION, help="Only if this is still the revision of KEY.")
@click.option("--foreign", is_flag=True, help="Without KEY: remove what can be no key, and print it.")
@_call_options
def reset(
    server: Server, map_name: str, key: str | None, revision: Any, foreign: bool, options: Any, as_json: bool
) -> int:
    """Make KEY pending again: later waits are for the next fire.

    Prints `first`, or `already` where KEY was pending (or, with --revision, is another's by now).

    With --foreign it removes what somebody else has put into MAP under names that can be no keys
    (with control characters, not in UTF-8, too long), and prints these names, escaped.
    """
    if foreign:
        if key is not None or revision is not None or options:
            raise click.UsageError("--foreign is for a whole map, without KEY and what goes with it")
        return run(server, lambda job: _remove_foreign(job, map_name, as_json))
    if key is None:
        raise click.UsageError("Missing argument 'KEY'.")
    return _call(server, map_name, key, lambda events: events.reset(key, revision, **options), as_json)


def _call(
    server: Server, map_name: str, key: str, operation: Callable[[EventMap], Deferred[Applied]], as_json: bool
) -> int:
    """Make one call, and print ``first`` or ``already``."""

    async def body(job: Job) -> int:
        events = job.coordinator.events(map_name)
        outcome = await job.first_answer(operation(events), patience=None)
        if as_json:
            await job.output.line(printing.record_json(map_name, key, outcome.record, first=outcome.first))
        else:
            await job.output.line("first" if outcome.first else "already")
        return DONE

    return run(server, body)


async def _remove_foreign(job: Job, map_name: str, as_json: bool) -> int:
    for name in await job.first_answer(job.coordinator.events(map_name).remove_foreign()):
        text = (
            printing.json_text({"map": map_name, "removed": name}) if as_json else printing.in_line(name) or repr(name)
        )
        await job.output.line(text)
    return DONE
