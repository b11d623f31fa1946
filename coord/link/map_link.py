"""The link of one map of a cluster: it goes from server to server, as the map's slot does.

::

          the slot's server is known, its link is up, the map was read there        ASK
    away -----------------------------------------------------------------> home -------> guest of the target
     ^     MOVED, the server has ended a subscription, its link is lost       |             |
     +------------------------------------------------------------------------+-------------+

To its session it is a `Link` that is lost whenever the map leaves a server, and made when it has come to another. What
counts is a read, never a subscription: while a slot moves, the old server confirms subscriptions and sends no message.
So a map is home only once it was read there, and each heartbeat reads it again. A refusal is certain: what MOVED and
ASK answer was not executed.

Servers hear of a change one after the other, so an answer to CLUSTER SLOTS may be older than what MOVED has said. If it
names another server than the one where a map is home, that server is read first, and the map goes there only if it is
served there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.python.failure import Failure

from coord.core.names import HEAD
from coord.core.slots import Address, Atlas, Redirect, Refusal, parse_redirect, slot_of
from coord.link.backoff import short_pause
from coord.link.link import Link
from coord.link.open_move import HALF, OpenMove
from coord.link.receiver import Receiver
from coord.link.replication import Data
from coord.link.replies import LinkLeft, LinkLost, ServerError, means_another_server, will_pass
from coord.link.scripts import Script
from coord.link.target import Target

if TYPE_CHECKING:
    # They import txredisapi and OpenSSL.
    from coord.link.protocol import CommandConnection
    from coord.link.replica_writer import OnProgress
    from coord.link.shard_connections import ShardConnections

__all__ = ["AnyLink", "MapLink", "Shard", "Shards"]

_HOPS: Final = 3
"""So many refusals are followed at once; then, until a heartbeat, after a pause."""


class Shard(Protocol):
    """One server of the cluster, as a map needs it."""

    address: Address
    maps: dict[bytes, MapLink]

    @property
    def link(self) -> Link:
        """Its link."""

    @property
    def connections(self) -> ShardConnections | None:
        """The open link; ``None`` without one."""

    def use(self) -> None:
        """Keep the link for another while, though no map may be there."""

    def touch(self, context: Any) -> None:
        """Enter a context until the end of the delivery of received data, if there is one now."""


class Shards(Protocol):
    """The servers of the cluster, as a map needs them."""

    target: Target
    clock: Any
    atlas: Atlas
    moves: int
    guests: int

    @property
    def trouble(self) -> str:
        """Why it is not known who serves which slot."""

    def shard(self, address: Address) -> Shard:
        """Return the server at an address; its link is made if there is none."""

    def refresh(self) -> None:
        """Ask soon who serves which slot."""

    def remapped(self, address: Address, asked: Address) -> Address:
        """Return the address at which a server is reached that the server ``asked`` has named."""

    def forget(self, link: MapLink) -> None:
        """Forget a map."""


class MapLink:
    """See the module's docstring.

    ``moving``: it has left its last server because the map moves, and not with its link, and is at no other one yet.

    :param tag: the hash tag of the map.
    """

    attempts = 0

    def __init__(self, shards: Shards, tag: bytes) -> None:
        self.target = shards.target
        self.slot = slot_of(tag)
        self.prefix = b"coord:0:{" + tag
        self.records = b"coord:{%b}" % tag
        self.up = False
        self.moving = False
        self.trouble = ""
        self.shard: Shard | None = None
        self._receiver: Receiver
        self._shards = shards
        self._move: OpenMove | None = None
        # A number for each stay at a server: answers from an earlier one do not count.
        self._stay = 0
        self._hops = 0
        self._timer: Any = None
        self._over = True
        self._open: dict[Deferred[Any], None] = {}
        self._channels: set[bytes] = set()

    # What a session uses.

    def start(self, receiver: Receiver) -> None:
        """Go to the slot's server in the background; pass events to ``receiver``."""
        self._receiver = receiver
        self._over = False
        self.place()

    def close(self) -> Deferred[None]:
        """Leave for good. The connections are other maps', too."""
        self._over = True
        self._unsubscribe_all()
        self._depart()
        self._shards.forget(self)
        self._fail_open()
        return succeed(None)

    def forked(self) -> None:
        """Do nothing more, in the child of a fork."""
        self._over = True
        self.up = False

    def fail_inherited(self) -> None:
        """Fail all unanswered commands."""
        self._fail_open()

    @property
    def guest(self) -> bool:
        """Whether it follows an ASK."""
        return self._move is not None

    @property
    def _connections(self) -> ShardConnections | None:
        return None if self.shard is None else self.shard.connections

    @property
    def process(self) -> bytes:
        """The run id of the server process; empty without a link."""
        connections = self._connections
        return connections.process if self.up and connections is not None else b""

    @property
    def round_trip(self) -> float:
        """The seconds that the last heartbeat of the server took; infinite without a link."""
        return self.shard.link.round_trip if self.up and self.shard is not None else inf

    @property
    def data(self) -> Data | None:
        """The identity of the server's data, for `has_still`."""
        return self.shard.link.data if self.up and self.shard is not None else None

    def has_still(self, data: Data | None) -> bool:
        """Whether the present server has the data that an earlier one had (``data``)."""
        return self.up and self.shard is not None and self.shard.link.has_still(data)

    def ask(self, *args: bytes) -> Deferred[Any]:
        """Send one command; errbacks `ServerError` or `LinkLost`."""
        connections = self._connections
        if not self.up or connections is None:
            return fail(LinkLost())
        answer = self._send(connections.command, *args)
        if self._move is not None:
            answer.addCallback(self._move.check_nothing, args, self._stay)
        return self._issue(answer, of_records=args[1:2] == (self.records,))

    def run_script(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, others_first: bool = False
    ) -> Deferred[Any]:
        """Run a script; see `Link.run_script`."""
        connections = self._connections
        if not self.up or connections is None:
            return fail(LinkLost())
        args = (b"%d" % len(keys), *keys, *arguments)
        command = connections.command

        def not_run(failure: Failure) -> Any:
            failure.trap(ServerError)
            if str(failure.value).startswith("NOSCRIPT"):
                return self._send(command, b"EVAL", script.text, *args)
            return failure

        answer = self._send(command, b"EVALSHA", script.sha, *args, others_first=others_first)
        return self._issue(answer.addErrback(not_run), of_records=self.records in keys)

    def _send(self, command: CommandConnection, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        send = command.ask_as_guest if self.guest else command.ask
        return send(*args, others_first=others_first)

    async def count_replicas(self, wanted: int, due: float, on_progress: OnProgress | None, *, new: bool) -> int:
        """Count the replicas that have all applied calls; see `Link.count_replicas`."""
        if not self.up or self.shard is None:
            raise LinkLost
        return await self.shard.link.count_replicas(wanted, due, on_progress, new=new)

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Subscribe; the receiver gets the confirmations."""
        connections = self._connections
        if self.up and connections is not None:
            self._channels.update(channels)
            connections.maps.join(self.slot, channels, guest=self.guest)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Unsubscribe; the receiver gets the confirmations."""
        connections = self._connections
        if self.up and connections is not None:
            self._channels.difference_update(channels)
            connections.maps.leave(self.slot, channels, guest=self.guest)

    def _unsubscribe_all(self) -> None:
        """End what is left of this stay, at a server that has not refused the map: it would keep the subscriptions."""
        connections = self._connections
        if self.up and connections is not None and self._channels:
            connections.maps.leave(self.slot, list(self._channels), guest=self.guest)
            self._channels.clear()

    def abandon(self, reason: str) -> None:
        """Leave the server, and go to it again."""
        self.leave(reason)
        self._place_soon()

    # While its slot moves.

    def call_across(self, channels: Sequence[bytes]) -> None:
        """Have those read again who still listen at the server from which the map moves; see `OpenMove`."""
        if self._move is not None:
            self._move.call_across(channels)

    def ask_source(self) -> None:
        """Ask the server from which the map moves whether it serves the map again, if this is a guest."""
        if self._move is not None:
            self._move.ask_source(self._stay)

    def _end_move(self) -> None:
        """Be no guest any more."""
        if self._move is not None:
            self._move.end()
            self._move = None

    def is_in(self, stay: int) -> bool:
        """Whether this is still the number of its stay at a server."""
        return stay == self._stay and not self._over

    def return_home(self, reason: str) -> None:
        """The move was called off: leave the target, and go to the slot's server."""
        self._unsubscribe_all()
        self._end_move()
        self.leave(reason)
        self._place_soon()

    # Going from server to server.

    def place(self) -> None:
        """Go to the server of the slot, unless this is there."""
        if self._over:
            return
        address = self._move.target if self._move is not None else self._shards.atlas.owner(self.slot)
        if address is None:
            if self.up:
                # It serves the map until it says otherwise.
                return
            self._stay_away(self._shards.trouble or "no server of the cluster serves the map's slot")
            self._shards.refresh()
            return
        if self.shard is not None and self.shard.address == address:
            return
        shard = self._shards.shard(address)
        if self.up:
            self._look_at(shard)
        else:
            self._go_to(shard)

    def _look_at(self, shard: Shard) -> None:
        """Go to a server that was named, if it serves the map: whoever named it may not have heard of a later change.

        If the link to it is still to be made, `place` is called again then.
        """
        if shard.connections is not None:
            read = shard.connections.command.ask(b"HMGET", self.records, HEAD)
            read.addCallbacks(self._serves, lambda _: None, (shard, self._stay))

    def _serves(self, _: object, shard: Shard, stay: int) -> None:
        if stay == self._stay and self._shards.atlas.owner(self.slot) == shard.address and not self._over:
            self._unsubscribe_all()
            self.leave(f"the map has moved to {shard.address}")
            self.place()

    def _go_to(self, shard: Shard) -> None:
        self._depart()
        self._shards.moves += 1
        self._shards.guests += self.guest
        self.shard = shard
        shard.maps[self.prefix] = self
        if shard.connections is not None:
            self.shard_up()
        elif shard.link.trouble:
            self._stay_away(shard.link.trouble)

    def _stay_away(self, reason: str) -> None:
        self.trouble = reason
        self._receiver.attempt_failed(reason)

    def settle(self) -> None:
        """Stay as no guest, if the slot has come to this server: nobody is told of that.

        Whoever says that may speak of an earlier time, so it is read first, without ASKING.
        """
        if not self.guest or self.shard is None or self._shards.atlas.owner(self.slot) != self.shard.address:
            return
        connections = self._connections
        if not self.up:
            self._settled(None, self._stay)
        elif connections is not None:
            read = connections.command.ask(b"HMGET", self.records, HEAD)
            read.addCallbacks(self._settled, lambda _: None, (self._stay,))

    def _settled(self, _: object, stay: int) -> None:
        if stay == self._stay:
            self._end_move()

    def leave(self, reason: str, *, moving: bool = True) -> None:
        """Leave the server: what is true of this link only is so no more."""
        up = self.up
        self._depart()
        if up:
            self.trouble, self.moving = reason, moving
            self._receiver.link_lost(reason)

    def _depart(self) -> None:
        self._stay += 1
        self.up = False
        connections = self._connections
        if connections is not None and connections.maps.classic and self._channels:
            # Without sharded pub/sub, no server ends a subscription.
            connections.maps.leave(self.slot, list(self._channels), guest=False)
        self._channels.clear()
        if self.shard is not None and self.shard.maps.get(self.prefix) is self:
            del self.shard.maps[self.prefix]
        self.shard = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _follow(self, redirect: Redirect, message: str) -> None:
        """Go where a refusal says."""
        shard = self.shard
        assert shard is not None
        self._hops += 1
        address = self._shards.remapped(redirect.address or shard.address, shard.address)
        if redirect.refusal is Refusal.ASK:
            # While it moves, and if it comes back, this server keeps them.
            self._unsubscribe_all()
            self._shards.atlas.arrived(self.slot, shard.address)
            self._move = OpenMove(self, self._shards, address, shard)
        else:
            self._end_move()
            self._shards.atlas.moved(redirect.slot, address)
        self.leave(f"{shard.address} {message}")
        self._place_soon()

    def _place_soon(self) -> None:
        # A user's callback may have closed the node as the map left its server.
        if self._hops <= _HOPS or self._over:
            self.place()
            return
        self._timer = self._shards.clock.callLater(short_pause(self._hops - _HOPS), self.place)

    # Coming to a server.

    def shard_up(self) -> None:
        """The link to the server is up: find out whether it serves the map."""
        connections = self._connections
        if connections is None:
            return
        stay = self._stay
        # Behind the mark, no answer of an earlier stay at this server comes any more.
        passed = connections.maps.mark()
        read = self._send(connections.command, b"HMGET", self.records, HEAD)
        both = gatherResults([passed, read], consumeErrors=True)
        both.addCallbacks(self._found, self._not_found, callbackArgs=(stay,), errbackArgs=(stay,))

    def _found(self, _: object, stay: int) -> None:
        if stay != self._stay or self._over:
            return
        self._fail_open()
        self.up, self.moving = True, False
        self.trouble = ""
        if self.shard is not None and not self.guest:
            self._shards.atlas.arrived(self.slot, self.shard.address)
        with self._delivery():
            self._receiver.link_made()

    def _not_found(self, failure: Failure, stay: int) -> None:
        first: Any = failure.value
        error = first.subFailure.value if isinstance(first, FirstError) else first
        if stay != self._stay or self._over or isinstance(error, LinkLost):
            return
        message = str(error)
        redirect = parse_redirect(message)
        if redirect is not None and redirect.address is not None:
            self._follow(redirect, message)
        elif means_another_server(message):
            assert self.shard is not None
            self.shard.link.abandon(message)
        elif will_pass(message, writing=False):
            self._hops += 1
            self._stay_away(message)
            if self._hops > _HOPS and self.shard is not None:
                self._shards.atlas.distrust(self.shard.address)
            self._shards.refresh()
            self._timer = self._shards.clock.callLater(short_pause(self._hops + 1), self.shard_up)
        else:
            # Not allowed, or not coord's: the session says so of each key.
            self._found(None, stay)

    # Events of the server's link.

    def shard_lost(self, reason: str) -> None:
        """The link to the server is lost."""
        self._end_move()
        self.leave(reason, moving=False)
        if not self._over:
            self._shards.clock.callLater(0, self.place)

    def heartbeat(self) -> None:
        """The server has answered a heartbeat."""
        if self.up:
            self._hops = 0
            self.ask_source()
            with self._delivery():
                self._receiver.heartbeat()

    def left(self) -> None:
        """The server has ended a subscription unasked: it does not serve the slot, or, as a new owner, has begun to."""
        if self.up:
            self._end_move()
            self.leave("the server has ended its subscriptions: the map's slot has moved")
            self._place_soon()

    def refused(self, channels: Sequence[bytes], message: str, *, subscribing: bool) -> None:
        """The server has refused a subscription, or the end of one."""
        if not self.up:
            return
        redirect = parse_redirect(message)
        if redirect is not None and redirect.address is not None:
            self._follow(redirect, message)
        elif means_another_server(message):
            assert self.shard is not None
            self.shard.link.abandon(message)
        else:
            receiver = self._receiver
            with self._delivery():
                (receiver.subscribe_refused if subscribing else receiver.unsubscribe_refused)(channels, message)

    @property
    def receiver(self) -> Receiver | None:
        """Who gets the events of channels; ``None`` while the map is away."""
        if not self.up or self.shard is None:
            return None
        self.shard.touch(self._receiver.receive_context)
        return self._receiver

    @property
    def listener(self) -> Receiver:
        """Who gets events also while the map is away."""
        return self._receiver

    def _delivery(self) -> Any:
        """Return a context in which the session's code need not schedule what it has to send."""
        return nullcontext() if self._over else self._receiver.receive_context

    # Answers.

    def _issue(self, answer: Deferred[Any], *, of_records: bool) -> Deferred[Any]:
        """Return a Deferred for an answer, which counts only during this stay.

        :param of_records: the command names the map's records.
        """
        issued: Deferred[Any] = Deferred()
        self._open[issued] = None
        answer.addBoth(self._answered, issued, self._stay, of_records=of_records)
        return issued

    def _answered(self, result: Any, issued: Deferred[Any], stay: int, *, of_records: bool) -> None:
        self._open.pop(issued, None)
        here = stay == self._stay
        if isinstance(result, Failure):
            result = self._refusal(result, here=here, of_records=of_records)
        elif not here:
            result = LinkLost()
        if issued.called:
            return
        if self.shard is not None:
            self.shard.touch(self._receiver.receive_context)
        if isinstance(result, Failure | Exception):
            issued.errback(result)
        else:
            issued.callback(result)

    def _refusal(self, failure: Failure, *, here: bool, of_records: bool) -> Failure | Exception:
        if not failure.check(ServerError):
            return failure if failure.check(LinkLost) else LinkLost()
        message = str(failure.value)
        redirect = parse_redirect(message)
        if redirect is not None and redirect.address is not None:
            if redirect.slot != self.slot:
                # A user's own command, on a key that is no map's or another one's: this map is where it was.
                return failure
            if here and not self._over:
                if redirect.refusal is Refusal.ASK and not of_records:
                    return self._ask_records()
                self._follow(redirect, message)
            return LinkLeft(message)
        if means_another_server(message):
            if here and self.shard is not None:
                self.shard.link.abandon(message)
            return LinkLeft(message)
        if redirect is not None:
            self._shards.refresh()
        return failure if here else LinkLeft(message)

    def _ask_records(self) -> ServerError:
        """Follow an ASK once the map's records have moved: while they are here, they would lead the map back."""
        self.ask(b"HMGET", self.records, HEAD).addErrback(lambda _: None)
        return ServerError(HALF)

    def _fail_open(self) -> None:
        """Fail what is not answered, before a new stay begins."""
        waiting, self._open = self._open, {}
        for each in waiting:
            if not each.called:
                each.errback(LinkLost())


AnyLink = Link | MapLink
"""What a session sends by: the link to its server, or that of its map."""
