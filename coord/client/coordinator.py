"""The coordinator: one node of the cluster, and the composition root that builds its parts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, Unpack
from uuid import uuid4
from weakref import WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from coord.client.events import EventMap
from coord.client.holds import HoldAnswer
from coord.client.listings import map_names
from coord.client.options import ConnectOptions, ParsedOptions
from coord.client.waits import expiring
from coord.clock import steady
from coord.core.names import MEMBERS, check_name, node_channel
from coord.link.link import Link, LinkState
from coord.link.one_shot import OneShot
from coord.link.urls import DEFAULT_URL, Address
from coord.session.node import Node
from coord.session.session import Session
from coord.session.sessions import LinkInfo, OneServer, Sessions
from coord.session.settings import MAX_WAIT, check_seconds
from coord.session.threads import ReactorThread

__all__ = ["Coordinator", "CoordinatorService", "Statistics", "connect", "service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of one node.

    Present state: pending ``waiters``, those still ``unarmed``, channel ``subscriptions``, latched keys ``cached`` in
    the live cache, unanswered ``pending_calls``, ``holds`` of keys, and ``connection_attempts``.

    Counters since the node was created, for metrics: ``waits`` made, ``cache_hits`` among them (answered by the live
    cache), ``wakes`` of waiters by an event, ``calls_answered``, the ``batches`` that carried these calls, and
    ``link_losses``. On a cluster, ``shards`` servers have maps of this node, and a map that was lost with its server's
    link, or whose slot moved, counts as a link loss; ``moves`` counts how often a map has come to a server, and
    ``guests`` how often while its slot was still moving there. Fields may be added: build it by keyword only.
    """

    link: LinkState
    reason: str
    waiters: int
    unarmed: int
    subscriptions: int
    cached: int
    pending_calls: int
    holds: int
    connection_attempts: int
    waits: int
    cache_hits: int
    wakes: int
    calls_answered: int
    batches: int
    link_losses: int
    shards: int
    moves: int
    guests: int


