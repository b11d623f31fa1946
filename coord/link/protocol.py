"""The two connections, on txredisapi's protocol class.

Importing this module imports txredisapi, which installs the global reactor: so it is imported when the first link is
opened, not before. Of txredisapi we take the connection's life and the queue that matches replies to commands. Its
connecting, its converting of what looks like a number and its subscribing are left alone; docs/architecture.md says
why. Commands are encoded, and replies parsed, by hiredis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

import hiredis
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txredisapi import ConnectionError as TxConnectionError
from txredisapi import RedisProtocol

from coord.link.forks import check_fork, close_descriptor, track
from coord.link.replies import LinkLost, ServerError
from coord.link.tls import explain_loss

_TLS_ALERT: Final = b"\x15\x03"
_NOTHING: Final = nullcontext()
_FEED_BYTES: Final = 8192
"""Bytes that the parser is fed at once: it moves all that it has left after each kilobyte that it has read."""

_PING: Final = hiredis.pack_command((b"PING",))

__all__ = ["CommandConnection", "Connection", "Listener", "SubscriberConnection", "factory_of"]


class Listener(Protocol):
    """Who hears what arrives on the subscriber."""

    def subscribed(self, channel: bytes) -> None:
        """A SUBSCRIBE was confirmed."""

    def unsubscribed(self, channel: bytes) -> None:
        """An UNSUBSCRIBE was confirmed."""

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused one SUBSCRIBE, all channels of it."""

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused one UNSUBSCRIBE, all channels of it."""

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """A message came."""


class Connection(RedisProtocol):  # type: ignore[misc]  # txredisapi has no annotations
    """One connection: asks, and answers in order.

    ``lost`` is called once with the reason when it is gone. What has arrived is passed on inside of
    ``receive_context``. ``received`` counts what arrived; the heartbeat looks at it.
    """

    transport: Any

    def __init__(self, lost: Callable[[str], None], receive_context: AbstractContextManager[None] = _NOTHING) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._reader = hiredis.Reader(replyError=ServerError)
        self._lost = lost
        self._receive_context = receive_context
        self.received = 0
        self._dropped = False
        track(self)
        # The transport, where it is a socket and nothing around one.
        self._socket: Any = None

    def makeConnection(self, transport: Any) -> None:  # noqa: D102 - Twisted's
        check_fork()
        if self._dropped:
            # It was on its way when the fork came.
            close_descriptor(transport)
            return
        # By its type: what wraps a socket, as TLS does, shows the socket's methods as if they were its own, and what
        # is written with those would go out in plain text.
        if isinstance(transport, FileDescriptor) and not getattr(transport, "TLS", False):
            self._socket = transport
        # Twisted's Unix sockets say that they are TCP, too.
        if ITCPTransport.providedBy(transport) and not isinstance(transport.getPeer(), UNIXAddress):
            # Else the kernel holds back what is sent until the other side has acknowledged what was sent before
            # (Nagle), which takes it up to 40 ms where it has nothing to answer yet. Twisted leaves that on.
            transport.setTcpNoDelay(True)
        super().makeConnection(transport)

    def forked(self) -> None:
        """Leave the connection to the parent: nothing that goes over it from here, or ends it, may be ours."""
        self._dropped = True
        # Now nothing can be asked any more; who has asked hears in `left_to_parent`.
        self.connected = 0
        self._socket = None
        close_descriptor(self.transport)
        self.transport = None

    def fail_inherited(self) -> None:
        """Tell who has asked, and is not answered, that no answer will come here."""
        super().connectionLost(Failure(ConnectionDone()))

    def abort(self) -> None:
        """End it now, if it was made and is not the parent's."""
        if self.transport is not None:
            self.transport.abortConnection()

    @property
    def asking(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self.replyQueue.waiting)

    def ask(self, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        """Send one command; the reply's errors come as `ServerError`, a lost connection as `LinkLost`.

        :param others_first: have the server write what the command has for others before its answer to us. Redis and
            Valkey write to clients in the reverse of the order in which they came to have something to be written
            (``putClientInPendingWriteQueue``): so a PING goes ahead, in the same packet, and the waiter for a lone
            fire is woken some 20 us sooner.
        """
        if not self.connected:
            return fail(LinkLost())
        # As execute_command does, but with hiredis' encoder: a batch has hundreds of arguments.
        command = hiredis.pack_command(args)
        if others_first:
            # The answer to the PING is nobody's.
            self.replyQueue.get()
        answer: Deferred[Any] = self.replyQueue.get()
        answer.addCallback(_raised)
        # Last: a server on the same core runs when this process sleeps.
        self._write(_PING + command if others_first else command)
        return answer

    def _write(self, data: bytes) -> None:
        """Send what the socket takes at once, and leave the rest to Twisted.

        Twisted itself would send it in the reactor's next round, some 15 us later, and have the kernel watch the
        socket until then, which takes 4 us more.
        """
        socket = self._socket
        # What Twisted has still to send goes first. It has no public way to ask whether there is anything.
        idle = socket is not None and not (socket.dataBuffer or socket._tempDataBuffer)
        if idle and socket.connected and not socket.disconnecting:
            sent = socket.writeSomeData(data)
            # An exception is for the reactor, which finds the same when it tries.
            data = data[sent:] if isinstance(sent, int) else data
        if data and self.transport is not None:
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:  # noqa: D102 - Twisted's
        self.received += 1
        with self._receive_context:
            for start in range(0, len(data), _FEED_BYTES):
                self._reader.feed(data[start : start + _FEED_BYTES])
                if not self._pass_on():
                    self._not_redis(data)
                    return

    def _pass_on(self) -> bool:
        """Pass on the replies that are whole; answer whether they were in the Redis protocol."""
        gets, received = self._reader.gets, self.replyReceived
        while True:
            try:
                reply = gets()
            except (hiredis.ProtocolError, TypeError):
                # TypeError: a map (RESP3) whose key is none in Python.
                return False
            if reply is False:
                return True
            received(reply)

    def _not_redis(self, data: bytes) -> None:
        # The alert is what TLS answers to plain text.
        hint = "; it speaks TLS: the URL has to begin with rediss://" if data.startswith(_TLS_ALERT) else ""
        self._lost(f"what answers there does not speak the Redis protocol{hint}")
        self.abort()

    def connectionLost(self, why: Failure) -> None:  # noqa: D102 - Twisted's
        message = explain_loss(why.value)
        if not self.received and why.check(ConnectionDone):
            message = "the server hung up without a word (if it speaks TLS, the URL has to begin with rediss://)"
        self._lost(message)
        super().connectionLost(why)


def _raised(reply: Any) -> Any:
    """Return a reply, or raise the error that it is."""
    if isinstance(reply, TxConnectionError):
        raise LinkLost
    if isinstance(reply, ServerError):
        raise reply
    return reply


class CommandConnection(Connection):
    """The connection that asks."""


class SubscriberConnection(Connection):
    """The connection that listens. Before `listen` it can be asked; afterwards it can not (RESP2)."""

    def __init__(self, lost: Callable[[str], None], receive_context: AbstractContextManager[None] = _NOTHING) -> None:
        super().__init__(lost, receive_context)
        self._listener: Listener | None = None
        # SUBSCRIBEs and UNSUBSCRIBEs not fully confirmed, oldest first: [verb, channels, confirmations still to come].
        # A refusal names no channel; it is the answer to the oldest one.
        self._requests: deque[list[Any]] = deque()
        self._confirmations = 0

    @property
    def progress(self) -> int:
        """How many confirmations (or refusals) came, where one is outstanding; else -1. The heartbeat compares it."""
        return self._confirmations if self._requests else -1

    def set_listener(self, listener: Listener) -> None:
        """From now on, what arrives goes to ``listener``."""
        self._listener = listener

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Subscribe; each confirmation comes to the listener."""
        self._request(b"SUBSCRIBE", channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Unsubscribe; each confirmation comes to the listener."""
        self._request(b"UNSUBSCRIBE", channels)

    def ping(self) -> None:
        """Have the server say something; nobody is told what."""
        self._write(_PING)

    def _request(self, verb: bytes, channels: Sequence[bytes]) -> None:
        # Not through execute_command: its Deferred would take the first confirmation and let the others answer
        # whatever is asked next.
        self._requests.append([verb, channels, len(channels)])
        self._write(hiredis.pack_command((verb, *channels)))

    def replyReceived(self, reply: Any) -> None:  # noqa: D102 - txredisapi's
        listener = self._listener
        if listener is None:
            super().replyReceived(reply)
        elif isinstance(reply, list):
            # Not `match`, which takes three times as long; every wake-up passes here.
            if len(reply) != 3 or type(reply[1]) is not bytes:
                return
            verb, channel, payload = reply
            if verb != b"message":
                self._confirmed(listener, verb, channel)
            elif type(payload) is bytes:
                listener.message_received(channel, payload)
        elif isinstance(reply, ServerError) and self._requests:
            verb, channels, _ = self._requests.popleft()
            self._confirmations += 1
            tell = listener.subscribe_refused if verb == b"SUBSCRIBE" else listener.unsubscribe_refused
            tell(channels, str(reply))

    def _confirmed(self, listener: Listener, verb: bytes, channel: bytes) -> None:
        if verb == b"subscribe":
            self._count()
            listener.subscribed(channel)
        elif verb == b"unsubscribe":
            self._count()
            listener.unsubscribed(channel)

    def _count(self) -> None:
        self._confirmations += 1
        if self._requests:
            oldest = self._requests[0]
            oldest[2] -= 1
            if oldest[2] <= 0:
                self._requests.popleft()


def factory_of(connection: Connection) -> Any:
    """Return the factory of one connection, to connect it with an endpoint."""
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False
    return factory
