"""Reads of keys and heads, as the table of keys wants them, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import END
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.records import NEVER, Head, Revision, StoredRecord, not_a_record
from coord.errors import Error
from coord.link.replies import LinkLost, ServerError, will_pass
from coord.session.commands import Commands
from coord.session.delivery import Delivery
from coord.session.doorbells import Doorbells
from coord.session.ends import Ends
from coord.session.window import Window

__all__ = ["Reader", "parse_record"]

_HEADS_A_CALL: Final = 500
"""Reading them takes the server half a millisecond."""

# Every wake-up uses this, and Python 3.11 is slow to look up a class method.
parse_record = StoredRecord.parse


class Reader:
    """Sends the reads of one session, and takes their answers.

    :param postpone: called with the message of a server that has no time.
    :param abandon: called with the failure if coord itself is at fault.
    :param alone: the session serves one map of a cluster.
    """

    log = Logger()

    def __init__(
        self,
        commands: Commands,
        table: KeyTable,
        delivery: Delivery,
        doorbells: Doorbells,
        ends: Ends,
        postpone: Callable[[str], None],
        abandon: Callable[[Failure], None],
        *,
        alone: bool = False,
    ) -> None:
        self._alone = alone
        self._commands = commands
        self._table = table
        self._delivery = delivery
        self._doorbells = doorbells
        self._ends = ends
        self._postpone = postpone
        self._abandon = abandon
        self._window = Window()
        # The number of keys whose read is not answered.
        self.reading = 0

    def send(self) -> bool:
        """Send the reads that the table wants now; return whether keys are read."""
        reads = self._table.take_reads(self._window.room(self.reading))
        for name, wanted in reads.items():
            self._read(self._table.maps[name], wanted)
        self._read_heads(self._table.take_checks())
        return bool(reads)

    def heartbeat(self) -> None:
        """Read the heads of all maps in use: another generation may mean that data was lost."""
        self._window.heartbeat()
        self._read_heads([map_state for map_state in self._table.maps.values() if map_state.channels])
        self._table.verify()

    def link_made(self) -> None:
        """Count no reads of an earlier link."""
        self.reading = 0

    def link_lost(self) -> str:
        """Take the loss of the link; return a hint at the cause if it is lost again and again during reads."""
        return self._window.link_lost(self.reading)

    def _read_heads(self, maps: list[MapState]) -> None:
        """Read the heads of many maps in one command, which is ten times as fast as one command for each.

        On a cluster each is read alone: a server that gives the slot away puts off a command of several keys if one of
        them is missing, and so would not say that the map has left.
        """
        if self._alone:
            for map_state in maps:
                answer: Deferred[Any] = self._commands.read(map_state.names, [])
                answer.addCallbacks(self._head_received, self._heads_refused, (map_state,), errbackArgs=([map_state],))
                answer.addErrback(self._abandon)
            return
        for start in range(0, len(maps), _HEADS_A_CALL):
            some = maps[start : start + _HEADS_A_CALL]
            answer = self._commands.heads(map_state.names for map_state in some)
            answer.addCallbacks(self._heads_received, self._heads_refused, callbackArgs=(some,), errbackArgs=(some,))
            answer.addErrback(self._abandon)

    def _head_received(self, reply: list[bytes | None], map_state: MapState) -> None:
        self._heads_received(reply, [map_state])

    def _heads_received(self, heads: list[bytes | None], maps: list[MapState]) -> None:
        for map_state, payload in zip(maps, heads, strict=True):
            self._read_answered([payload], map_state, [])
            self._doorbells.head_read(map_state, payload)

    def _heads_refused(self, failure: Failure, maps: list[MapState]) -> None:
        self._read_unanswered(failure, [])
        for map_state in maps:
            # The watchers read for themselves.
            self._doorbells.ring(map_state.names.doorbell)
        if not self._alone and failure.check(ServerError) and not will_pass(str(failure.value), writing=False):
            # One map that may not be read fails the command for all others.
            for map_state in maps:
                self._read(map_state, [])

    def _read(self, map_state: MapState, wanted: list[tuple[bytes, int]]) -> None:
        answer: Deferred[Any] = self._commands.read(map_state.names, self._keys(map_state, wanted))
        answer.addCallbacks(
            self._read_answered,
            self._read_unanswered,
            callbackArgs=(map_state, wanted),
            errbackArgs=(wanted,),
        )
        answer.addErrback(self._abandon)

    def _look(self, map_state: MapState, wanted: list[tuple[bytes, int]]) -> None:
        """Read again events that have a TTL, with the time that each has left."""
        answer: Deferred[Any] = self._commands.look(map_state.names, self._keys(map_state, wanted))
        answer.addCallbacks(
            lambda look: self._read_answered([look.head, *look.records], map_state, wanted, look.left),
            self._read_unanswered,
            errbackArgs=(wanted,),
        )
        answer.addErrback(self._abandon)

    def _keys(self, map_state: MapState, wanted: list[tuple[bytes, int]]) -> list[bytes]:
        self.reading += len(wanted)
        start = len(map_state.names.prefix)
        return [channel[start:] for channel, _ in wanted]

    def _read_answered(
        self,
        reply: list[bytes | None],
        map_state: MapState,
        wanted: list[tuple[bytes, int]],
        left: list[int] | None = None,
    ) -> None:
        """Take the answer to a read; ``left`` is known if it was made for events that have a TTL (L11)."""
        self.reading -= len(wanted)
        try:
            head = Head.read(map_state.names, reply[0])
        except Error as error:
            for channel, ticket in wanted:
                self._delivery.fail(channel, ticket, _copies(error))
            return
        if self._table.head_received(map_state, head):
            self.log.warn(
                "map {name}: its data was lost on the server (flushed, or restored)",
                name=map_state.names.name,
            )
        as_of = head.revision if head else NEVER
        timed = self._keys_answered(map_state, zip(wanted, reply[1:], strict=True), as_of, left)
        if timed:
            self._look(map_state, timed)
        if self._table.behind:
            self._table.behind = False
            self._postpone("older data than before")

    def _keys_answered(
        self,
        map_state: MapState,
        answers: Iterable[tuple[tuple[bytes, int], bytes | None]],
        as_of: Revision,
        left: list[int] | None,
    ) -> list[tuple[bytes, int]]:
        """Take the answer for each key; return those whose time that is left has to be asked for."""
        timed: list[tuple[bytes, int]] = []
        # One at a time: a callback may wait for a key whose answer comes later in this reply.
        for number, ((channel, ticket), payload) in enumerate(answers):
            try:
                stored = None if payload is None else parse_record(payload)
            except ValueError:
                self._delivery.fail(channel, ticket, not_a_record)
                continue
            if stored is not None and stored.perishable:
                if left is None:
                    timed.append((channel, ticket))
                    continue
                stored = self._as_it_stands(map_state, channel, stored, left[number])
            wake = self._table.read_answered(channel, ticket, as_of, stored)
            if wake is not None:
                self._delivery.deliver(wake)
        return timed

    def _as_it_stands(self, map_state: MapState, channel: bytes, stored: StoredRecord, left: int) -> StoredRecord:
        """Return an event with a TTL; as ended if its time is over, and then have it ended."""
        if left:
            return stored
        self._ends.end(map_state, END, channel[len(map_state.names.prefix) :], b"%d,%d" % stored.revision)
        return stored.over()

    def _read_unanswered(self, failure: Failure, wanted: list[tuple[bytes, int]]) -> None:
        failure.trap(LinkLost, ServerError)
        if failure.check(LinkLost):
            return
        self.reading -= len(wanted)
        message = str(failure.value)
        if will_pass(message, writing=False):
            for channel, ticket in wanted:
                self._table.postpone(channel, ticket)
            self._postpone(message)
            return
        for channel, ticket in wanted:
            self._delivery.refuse(channel, ticket, message)


def _copies(error: Error) -> Callable[[str], Error]:
    """Return a function that copies the error, as no two waiters may share one."""
    return lambda _: type(error)(*error.args)
