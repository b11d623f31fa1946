"""``coord fire``, ``pulse``, ``fail``, ``reset``, ``expire`` and ``count``: the commands that change events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coord.cli import _arguments as arguments
from coord.cli._acks import ACKS, Wanted
from coord.cli._calling import Report, move_end, remove_foreign, reset_prefix, send, send_for_acks
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION, TTL
from coord.cli._entries import Entry, Source, check_numbers, of_keys
from coord.cli._running import run
from coord.cli._values import parse_value, read_value, whole_number

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from coord import Applied, EventMap

__all__ = ["count", "expire", "fail", "fire", "pulse", "reset"]

R = TypeVar("R")

_NO_FROM = "--json-lines needs --from"


def _call_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options of every call; the function gets those to pass on as ``options``, and ``report``."""

    @click.option("--timeout", type=DURATION, help="How long to wait for the server's answer; 30s by default.")
    @click.option("--replicas", type=int, metavar="N", help="Wait until N replicas have the call.")
    @click.option("--within", type=DURATION, help="How long to wait for the replicas; 2s by default.")
    @click.option("--once", metavar="NAME", help="Apply it once under this name, even if repeated on other nodes.")
    @click.option("--exit-code", is_flag=True, help="Exit with 1 unless this call was the first.")
    @arguments.quiet
    @arguments.as_json
    @takes_server
    @wraps(function)
    def command(
        *args: Any,
        timeout: float | None,
        replicas: int | None,
        within: float | None,
        once: str | None,
        exit_code: bool,
        quiet: bool,
        as_json: bool,
        **rest: Any,
    ) -> R:
        given: dict[str, Any] = {"timeout": timeout, "replicas": replicas, "within": within, "once": once}
        if within is not None and replicas is None:
            raise click.UsageError("--within needs --replicas")
        options = {name: value for name, value in given.items() if value is not None}
        return function(*args, options=options, report=Report(as_json, quiet, exit_code), **rest)

    return command


def _acks(function: Callable[..., R]) -> Callable[..., R]:
    """Add ``--acks`` to a call with one KEY; the function gets what is wanted as ``acks``, ``None`` without."""

    @click.option("--acks", type=ACKS, metavar="WHO", help="Who has to acknowledge: N, members, or NAME,NAME.")
    @wraps(function)
    def command(*args: Any, acks: Any, entries: list[Entry], options: dict[str, Any], **rest: Any) -> R:
        wanted = None
        if acks is not None:
            if len(entries) != 1 or entries[0].where:
                raise click.UsageError("--acks needs KEY: --from has several")
            wanted, options = Wanted.of(acks, options)
        return function(*args, acks=wanted, entries=entries, options=options, **rest)

    return command


def _entries(name: str, *, required: bool = False) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add KEY, VALUE (called ``name``) and ``--from``; the function gets ``entries``."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @click.argument("key", metavar="KEY", required=False, shell_complete=arguments.complete_key)
        @click.argument("value", metavar=name if required else f"[{name}]", required=False)
        @click.option("--string", is_flag=True, help=f"Take {name} as a string, even if it is JSON.")
        @click.option("--json-value", is_flag=True, help=f"Refuse a {name} that is not JSON.")
        @click.option(
            "--from", "path", metavar="FILE", help=f"Make one call per line: KEY, or KEY, a tab and {name}; - is stdin."
        )
        @click.option("--json-lines", is_flag=True, help='With --from: each line is {"key": ..., "value": ...}.')
        @wraps(function)
        def command(
            *args: Any,
            key: str | None,
            value: str | None,
            string: bool,
            json_value: bool,
            path: str | None,
            json_lines: bool,
            **rest: Any,
        ) -> R:
            if string + json_value + json_lines > 1:
                raise click.UsageError("--string, --json-value and --json-lines exclude each other")
            if path is not None:
                if key is not None:
                    raise click.UsageError("KEY and --from exclude each other")
                parse = partial(parse_value, string=string, strict=json_value)
                entries = Source(path, json_lines, parse, default=None if required else True).read()
                return function(*args, entries=entries, **rest)
            if json_lines:
                raise click.UsageError(_NO_FROM)
            if key is None or (value is None and required):
                raise click.UsageError(f"Missing argument '{'KEY' if key is None else name}'.")
            entry = Entry("", key, read_value(value, string=string, strict=json_value))
            return function(*args, entries=[entry], **rest)

        return command

    return decorate


