"""A server's place among others: primary or replica, whose history its data belong to, and what replicas have of it."""

from __future__ import annotations

import hashlib
from typing import cast
from weakref import WeakKeyDictionary

from coord import testing
from coord.testing._shapes import Clock
from memory.connection import Connection

__all__ = ["Replication"]

_UNBLOCKED = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"


class Replication(testing.MemoryServer):
    """The part of a `MemoryServer` that replication makes.

    `role` is what INFO and ROLE say: a `slave` refuses writes, and hears what is published on it. `replicas` is how
    many are attached, and `lag` after how many seconds they acknowledge a write (None: never), as WAIT answers.
    """

    def __init__(self, clock: Clock) -> None:
        self.role: str = "master"
        self.replid = self.replid2 = ""
        self._number = _number_on(clock)
        self._starts = self._replids = 0
        self._replicas = 0
        self._backlog = False
        self._lag: float | None = 0
        # The stream of changes, counted while replicas are behind: how far it is, and how far they are.
        self._written = self._acknowledged = 0
        super().__init__(clock)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections it has, in the order they were made."""
        return cast("tuple[Connection, ...]", super().connections)

    def name_run(self) -> None:
        # Counted, not random: a simulation's schedule must replay to the byte.
        self._starts += 1
        self.run_id = _digits(f"server {self._number}, start {self._starts}")
        self.name_data()

    # --- primary or replica ----------------------------------------------------------------

    def name_data(self, *, promoted: bool = False) -> None:
        """Take another replication id, as a primary does at its start, when it is promoted, or for a first replica.

        :param promoted: the server was a replica: it remembers the id that it had.
        """
        self._replids += 1
        self.replid2 = self.replid if promoted else "0" * 40
        self.replid = _digits(f"server {self._number}, data {self._replids}")

    def follow(self, replid: str) -> None:
        """Become a replica, in place: connections stay, and a WAIT ends. The data are to be those of `replid`."""
        self.role = "slave"
        self.replid, self.replid2 = replid, "0" * 40
        for connection in self.connections:
            connection.unblock(_UNBLOCKED)

    def promote(self) -> None:
        """Become a primary, in place, with the data that it has."""
        self.role = "master"
        self.name_data(promoted=True)
        self._backlog = True

    # --- replicas --------------------------------------------------------------------------

    @property
    def replicas(self) -> int:
        """How many replicas are attached."""
        return self._replicas

    @replicas.setter
    def replicas(self, number: int) -> None:
        self._replicas = number
        self._wake()

    def attach(self, number: int) -> None:
        """Have so many replicas; the first one finds no backlog, and gives the data another replication id."""
        if number and not self._backlog:
            self._backlog = True
            self.name_data()
        self.replicas = number

    def free_backlog(self) -> None:
        """Forget what changed last, as where there has been no replica for `repl-backlog-ttl`."""
        if self._backlog and not self._replicas:
            self._backlog = False
            self.name_data()

    @property
    def lag(self) -> float | None:
        """After how many seconds replicas acknowledge a write; None: never."""
        return self._lag

    @lag.setter
    def lag(self, seconds: float | None) -> None:
        self._lag = seconds
        if seconds == 0:
            self._acknowledge(self._written)

    def wrote(self) -> int:
        """Count a write; return the stream's place behind it."""
        self._written += 1
        if self._lag:
            self.clock.callLater(self._lag, self._acknowledge, self._written)
        return self._written

    def acknowledged(self, offset: int) -> int:
        """Return how many replicas have the stream up to a place."""
        return self._replicas if self._acknowledged >= offset else 0

    def progress(self) -> dict[str, str]:
        """Return what INFO tells of the stream: how far it is, and each replica."""
        offset = self._written if self.lag == 0 else self._acknowledged
        line = f"ip=127.0.0.1,port=6380,state=online,offset={offset},lag=0"
        return {"master_repl_offset": str(self._written), **{f"slave{n}": line for n in range(self._replicas)}}

    def _acknowledge(self, offset: int) -> None:
        # Those that never answer now do not answer for what was written before, either.
        if self._lag is not None:
            self._acknowledged = max(self._acknowledged, offset)
            self._wake()

    def _wake(self) -> None:
        for connection in self.connections:
            connection.wake()

    def published(self, channel: bytes, message: bytes) -> None:
        """Hear that a message was published here: for subclasses that have replicas with subscribers."""


def _digits(name: str) -> str:
    """Return 40 hex digits, the same for the same name."""
    return hashlib.sha1(name.encode()).hexdigest()  # 40 hex digits, no more


_servers: WeakKeyDictionary[object, int] = WeakKeyDictionary()


def _number_on(clock: object) -> int:
    """Count the servers of a clock: those that may meet differ, and do so each time alike."""
    number = _servers[clock] = _servers.get(clock, 0) + 1
    return number
