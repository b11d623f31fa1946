"""``coord wait``: print the value of events, waiting for them if need be; then become a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import click

from coord import errors
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._durations import DURATION, spell
from coord.cli._running import Job, run
from coord.cli._talk import Progress, say

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred, DeferredQueue
    from twisted.python.failure import Failure

    from coord import EventMap, Json, Record

__all__ = ["command"]

# How many keys a sentence names.
_NAMED = 5


@click.command(
    "wait",
    cls=arguments.RunningCommand,
    example="coord wait mount node1:/mnt/abc -- backup /mnt/abc",
)
@arguments.map_name
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--any", "any_", is_flag=True, help="The first of the keys is enough.")
@click.option("--timeout", type=DURATION, help="How long to wait, for the server too; 0 looks once.")
@arguments.as_json
@takes_server
def command(
    server: Server,
    map_name: str,
    keys: tuple[str, ...],
    any_: bool,
    timeout: float | None,
    as_json: bool,
    argv: tuple[str, ...] | None,
) -> int:
    """Print the value of KEY, waiting until it is fired.

    Several keys print KEY<tab>VALUE as they come. With -- CMD, coord then becomes CMD, with
    COORD_KEY and COORD_VALUE (JSON) in its environment; after several keys these are the keys, one
    a line, and an object of all values. CMD is never run on failure or time-out.
    """
    wait = _Wait(map_name, tuple(dict.fromkeys(keys)), any_, timeout, as_json)
    found: dict[str, Json] = {}
    status = run(server, lambda job: wait.run(job, found))
    if argv is not None:
        from coord.cli._children import become

        become(argv, _variables(found, several=len(wait.keys) > 1 and not any_))
    return status


def _variables(found: dict[str, Json], *, several: bool) -> dict[str, str]:
    value = found if several else next(iter(found.values()))
    return {"COORD_KEY": "\n".join(found), "COORD_VALUE": printing.json_text(value)}


@dataclass(frozen=True, slots=True)
class _Wait:
    map_name: str
    keys: tuple[str, ...]
    any: bool
    timeout: float | None
    as_json: bool

    async def run(self, job: Job, found: dict[str, Json]) -> int:
        """Print what comes and put it into ``found``, key by key."""
        events = job.coordinator.events(self.map_name)
        if self.timeout == 0:
            await self._look(job, events, found)
        else:
            with job.patient():
                await self._wait(job, events, found)
        return 0

    async def _wait(self, job: Job, events: EventMap, found: dict[str, Json]) -> None:
        from twisted.internet.defer import DeferredQueue

        arrived: DeferredQueue[tuple[str, Json | Failure]] = DeferredQueue()
        waits: list[Deferred[Json]] = []
        bar = Progress(0 if self.any else len(self.keys))
        try:
            for key in self.keys:
                waits.append(events.wait(key, timeout=self.timeout))
                waits[-1].addBoth(_put, arrived, key)
            events.settled().addCallbacks(lambda _: self._say_armed(waits), lambda _: None)
            bar.show()
            while len(found) < self._needed():
                key, result = await arrived.get()
                bar.clear()
                found[key] = self._value(result, found)
                await self._print(job, events, key, found[key])
                bar.advance()
        finally:
            bar.clear()
            for wait in waits:
                wait.cancel()

    def _needed(self) -> int:
        return 1 if self.any else len(self.keys)

    def _say_armed(self, waits: Sequence[Deferred[Json]]) -> None:
        pending = [key for key, wait in zip(self.keys, waits, strict=True) if not wait.called]
        if pending:
            say(f"armed: waiting for {_some(pending)} of map {self.map_name}")

    def _value(self, result: Json | Failure, found: dict[str, Json]) -> Json:
        """Return what came; raise what came instead."""
        from twisted.python.failure import Failure

        if not isinstance(result, Failure):
            return result
        if isinstance(result.value, errors.TimedOut) and self.timeout is not None:
            missing = [key for key in self.keys if key not in found]
            raise errors.TimedOut(f"timed out after {spell(self.timeout)}, waiting for {_some(missing)}")
        raise cast("Exception", result.value)

    async def _look(self, job: Job, events: EventMap, found: dict[str, Json]) -> None:
        await job.reach()
        for key in self.keys:
            record = await job.answer(events.record(key))
            if record is None or not record.latched:
                continue
            if record.kind == "failed":
                raise errors.EventFailed(key, record.value)
            found[key] = record.value
            await job.output.line(self._line(key, record.value, record))
            if self.any:
                return
        if len(found) < self._needed():
            raise errors.TimedOut(f"pending: {_some([key for key in self.keys if key not in found])}")

    async def _print(self, job: Job, events: EventMap, key: str, value: Json) -> None:
        record = await events.record(key) if self.as_json else None
        # What woke us may have been reset, or pulsed again, since: then its value is all that is left of it.
        same = record is not None and record.kind != "reset" and record.value == value
        await job.output.line(self._line(key, value, record if same else None))

    def _line(self, key: str, value: Json, record: Record | None) -> str:
        if self.as_json:
            return printing.record_json(self.map_name, key, record, value=value)
        return printing.value_text(value) if len(self.keys) == 1 else f"{key}\t{printing.in_line(value)}"


def _put(result: Json | Failure, arrived: DeferredQueue[tuple[str, Json | Failure]], key: str) -> None:
    arrived.put((key, result))


def _some(keys: Sequence[str]) -> str:
    """Name a few of ``keys``, and say how many more there are."""
    shown = ", ".join(keys[:_NAMED])
    return shown if len(keys) <= _NAMED else f"{shown} and {len(keys) - _NAMED} more"