@click.command("fire", cls=Command, example="coord fire deploy ready v1.2")
@arguments.map_name
@_entries("VALUE")
@click.option("--ttl", type=TTL, help="End the event, as expired, so long after the last fire with --ttl.")
@_call_options
@_acks
def fire(
    server: Server,
    map_name: str,
    entries: list[Entry],
    ttl: float | None,
    acks: Wanted | None,
    options: Any,
    report: Report,
) -> int:
    """Fire KEY: current and later waiters get VALUE.

    Prints `first`, or `already` if KEY was fired or failed before: then nothing changes. VALUE is
    JSON, or a string if it does not parse as JSON; the default is true; - reads standard input.

    With --from, it fires all keys of FILE, and prints KEY<tab>first for each; if a line is invalid,
    it reports the line and sends nothing. The exit status is the highest of all calls.

    With --ttl, KEY ends by itself. To fire it again with --ttl makes its end later, never earlier;
    an event that was fired without --ttl does not end.

    With --acks, it then waits up to --timeout for handlers (`coord ack`). If one is missing, it
    names it on standard error, and exits with 124.
    """
    return _send(
        server,
        map_name,
        entries,
        options,
        # A call that is repeated under its name gets the first answer, and moves no end.
        report if "once" in options else report._replace(ttl=ttl),
        lambda events, entry: events.fire(entry.key, entry.value, ttl=ttl, **options),
        acks,
    )


@click.command("pulse", cls=Command, example="coord pulse config changed '{\"version\": 7}'")
@arguments.map_name
@_entries("VALUE")
@_call_options
@_acks
def pulse(
    server: Server, map_name: str, entries: list[Entry], acks: Wanted | None, options: Any, report: Report
) -> int:
    """Wake KEY's current waiters with VALUE; KEY is pending afterwards.

    VALUE is JSON, or a string if it does not parse as JSON; the default is true; - reads standard
    input. With --from, it pulses all keys of FILE, as fire does. With --acks, it waits as fire does.
    """
    return _send(
        server,
        map_name,
        entries,
        options,
        report,
        lambda events, entry: events.pulse(entry.key, entry.value, **options),
        acks,
    )


@click.command("fail", cls=Command, example='coord fail mount /mnt/abc "disk on fire"')
@arguments.map_name
@_entries("REASON", required=True)
@_call_options
def fail(server: Server, map_name: str, entries: list[Entry], options: Any, report: Report) -> int:
    """Fail KEY: current and later waiters fail with REASON.

    Prints `first`, or `already` if KEY was fired or failed before: then nothing changes. REASON is
    JSON, or a string if it does not parse as JSON; - reads standard input. With --from, it fails
    all keys of FILE, as fire does.
    """
    return _send(
        server,
        map_name,
        entries,
        options,
        report,
        lambda events, entry: events.fail(entry.key, entry.value, **options),
    )


def _one_name(options: dict[str, Any], calls: int = 2) -> None:
    if calls > 1 and "once" in options:
        raise click.UsageError("--once names one call, but there may be several")


def _send(
    server: Server,
    map_name: str,
    entries: Sequence[Entry],
    options: dict[str, Any],
    report: Report,
    make: Callable[[EventMap, Entry], Deferred[Applied]],
    acks: Wanted | None = None,
) -> int:
    """Make the calls, one for each entry."""
    _one_name(options, len(entries))
    if acks is not None:
        return run(server, lambda job: send_for_acks(job, map_name, entries[0], make, report, acks))
    return run(server, lambda job: send(job, map_name, entries, make, report))


@click.command("reset", cls=Command, example="coord reset mount /mnt/abc")
@arguments.map_name
@arguments.some_keys
@click.option(
    "--prefix", metavar="PREFIX", help="Instead of KEY: every fired or failed key or counter with this prefix."
)
@click.option("--all", "all_", is_flag=True, help="Instead of KEY: every fired or failed key or counter of MAP.")
@click.option("--from", "path", metavar="FILE", help="Instead of KEY: the keys in FILE, one per line; - is stdin.")
@click.option("--json-lines", is_flag=True, help='With --from: each line is {"key": ...}.')
@click.option("--foreign", is_flag=True, help="Instead of KEY: remove names that are not valid keys.")
@click.option("--revision", type=arguments.REVISION, help="Only if KEY still has this revision.")
@click.option("--evict", is_flag=True, help="End all holds of KEY, too.")
@_call_options
def reset(
    server: Server,
    map_name: str,
    keys: tuple[str, ...],
    prefix: str | None,
    all_: bool,
    path: str | None,
    json_lines: bool,
    foreign: bool,
    revision: Any,
    evict: bool,
    options: Any,
    report: Report,
) -> int:
    """Make KEY pending again: later waits are for the next fire. A counter is 0 again.

    Prints `first`, or `already` if KEY was pending (or, with --revision, now has another revision);
    with several keys, KEY<tab>first for each. --prefix and --all reset at once, without a prompt. A
    key that is held stays latched, unless you give --evict.

    With --foreign, it removes what other programs have put into MAP under names that are not valid
    keys (with control characters, not in UTF-8, too long), and prints these names, escaped.
    """
    _check_ways(keys=bool(keys), prefix=prefix, all_=all_, path=path, foreign=foreign)
    if json_lines and path is None:
        raise click.UsageError(_NO_FROM)
    if revision is not None and len(keys) != 1:
        raise click.UsageError("--revision needs exactly one KEY")
    if evict:
        if revision is not None:
            raise click.UsageError("--evict and --revision exclude each other")
        options = {**options, "evict": True}
    if foreign:
        if options or report.exit_code:
            raise click.UsageError("--foreign excludes the options of calls")
        return run(server, lambda job: remove_foreign(job, map_name, report))
    if prefix is not None or all_:
        _one_name(options)
        return run(server, lambda job: reset_prefix(job, map_name, prefix or "", options, report))
    entries = Source(path, json_lines, keys_only=True).read() if path is not None else of_keys(keys)
    return _send(
        server, map_name, entries, options, report, lambda events, it: events.reset(it.key, revision, **options)
    )


