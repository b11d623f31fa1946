"""The sessions of a node of a cluster: one for each map, as each map may be on another server, and moves alone.

To its session, a map that moves is a link that is lost and made again: its waits, calls, leases and watches hold as
they do through a failover (`coord.link.map_link`). Other maps notice nothing. The node as a whole is linked while each
map in use is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from math import inf
from typing import Any, Final
from weakref import WeakKeyDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.python.failure import Failure

from coord.core.slots import tag_of
from coord.errors import AccessDenied, InvalidInput, ListingLost, ServerRefused, Unreachable
from coord.link.forks import MADE_BEFORE, detach, track
from coord.link.link import CLOSED, CONNECTED, CONNECTING, SUSPENDED, LinkState
from coord.link.one_shot import Waiters
from coord.link.shards import Shard, Shards
from coord.link.target import Target
from coord.session import figures, unsent
from coord.session.commands import Commands
from coord.session.link_status import LinkStatus
from coord.session.node import Node
from coord.session.searcher import Searcher
from coord.session.session import Session
from coord.session.sessions import LinkInfo

__all__ = ["ClusterSessions"]

_UNUSED: Final = 60.0
"""Seconds between two looks for sessions that nothing uses."""

_PAUSE: Final = 0.1
"""Seconds until a server that has no time is asked again for the names of maps."""


class _ServerStatus(LinkStatus):
    """The state of the link to one server, for what is asked of it and not of a map.

    :param whole: that of the node.
    :param changed: returns a Deferred that fires when any link has changed, or at close.
    :param serves: whether the server has slots.
    """

    def __init__(
        self, shard: Shard, whole: LinkStatus, changed: Callable[[], Deferred[None]], serves: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._shard, self._whole, self._changed, self._serves = shard, whole, changed, serves

    def connected(self) -> Deferred[None]:
        """Return a Deferred that fires once the link is up.

        It errbacks at close, if access is denied, and with `ListingLost` if another server has the slots.
        """
        return Deferred.fromCoroutine(self._linked())

    async def _linked(self) -> None:
        while self._whole.state is not CLOSED:
            if self._shard.link.up:
                # It is asked now; no map may be there, and the link would be closed for that.
                self._shard.use()
                return
            if not self._serves():
                raise ListingLost("another server has the slots now: begin again")
            self.reason = self._shard.trouble
            await self._changed()
        raise self._whole.closed_error()


class ClusterSessions:
    """All sessions of one node; its ``node.link_status`` is that of all maps in use.

    :param channel: the node's own channel, for heartbeats.
    """

    def __init__(self, node: Node, target: Target, channel: bytes, client_name: bytes) -> None:
        self.node = node
        self.clock, self.thread = node.clock, node.thread
        self.is_copy = False
        self._sessions: dict[str, Session] = {}
        # The maps whose link was lost, or could not be made. A node may have many thousands of maps, and each change of
        # one is judged: so these are not looked for among all.
        self._down: dict[str, Session] = {}
        # What a server said at the last heartbeat that had no time for a map; empty if none did.
        self._complaint = ""
        self._linked: Waiters[None] = Waiters()
        self._timer: Any = None
        self._searchers: WeakKeyDictionary[Shard, Searcher] = WeakKeyDictionary()
        self._target = target
        self.shards = Shards(
            target,
            channel,
            client_name,
            heartbeat=node.settings.heartbeat,
            clock=node.clock,
            changed=self._changed,
            denied=self._denied,
            beat=self._beat,
        )
        detach(node.clock)
        track(self)
        figures.track(node.incarnation, self)
        unsent.watch(self)

    # Sessions.

    def of(self, name: str) -> Session:
        """Return the session of a map, which also serves the map's acknowledgements."""
        whose = name.partition("/")[0]
        found = self._sessions.get(whose)
        return self._make(whose) if found is None else found

    def _make(self, name: str) -> Session:
        node = self.node
        own = replace(node, link_status=LinkStatus(), alone=name)
        session = Session(own, self.shards.map_link(tag_of(node.namespace, name)), self.of)
        if node.link_status.state is CLOSED:
            session.close()
            if self.is_copy:
                own.link_status.forked(MADE_BEFORE)
            return session
        self._sessions[name] = session
        own.link_status.on_link(lambda state, _: self._map_changed(name, session, state))
        own.link_status.on_failed(lambda: self._map_failed(name, session))
        session.start()
        return session

    def _map_changed(self, name: str, session: Session, state: LinkState) -> None:
        if state is SUSPENDED:
            self._down[name] = session
        else:
            self._down.pop(name, None)
        self._changed()

    def _map_failed(self, name: str, session: Session) -> None:
        if session.state is CONNECTING and name not in self._down:
            self._down[name] = session
            self._changed()

    def _tidy(self) -> None:
        """Close the sessions of maps that nothing refers to any more, and of which nothing is asked."""
        self._timer = self.clock.callLater(_UNUSED, self._tidy)
        for name, session in list(self._sessions.items()):
            if not (session.table.maps or len(session.holds) or session.commands.asking):
                del self._sessions[name]
                session.close()

    def _beat(self, shard: Shard) -> None:
        searcher = self._searchers.get(shard)
        if searcher is None:
            # A session sweeps its map as soon as it is linked.
            searcher = self._searchers[shard] = Searcher(
                self.node.namespace, shard.link, self._sessions.__contains__, self.of
            )
        if shard.connections is not None:
            searcher.heartbeat(shard.connections.clients)
        late = [each for each in self._sessions.values() if each.state is CONNECTED and each.reason != "connected"]
        self._complaint = f"{len(late)} of {len(self._sessions)} maps: {late[0].reason}" if late else ""
        self._changed()

    @property
    def every(self) -> Sequence[Session]:
        """All sessions there are now."""
        return list(self._sessions.values())

    # What all of them are together.

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self.node.link_status.state

    @property
    def server(self) -> str:
        """The cluster's address, without secrets."""
        return self._target.shown

    @property
    def attempts(self) -> int:
        """The number of attempts to connect to a server."""
        return self.shards.attempts

    @property
    def moves(self) -> tuple[int, int]:
        """How often a map has come to a server, and how often as a guest, while its slot moved."""
        return self.shards.moves, self.shards.guests

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The links to the servers in use."""
        return tuple(
            LinkInfo(str(each.address), each.state, "connected" if each.link.up else each.trouble, len(each.maps))
            for each in self.shards.shards.values()
        )

    def pending(self) -> dict[str, int]:
        """Count the requests that are not answered."""
        total = {"call": 0, "wait": 0, "other request": self.node.link_status.waiting}
        for session in self.every:
            for kind, number in session.pending().items():
                total[kind] += number
        return total

    def figures(self) -> figures.Figures:
        """Return what `coord.metrics` shows of this node. Any thread may call this."""
        node, every = self.node, [session.figures() for session in list(self._sessions.values())]
        tallies = dict(node.counters.tallies)
        return figures.Figures(
            namespace=node.namespace,
            node=node.name,
            server=self.server,
            link=self.state,
            attempts=self.attempts,
            losses=node.counters.losses,
            linked_at=max((each.linked_at for each in every), default=0.0),
            round_trip=max((shard.link.round_trip for shard in list(self.shards.shards.values())), default=inf),
            waiters=sum(tally.waiting for tally in tallies.values()),
            subscriptions=sum(each.subscriptions for each in every),
            cached=sum(each.cached for each in every),
            pending_calls=sum(each.pending_calls for each in every),
            tallies=tallies,
            counters=node.counters,
            watches=sum(each.watches for each in every),
            holds=sum(each.holds for each in every),
            locks=sum(each.locks for each in every),
            leases=sum(each.leases for each in every),
            lease_left=min((each.lease_left for each in every), default=inf),
        )

    def _changed(self) -> None:
        """A link was made or lost, or a map has come or gone: say what that makes of the whole."""
        self._linked.fire(None)
        status = self.node.link_status
        if status.state is CLOSED:
            return
        state, reason = self._judge()
        if state is status.state:
            status.reason = reason
            return
        if state is CONNECTED:
            self.thread.note()
        status.change(state, reason)
        if state is CONNECTED:
            status.resolve_waiting(None)

    def _judge(self) -> tuple[LinkState, str]:
        status = self.node.link_status
        without = SUSPENDED if status.state in (CONNECTED, SUSPENDED) else CONNECTING
        # Before any server has said where a map is, it is the whole that is not linked.
        if self._down and self.shards.atlas.primaries:
            session = next(iter(self._down.values()))
            return without, f"{len(self._down)} of {len(self._sessions)} maps: {session.reason}"
        if any(shard.link.up for shard in self.shards.shards.values()):
            return CONNECTED, self._complaint or "connected"
        troubles = [shard.link.trouble for shard in self.shards.shards.values() if shard.link.trouble]
        return without, (troubles or [self.shards.trouble or status.reason])[0]

    def _denied(self, error: AccessDenied | ServerRefused) -> None:
        # What belongs to no map needs all servers.
        self._linked.fire(error)
        status = self.node.link_status
        status.reason = str(error)
        status.resolve_waiting(error)

    # Commands that belong to no map.

    def commands(self, at: str | None) -> Commands:
        """Return the commands of a map's server."""
        if at is None:
            raise InvalidInput("a cluster has several servers: name the map whose server is meant (at=MAP)")
        return self.of(at).commands

    async def _scanners(self) -> list[Commands]:
        await self.node.link_status.connected()
        found = self._primaries()
        while not all(each.link.up for each in found):
            await self._linked.wait()
            if self.state is CLOSED:
                raise self.node.link_status.closed_error()
            found = self._primaries()
        return [self._commands_of(each) for each in found]

    def _primaries(self) -> list[Shard]:
        """Return the servers that have slots; links are made to all of them."""
        return [self.shards.shard(each) for each in self.shards.atlas.primaries]

    def _missing(self) -> str:
        """Return which server there is no link to, and why."""
        for each in self._primaries():
            if not each.link.up:
                return f"{each.address}: {each.trouble}"
        return self.node.link_status.reason

    def _commands_of(self, shard: Shard) -> Commands:
        def serves() -> bool:
            return shard.address in self.shards.atlas.primaries

        status = _ServerStatus(shard, self.node.link_status, self._linked.wait, serves)

        def pause(_: str) -> Deferred[None]:
            # Not longer than until the close.
            return self._linked.wait().addTimeout(_PAUSE, self.clock, onTimeoutCancel=lambda _, __: None)

        return Commands(replace(self.node, link_status=status), shard.link, pause)

    def scanners(self) -> Deferred[list[Commands]]:
        """Return the commands of each server that has slots, once there is a link to all of them."""

        def too_late(result: Any, seconds: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise Unreachable(f"{self.server} did not answer within {seconds:g} s ({self._missing()})")
            return result

        asked = Deferred.fromCoroutine(self._scanners())
        return asked.addTimeout(self.node.settings.timeout, self.clock, onTimeoutCancel=too_late)

    def turn(self) -> AbstractContextManager[None]:
        """Return a context; what is asked in it is sent in the reactor's next iteration."""
        return nullcontext()

    # Beginning and end.

    def start(self) -> None:
        """Begin to connect."""
        self._timer = self.clock.callLater(_UNUSED, self._tidy)
        self.shards.start()

    def close(self) -> Deferred[Any]:
        """Fail all waiters and calls, and then close the connections."""
        status = self.node.link_status
        if self.is_copy:
            self._end_copy()
            return succeed(None)
        self._stop()
        status.change(CLOSED, "closed")
        status.resolve_waiting(status.closed_error())
        sessions, self._sessions = self._sessions, {}
        closing = [session.close() for session in sessions.values()]
        self._linked.fire(None)
        return DeferredList([*closing, self.shards.close()], consumeErrors=True)

    def _stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def forked(self) -> None:
        """Be closed, in the child of a fork; the sessions are told by themselves."""
        detach(self.clock)
        self.thread.note()
        if self.state is not CLOSED:
            self.is_copy = True
            self.node.link_status.forked(MADE_BEFORE)
            self.shards.forked()
            self.clock.callLater(0, self._end_copy)

    def _end_copy(self) -> None:
        status = self.node.link_status
        self._stop()
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.close()
        status.resolve_waiting(status.closed_error())
        self.shards.fail_inherited()
        self.shards.close()
