"""The subscriber of a cluster's server: whose answer is whose, with what the server says written by the test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import hiredis
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from coord.link.protocol import CommandConnection
from coord.link.replies import LinkLost
from coord.link.shard_connections import ShardSubscriber
from support.cluster import Seen

_A, _B, _C = b"coord:0:{default/a}:k", b"coord:0:{default/a}:l", b"coord:0:{default/b}:k"


class _Heard:
    """Notes each event."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def subscribed(self, channel: bytes) -> None:
        """Note it."""
        self.events.append(("subscribed", channel))

    def unsubscribed(self, channel: bytes) -> None:
        """Note it."""
        self.events.append(("unsubscribed", channel))

    def left(self, channel: bytes) -> None:
        """Note it."""
        self.events.append(("left", channel))

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """Note it."""
        self.events.append(("message", channel, payload))

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Note it."""
        self.events.append(("subscribe refused", *channels))

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Note it."""
        self.events.append(("unsubscribe refused", *channels))

    def take(self) -> list[tuple[object, ...]]:
        """Return the events since the last time."""
        events, self.events = self.events, []
        return events


def _subscriber(*, classic: bool = False) -> tuple[ShardSubscriber, _Heard]:
    subscriber, heard = ShardSubscriber(lambda _: None, nullcontext(), classic=classic), _Heard()
    subscriber.makeConnection(StringTransport())
    subscriber.set_listener(heard)
    return subscriber, heard


def _sent(connection: Any) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(connection.transport.value())
    connection.transport.clear()
    commands = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


def _push(verb: bytes, channel: bytes) -> bytes:
    return b">3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(verb), verb, len(channel), channel)


def test_asking_stands_directly_before_its_command() -> None:
    """It is good for exactly the next command, so not even the PING of a lone call may come between the two."""
    connection = CommandConnection(lambda _: None)
    connection.makeConnection(StringTransport())
    seen = Seen(connection.ask_as_guest(b"EVALSHA", b"x", others_first=True))
    assert _sent(connection) == [[b"PING"], [b"ASKING"], [b"EVALSHA", b"x"]]
    connection.dataReceived(b"+PONG\r\n+OK\r\n:7\r\n")
    assert seen.values == [7]
    subscriber, _ = _subscriber()
    subscriber.join(1, [_A, _B], guest=True)
    subscriber.leave(1, [_A], guest=True)
    assert _sent(subscriber) == [
        [b"ASKING"], [b"SSUBSCRIBE", _A, _B], [b"ASKING"], [b"SUNSUBSCRIBE", _A],
    ]  # fmt: skip


def test_an_error_belongs_to_the_slot_that_it_names() -> None:
    """A push that crosses the end of a subscription leaves an error over, which refuses no other map."""
    subscriber, heard = _subscriber()
    subscriber.join(1, [_A], guest=False)
    subscriber.dataReceived(_push(b"ssubscribe", _A))
    subscriber.leave(1, [_A], guest=False)
    subscriber.join(2, [_C], guest=False)
    subscriber.dataReceived(_push(b"sunsubscribe", _A) + b"-MOVED 1 127.0.0.1:7\r\n" + _push(b"ssubscribe", _C))
    assert heard.take() == [("subscribed", _A), ("unsubscribed", _A), ("subscribed", _C)]
    assert subscriber.progress == -1


def test_a_push_is_no_answer() -> None:
    """The server ends a subscription unasked, while another channel of the map is being subscribed to."""
    subscriber, heard = _subscriber()
    subscriber.join(1, [_A], guest=False)
    subscriber.dataReceived(_push(b"ssubscribe", _A))
    subscriber.join(1, [_B], guest=False)
    subscriber.dataReceived(_push(b"sunsubscribe", _A) + b"-MOVED 1 127.0.0.1:7\r\n")
    assert heard.take() == [("subscribed", _A), ("left", _A), ("subscribe refused", _B)]


def test_refusals_without_a_slot_answer_the_oldest_request() -> None:
    """A missing permission names no slot."""
    subscriber, heard = _subscriber()
    subscriber.join(1, [_A], guest=False)
    subscriber.leave(2, [_C], guest=False)
    subscriber.dataReceived(b"-NOPERM no permissions\r\n-NOPERM no permissions\r\n-NOPERM no permissions\r\n")
    assert heard.take() == [("subscribe refused", _A), ("unsubscribe refused", _C)]


def test_behind_a_mark_no_earlier_answer_comes() -> None:
    """A mark is passed when its own echo has come, and lost with the connection."""
    subscriber, heard = _subscriber()
    first, second = Seen(subscriber.mark()), Seen(subscriber.mark())
    assert _sent(subscriber) == [[b"PING", b"1"], [b"PING", b"2"]]
    subscriber.dataReceived(b"+OK\r\n$1\r\n1\r\n" + _push(b"smessage", _A))
    assert (first.values, second.values, heard.take()) == ([None], [], [])
    subscriber.connectionLost(Failure(ConnectionDone()))
    assert [type(error) for error in second.errors] == [LinkLost]
    assert [type(error) for error in Seen(subscriber.mark()).errors] == [LinkLost]


def test_without_sharded_pub_sub() -> None:
    """Redis 6 has the classic verbs only, which need no ASKING."""
    subscriber, heard = _subscriber(classic=True)
    subscriber.join(1, [_A], guest=True)
    subscriber.leave(1, [_A], guest=True)
    assert _sent(subscriber) == [[b"SUBSCRIBE", _A], [b"UNSUBSCRIBE", _A]]
    subscriber.dataReceived(_push(b"subscribe", _A) + _push(b"unsubscribe", _A))
    subscriber.dataReceived(b">3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$1\r\nx\r\n" % (len(_A), _A))
    assert heard.take() == [("subscribed", _A), ("unsubscribed", _A), ("message", _A, b"x")]
