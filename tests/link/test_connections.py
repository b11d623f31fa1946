"""The connections of a link, with what the server says written by the test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import hiredis
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from coord.link.connections import Connections
from coord.link.handshake import NotAPrimary
from coord.link.protocol import Connection
from coord.link.replica_writer import ReplicaWriter
from coord.link.replies import LinkLost, ServerError
from support.cluster import Seen

_INTERVAL = 5.0
_PRIMARY = b"role:master\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\n"
_REPLICA = b"role:slave\r\nmaster_replid:%s\r\n"
_NONE = b"0" * 40


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _primary(history: bytes = b"a", former: bytes = _NONE) -> bytes:
    return _bulk(_PRIMARY % (history, former))


def _commands(sent: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(sent)
    commands = []
    while (command := reader.gets()) is not False:
        commands.append(b" ".join(command))
    return commands


class _Opening:
    """A link that is being made: each connection is there at once; the test says what arrives."""

    def __init__(self, processes: tuple[bytes, bytes] = (b"p", b"p")) -> None:
        self.clock = Clock()
        self.beats: list[None] = []
        self._processes = list(processes)
        receiver: Any = self
        self.receive_context = nullcontext()
        self.connections = Connections(b"own", self.clock, _INTERVAL, receiver, self._connect)
        self.connections.on_heartbeat = lambda: self.beats.append(None)
        self.seen = Seen(Deferred.fromCoroutine(self.connections.open()))

    async def _connect(self, connection: Connection) -> bytes:
        connection.makeConnection(StringTransport())
        return self._processes.pop(0)

    def confirm(self) -> None:
        """Confirm the subscription to the node's own channel."""
        self.connections.subscriber.dataReceived(b"*3\r\n$9\r\nsubscribe\r\n$3\r\nown\r\n:1\r\n")

    def number(self, number: int) -> None:
        """Let a number arrive that was published on the node's own channel."""
        self.connections.subscriber.dataReceived(b"*3\r\n$7\r\nmessage\r\n$3\r\nown\r\n" + _bulk(b"%d" % number))

    def answer(self, *replies: bytes) -> None:
        """Answer the oldest commands."""
        for reply in replies:
            self.connections.command.dataReceived(reply)

    def asked(self) -> list[bytes]:
        """Return the commands that were sent since the last look."""
        transport: Any = self.connections.command.transport
        commands = _commands(transport.value())
        transport.clear()
        return commands

    def opened(self) -> _Opening:
        """Open it."""
        self.confirm()
        self.answer(_primary(), _bulk(b"connected_clients:7\r\n"), b":1\r\n")
        self.number(1)
        assert self.seen.values == [None]
        self.asked()
        return self


@pytest.mark.parametrize("role_first", [True, False])
@pytest.mark.parametrize("primary", [True, False])
def test_a_link_is_open_once_a_primary_has_sent_the_number_back(primary: bool, role_first: bool) -> None:
    """It takes both, in any order; a replica sends the number back too, and no link to it is made."""
    opening = _Opening()
    opening.confirm()
    assert opening.asked() == [b"INFO replication", b"INFO clients", b"PUBLISH own 1"]
    role = _primary() if primary else _bulk(_REPLICA % b"a")
    steps: list[Callable[[], None]] = [lambda: opening.answer(role), lambda: opening.number(1)]
    first, second = steps if role_first else reversed(steps)
    first()
    assert opening.seen.values == []
    second()
    assert opening.seen.values == ([None] if primary else [])
    assert [type(error) for error in opening.seen.errors] == ([] if primary else [LinkLost])
    assert opening.connections.lost == (None if primary else "the server is a replica now")
    opening.connections.abort()
    assert opening.clock.getDelayedCalls() == []


def test_another_number_is_no_proof() -> None:
    """What was published earlier, or by somebody else, opens nothing."""
    opening = _Opening()
    opening.confirm()
    opening.answer(_primary())
    opening.number(0)
    opening.number(2)
    assert opening.seen.count == 0
    opening.number(1)
    assert opening.seen.values == [None]
    opening.connections.abort()


