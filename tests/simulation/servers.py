"""The server in memory, which keeps books of what it really holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from coord.core.names import MapNames
from coord.testing._connection import ServerConnection
from memory import MemoryServer, Snapshot
from simulation.books import Books, Lineage
from simulation.clock import SimClock
from simulation.history import History, Moment

__all__ = ["Mark", "SimServer"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a disk or a replica has: the data at one moment."""

    snapshot: Snapshot
    lineage: Lineage


class SimServer(MemoryServer):
    """A `MemoryServer` that writes every change it makes into its ``books``, and so into the history.

    ``leader`` is the primary that it is a replica of, ``streams`` whether it gets what happens there; ``ticks`` counts
    what may have changed its data.
    """

    def __init__(
        self,
        history: History,
        clock: SimClock,
        number: int,
        maps: Iterable[MapNames],
        linked: Callable[[SimServer], frozenset[int]],
        servers: Iterable[SimServer],
    ) -> None:
        self.history = history
        super().__init__(clock)
        self._linked = linked
        self._servers = servers
        self.number = number
        self._names = tuple(maps)
        self.books = Books(history, number, self._names, self)
        self.leader: SimServer | None = None
        self.streams = False
        self.ticks = 0
        self._synchronised: tuple[SimServer, int] | None = None
        self.demoted: Moment | None = None
        # No two processes begin a generation in the same microsecond, as they would on a clock that stands still.
        self.step_clock(number * 0.000_37)

    # What its books ask.

    @property
    def process(self) -> str:
        """The name of its process."""
        return self.run_id

    @property
    def written(self) -> int:
        """Where its stream to its replicas is."""
        return self._written

    def item(self, key: bytes) -> Any:
        """Return what a key has."""
        return self.fake.dbs[0]._dict.get(key)

    def linked(self) -> frozenset[int]:
        """Return the lives whose link is connected, and asks it."""
        return self._linked(self)

    # What it hears of itself.

    def worked(self) -> None:
        """Look what was changed; also where a command stood behind a WAIT."""
        if self.running:
            self.ticks += 1
            self.books.look()
            if self.books.keeps_holders:
                self.books.look_at_holders(None)
                self.history.check_deadlines(self.books.lease)

    def received(self, connection: ServerConnection, data: bytes | None) -> None:
        """Have what the primary has, before anybody looks."""
        if self.leader is not None:
            self.catch_up()
        super().received(connection, data)

    def acknowledged(self, offset: int) -> int:
        """Note what was changed, and with it how far the replicas have to be."""
        self.books.look()
        return super().acknowledged(offset)

    def _acknowledge(self, offset: int) -> None:
        super()._acknowledge(offset)
        self.history.acknowledged.append((self.history.now(), self.process, self._acknowledged))

    def published(self, channel: bytes, message: bytes) -> None:
        """Have those hear it that are subscribed at a replica."""
        for replica in self._servers:
            if replica.leader is self and replica.streams:
                replica.say(channel, message)

    def say(self, channel: bytes, message: bytes) -> None:
        """Send a message to all that are subscribed here."""
        for subscriber in list(self.fake.subscribers.get(channel, ())):
            subscriber.put_response([b"message", channel, message])

    def step_clock(self, seconds: float) -> None:
        """Set the clock, and write it down."""
        super().step_clock(seconds)
        self.books.step(self._offset)

    # What becomes of the data.

    def mark(self) -> Mark:
        """Return the data as they are now."""
        return Mark(self.snapshot(), {name: list(lines) for name, lines in self.books.lineage.items()})

    def take(self, mark: Mark | None) -> None:
        """Have exactly the data of a mark, or none."""
        moment, books = self.history.now(), self.books
        self.history.copies.append(moment)
        lineage = {name: list(mark.lineage[name]) if mark else [] for name in books.lineage}
        if any(lineage[name][: len(lines)] != lines for name, lines in books.lineage.items()):
            self.history.losses.append(moment)
            books.ended.append(books.lineage)
        self.ticks += 1
        clocks = books.clocked_maps
        self.flush()
        if mark is not None:
            self.restore(mark.snapshot)
        if clocks - books.clocked_maps:
            self.history.flushes.append(moment)
        books.begin_anew(lineage, moment)

    def become_replica(self, leader: SimServer, *, synchronised: bool, streams: bool) -> None:
        """Be a replica from now on, in place.

        :param synchronised: it gets the primary's data now; else it keeps its own, as where it cannot reach it yet.
        :param streams: it gets what happens there from now on.
        """
        self.demoted = self.history.now()
        self.leader, self.streams = leader, synchronised and streams
        self.follow(leader.replid)
        if synchronised:
            self.synchronise()

    def synchronise(self) -> None:
        """Get the primary's data."""
        if self.leader is not None:
            self._synchronised = self.leader, self.leader.ticks
            self.replid = self.leader.replid
            self.take(self.leader.mark())

    def catch_up(self) -> None:
        """Get what the primary has now, if it streams."""
        leader = self.leader
        if leader is not None and self.streams and leader.running and self._synchronised != (leader, leader.ticks):
            self.synchronise()

    def become_primary(self) -> None:
        """Be a primary from now on, in place, with the data that it has."""
        self.catch_up()
        self.leader, self.streams, self.demoted = None, False, None
        self.promote()
        # Nor does one process, demoted and promoted again in no time, which a real one cannot be.
        self.step_clock(0.000_01)

    def retire(self) -> None:
        """Stop for good: what it holds stands no more."""
        self.stop()
        self.streams = False
        books = self.books
        books.ended.append(books.lineage)
        books.retired = self.history.now()
        self.history.losses.append(books.retired)
        books.begin_anew({name: [] for name in books.lineage}, books.retired)

    def replicate(self, number: int) -> None:
        """Have so many replicas from now on, which have everything."""
        self.history.replicas.append((self.history.now(), self.number, number))
        self.attach(number)

    def trim(self, keep: int) -> None:
        """Forget all but so many entries of each map's history, as its bound would."""
        for names in self._names:
            item = self.item(names.log)
            if item is not None and len(item.value) > keep:
                item.value.trim(maxlen=keep)
                self.books.trimmed[names.name] += 1
