"""``coord ls``: the maps of the namespace, or what stands for the keys of a map now."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import click

import coord
from coord.cli import _arguments as arguments
from coord.cli import _printing as printing
from coord.cli._connection import Server, takes_server
from coord.cli._exits import CORRUPT, DONE
from coord.cli._running import Job, run
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import EventMap, Page, Revision

__all__ = ["command"]

_MOST_KEYS: Final = 10_000
_MOST_BYTES: Final = 16 << 20
"""What is held back to be printed in order, of keys and of lines; where there is more, it is printed as it comes."""

_MOST_NAMED: Final = 1_000
"""How many corrupt keys are named."""


@click.command("ls", cls=arguments.Command, example="coord ls mount /mnt/")
@click.argument("map_name", metavar="[MAP]", required=False)
@arguments.prefix
@arguments.as_json
@takes_server
def command(server: Server, map_name: str | None, prefix: str, as_json: bool) -> int:
    """Print what stands now for the keys of MAP. They begin with PREFIX, if there is one.

    A line a key, between tabs: KEY, its kind (fired, failed, pulsed, reset), VALUE, REVISION, when,
    by which node, and how many nodes are subscribed to it. Says on stderr as of which revision:
    `coord watch --since` goes on from there. More than 10,000 keys come in no order.

    Without MAP it prints the names of the maps that the server has data of.
    """

    async def body(job: Job) -> int:
        if map_name is None:
            return await _print_maps(job, as_json)
        events = job.coordinator.events(map_name)
        while True:
            listing = _Listing(job, events, as_json)
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
    """Prints a map: in the order of its keys while it is small, and else as its pages come, in bounded memory."""

    def __init__(self, job: Job, events: EventMap, as_json: bool) -> None:
        self._job = job
        self._events = events
        self._as_json = as_json
        self._held: dict[str, str] = {}
        self._size = 0
        self.printing = False
        self._tally = _Tally()
        self._corrupt: set[str] = set()
        self._unnamed = 0

    async def run(self, prefix: str) -> int:
        """Print all pages; return the exit code."""
        page = await self._job.first_answer(self._events.page(prefix))
        await self._take(page)
        while page.next is not None:
            page = await self._job.answer(self._events.page(prefix, page.next))
            await self._take(page)
        for key in sorted(self._held):
            await self._job.output.line(self._held[key])
        self._say(page.revision)
        return CORRUPT if self._corrupt else DONE

    async def _take(self, page: Page) -> None:
        nodes = await self._job.subscribers(self._events, [record.key for record in page.records])
        name = self._events.name
        for record in page.records:
            key, count = record.key, nodes.get(record.key)
            as_json = self._as_json and printing.record_json(name, key, record, **printing.counted(count))
            await self._add(key, as_json or printing.record_line(key, record, printing.or_dash(count)))
        for broken in page.corrupt:
            if len(self._corrupt) < _MOST_NAMED:
                self._corrupt.add(broken)
            else:
                self._unnamed += 1

    async def _add(self, key: str, line: str) -> None:
        if self.printing:
            self._tally.add(key)
            await self._job.output.line(line)
            return
        self._held[key] = line
        self._size += len(line)
        if len(self._held) > _MOST_KEYS or self._size > _MOST_BYTES:
            say("a large map: its keys come in no order")
            self.printing = True
            held, self._held = self._held, {}
            for each, its_line in held.items():
                self._tally.add(each)
                await self._job.output.line(its_line)

    def _say(self, revision: Revision) -> None:
        name = self._events.name
        if self._tally.twice:
            say(f"{self._tally.twice} keys came twice: the map grew or shrank meanwhile")
        if revision == (0, 0) and not (self._size or self._corrupt):
            say(f"nothing is known of a map {name}; coord ls lists the maps")
        else:
            say(f"as of {revision}")
        for broken in sorted(self._corrupt):
            say(f"{quoted(broken)}: what stands in Redis for it is not a record of coord's; reset repairs it")
        if self._unnamed:
            say(f"and {self._unnamed} more")
        if any("\\" in broken or broken.endswith("...") or not broken for broken in self._corrupt):
            # They look as what is escaped does.
            say(f"coord reset {name} --foreign removes what can be no key")


class _Tally:
    """Counts the keys that came more than once, of many, in eight bytes a key."""

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(64)]

    def add(self, key: str) -> None:
        """Take note of a key."""
        mark = hash(key)
        self._parts[mark & 63].append(mark)

    @property
    def twice(self) -> int:
        """How many came again; two keys of one 64-bit hash pass for one."""
        return sum(len(part) - len(set(part)) for part in self._parts)
