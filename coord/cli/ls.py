"""``coord ls``: the maps of the namespace, or the current records of a map."""

from __future__ import annotations

from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import CORRUPT, DONE, PENDING
from coord.cli._job import Job
from coord.cli._running import run
from coord.cli._since import cutoff
from coord.cli._table import Table, on_terminal
from coord.cli._talk import say
from coord.cli._usage import near
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import EventMap, Page, Record, Revision

__all__ = ["command"]

_MOST_KEYS: Final = 10_000
_MOST_BYTES: Final = 16 << 20
"""Limits of what is buffered to sort it, keys and lines; a larger map is printed unsorted."""

_MOST_NAMED: Final = 1_000
"""How many corrupt keys are listed by name."""

_PATIENCE: Final = 2.0
"""Seconds for the search for maps with similar names."""


@click.command("ls", cls=Command, example="coord ls mount /mnt/")
@click.argument("map_name", metavar="[MAP]", required=False, shell_complete=arguments.complete_map)
@arguments.prefix
@click.option(
    "--since",
    type=arguments.AGE,
    metavar=arguments.AGE.name,
    help="Only keys that changed in the last hour, or after a revision.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print the revision of the listing.")
@arguments.as_json
@takes_server
def command(
    server: Server, map_name: str | None, prefix: str, since: Revision | float | None, quiet: bool, as_json: bool
) -> int:
    """Print the current records of MAP, or of its keys that begin with PREFIX.

    Prints one tab-separated line per key: KEY, kind (fired, failed, pulsed, reset, expired,
    counted), VALUE, REVISION, time, node, how many nodes are subscribed to KEY, and when it expires
    if it has a TTL; on a terminal, a table. Prints the listing's revision on stderr, for `coord watch --since`. More
    than 10,000 keys are printed unsorted. Exits with 3 if MAP does not exist.

    Without MAP, prints the names of the maps for which the server has data.
    """
    if map_name is None and (prefix or since):
        raise click.UsageError("Missing argument 'MAP'.")

    async def body(job: Job) -> int:
        if map_name is None:
            return await _print_maps(job, as_json)
        events = job.coordinator.events(map_name)
        while True:
            listing = _Listing(job, events, since, as_json=as_json, quiet=quiet)
            try:
                return await listing.run(prefix)
            except coord.ListingLost:
                if listing.printing:
                    raise

    return run(server, body)


async def _print_maps(job: Job, as_json: bool) -> int:
    for name in await job.first_answer(job.coordinator.maps(), patience=None):
        await job.output.line(printing.json_text({"map": name}) if as_json else name)
    return DONE


class _Listing:
    """Prints a map in bounded memory: a small one sorted by key, a large one page by page."""

    def __init__(
        self, job: Job, events: EventMap, since: Revision | float | None, *, as_json: bool, quiet: bool
    ) -> None:
        self._job = job
        self._events = events
        self._since = since
        self._earliest = 0.0
        self._as_json = as_json
        self._quiet = quiet
        self._table = Table(job.output)
        self._held: dict[str, tuple[str, ...]] = {}
        self._size = 0
        self.printing = False
        self._tally = _Tally()
        self._corrupt: set[str] = set()
        self._unnamed = 0

    async def run(self, prefix: str) -> int:
        """Print all pages; return the exit code."""
        page = await self._job.first_answer(self._events.page(prefix))
        self._earliest = await cutoff(self._job, self._events.name, self._since)
        await self._take(page)
        while page.next is not None:
            page = await self._job.answer(self._events.page(prefix, page.next))
            await self._take(page)
        await self._print([self._held[key] for key in sorted(self._held)])
        unknown = page.revision == (0, 0) and not (self._size or self._corrupt)
        if unknown:
            await self._say_unknown()
        elif not self._quiet:
            self._say(page.revision)
        self._say_corrupt()
        return CORRUPT if self._corrupt else PENDING if unknown else DONE

    async def _print(self, lines: list[tuple[str, ...]]) -> None:
        if not self._as_json:
            await self._table.lines(lines)
            return
        for (line,) in lines:
            await self._job.output.line(line)

    def _is_wanted(self, record: Record) -> bool:
        if isinstance(self._since, tuple):
            return record.revision > self._since
        return record.time >= self._earliest

    async def _take(self, page: Page) -> None:
        nodes = await self._job.subscribers(self._events, [record.key for record in page.records])
        name, holders = self._events.name, await self._job.holders(self._events, page.records)
        for record in filter(self._is_wanted, page.records):
            key, count = record.key, nodes.get(record.key)
            if self._as_json:
                await self._add(
                    key, (printing.record_json(name, key, record, **printing.counted(count, holders.get(key))),)
                )
            else:
                count_or_dash = printing.or_dash(count)
                line = printing.record_fields(
                    key, record, count_or_dash, holders=holders.get(key, 0), short=on_terminal()
                )
                await self._add(key, line)
        for broken in page.corrupt:
            if len(self._corrupt) < _MOST_NAMED:
                self._corrupt.add(broken)
            else:
                self._unnamed += 1

    async def _add(self, key: str, line: tuple[str, ...]) -> None:
        if self.printing:
            self._tally.add(key)
            await self._print([line])
            return
        self._held[key] = line
        self._size += sum(map(len, line))
        if len(self._held) > _MOST_KEYS or self._size > _MOST_BYTES:
            if not self._quiet:
                say("a large map: its keys are not sorted")
            self.printing = True
            held, self._held = self._held, {}
            for each in held:
                self._tally.add(each)
            await self._print([*held.values()])

    def _say(self, revision: Revision) -> None:
        if self._tally.twice:
            say(f"{self._tally.twice} keys are listed twice: the map grew or shrank meanwhile")
        say(f"as of {revision}")

    async def _say_unknown(self) -> None:
        """Say that the map has no data, and suggest similar names if the server lets us list the maps."""
        name = self._events.name
        names: tuple[str, ...] = ()
        with suppress(coord.Error):
            names = await self._job.answer(self._job.coordinator.maps(), _PATIENCE)
        say(f"there is no map {name}{near(name, names)}; coord ls lists the maps")

    def _say_corrupt(self) -> None:
        name = self._events.name
        for broken in sorted(self._corrupt):
            say(f"{quoted(broken)}: its record in Redis was not written by coord; reset repairs it")
        if self._unnamed:
            say(f"and {self._unnamed} more")
        if any("\\" in broken or broken.endswith("...") or not broken for broken in self._corrupt):
            # Names that are not valid keys are shown escaped.
            say(f"coord reset {name} --foreign removes the names that are not valid keys")


class _Tally:
    """Counts the keys listed more than once, in eight bytes per key."""

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(64)]

    def add(self, key: str) -> None:
        """Count a key."""
        mark = hash(key)
        self._parts[mark & 63].append(mark)

    @property
    def twice(self) -> int:
        """How many were repeated; keys with the same 64-bit hash count as one."""
        return sum(len(part) - len(set(part)) for part in self._parts)
