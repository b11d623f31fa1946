"""The connections of a link: opened together, proven to be to one primary, and lost together.

The proof is a number that is published on the command connection and arrives on the subscriber. The heartbeat repeats
it, so it tests the whole path of a wake-up. It would also arrive on a replica, so each heartbeat asks for the server's
role, too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.link.handshake import NotAPrimary
from coord.link.protocol import CommandConnection, Connection, SubscriberConnection
from coord.link.receiver import Receiver
from coord.link.replica_writer import OnProgress, ReplicaWriter
from coord.link.replication import Data, Replication, fields_of
from coord.link.replies import LinkLost, ServerError, means_another_server, will_pass

__all__ = ["Connections"]

_COUNT_CLIENTS = 12
"""Heartbeats between two counts of the server's clients; their number changes slowly."""


class Connections:
    """An open link.

    ``process`` is the run id of the server process, ``clients`` its latest number of clients. ``on_lost`` is called
    once, when any connection is gone; ``on_postponed`` with the server's message if it has no time for a heartbeat.

    :param receiver: gets the events of the subscriber; its context is entered around all that is received.
    """

    def __init__(
        self,
        channel: bytes,
        clock: Any,
        interval: float,
        receiver: Receiver,
        connect: Callable[[Connection], Coroutine[Any, Any, bytes]],
    ) -> None:
        receive_context = receiver.receive_context
        self.command = CommandConnection(self.lose, receive_context)
        self.subscriber = SubscriberConnection(self.lose, receive_context)
        self.process = b""
        self.clients = 0
        self._replication: Replication | None = None
        self.on_lost: Callable[[str], None] = lambda _: None
        self.on_heartbeat: Callable[[], None] = lambda: None
        self.round_trip = inf
        self.on_postponed: Callable[[str], None] = lambda _: None
        self.lost: str | None = None
        self._closed: Deferred[None] | None = None
        self._channel = channel
        self._clock = clock
        self._interval = interval
        self._receiver = receiver
        self._connect = connect
        self._replicas = ReplicaWriter(channel, connect, self.lose, receive_context, clock, interval)
        self._proof: Deferred[None] | None = None
        self._proof_number = 0
        self._timer: Any = None
        self._last_progress: tuple[int, ...] = (-1, -1, -1, -1)

    def lose(self, reason: str) -> None:
        """Close all connections, and call ``on_lost``; later calls do nothing."""
        if self.lost is not None:
            return
        self.lost = reason
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._abort()
        if self._proof is not None:
            self._proof.errback(LinkLost())
            self._proof = None
        self.on_lost(reason)
        self._end_waiting()

    def abort(self) -> None:
        """Close all connections."""
        self.lose("closed")

    def wait_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when all connections are closed."""
        closed = self._closed = Deferred()
        if self.lost is not None:
            self._end_waiting()
        return closed

    def _end_waiting(self) -> None:
        if self._closed is not None:
            # In the reactor's next turn, when the transports have closed, too.
            self._clock.callLater(0, self._closed.callback, None)

    def forked(self, reason: str) -> None:
        """Be lost, in the child of a fork, without calling back; see `fail_inherited`."""
        self.lost = reason

    def fail_inherited(self) -> None:
        """Fail all unanswered commands."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for connection in (self.command, self.subscriber, self._replicas.connection):
            connection.fail_inherited()

    def _abort(self) -> None:
        for connection in (self.command, self.subscriber, self._replicas):
            connection.abort()

    async def open(self) -> None:
        """Connect, and prove that both connections are to one primary.

        :raises ServerError: the server refused a command.
        :raises NotAPrimary: the server is a replica, or the connections are to two servers.
        :raises LinkLost: a connection was lost meanwhile.

        It also raises what the endpoint raises.
        """
        try:
            self.process = await self._connect(self.command)
            if await self._connect(self.subscriber) != self.process:
                raise NotAPrimary("the two connections reached two different servers")
            if self.lost is not None:
                # The first connection was lost while the second was made: the proof would never arrive.
                raise LinkLost(self.lost)
            await self._subscribe_own_channel()
            await self.prove()
        except BaseException:
            # Also if cancelled: no connection outlives a failed attempt, not even one made after the other was lost.
            self.lose("the link could not be made")
            self._abort()
            raise
        self._schedule_heartbeat()

    @property
    def data(self) -> Data:
        """The identity of the server's data, as of the last heartbeat."""
        return self.process, self._replication

    def has_still(self, data: Data) -> bool:
        """Whether the server still has the data that an earlier link found."""
        process, before = data
        now = self._replication
        return process == self.process and now is not None and not now.differs_from(before)

    async def count_replicas(self, wanted: int, due: float, on_progress: OnProgress | None, *, new: bool) -> int:
        """See `ReplicaWriter.count`; this opens its connection the first time."""
        await self._replicas.open(self.process)
        return await self._replicas.count(wanted, due, on_progress, new=new)

    # The heartbeat.

    async def prove(self) -> None:
        """Publish the next number; return once it has arrived and the server has said that it is still a primary.

        :raises ServerError: the server refused to publish.
        :raises LinkLost: it is no primary, or a connection was lost.
        """
        sent = self._clock.seconds()
        proof = self._proof = Deferred()
        # Wait for both: the reply and the number come on two connections, in any order.
        role = self.command.ask(b"INFO", b"replication").addCallback(self._role_received).addErrback(self._unanswered)
        if self._proof_number % _COUNT_CLIENTS == 0:
            self.command.ask(b"INFO", b"clients").addCallback(self._clients_received).addErrback(lambda _: None)
        self._proof_number += 1
        self.command.ask(b"PUBLISH", self._channel, b"%d" % self._proof_number).addErrback(self._unanswered)
        await proof
        self.round_trip = self._clock.seconds() - sent
        await role
        if self.lost is not None:
            raise LinkLost

    def _schedule_heartbeat(self) -> None:
        """Schedule the next heartbeat; if it is not answered within the interval, the link is lost."""
        self._timer = self._clock.callLater(self._interval, self._heartbeat, self._clock.seconds() + self._interval)

    def _heartbeat(self, due: float) -> None:
        if self.lost is not None:
            return
        # After a pause of this process (a busy reactor, SIGSTOP), received data is not read yet: do not judge now.
        away = self._clock.seconds() - due > self._interval / 2
        if not away and self._silent(*self._last_progress):
            self.lose(f"the server has not answered for {self._interval:g} s")
            return
        if self._proof is None:
            Deferred.fromCoroutine(self.prove()).addCallbacks(lambda _: self.on_heartbeat(), lambda _: None)
        self._last_progress = self._progress()
        self._schedule_heartbeat()

    def _progress(self) -> tuple[int, ...]:
        """Return the counters of everything outstanding: replies, our own number, confirmations (-1: nothing is).

        Each is needed: a connection can die in one direction only. Then the number, which is sent on one connection and
        received on the other, still arrives.
        """
        return (
            self.command.received if self.command.asking else -1,
            self.subscriber.received if self._proof is not None else -1,
            self.subscriber.progress,
            self._replicas.progress,
        )

    def _silent(self, *last: int) -> bool:
        """Whether something was outstanding at the last heartbeat and has made no progress since."""
        return any(before == now != -1 for before, now in zip(last, self._progress(), strict=True))

    def _role_received(self, info: bytes) -> None:
        before, self._replication = self._replication, Replication.of(info)
        reason = self._replication.differs_from(before)
        if reason:
            self.lose(reason)

    def _clients_received(self, info: bytes) -> None:
        self.clients = int(fields_of(info).get(b"connected_clients", b"0"))

    def _unanswered(self, failure: Failure) -> None:
        if not failure.check(LinkLost):
            self._proof_refused(str(failure.value))

    def _proof_refused(self, message: str) -> None:
        """Take the refusal of a proof. A server that only has no time is alive; the next heartbeat tries again."""
        if self._proof is not None:
            proof, self._proof = self._proof, None
            proof.errback(ServerError(message))
        if will_pass(message, writing=False) and not means_another_server(message):
            self.on_postponed(message)
        else:
            self.lose(message)

    # Events of the subscriber connection, without those of the heartbeat's channel.

    def subscribed(self, channel: bytes) -> None:
        """Pass on a confirmation; `open` waits for the one of our own channel."""
        if channel != self._channel:
            self._receiver.subscribed(channel)
        elif self._proof is not None:
            proof, self._proof = self._proof, None
            proof.callback(None)

    def unsubscribed(self, channel: bytes) -> None:
        """Pass on a confirmation."""
        self._receiver.unsubscribed(channel)

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Pass on a refusal."""
        if list(channels) == [self._channel] or means_another_server(message):
            self._proof_refused(message)
        else:
            self._receiver.subscribe_refused(channels, message)

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Pass on a refusal; if the server has changed its role, the heartbeat finds out."""
        self._receiver.unsubscribe_refused(channels, message)

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """Pass on a message; our own number is the proof."""
        if channel != self._channel:
            self._receiver.message_received(channel, payload)
        elif self._proof is not None and payload == b"%d" % self._proof_number:
            proof, self._proof = self._proof, None
            proof.callback(None)

    def _subscribe_own_channel(self) -> Deferred[None]:
        """Subscribe to our own channel; return a Deferred that fires when that is confirmed."""
        confirmed = self._proof = Deferred()
        self.subscriber.set_listener(self)
        self.subscriber.subscribe([self._channel])
        return confirmed