def test_connections_to_two_servers_are_no_link() -> None:
    """Both are closed again, and nothing is sent on them."""
    opening = _Opening((b"p", b"q"))
    assert [type(error) for error in opening.seen.errors] == [NotAPrimary]
    assert opening.asked() == []
    for connection in (opening.connections.command, opening.connections.subscriber):
        assert connection.transport.disconnected


def test_a_refused_proof_is_no_link() -> None:
    """Where the server does not publish, the error has its words."""
    opening = _Opening()
    opening.confirm()
    opening.answer(_primary(), _bulk(b""), b"-NOPERM no publish\r\n")
    assert [str(error) for error in opening.seen.errors] == ["NOPERM no publish"]
    assert opening.connections.lost is not None


def test_a_heartbeat_has_come_back_once_both_answers_have() -> None:
    """The number alone does not make it one; the clients are counted less often."""
    opening = _Opening().opened()
    assert opening.connections.clients == 7
    opening.clock.advance(_INTERVAL)
    assert opening.asked() == [b"INFO replication", b"PUBLISH own 2"]
    opening.number(2)
    assert opening.beats == []
    opening.answer(_primary(), b":1\r\n")
    assert opening.beats == [None]
    for beat in range(3, 14):
        opening.clock.advance(_INTERVAL)
        opening.number(beat)
        opening.answer(_primary(), *([_bulk(b"connected_clients:9\r\n")] if beat == 13 else []), b":1\r\n")
    assert len(opening.beats) == 12
    assert opening.connections.clients == 9
    opening.connections.abort()


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        (_primary(b"b"), None),
        (_primary(b"b", b"a"), "the server has been a replica meanwhile"),
        (_bulk(_REPLICA % b"a"), "the server is a replica now"),
    ],
    ids=["a first replica", "promoted", "a replica"],
)
def test_a_heartbeat_compares_what_the_server_is(answer: bytes, lost: str | None) -> None:
    """A first replica gives the data another name; a promotion does so too, and keeps the former one."""
    opening = _Opening().opened()
    opening.clock.advance(_INTERVAL)
    opening.answer(answer)
    opening.number(2)
    assert opening.connections.lost == lost
    assert opening.beats == ([None] if lost is None else [])
    opening.connections.abort()