@click.command("expire", cls=Command, example="coord expire agents web1 30s")
@arguments.map_name
@arguments.key
@click.argument("ttl", metavar="TIME", type=TTL)
@_call_options
def expire(server: Server, map_name: str, key: str, ttl: float, options: Any, report: Report) -> int:
    """Move the end of an event that was fired with --ttl to TIME from now, sooner or later.

    Prints when it ends; or that KEY is pending, or has no TTL: then nothing changes. To end any
    event now, use `coord reset`.
    """
    report = report._replace(ttl=ttl)
    return run(server, lambda job: move_end(job, map_name, key, ttl, options, report))


def _numbers(function: Callable[..., R]) -> Callable[..., R]:
    """Add KEY, N and ``--from``; the function gets ``entries``."""

    @click.argument("key", metavar="KEY", required=False, shell_complete=arguments.complete_key)
    @click.argument("number", metavar="[N]", required=False)
    @click.option(
        "--from", "path", metavar="FILE", help="Make one call per line: KEY, or KEY, a tab and N; - is stdin."
    )
    @click.option("--json-lines", is_flag=True, help='With --from: each line is {"key": ..., "value": N}.')
    @wraps(function)
    def command(*args: Any, key: str | None, number: str | None, path: str | None, json_lines: bool, **rest: Any) -> R:
        if path is not None and key is not None:
            raise click.UsageError("KEY and --from exclude each other")
        if json_lines and path is None:
            raise click.UsageError(_NO_FROM)
        if path is not None:
            entries = Source(path, json_lines, whole_number, default=1).read()
        elif key is None:
            raise click.UsageError("Missing argument 'KEY'.")
        else:
            entries = [Entry("", key, 1 if number is None else whole_number(number))]
        check_numbers(entries)
        return function(*args, entries=entries, **rest)

    return command


@click.command("count", cls=Command, example="coord count build shards --goal 8 --who shard-3")
@arguments.map_name
@_numbers
@click.option("--goal", metavar="G", help="Fire KEY once the count is G or more, with the count as its value.")
@click.option("--who", metavar="NAME", help="Count NAME once, until KEY is reset.")
@_call_options
def count(
    server: Server,
    map_name: str,
    entries: list[Entry],
    goal: str | None,
    who: str | None,
    options: Any,
    report: Report,
) -> int:
    """Add N, 1 by default, to the counter of KEY, and print the count. It begins at 0.

    The count that reaches G fires KEY, and waiters get the count; then it counts on. The first G of
    a counter stands: another one is an error. `coord reset` ends a counter; until then its KEY is
    no event for fire, pulse, fail and expire.

    With --who, a NAME that has counted already changes nothing, and the present count is printed.
    With --from, it counts on all keys of FILE, as fire does.
    """
    more: dict[str, Any] = {"goal": None if goal is None else whole_number(goal), "who": who, **options}

    def make(events: EventMap, entry: Entry) -> Deferred[Any]:
        return events.count(entry.key, entry.value, **more)  # type: ignore[arg-type]

    return _send(server, map_name, entries, options, report, make)


def _check_ways(*, keys: bool, prefix: str | None, all_: bool, path: str | None, foreign: bool) -> None:
    """Raise unless exactly one option says what to reset."""
    ways = sum((keys, prefix is not None, all_, path is not None, foreign))
    if not ways:
        raise click.UsageError("Missing argument 'KEY...' (or --prefix, --all, --from, --foreign).")
    if ways > 1:
        raise click.UsageError("KEY, --prefix, --all, --from and --foreign exclude each other")
    if prefix == "":
        raise click.UsageError("an empty --prefix matches every key: use --all to reset them")
