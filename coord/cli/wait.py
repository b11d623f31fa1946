"""``coord wait``: wait for events, their ends, or counts, and print what came; then become a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import RunningCommand
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION, spell
from coord.cli._exits import DONE
from coord.cli._job import Job
from coord.cli._looking import looking
from coord.cli._running import run
from coord.cli._table import on_terminal
from coord.cli._talk import Progress, say
from coord.cli._values import whole_number
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred, DeferredQueue

    from coord import EventMap, Holder, Json, Record

__all__ = ["command", "wait_for"]

# How many keys, or holders, a message names.
_NAMED = 5
# Seconds until a terminal shows how a wait stands.
_PATIENCE = 3.0


@click.command(
    "wait",
    cls=RunningCommand,
    example="coord wait mount node1:/mnt/abc -- backup /mnt/abc",
)
@arguments.map_name
@arguments.keys
@click.option("--any", "any_", is_flag=True, help="Wait for the first of the keys.")
@click.option("--gone", is_flag=True, help="Wait until the event of KEY has ended.")
@click.option("--at-least", "least", metavar="N", help="Wait until the count of KEY is N or more.")
@click.option(
    "--timeout", type=DURATION, help="How long to wait, for the server too; no limit by default; 0 only looks."
)
@arguments.quiet
@arguments.as_json
@takes_server
def command(
    server: Server,
    map_name: str,
    keys: tuple[str, ...],
    any_: bool,
    gone: bool,
    least: str | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
    argv: tuple[str, ...] | None,
) -> int:
    """Print the value of KEY, waiting until it is fired.

    With several keys, prints KEY<tab>VALUE for each as it fires. With -- CMD, coord then becomes
    CMD, with COORD_KEY, COORD_VALUE (JSON) and COORD_TEXT (without the quotes of a string) in its
    environment; with several keys, these hold the keys, one per line, and an object of all values.
    CMD never runs after a failure or a time-out.

    With --gone, waits until KEY is pending, and prints what ended its event: kind (expired, reset,
    pulsed), time and node; with several keys, after KEY. If KEY was not latched, it says so, and
    prints the last change of KEY. CMD gets COORD_KEY and COORD_KIND.

    With --at-least, waits until the count of KEY (see `coord count`) is N or more, and prints the
    count.
    """
    if gone and least is not None:
        raise click.UsageError("--gone and --at-least exclude each other")
    wait = (_Gone if gone else _Wait)(map_name, keys, any_, timeout, quiet, as_json)
    if least is not None:
        wait = _Reached(map_name, keys, any_, timeout, quiet, as_json, least=_count(least))
    status = run(server, wait.run)
    if argv is not None:
        from coord.cli._children import become

        become(argv, wait.variables())
    return status


def wait_for(server: Server, map_name: str, key: str) -> int:
    """Wait for one event, and print nothing."""
    return run(server, _Wait(map_name, (key,), any=False, timeout=None, quiet=True, as_json=False).run)


@dataclass(slots=True)
class _Wait:
    map_name: str
    keys: tuple[str, ...]
    any: bool
    timeout: float | None
    quiet: bool
    as_json: bool
    found: dict[str, Any] = field(default_factory=dict)

    async def run(self, job: Job) -> int:
        """Print the values; raise if an event fails or the wait times out."""
        events = job.coordinator.events(self.map_name)
        if self.timeout == 0:
            await self._look(job, events)
        else:
            with job.patient():
                await self._wait(job, events)
        return DONE

    def variables(self) -> dict[str, str | None]:
        """Return what CMD gets in its environment."""
        several = len(self.keys) > 1 and not self.any
        found = {key: self.found[key] for key in self.keys if key in self.found}
        value = found if several else next(iter(found.values()))
        return {"COORD_KEY": "\n".join(found), **printing.variables_of(value)}

    @property
    def _missing(self) -> list[str]:
        return [key for key in self.keys if key not in self.found]

    @property
    def _done(self) -> bool:
        return not self._missing or (self.any and bool(self.found))

    # Waiting.

    def _ask(self, events: EventMap, key: str) -> Deferred[Any]:
        """Begin to wait for a key."""
        return events.wait(key, timeout=self.timeout)

    def _goal(self, keys: Sequence[str]) -> str:
        """Return what we wait for, for messages."""
        return _some(keys)

    async def _wait(self, job: Job, events: EventMap) -> None:
        from twisted.internet.defer import DeferredQueue

        arrived: DeferredQueue[tuple[str, Any]] = DeferredQueue()
        waits: list[Deferred[Any]] = []
        try:
            for key in self.keys:
                waits.append(self._ask(events, key))
                waits[-1].addBoth(_put, arrived, key)
            events.armed().addCallbacks(lambda _: self._armed(job, waits), lambda _: None)
            with Progress(0 if self.any or self.quiet else len(self.keys)) as bar, self._telling(job, events, bar):
                while not self._done:
                    key, result = await arrived.get()
                    bar.clear()
                    await self._take(job, events, key, result)
                    bar.advance()
        finally:
            for wait in waits:
                wait.cancel()

    @contextmanager
    def _telling(self, job: Job, events: EventMap, bar: Progress) -> Iterator[None]:
        """Show in a terminal, after a while, how a wait for one key stands."""
        if len(self.keys) > 1 or self.quiet or not bar.takes_notes:
            yield
            return
        (key,) = self.keys
        begun = job.reactor.seconds()

        async def ask() -> str:
            seconds = round(job.reactor.seconds() - begun)
            return f"waiting for {spell(seconds)}: {quoted(key)} {await self._how_it_stands(job, events, key)}"

        with looking(job, ask, bar.note, after=_PATIENCE):
            yield

    async def _how_it_stands(self, job: Job, events: EventMap, key: str) -> str:
        """Return who holds a key, and how many wait for it."""
        others = (await job.subscribers(events, [key])).get(key, 1) - 1
        number, found = await events.holders(key, _NAMED)
        held = f"is held by {_holders(number, found)}, not by enough; " if number else ""
        if others < 1:
            return f"{held}has no other node that waits"
        return f"{held}is awaited by {others} other node{'s' * (others > 1)}"

    def _armed(self, job: Job, waits: Sequence[Deferred[Any]]) -> None:
        # In a later turn: a wait that was cancelled, or has just timed out, counts as armed before it is resolved.
        job.reactor.callLater(0, self._say_armed, waits, job)

    def _say_armed(self, waits: Sequence[Deferred[Any]], job: Job) -> None:
        pending = [key for key, wait in zip(self.keys, waits, strict=True) if not wait.called]
        if not pending:
            return
        words = f"waiting for {self._goal(pending)} of map {self.map_name}"
        # Not "ready": that is for the command which this process becomes.
        job.supervisor.doing(words)
        if not self.quiet:
            say(f"armed: {words}")
            self._hint_armed(pending, job.coordinator.node)

    def _hint_armed(self, keys: Sequence[str], node: str) -> None:
        _hint(keys, node)

    async def _take(self, job: Job, events: EventMap, key: str, result: Any) -> None:
        """Print the result for a key."""
        from twisted.python.failure import Failure

        if not isinstance(result, Failure):
            await self._arrived(job, events, key, result)
            return
        error = cast("Exception", result.value)
        if isinstance(error, coord.TimedOut) and self.timeout is not None:
            goal = self._goal(self._missing)
            error = coord.TimedOut(f"timed out after {spell(self.timeout)}, waiting for {goal}")
        elif isinstance(error, coord.EventFailed) and self.as_json and not self.quiet:
            record = await self._record(events, key, error.reason)
            await job.output.line(printing.record_json(self.map_name, key, record))
        raise error

    async def _arrived(self, job: Job, events: EventMap, key: str, result: Any) -> None:
        """Print the value of a key."""
        record = await self._record(events, key, result) if self.as_json else None
        await self._found(job, key, result, record)

    async def _record(self, events: EventMap, key: str, value: object) -> Record | None:
        """Return the record that woke us; `None` if it was reset or replaced since."""
        try:
            record = await events.record(key)
        except coord.Error:
            # We have the value anyway.
            return None
        same = record is not None and record.kind not in printing.WITHOUT_VALUE and record.value == value
        return record if same else None

    async def _found(self, job: Job, key: str, value: Json, record: Record | None) -> None:
        self.found[key] = value
        if self.quiet:
            return
        if self.as_json:
            await job.output.line(printing.record_json(self.map_name, key, record, value=value))
        elif len(self.keys) > 1:
            await job.output.line(f"{printing.in_line(key)}\t{printing.in_line(value)}")
        elif isinstance(value, str):
            await job.output.value(value)
        else:
            await job.output.line(printing.json_text(value))

    # Looking.

    async def _look(self, job: Job, events: EventMap) -> None:
        questions: list[Deferred[Record | None]] = []
        try:
            questions.extend(events.record(key) for key in self.keys)
            answers = await job.first_answer(_all(questions))
        except BaseException:
            # One key is invalid; requests for others were sent already.
            _all(questions).cancel()
            raise
        for key, (good, answer) in zip(self.keys, answers, strict=True):
            if not good:
                raise cast("Exception", answer.value)
            await self._see(job, key, answer)
            if self._done:
                return
        self._give_up(job.coordinator.node)

    def _give_up(self, node: str) -> NoReturn:
        if not self.quiet:
            _hint(self._missing, node)
        raise coord.TimedOut(f"pending: {_some(self._missing)}")

    async def _see(self, job: Job, key: str, answer: Record | None) -> None:
        """Print the record of a key, if it is latched."""
        if answer is None or not answer.latched:
            return
        if answer.kind != "failed":
            await self._found(job, key, answer.value, answer)
            return
        if self.as_json and not self.quiet:
            await job.output.line(printing.record_json(self.map_name, key, answer))
        raise coord.EventFailed(key, answer.value)


@dataclass(slots=True)
class _Gone(_Wait):
    """A wait for the ends of events. ``found`` has their records after that."""

    is_armed: bool = False
    # The keys that were pending when they were looked at first.
    pending: set[str] = field(default_factory=set)

    def variables(self) -> dict[str, str | None]:
        found = {key: self.found[key] for key in self.keys if key in self.found}
        kinds = [printing.end_fields(key, record)[1] for key, record in found.items()]
        return {
            "COORD_KEY": "\n".join(found),
            "COORD_KIND": "\n".join(kinds),
            **dict.fromkeys(("COORD_VALUE", "COORD_TEXT")),
        }

    def _ask(self, events: EventMap, key: str) -> Deferred[Any]:
        return events.gone(key, timeout=self.timeout).addCallback(self._note, key)

    def _note(self, record: Record | None, key: str) -> Record | None:
        """Note that a key was pending already, if so: its wait is called back before it counts as armed."""
        if not self.is_armed:
            self.pending.add(key)
        return record

    def _goal(self, keys: Sequence[str]) -> str:
        return f"the end of {_some(keys)}"

    def _armed(self, job: Job, waits: Sequence[Deferred[Any]]) -> None:
        self.is_armed = True
        # Without `super()`, which does not work in a dataclass with slots before Python 3.14.
        _Wait._armed(self, job, waits)

    async def _how_it_stands(self, job: Job, events: EventMap, key: str) -> str:  # noqa: ARG002
        number, found = await events.holders(key, _NAMED)
        if number:
            return f"is held by {_holders(number, found)}"
        record = await events.record(key)
        return "was fired anew" if record is None else f"was {record.kind} by {record.node}"

    def _hint_armed(self, keys: Sequence[str], node: str) -> None:
        """Give no hint: these keys are latched, so they are spelt well."""

    async def _arrived(self, job: Job, events: EventMap, key: str, result: Any) -> None:  # noqa: ARG002
        """Print what ended the event of a key."""
        record: Record | None = result
        self.found[key] = record
        if self.quiet:
            return
        if key in self.pending:
            say(f"{quoted(key)} was not latched")
            _hint([key], job.coordinator.node)
        elif record is not None and record.latched:
            say(f"{quoted(key)} ended while this node was disconnected, and was fired or failed anew")
        if self.as_json:
            await job.output.line(printing.record_json(self.map_name, key, record))
        else:
            fields = printing.end_fields(key, record, short=on_terminal())
            await job.output.line("\t".join(fields if len(self.keys) > 1 else fields[1:]))

    def _give_up(self, node: str) -> NoReturn:  # noqa: ARG002
        raise coord.TimedOut(f"latched: {_some(self._missing)}")

    async def _see(self, job: Job, key: str, answer: Record | None) -> None:
        """Print the record of a key, if it is pending."""
        if answer is None or not answer.latched:
            self.pending.add(key)
            await self._arrived(job, job.coordinator.events(self.map_name), key, answer)


@dataclass(slots=True)
class _Reached(_Wait):
    """A wait for counts."""

    least: int = 1

    def _ask(self, events: EventMap, key: str) -> Deferred[Any]:
        return events.reaches(key, self.least, timeout=self.timeout)

    def _goal(self, keys: Sequence[str]) -> str:
        return f"a count of {self.least} of {_some(keys)}"

    async def _arrived(self, job: Job, events: EventMap, key: str, result: Any) -> None:  # noqa: ARG002
        """Print the count of a key."""
        await self._found(job, key, result.value, result)

    async def _how_it_stands(self, job: Job, events: EventMap, key: str) -> str:  # noqa: ARG002
        record = await events.record(key)
        return f"has the count {0 if record is None else record.count or 0}"

    def _give_up(self, node: str) -> NoReturn:  # noqa: ARG002
        raise coord.TimedOut(f"below {self.least}: {_some(self._missing)}")

    async def _see(self, job: Job, key: str, answer: Record | None) -> None:
        """Print the count of a key, if it is high enough."""
        if answer is not None and answer.count is not None and answer.count >= self.least:
            await self._found(job, key, answer.count, answer)


def _count(text: str) -> int:
    from coord.session.settings import MOST_GOAL, check_whole

    return check_whole("--at-least", whole_number(text), MOST_GOAL)


def _holders(number: int, found: Sequence[Holder]) -> str:
    """Return the names of holders, and how many more there are."""
    names = ", ".join(each.node for each in found)
    return names if number <= len(found) else f"{names} and {number - len(found)} more"


def _put(result: Any, arrived: DeferredQueue[tuple[str, Any]], key: str) -> None:
    arrived.put((key, result))


def _all(questions: Sequence[Deferred[Record | None]]) -> Deferred[Any]:
    from twisted.internet.defer import DeferredList

    return DeferredList(questions, consumeErrors=True)


def _hint(keys: Sequence[str], node: str) -> None:
    """Hint at the keys of mount points that the mount agent announces with their links resolved."""
    paths = [key for key in keys if key.startswith("/") or ":/" in key]
    if paths:
        from coord.mounts.paths import announced_as

        for key, announced in list(announced_as(paths, node).items())[:_NAMED]:
            say(f"hint: the mount agent announces {quoted(key)} as {quoted(announced)}")


def _some(keys: Sequence[str]) -> str:
    """Return the first of ``keys``, and how many more there are."""
    shown = ", ".join(map(quoted, keys[:_NAMED]))
    return shown if len(keys) <= _NAMED else f"{shown} and {len(keys) - _NAMED} more"
