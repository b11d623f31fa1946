"""The servers of a cluster that a node uses: a link to each, made when a map first needs it, closed when none does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList

from coord.core.slots import Address, Atlas
from coord.errors import AccessDenied, ServerRefused
from coord.link.discovery import server_at
from coord.link.link import CONNECTED, CONNECTING, SUSPENDED, Link, LinkState
from coord.link.map_link import MapLink
from coord.link.target import ClusterTarget, Target
from coord.link.topology import Topology

if TYPE_CHECKING:
    from coord.link.connections import Connections
    from coord.link.protocol import Connection
    from coord.link.shard_connections import ShardConnections

__all__ = ["Shard", "ShardLink", "Shards"]

_UNUSED: Final = 60.0
"""Seconds after which a link is closed that no map uses."""

_PATIENCE: Final = 3.0
"""Seconds in which a server has to say who serves which slot: the next one is asked then, as it may hang."""

_BEATS: Final = 6
"""Heartbeats of a server between two questions who serves which slot: one that is cut off with us may not know that it
was replaced."""


class ShardLink(Link):
    """The link to one server of a cluster."""

    classic = False

    def hurry(self) -> None:
        """Make no pause before the next attempt: there is news of the server."""
        self._keep_up.end_pause()

    def _new_connections(self, connected: Callable[[Connection], Coroutine[Any, Any, bytes]]) -> Connections:
        # Imported late: it imports txredisapi and OpenSSL.
        from coord.link.shard_connections import ShardConnections

        return ShardConnections(
            self._channel, self._clock, self._heartbeat, self._receiver, connected, classic=self.classic
        )


class _Delivery(AbstractContextManager[None]):
    """Entered around everything that is received from one server: around that, the sessions it is for are entered."""

    def __init__(self) -> None:
        self._depth = 0
        self._entered: dict[Any, None] = {}

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            entered, self._entered = self._entered, {}
            for context in entered:
                context.__exit__(None, None, None)

    def touch(self, context: Any) -> None:
        """Enter the context of a session until the end of this delivery."""
        if self._depth and context not in self._entered:
            self._entered[context] = None
            context.__enter__()


class Shard:
    """One server of the cluster: passes on what its link reports to the maps that are there, by their prefix."""

    def __init__(self, shards: Shards, address: Address, link: ShardLink) -> None:
        self.address = address
        self.link = link
        self.maps: dict[bytes, MapLink] = {}
        self.receive_context = _Delivery()
        self.touch = self.receive_context.touch
        self.ever_linked = False
        self._shards = shards
        self._beats = 0
        # When the last map has left.
        self.unused_since = shards.clock.seconds()

    @property
    def connections(self) -> ShardConnections | None:
        """The open link; ``None`` without one."""
        found: ShardConnections | None = self.link.connections  # type: ignore[assignment]
        return found

    @property
    def state(self) -> LinkState:
        """The state of its link."""
        if self.link.up:
            return CONNECTED
        return SUSPENDED if self.ever_linked else CONNECTING

    def use(self) -> None:
        """Keep the link for another while, though no map may be there."""
        self.unused_since = self._shards.clock.seconds()

    @property
    def trouble(self) -> str:
        """Why it has no link."""
        return self.link.trouble or "not connected yet"

    def _every(self) -> list[MapLink]:
        return list(self.maps.values())

    # Events of the link.

    def link_made(self) -> None:
        """The link is up."""
        self.ever_linked = True
        for each in self._every():
            each.shard_up()
        self._shards.place_all()
        self._shards.changed()

    def link_lost(self, reason: str) -> None:
        """The link is lost: another server may have taken its slots."""
        self._shards.atlas.distrust(self.address)
        for each in self._every():
            each.shard_lost(reason)
        self._shards.refresh()
        self._shards.changed()

    def attempt_failed(self, reason: str) -> None:
        """An attempt to connect failed."""
        self._shards.atlas.distrust(self.address)
        said = f"{self.address}: {reason}"
        for each in self._every():
            each.trouble = said
            each.listener.attempt_failed(said)
            each.place()
        self._shards.refresh()
        self._shards.changed()

    def denied(self, error: AccessDenied | ServerRefused) -> None:
        """Access is denied."""
        for each in self._every():
            each.trouble = str(error)
            each.listener.denied(error)
        self._shards.denied(error)

    def heartbeat(self) -> None:
        """The server has answered a heartbeat."""
        self._beats += 1
        if self._beats % _BEATS == 0:
            self._shards.refresh()
        for each in self._every():
            each.heartbeat()
        self._shards.beat(self)
        self._shards.heartbeat()

    def postponed(self, message: str) -> None:
        """The server had no time for the heartbeat."""
        for each in self._every():
            each.listener.postponed(message)

    # Events of the subscriber connection.

    def _map_of(self, channel: bytes) -> MapLink | None:
        return self.maps.get(channel[: channel.find(b"}")])

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """A message came."""
        found = self._map_of(channel)
        if found is not None and (receiver := found.receiver) is not None:
            receiver.message_received(channel, payload)

    def subscribed(self, channel: bytes) -> None:
        """A subscription was confirmed."""
        found = self._map_of(channel)
        if found is not None and (receiver := found.receiver) is not None:
            receiver.subscribed(channel)

    def unsubscribed(self, channel: bytes) -> None:
        """The end of a subscription was confirmed."""
        found = self._map_of(channel)
        if found is not None and (receiver := found.receiver) is not None:
            receiver.unsubscribed(channel)

    def left(self, channel: bytes) -> None:
        """The server has ended a subscription unasked."""
        found = self._map_of(channel)
        if found is not None:
            found.left()

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused to subscribe."""
        found = self._map_of(channels[0])
        if found is not None:
            found.refused(channels, message, subscribing=True)

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused to unsubscribe."""
        found = self._map_of(channels[0])
        if found is not None:
            found.refused(channels, message, subscribing=False)


class Shards:
    """All servers of the cluster that this node uses, and the maps that go from one to another.

    ``moves`` counts how often a map has come to a server, ``guests`` how often as a guest.

    :param channel: the node's own channel, for heartbeats.
    :param changed: called when a link was made or lost, or who serves which slot is known anew.
    :param denied: called if access is denied.
    :param beat: called at each heartbeat of a server.
    """

    def __init__(
        self,
        target: Target,
        channel: bytes,
        client_name: bytes,
        *,
        heartbeat: float,
        clock: Any,
        changed: Callable[[], None],
        denied: Callable[[AccessDenied | ServerRefused], None],
        beat: Callable[[Shard], None],
    ) -> None:
        assert target.cluster is not None
        self.target = target
        self.clock = clock
        self.changed, self.denied, self.beat = changed, denied, beat
        self.links: dict[MapLink, None] = {}
        self.shards: dict[Address, Shard] = {}
        self.moves = self.guests = 0
        self._cluster: ClusterTarget = target.cluster
        self._channel = channel
        self._client_name = client_name
        self._heartbeat = heartbeat
        self._topology = Topology(
            target, self._cluster, clock, self._answered, self._failed, patience=min(2 * heartbeat, _PATIENCE)
        )
        self.atlas: Atlas = self._topology.atlas
        self.refresh = self._topology.refresh
        self._numbers = count(1)
        self._made = 0
        self._over = False

    @property
    def trouble(self) -> str:
        """Why it is not known who serves which slot."""
        return self._topology.trouble

    @property
    def attempts(self) -> int:
        """The number of attempts to connect to a server."""
        return self._topology.attempts + self._made + sum(each.link.attempts for each in self.shards.values())

    def start(self) -> None:
        """Ask who serves which slot, and connect to one server."""
        self.refresh()

    def map_link(self, tag: bytes) -> MapLink:
        """Return the link of a map; it is to be started."""
        link = MapLink(self, tag)
        self.links[link] = None
        return link

    def forget(self, link: MapLink) -> None:
        """Forget a map."""
        self.links.pop(link, None)

    def remapped(self, address: Address, asked: Address) -> Address:
        """Return the address at which a server is reached that the server ``asked`` has named."""
        return self._topology.remapped(address) if address.host else asked._replace(port=address.port)

    def shard(self, address: Address) -> Shard:
        """Return the server at an address; its link is made if there is none."""
        found = self.shards.get(address)
        if found is None:
            found = self.shards[address] = self._make(address)
            found.link.start(found)
        elif not found.link.up:
            # It was a replica, as a rule, and has been promoted.
            found.link.hurry()
        return found

    def _make(self, address: Address) -> Shard:
        shown = f"{self._cluster.scheme}://{address}"
        resolver = server_at(address.host, address.port, str(address), self._cluster.tls)
        target = replace(self.target, shown=shown, resolver=lambda: resolver)
        link = ShardLink(target, self._channel, self._client_name, heartbeat=self._heartbeat, clock=self.clock)
        link.classic = self._cluster.classic
        return Shard(self, address, link)

    def close(self) -> Deferred[Any]:
        """Close all links; return a Deferred that fires when all connections are gone."""
        self._over = True
        self._topology.close()
        closing, self.shards = list(self.shards.values()), {}
        return DeferredList([each.link.close() for each in closing], consumeErrors=True)

    def forked(self) -> None:
        """Leave the connections to the parent, in the child of a fork."""
        self._over = True
        self._topology.forked()
        for each in self.shards.values():
            each.link.forked()

    def fail_inherited(self) -> None:
        """Fail all unanswered commands."""
        for each in self.shards.values():
            each.link.fail_inherited()

    def heartbeat(self) -> None:
        """A server has answered a heartbeat: close the links that no map uses any more, but for the last one."""
        for link in list(self.links):
            if link.up:
                continue
            # It may have been sent to a server that hangs, by one that lagged behind.
            self.refresh()
            if link.guest:
                link.ask_source()
        now = self.clock.seconds()
        for shard in list(self.shards.values()):
            if shard.maps:
                shard.unused_since = now
            elif now - shard.unused_since > _UNUSED and len(self.shards) > 1:
                self._drop(shard)

    def _drop(self, shard: Shard) -> None:
        del self.shards[shard.address]
        self._made += shard.link.attempts
        shard.link.close().addErrback(lambda _: None)

    def place_all(self) -> None:
        """Have each map go to the server of its slot, unless it is there."""
        for link in list(self.links):
            link.settle()
            # A guest stays until its server says otherwise.
            if not link.guest:
                link.place()

    def _answered(self) -> None:
        if self._over:
            return
        primaries = self.atlas.primaries
        self.place_all()
        for shard in list(self.shards.values()):
            if not shard.maps and shard.address not in primaries and not shard.link.up:
                self._drop(shard)
        if primaries and not any(shard.maps or shard.link.up for shard in self.shards.values()):
            # Of those that were tried before, none may come back.
            self.shard(primaries[next(self._numbers) % len(primaries)])
        self.changed()

    def _failed(self, reason: str, denied: AccessDenied | ServerRefused | None) -> None:
        if denied is not None:
            self.denied(denied)
        for link in list(self.links):
            if link.shard is None:
                link.trouble = reason
                if denied is not None:
                    link.listener.denied(denied)
                else:
                    link.listener.attempt_failed(reason)
        self.changed()