class _Writer:
    """The connection for replicated calls; the test says what becomes of the attempt to make it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.attempts: list[Deferred[bytes]] = []
        self.lost: list[str] = []
        self.writer = ReplicaWriter(b"own", self._connect, self.lost.append, nullcontext(), self.clock, _INTERVAL)

    async def _connect(self, connection: Connection) -> bytes:
        assert connection is self.writer.connection
        connection.makeConnection(StringTransport())
        self.attempts.append(Deferred())
        return await self.attempts[-1]

    def open(self) -> Seen:
        """Open it, or find it open."""
        return Seen(Deferred.fromCoroutine(self.writer.open(b"p")))

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return bool(self.writer.connection.transport.disconnected)


def test_the_connection_for_replicated_calls_is_made_once() -> None:
    """And it stays, without a timer."""
    third = _Writer()
    seen = third.open()
    assert seen.count == 0
    third.attempts[0].callback(b"p")
    assert seen.values == [None]
    assert third.open().values == [None]
    third.clock.advance(10 * _INTERVAL)
    assert (len(third.attempts), third.lost, third.closed) == (1, [], False)
    assert third.clock.getDelayedCalls() == []


@pytest.mark.parametrize("way", ["made", "refused"])
def test_the_connection_for_replicated_calls_is_made_once_for_all_maps_of_a_server(way: str) -> None:
    """Who asks while it is being made gets the same answer, and no connection is left behind."""
    third = _Writer()
    both = third.open(), third.open()
    assert (len(third.attempts), [each.count for each in both]) == (1, [0, 0])
    if way == "made":
        third.attempts[0].callback(b"p")
        assert [each.values for each in both] == [[None], [None]]
    else:
        third.attempts[0].errback(OSError("no room"))
        assert [[type(error) for error in each.errors] for each in both] == [[ServerError], [ServerError]]
    assert third.clock.getDelayedCalls() == []


def test_a_connection_for_replicated_calls_to_another_server_loses_the_link() -> None:
    """Its replicas would be counted for what it does not have. It is closed, even if the link was lost before."""
    third = _Writer()
    seen = third.open()
    third.attempts[0].callback(b"q")
    assert [type(error) for error in seen.errors] == [LinkLost]
    assert third.lost == ["the connection for replicated calls reached another server"]
    assert third.closed


@pytest.mark.parametrize("way", ["refused", "hung up", "silent"])
def test_a_connection_for_replicated_calls_that_fails_costs_nothing_else(way: str) -> None:
    """For a reason, or because two heartbeats went by: the link stays, and the next call tries again."""
    third = _Writer()
    seen = third.open()
    if way == "silent":
        third.clock.advance(2 * _INTERVAL - 0.1)
        assert seen.count == 0
        third.clock.advance(0.1)
    else:
        if way == "hung up":
            third.writer.connection.connectionLost(Failure(ConnectionDone()))
        third.attempts[0].errback(OSError("no room"))
    (error,) = seen.errors
    assert isinstance(error, ServerError)
    assert str(error).startswith("the connection for replicated calls could not be made: ")
    assert way == "silent" or str(error).endswith("no room")
    assert (third.lost, third.closed, third.writer.progress) == ([], True, -1)
    again = third.open()
    assert third.writer.progress == -1, "the heartbeat does not judge an attempt, which has a deadline of its own"
    third.attempts[1].callback(b"p")
    assert (again.values, third.lost, third.closed) == ([None], [], False)


def test_the_open_connection_for_replicated_calls_is_lost_with_the_link() -> None:
    """What it was asked last may never be answered."""
    third = _Counting()
    third.writer.connection.connectionLost(Failure(ConnectionDone()))
    assert len(third.lost) == 1


def test_a_connection_for_replicated_calls_to_a_replica_loses_the_link() -> None:
    """The address leads to another server than before."""
    third = _Writer()
    seen = third.open()
    third.attempts[0].errback(NotAPrimary("the server is a replica"))
    assert [type(error) for error in seen.errors] == [LinkLost]
    assert third.lost == ["the connection for replicated calls reached another server"]
    assert third.closed


def test_to_abort_ends_the_attempt() -> None:
    """What was asked for fails at once, and no timer stays."""
    third = _Writer()
    third.writer.abort()
    seen = third.open()
    third.writer.abort()
    assert third.attempts[0].called
    assert [type(error) for error in seen.errors] == [LinkLost]
    assert third.closed
    assert third.clock.getDelayedCalls() == []


def test_to_abort_closes_the_open_connection() -> None:
    """As the others of the link."""
    third = _Writer()
    third.open()
    third.attempts[0].callback(b"p")
    third.writer.abort()
    assert third.closed


class _Counting(_Writer):
    """An open connection for replicated calls, whose server the test is."""

    def __init__(self) -> None:
        super().__init__()
        self.open()
        self.attempts[0].callback(b"p")

    def count(
        self, due: float = 100.0, *, new: bool, progress: list[Any] | None = None, wanted: int = 1
    ) -> tuple[Seen, list[bytes]]:
        """Ask for the count; return what becomes of it, and the commands that were sent."""
        transport: Any = self.writer.connection.transport
        transport.clear()
        on_progress = None if progress is None else lambda *each: progress.append(each)
        seen = Seen(Deferred.fromCoroutine(self.writer.count(wanted, due, on_progress, new=new)))
        return seen, _commands(transport.value())

    def answer(self, *replies: bytes) -> None:
        """Answer the oldest commands."""
        self.writer.connection.dataReceived(b"".join(replies))


def test_f4_who_asks_during_a_count_shares_the_next_one() -> None:
    """F4: no map of a server waits for the replicas of another: one WAIT is for the fewest, by the earliest time."""
    third = _Counting()
    progress: list[Any] = []
    first, sent = third.count(new=True, wanted=2)
    assert sent[-1] == b"WAIT 2 100"
    many = [third.count(new=False, wanted=2) for _ in range(20)]
    one, _ = third.count(due=0.1, new=True, progress=progress)
    assert all(not sent for _, sent in many)
    third.writer.connection.transport.clear()
    third.answer(b":0\r\n", b":1\r\n")
    assert first.values == [1]
    assert _commands(third.writer.connection.transport.value())[-1] == b"WAIT 1 50"
    third.answer(b":0\r\n", _bulk(b"master_repl_offset:7\r\n"), b":1\r\n")
    assert (one.values, [seen.values for seen, _ in many], progress) == ([1], 20 * [[1]], [(7, [])])
    again, sent = third.count(new=True)
    assert sent[-1] == b"WAIT 1 100"
    third.answer(b"-NOPERM no\r\n", b":1\r\n")
    late, _ = third.count(new=False)
    assert [type(error) for error in again.errors] == [ServerError]
    assert late.count == 0


def test_a_count_writes_where_calls_are_new() -> None:
    """Else WAIT asks for the same offset again: a slow replica would never get to one that is ever further on."""
    third = _Counting()
    seen, commands = third.count(new=False)
    assert commands == [b"PUBLISH own:replicas ", b"WAIT 1 100"]
    third.answer(b":0\r\n", b":0\r\n")
    assert third.count(new=False)[1] == [b"WAIT 1 100"]
    third.answer(b":0\r\n")
    assert third.count(new=True)[1] == [b"PUBLISH own:replicas ", b"WAIT 1 100"]
    assert seen.values == [0]


def test_a_count_without_a_write_is_none() -> None:
    """WAIT's answer was to an earlier write, so the next count writes, though no call is new."""
    third = _Counting()
    third.count(new=True)
    third.answer(b":0\r\n", b":1\r\n")
    seen, _ = third.count(new=True)
    third.answer(b"-OOM no memory\r\n", b":1\r\n")
    assert [str(error) for error in seen.errors] == ["OOM no memory"]
    assert third.count(new=False)[1] == [b"PUBLISH own:replicas ", b"WAIT 1 100"]


