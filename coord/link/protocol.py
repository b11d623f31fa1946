"""The protocols of the connections, based on txredisapi's.

This module is imported only when the first link is opened, because it imports txredisapi and OpenSSL.
We use txredisapi's connection lifecycle and its queue that matches replies to commands. We do not use its connecting,
its conversion of numbers and its subscribing; docs/architecture.md says why. hiredis encodes commands and parses
replies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import hiredis
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from coord.link.forks import check_fork, close_descriptor, track
from coord.link.receiver import Listener
from coord.link.replies import LinkLost, ServerError
from coord.link.tls import explain_loss
from coord.link.txredis import RedisProtocol, TxConnectionError
from coord.link.writing import plain_socket, write_now

# How servers of other protocols answer our first command, or greet. The first is the alert that TLS answers to plain
# text. Nothing else of an answer is shown: it may repeat what we sent, a password included.
_OTHER_PROTOCOLS: Final = (
    (b"\x15\x03", "it speaks TLS: the URL has to begin with rediss:// (or rediss+sentinel://)"),
    (b"HTTP/", "it is an HTTP server"),
    (b"SSH-", "it is an SSH server"),
    (b"AMQP", "it is a message broker (AMQP)"),
    (b"220", "it is a mail or FTP server"),
    (b"ERROR\r\n", "it seems to be memcached"),
)
_NOTHING: Final = nullcontext()
_FEED_BYTES: Final = 8192
"""Bytes that the parser gets at once: after each kilobyte, it moves all that is left."""

_PING: Final = hiredis.pack_command((b"PING",))
ASKING: Final = hiredis.pack_command((b"ASKING",))

__all__ = ["ASKING", "CommandConnection", "Connection", "SubscriberConnection", "connect_to"]


class Connection(RedisProtocol):  # type: ignore[misc]  # txredisapi has no annotations
    """One connection: sends commands, and gets their replies in order.

    ``lost`` is called once, with the reason, when the connection is gone. ``receive_context`` is entered around the
    delivery of received data. ``received`` counts deliveries, for the heartbeat.
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
        # The transport, once `write_now` may use it.
        self._socket: Any = None

    def makeConnection(self, transport: Any) -> None:  # noqa: D102 - Twisted's
        check_fork()
        if self._dropped:
            # The connection was being made during the fork.
            close_descriptor(transport)
            return
        # Twisted's Unix sockets say that they are TCP, too.
        if ITCPTransport.providedBy(transport) and not isinstance(transport.getPeer(), UNIXAddress):
            # Nagle's algorithm, which Twisted leaves on, holds data back until earlier data is acknowledged: up to
            # 40 ms later if acknowledgements are delayed.
            transport.setTcpNoDelay(True)
        super().makeConnection(transport)

    def write_directly(self) -> None:
        """Write to the socket without Twisted from now on; called once the server has answered.

        A server may send an error and close the connection at once. In the reactor's turn in which the connection is
        made, Twisted tries to write after us: it would find the connection closed, and never read the error.
        """
        self._socket = plain_socket(self.transport)

    def forked(self) -> None:
        """Leave the connection to the parent: this process must neither use nor close it."""
        self._dropped = True
        # From now on no command can be sent; `fail_inherited` fails the unanswered ones.
        self.connected = 0
        self._socket = None
        close_descriptor(self.transport)
        self.transport = None

    def fail_inherited(self) -> None:
        """Fail all unanswered commands: the answers go to the parent."""
        super().connectionLost(Failure(ConnectionDone()))

    def abort(self) -> None:
        """Close the connection at once, if it was made and does not belong to the parent."""
        if self.transport is not None:
            self.transport.abortConnection()

    @property
    def asking(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self.replyQueue.waiting)

    def ask(self, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        """Send one command; errback `ServerError` for an error reply, `LinkLost` if the connection is lost.

        :param others_first: have the server write the messages that this command causes before the reply to it. Redis
            and Valkey flush client buffers newest first (``putClientInPendingWriteQueue``): so a PING is sent ahead in
            the same packet, which wakes the waiter for a lone fire some 20 us sooner.
        """
        if not self.connected:
            return fail(LinkLost())
        # As execute_command does, but with hiredis' encoder: a batch has hundreds of arguments.
        command = hiredis.pack_command(args)
        if others_first:
            # Ignore the reply to the PING.
            self.replyQueue.get()
        answer: Deferred[Any] = self.replyQueue.get()
        answer.addCallback(_raised)
        # Last: a server on the same core runs only when this process sleeps.
        self._write(_PING + command if others_first else command)
        return answer

    def _write(self, data: bytes) -> None:
        left = write_now(self._socket, data)
        if left and self.transport is not None:
            self.transport.write(left)

    def dataReceived(self, data: bytes) -> None:  # noqa: D102 - Twisted's
        self.received += 1
        with self._receive_context:
            for start in range(0, len(data), _FEED_BYTES):
                self._reader.feed(data[start : start + _FEED_BYTES])
                if not self._pass_on():
                    self._not_redis(data)
                    return

    def _pass_on(self) -> bool:
        """Pass on all complete replies; return whether they were in the Redis protocol."""
        gets, received = self._reader.gets, self.replyReceived
        while True:
            try:
                reply = gets()
            except (hiredis.ProtocolError, TypeError):
                # TypeError: a map (RESP3) with an unhashable key.
                return False
            if reply is False:
                return True
            received(reply)

    def _not_redis(self, data: bytes) -> None:
        known = _OTHER_PROTOCOLS if self.received == 1 else ()
        hint = "".join(f"; {what}" for start, what in known if data.startswith(start))
        self._lost(f"what answers there does not speak the Redis protocol{hint}")
        self.abort()

    def connectionLost(self, why: Failure) -> None:  # noqa: D102 - Twisted's
        message = explain_loss(why.value)
        if not self.received and why.check(ConnectionDone):
            message = "the server hung up without a word (if it speaks TLS, the URL has to begin with rediss://)"
        self._lost(message)
        super().connectionLost(why)


def _raised(reply: Any) -> Any:
    """Return a reply, or raise it if it is an error."""
    if isinstance(reply, TxConnectionError):
        raise LinkLost
    if isinstance(reply, ServerError):
        raise reply
    return reply


class CommandConnection(Connection):
    """The connection for commands."""

    def ask_as_guest(self, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        """Do the same as `ask`, at a server of a cluster that is about to get the slot of the command's keys.

        ASKING is good for exactly the next command, so nothing may come between the two.
        """
        if not self.connected:
            return fail(LinkLost())
        ahead = _PING if others_first else b""
        for _ in range(2 if others_first else 1):
            # Ignore the replies to PING and ASKING.
            self.replyQueue.get()
        answer: Deferred[Any] = self.replyQueue.get()
        answer.addCallback(_raised)
        self._write(ahead + ASKING + hiredis.pack_command(args))
        return answer


class SubscriberConnection(Connection):
    """The connection for subscriptions. After `set_listener` it takes no other commands (RESP2)."""

    def __init__(self, lost: Callable[[str], None], receive_context: AbstractContextManager[None] = _NOTHING) -> None:
        super().__init__(lost, receive_context)
        self._listener: Listener | None = None
        # Requests that are not fully confirmed, oldest first: [verb, channels, missing confirmations]. An error reply
        # names no channel; it answers the oldest request.
        self._requests: deque[list[Any]] = deque()
        self._confirmations = 0

    @property
    def progress(self) -> int:
        """The number of confirmations and refusals so far, for the heartbeat; -1 if none is outstanding."""
        return self._confirmations if self._requests else -1

    def set_listener(self, listener: Listener) -> None:
        """Pass all events to ``listener`` from now on."""
        self._listener = listener

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Subscribe; the listener gets a confirmation for each channel."""
        self._request(b"SUBSCRIBE", channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Unsubscribe; the listener gets a confirmation for each channel."""
        self._request(b"UNSUBSCRIBE", channels)

    def ping(self) -> None:
        """Make the server send something; the reply is ignored."""
        self._write(_PING)

    def _request(self, verb: bytes, channels: Sequence[bytes]) -> None:
        # Not with execute_command: its Deferred would take the first confirmation, and the further ones would answer
        # later commands.
        self._requests.append([verb, channels, len(channels)])
        self._write(hiredis.pack_command((verb, *channels)))

    def replyReceived(self, reply: Any) -> None:  # noqa: D102 - txredisapi's
        listener = self._listener
        if listener is None:
            super().replyReceived(reply)
        elif isinstance(reply, list):
            # Every wake-up passes here, and `match` would take three times as long.
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
            refused = listener.subscribe_refused if verb == b"SUBSCRIBE" else listener.unsubscribe_refused
            refused(channels, str(reply))

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


def connect_to(endpoint: Any, connection: Connection) -> Deferred[None]:
    """Connect this connection with an endpoint; called back when it is connected, errbacks what the endpoint does.

    If it is cancelled it errbacks ``CancelledError``, as other Deferreds do. Twisted's endpoints errback other errors
    then, such as ``ConnectingCancelledError`` and ``DNSLookupError``, which ``addTimeout`` does not recognize.
    """

    def cancel(deferred: Deferred[None]) -> None:
        deferred.errback(CancelledError())
        connecting.cancel()

    def ended(result: Any) -> None:
        if connected.called:
            connection.abort()
        elif isinstance(result, Failure):
            connected.errback(result)
        else:
            connected.callback(None)

    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False
    connected: Deferred[None] = Deferred(cancel)
    connecting: Deferred[Any] = endpoint.connect(factory)
    connecting.addBoth(ended)
    return connected
