"""The connections to one server of a cluster, which serves many maps: each map's requests are told apart by its slot.

The subscriber speaks RESP3: in RESP2 a connection that subscribes may not send ASKING, so a map on the move could not
be followed. What counts for a map is a read, never the subscription: while a slot moves, a server confirms
subscriptions to channels of which it sends no message any more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, Protocol

import hiredis
from twisted.internet.defer import Deferred, fail

from coord.core.slots import parse_redirect
from coord.link.connections import Connections
from coord.link.protocol import ASKING, Connection, SubscriberConnection
from coord.link.receiver import Listener
from coord.link.replies import LinkLost, ServerError

__all__ = ["ShardConnections", "ShardListener", "ShardSubscriber"]

_SUBSCRIBES = (b"subscribe", b"ssubscribe")
_OWN = -1
"""Stands for the slot of what belongs to no map."""


class ShardListener(Listener, Protocol):
    """Receives the events of a `ShardSubscriber`."""

    def left(self, channel: bytes) -> None:
        """The server has ended a subscription unasked: it does not serve the channel's slot any more."""


class _Request:
    """A request that is not fully answered: its verb, slot, and the channels that are not confirmed."""

    __slots__ = ("channels", "missing", "slot", "verb")

    def __init__(self, verb: bytes, slot: int, channels: Sequence[bytes]) -> None:
        self.verb, self.slot, self.channels = verb, slot, channels
        self.missing = set(channels)


class ShardSubscriber(SubscriberConnection):
    """The connection for the subscriptions of many maps.

    A push may cross a request for the same channel, which is then answered by an error. So confirmations are matched by
    their channel, and errors by the slot that they name: by their places, another map's request would be refused.

    :param classic: the server has no sharded pub/sub (Redis 6).
    """

    def __init__(
        self, lost: Callable[[str], None], receive_context: AbstractContextManager[None], *, classic: bool
    ) -> None:
        super().__init__(lost, receive_context)
        self._open: list[_Request] = []
        self._marks: dict[bytes, Deferred[None]] = {}
        self._numbers = count(1)
        self.classic = classic

    @property
    def progress(self) -> int:
        """The number of confirmations and refusals so far, for the heartbeat; -1 if none is outstanding."""
        return self._confirmations if self._open else -1

    def join(self, slot: int, channels: Sequence[bytes], *, guest: bool) -> None:
        """Subscribe to channels of one slot; ``guest``: the server is only about to get it."""
        if self.classic:
            self._ask(b"SUBSCRIBE", slot, channels)
        else:
            self._ask(b"SSUBSCRIBE", slot, channels, guest=guest)

    def leave(self, slot: int, channels: Sequence[bytes], *, guest: bool) -> None:
        """Unsubscribe from channels of one slot."""
        if self.classic:
            self._ask(b"UNSUBSCRIBE", slot, channels)
        else:
            self._ask(b"SUNSUBSCRIBE", slot, channels, guest=guest)

    def mark(self) -> Deferred[None]:
        """Return a Deferred that fires once all answers to earlier requests have come; errbacks `LinkLost`."""
        if not self.connected:
            return fail(LinkLost())
        mark = b"%d" % next(self._numbers)
        passed = self._marks[mark] = Deferred()
        self._write(hiredis.pack_command((b"PING", mark)))
        return passed

    def _request(self, verb: bytes, channels: Sequence[bytes]) -> None:
        self._ask(verb, _OWN, channels)

    def _ask(self, verb: bytes, slot: int, channels: Sequence[bytes], *, guest: bool = False) -> None:
        self._open.append(_Request(verb, slot, channels))
        command = hiredis.pack_command((verb, *channels))
        # ASKING is good for exactly the next command; its answer is ignored.
        self._write(ASKING + command if guest else command)

    def connectionLost(self, why: Any) -> None:  # noqa: D102 - Twisted's
        super().connectionLost(why)
        marks, self._marks = self._marks, {}
        for mark in marks.values():
            mark.errback(LinkLost())

    def replyReceived(self, reply: Any) -> None:  # noqa: D102 - txredisapi's
        listener: Any = self._listener
        if listener is None:
            super().replyReceived(reply)
        elif isinstance(reply, list):
            if len(reply) != 3 or type(reply[1]) is not bytes:
                return
            verb, channel, payload = reply
            if verb not in (b"smessage", b"message"):
                self._confirmed_by(listener, verb, channel)
            elif type(payload) is bytes:
                listener.message_received(channel, payload)
        elif isinstance(reply, ServerError):
            self._refused(listener, str(reply))
        elif type(reply) is bytes and (mark := self._marks.pop(reply, None)) is not None:
            mark.callback(None)

    def _confirmed_by(self, listener: ShardListener, verb: bytes, channel: bytes) -> None:
        for request in self._open:
            if request.verb.lower() == verb and channel in request.missing:
                request.missing.remove(channel)
                self._confirmations += 1
                if not request.missing:
                    self._open.remove(request)
                (listener.subscribed if verb in _SUBSCRIBES else listener.unsubscribed)(channel)
                return
        if verb == b"sunsubscribe":
            listener.left(channel)

    def _refused(self, listener: ShardListener, message: str) -> None:
        redirect = parse_redirect(message)
        slot = None if redirect is None or redirect.slot < 0 else redirect.slot
        request = next((each for each in self._open if slot is None or each.slot == slot), None)
        if request is None:
            return
        self._open.remove(request)
        self._confirmations += 1
        subscribing = request.verb.lower() in _SUBSCRIBES
        (listener.subscribe_refused if subscribing else listener.unsubscribe_refused)(request.channels, message)


class ShardConnections(Connections):
    """An open link to one server of a cluster.

    Its heartbeat goes by classic pub/sub: a server that is about to get its first slot has no channel of
    the other kind.
    """

    def __init__(
        self,
        channel: bytes,
        clock: Any,
        interval: float,
        receiver: Any,
        connect: Callable[[Connection], Coroutine[Any, Any, bytes]],
        *,
        classic: bool,
    ) -> None:
        super().__init__(channel, clock, interval, receiver, connect)
        self.maps = ShardSubscriber(self.lose, receiver.receive_context, classic=classic)
        self.subscriber = self.maps

    def left(self, channel: bytes) -> None:
        """Pass on that the server has ended a subscription."""
        receiver: Any = self._receiver
        receiver.left(channel)