def test_a_count_tells_the_progress_of_replicas_that_are_online() -> None:
    """The offsets come before the count; an unknown one is -1."""
    third = _Counting()
    progress: list[Any] = []
    seen, commands = third.count(new=True, progress=progress)
    assert commands == [b"PUBLISH own:replicas ", b"INFO replication", b"WAIT 1 100"]
    slaves = b"slave0:ip=h,state=online,offset=7,lag=0\r\nslave1:ip=h,state=wait_bgsave,offset=0,lag=0\r\n"
    third.answer(b":0\r\n", _bulk(slaves + b"master_repl_offset:9\r\n"))
    assert progress == [(9, [7])]
    assert seen.count == 0
    third.answer(b":1\r\n")
    assert seen.values == [1]
    third.count(new=True, progress=progress)
    third.answer(b":0\r\n", _bulk(b""), b":0\r\n")
    assert progress[1:] == [(-1, [])]


@pytest.mark.parametrize(("due", "wait"), [(0.1, b"50"), (0.0, b"1"), (-1.0, b"1"), (100.0, b"100")])
def test_a_wait_ends_in_time_to_ask_again(due: float, wait: bytes) -> None:
    """It is never 0, which is for ever."""
    assert _Counting().count(due, new=True)[1][-1] == b"WAIT 1 " + wait