class Coordinator:
    """One node; made by `connect`.

    ``node`` is its name, ``incarnation`` a UUID that is new for each coordinator, ``server`` the address without
    secrets. It belongs to the process that created it: it is closed in a forked child, and cannot be pickled. And it
    belongs to the thread of its reactor: in any other, all methods raise `RuntimeError`.
    """

    def __init__(self, address: Address, **options: Unpack[ConnectOptions]) -> None:
        target, self.namespace, self.node, settings = ParsedOptions.of(address, options)
        self.incarnation = uuid4().hex
        self.server = target.shown
        self._maps: WeakValueDictionary[str, EventMap] = WeakValueDictionary()
        self._closing: OneShot[None] | None = None
        self._cleanups: list[Callable[[], Deferred[None]]] = []
        clock = steady(_default(options.get("reactor")))
        thread = self._thread = ReactorThread(clock)
        channel, client_name = node_channel(target.database, self.incarnation), b"coord:" + self.node.encode()
        node_ = self._node = Node(
            namespace=self.namespace,
            name=self.node,
            incarnation=self.incarnation,
            settings=settings,
            clock=clock,
            thread=thread,
        )
        self._sessions: Sessions
        if target.cluster is None:
            link = Link(target, channel, client_name, heartbeat=settings.heartbeat, clock=clock)
            self._sessions = OneServer(node_, link)
        else:
            # Imported late: few nodes need it.
            from coord.session.cluster import ClusterSessions

            self._sessions = ClusterSessions(node_, target, channel, client_name)

    def __repr__(self) -> str:
        return f"<Coordinator {self.node} at {self.server}: {self.link}>"

    def __copy__(self) -> Coordinator:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a coordinator and its parts cannot be copied or pickled: connect in the other process")

    @property
    def _session(self) -> Session:
        """The session of the members; without a cluster, of all maps."""
        return self._sessions.of(MEMBERS)

    def events(self, name: str) -> EventMap:
        """Return the map of that name; the same object as long as a reference to it exists. Raises `InvalidName`."""
        self._thread.check()
        events = self._maps.get(name) if isinstance(name, str) and name != MEMBERS else None
        if events is None:
            events = EventMap(self._sessions.of(check_name("map", name)), name)
            self._maps[name] = events
        return events

    @property
    def members(self) -> EventMap:
        """The map of the namespace's members: a key for each node that has joined, with what it says of itself.

        Who joins is fired, who leaves is withdrawn, who dies expires; `wait`, `gone`, `watch` and `records` tell of it.
        """
        self._thread.check()
        members = self._maps.get(MEMBERS)
        if members is None:
            members = self._maps[MEMBERS] = EventMap(self._sessions.of(MEMBERS), MEMBERS)
        return members

    def join(self, value: object = True, *, timeout: float | None = None) -> HoldAnswer:
        """Be a member, under this node's name and with a JSON ``value``, until that is withdrawn.

        The answer is as of `EventMap.hold`. Several processes may share a name: the member is gone with the last.
        """
        return self.members.hold(self.node, value, timeout=timeout)

    def maps(self) -> Deferred[tuple[str, ...]]:
        """List the maps of the namespace for which the server has data.

        It scans all keys of the database, in small steps, and errbacks `AccessDenied` if the user may not SCAN.
        """
        self._thread.check()
        return map_names(self._sessions.scanners, self.namespace)

    @property
    def link(self) -> LinkState:
        """The current state of the link to the server."""
        return self._node.link_status.state

    @property
    def reason(self) -> str:
        """Why the link is in this state; without a link, why the last attempt failed."""
        return self._node.link_status.reason

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The links to the servers in use: one, or on a cluster one for each server that has a map of this node."""
        return self._sessions.links

    def connected(self, timeout: float | None = None) -> Deferred[None]:
        """Return a Deferred that fires when the link is up.

        It errbacks `AccessDenied` if the server denies access, `ServerRefused` if the server does not say which data it
        has (or no sentinel knows the service), `Closed`, and `TimedOut` after ``timeout`` seconds.
        """
        self._thread.check()
        if timeout is not None:
            check_seconds("timeout", timeout, most=MAX_WAIT)
        what, status = f"the link to {self.server}", self._node.link_status
        return expiring(status.connected(), timeout, self._node.clock, what, lambda: status.reason)

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback(state, reason)`` at every change of the link; return a function that unregisters it."""
        self._thread.check()
        return self._node.link_status.on_link(callback)

    def statistics(self) -> Statistics:
        """Return a snapshot of what this node holds and has done."""
        self._thread.check()
        sessions, counters, status = self._sessions.every, self._node.counters, self._node.link_status
        tallies = counters.tallies.values()
        subscriptions = [each for session in sessions for each in session.table.subscriptions.values()]
        moves, guests = self._sessions.moves
        return Statistics(
            link=status.state,
            reason=status.reason,
            waiters=sum(each.count for each in subscriptions),
            unarmed=sum(each.count for each in subscriptions if each.unarmed),
            subscriptions=len(subscriptions),
            cached=sum(len(session.table.cache) for session in sessions),
            pending_calls=sum(len(session.call_sender) for session in sessions),
            holds=sum(len(session.holds) for session in sessions),
            connection_attempts=self._sessions.attempts,
            shards=len(self._sessions.links),
            moves=moves,
            guests=guests,
            waits=sum(each.waits for each in tallies) + counters.cache_hits,
            cache_hits=counters.cache_hits,
            wakes=sum(each.wakes for each in tallies),
            calls_answered=counters.calls,
            batches=counters.batches,
            link_losses=counters.losses,
        )

    def execute(self, *args: bytes | str | int, at: str | None = None) -> Deferred[Any]:
        """Send one raw command, for diagnosis; the reply comes as Redis gives it: bytes, int, None or a list.

        It is sent again if the link is lost before the reply arrives: send only commands that may run twice.

        :param at: on a cluster, the map whose server is meant; without one it raises `InvalidInput`.
        """
        self._thread.check()
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in args]
        what, commands = encoded[0].decode(errors="replace"), self._sessions.commands(at)
        asked = commands.retry_while_reconnecting(lambda: commands.execute(*encoded), what, writing=True)
        return commands.with_deadline(Deferred.fromCoroutine(asked))

    def close(self, *, withdraw: bool = True) -> Deferred[None]:
        """End this node; called back when the connections are gone.

        Pending waits and unsent calls errback `Closed`; calls that were sent but not answered errback `Unconfirmed`.
        What it holds is withdrawn first; if the server does not answer within 2 s, that ends with its lease.

        :param withdraw: if it is false, all that this node holds ends with its lease. A node of the same name that is
            started before that, and holds the same keys, takes them over without an end.
        """
        self._thread.check()
        if self._closing is None:
            # Set before any callback runs: a callback that calls close() again waits for this same close.
            self._closing = OneShot()
            Deferred.fromCoroutine(self._close(withdraw=withdraw)).addBoth(self._closing.fire)
        return self._closing.wait()

    def adopt(self) -> None:
        """Belong to the thread that calls this, if the reactor will not run any more: it is closed, or inherited."""
        self._thread.note()

    def turn(self) -> AbstractContextManager[None]:
        """Return a context manager: what is asked in its block is sent at the block's end, and travels together.

        Without it, that is in the reactor's next iteration, some 25 us later. The block may not wait for anything.
        """
        self._thread.check()
        return self._sessions.turn()

    def add_cleanup(self, end: Callable[[], Deferred[None]]) -> None:
        """Make ``close`` call ``end`` too, once the connections are gone."""
        self._thread.check()
        self._cleanups.append(end)

    async def _close(self, *, withdraw: bool) -> None:
        if withdraw:
            for withdrawing in [session.holds.withdraw_all() for session in self._sessions.every]:
                await withdrawing
        await self._sessions.close()
        if self._sessions.is_copy:
            # What the coordinator owns, such as an embedded server, is still the parent's.
            return
        for end in self._cleanups:
            await end()

    async def __aenter__(self) -> Coordinator:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Start connecting; `connect` calls this."""
        self._sessions.start()


def connect(address: Address = DEFAULT_URL, **options: Unpack[ConnectOptions]) -> Coordinator:
    """Return a coordinator at once; it connects in the background, and reconnects whenever the link is lost.

    :param address: a URL (``redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`` or
        ``unix://[USER:PASSWORD@]/PATH[?db=N]``), or any ``IStreamClientEndpoint``.
    :param namespace: separates clusters that share a server; ``default`` by default.
    :param node: the name of this node; the host's name by default.
    :param reactor: Twisted's by default; a ``task.Clock`` in tests.
    :param username, password, database: override those of the URL. ``password`` may be a function that returns it,
        called at each login, so that a changed one is used at the next reconnect.
    :param sentinel_password: the same for the sentinels of a ``redis+sentinel://`` URL.
    :param remap: for a ``redis+cluster://`` URL: returns the host and port at which a server is reached, given those
        that it announces.
    :param heartbeat, cache_size, history, retention, timeout, max_pending_calls, lease, grace: see `Settings`.
    :raises InvalidURL, InvalidName, InvalidTime, InvalidInput: before anything is sent.
    :raises RuntimeError: the reactor runs in another thread.
    """
    coordinator = Coordinator(address, **options)
    coordinator.start()
    return coordinator


class CoordinatorService(Service):
    """An ``IService`` that connects when it is started and closes when it is stopped; it can be started again."""

    def __init__(self, make: Callable[[], Coordinator]) -> None:
        self._make = make
        self._coordinator: Coordinator | None = None

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator of the present run; a new one each time the service is started."""
        if self._coordinator is None:
            raise RuntimeError("the service is not running: its coordinator is made when it is started")
        return self._coordinator

    def startService(self) -> None:
        """Connect."""
        self._coordinator = self._make()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Close."""
        # First, as it raises in another thread.
        closed = succeed(None) if self._coordinator is None else self._coordinator.close()
        self._coordinator = None
        super().stopService()  # type: ignore[no-untyped-call]
        return closed


def service(address: Address = DEFAULT_URL, **options: Unpack[ConnectOptions]) -> CoordinatorService:
    """Return an ``IService`` with a coordinator; the arguments are those of `connect`.

    Bad arguments raise here, not when the service starts.
    """
    ParsedOptions.of(address, options)
    return CoordinatorService(lambda: connect(address, **options))


def _default(reactor: Any) -> Any:
    if reactor is None:
        from twisted.internet import reactor as default

        return default
    return reactor
