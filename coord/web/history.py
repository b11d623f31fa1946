"""The history of a map, read in pages that all streams share which are behind.

A thousand clients that come back at once, each at another position, cost few reads: who is inside of a page that
another one has asked for is served from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from coord.client.watch import Watch
from coord.core.records import CaughtUp, Record, Revision
from coord.web.positions import Position
from coord.web.ring import Change

__all__ = ["READS", "History", "Page", "Pages", "Reader"]

READS: Final = 8
"""How many pages are read at once. Each is an answer of up to 1 MiB, and more of them would hold up the heartbeat of
the link that they go by: it would be taken for lost."""

_KEPT: Final = 30
"""Seconds for which a page is kept that nobody uses."""

_MOST: Final = 16 << 20
"""How many bytes of pages are kept, of all maps."""


class Page(NamedTuple):
    """Changes that follow each other: those behind ``after`` up to ``end``, which is the newest if ``caught_up``."""

    after: Revision | None
    changes: list[Change]
    end: Revision
    caught_up: bool

    def positions(self) -> Iterator[tuple[Revision, int]]:
        """Return each position that the page goes on behind, and the number of the change that follows it."""
        if self.after is not None:
            yield self.after, 0
        for index, change in enumerate(self.changes[:-1], 1):
            yield change.revision, index


class Reader(Protocol):
    """Who waits for a page."""

    def page_read(self, result: Page | Failure) -> None:
        """Use the page, or learn why there is none."""


class _Kept(NamedTuple):
    used: float
    page: Page
    size: int


class Pages:
    """The pages that are kept, of all maps, and the turns to read one.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.turns = DeferredSemaphore(READS)
        self.size = 0
        self._seconds = seconds
        # Those used last are at the end.
        self._kept: dict[tuple[History, Revision | None], _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, history: History, page: Page) -> None:
        """Keep a page, and forget those used longest ago of which there are too many."""
        self._remove(history, page.after)
        size = sum(change.size for change in page.changes)
        self._kept[history, page.after] = _Kept(self._seconds(), page, size)
        self.size += size
        while self.size > _MOST:
            self._remove(*next(iter(self._kept)))

    def touch(self, history: History, page: Page) -> None:
        """Keep a page on, as it is used."""
        kept = self._kept.pop((history, page.after))
        self._kept[history, page.after] = kept._replace(used=self._seconds())

    def forget(self, history: History | None = None) -> None:
        """Forget what nobody has used for long, and all pages of ``history``."""
        old = self._seconds() - _KEPT
        for (of, after), kept in list(self._kept.items()):
            if of is history or kept.used <= old:
                self._remove(of, after)

    def _remove(self, history: History, after: Revision | None) -> None:
        kept = self._kept.pop((history, after), None)
        if kept is not None:
            self.size -= kept.size
            history.left(kept.page)


class _Reading:
    """One page that is being read, who waits for it, and whether it is kept for others."""

    __slots__ = ("kept", "readers", "running")

    def __init__(self, reader: Reader, *, kept: bool) -> None:
        self.readers = [reader]
        self.kept = kept
        self.running: Deferred[None] | None = None


class History:
    """The history of one map.

    :param watch: makes a watch that begins at a position, by a link that may be slow.
    :param encode: makes the change of a record.
    """

    def __init__(self, watch: Callable[[Position], Watch], encode: Callable[[Record], Change], pages: Pages) -> None:
        self._watch = watch
        self._encode = encode
        self._pages = pages
        self._where: dict[Revision, tuple[Page, int]] = {}
        # By position, or for who wants no part of another's, by that and the reader.
        self._reading: dict[object, _Reading] = {}

    def find(self, position: Position) -> tuple[Page, int] | None:
        """Return a kept page that goes on behind ``position``, and the number of its change that does."""
        found = None if isinstance(position, str) else self._where.get(position)
        if found is not None:
            self._pages.touch(self, found[0])
        return found

    def read(self, position: Position, reader: Reader, *, alone: bool = False) -> None:
        """Read the page behind a position, and give it to ``reader``.

        :param alone: begin to read now; another one's page may be older than what the reader knows.
        """
        key = (position, reader) if alone else position
        reading = self._reading.get(key)
        if reading is not None:
            reading.readers.append(reader)
            return
        reading = self._reading[key] = _Reading(reader, kept=not alone)
        reading.running = Deferred.fromCoroutine(self._read(position)).addBoth(self._tell, key)

    def leave(self, position: Position, reader: Reader) -> None:
        """Do not tell ``reader``; a page that nobody waits for is not read."""
        for key in (position, (position, reader)):
            reading = self._reading.get(key)
            if reading is not None and reader in reading.readers:
                reading.readers.remove(reader)
                if not reading.readers and reading.running is not None:
                    del self._reading[key]
                    reading.running.cancel()

    def close(self) -> None:
        """Forget all pages."""
        self._pages.forget(self)

    def left(self, page: Page) -> None:
        """Note that a page is not kept any more."""
        for position, _ in page.positions():
            if self._where.get(position, (None,))[0] is page:
                del self._where[position]

    async def _read(self, position: Position) -> Page:
        turns = self._pages.turns
        await turns.acquire()
        try:
            async with self._watch(position) as watch:
                await watch.fill()
                return self._page(position, watch)
        finally:
            turns.release()

    def _page(self, position: Position, watch: Watch) -> Page:
        changes: list[Change] = []
        after = None if isinstance(position, str) else position
        end = after
        while (item := watch.take()) is not None:
            end = item.revision
            if isinstance(item, CaughtUp):
                return Page(after, changes, end, caught_up=True)
            changes.append(self._encode(item))
        assert end is not None
        return Page(after, changes, end, caught_up=False)

    def _tell(self, result: Page | Failure, key: object) -> None:
        reading = self._reading.pop(key, None)
        if reading is None:
            # Cancelled, as nobody waited any more.
            return
        if isinstance(result, Page) and result.changes and reading.kept:
            self._pages.keep(self, result)
            self._where.update((at, (result, index)) for at, index in result.positions())
        for reader in reading.readers:
            reader.page_read(result)
