"""One link to one server, kept up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

from twisted.application.internet import ClientService
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.errors import AccessDenied, ServerRefused
from coord.link.backoff import backoff, spread
from coord.link.discovery import Resolved
from coord.link.forks import MADE_BEFORE, check_fork
from coord.link.replies import LinkLeft, LinkLost, NoServer, ServerError, explain, means_another_server
from coord.link.scripts import Script
from coord.link.urls import Target

__all__ = ["CLOSED", "CONNECTED", "CONNECTING", "SUSPENDED", "Link", "LinkState", "Receiver"]

_DENIED_RETRY = 5.0
"""Seconds between attempts at a server that denies access: somebody has to change something first."""


class LinkState(StrEnum):
    """What a user can expect of the link."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    SUSPENDED = "suspended"
    CLOSED = "closed"


# As with the kinds of records: a name is read faster than a member of its class.
CONNECTING, CONNECTED, SUSPENDED, CLOSED = LinkState


class Receiver(Protocol):
    """Whom the link tells what happens."""

    @property
    def receive_context(self) -> AbstractContextManager[None]:
        """Entered around everything that is received on a connection."""

    def link_made(self) -> None:
        """The link is up."""

    def link_lost(self, reason: str) -> None:
        """The link is lost; nothing that was asked is answered any more."""

    def attempt_failed(self, reason: str) -> None:
        """An attempt failed; another will follow."""

    def denied(self, error: AccessDenied | ServerRefused) -> None:
        """An attempt failed in a way that only somebody can mend; another will follow."""

    def heartbeat(self) -> None:
        """The heartbeat came back."""

    def postponed(self, message: str) -> None:
        """The server has no time for the heartbeat, in its message; the link stays."""

    def subscribed(self, channel: bytes) -> None:
        """A subscription was confirmed."""

    def unsubscribed(self, channel: bytes) -> None:
        """The end of a subscription was confirmed."""

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """Subscriptions were refused."""

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The end of subscriptions was refused."""

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """A message came."""


class Link:
    """Keeps a pair of connections up with Twisted's ``ClientService``, and speaks through it.

    ``attempts`` counts how often a connection was tried; ``trouble`` says why there is none, as far as that is known.

    :param channel: the node's own channel, for the heartbeat.
    :param heartbeat: seconds between two beats; a server that hangs is noticed within two of them.
    :param clock: the reactor, or what stands for it in a test.
    """

    log = Logger()

    def __init__(
        self,
        target: Target,
        channel: bytes,
        client_name: bytes,
        *,
        heartbeat: float,
        clock: Any,
    ) -> None:
        self.target = target
        self.connections: Any = None
        self.attempts = 0
        self.trouble = ""
        self._receiver: Receiver
        self._channel = channel
        self._client_name = client_name
        self._heartbeat = heartbeat
        self._clock = clock
        self._denied = False
        # The parent goes on using it, and whatever pair there was: this is a copy in the child of a fork.
        self._is_copy = False
        self._inherited: Any = None
        self._resolver: Any = None
        # Of the server that is tried or linked to.
        self._address = ""
        self._checking: Deferred[None] | None = None
        self._unwatch: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._pause = backoff()
        # Links in a row that did not live for a heartbeat, and attempts that failed.
        self._losses = 0
        # How many clients the server had when it was asked last.
        self._clients = 0
        # Any: what zope's interfaces say is not known to the type checker.
        endpoint: Any = _LinkEndpoint(self._connect, target.shown)
        factory: Any = Factory.forProtocol(TwistedProtocol)
        self._service = ClientService(
            endpoint,
            factory,
            retryPolicy=lambda _: self._next_pause(),
            clock=clock,
        )

    def _next_pause(self) -> float:
        """Return how long to wait before the next attempt.

        The count of ``ClientService`` begins again with each connection; but one that is lost in what it was made for,
        a read of too much, say, is another failure.
        """
        self._losses += 1
        pause = _DENIED_RETRY if self._denied else self._pause(self._losses)
        return pause + spread(self._clients)

    def start(self, receiver: Receiver) -> None:
        """Begin to connect, in the background; from now on tell ``receiver`` what happens."""
        self._receiver = receiver
        self._resolver = self.target.resolver()
        self._unwatch = self._resolver.watch(self._clock, self._primary_changed)
        self._service.startService()

    def close(self) -> Deferred[None]:
        """End the link for good; called back when both connections are gone."""
        self.connections = None
        return Deferred.fromCoroutine(self._stop())

    def forked(self) -> None:
        """Leave everything to the parent, and report nothing any more."""
        self._is_copy = True
        self._inherited, self.connections = self.connections, None
        if self._inherited is not None:
            self._inherited.forked(MADE_BEFORE)

    def fail_inherited(self) -> None:
        """Tell who has asked that no answer will come here, and look for no server any more."""
        if self._inherited is not None:
            self._inherited.fail_inherited()
        self._unwatch().addErrback(lambda _: None)

    async def _stop(self) -> None:
        stopping = self._service.stopService()
        if self._checking is not None:
            self._checking.cancel()
        await self._unwatch()
        await (stopping or succeed(None))

    @property
    def up(self) -> bool:
        """Whether there is a link to ask."""
        return self.connections is not None

    @property
    def process(self) -> bytes:
        """The server process at the other end."""
        return self.connections.process if self.connections is not None else b""

    @property
    def data(self) -> Any:
        """What stands for the server's data, for `has_still`."""
        return None if self.connections is None else self.connections.data

    def has_still(self, data: Any) -> bool:
        """Whether the server at the other end has the data still that stood here on a former link."""
        return data is not None and self.connections is not None and self.connections.has_still(data)

    def ask(self, *args: bytes) -> Deferred[Any]:
        """Send one command; errbacks `ServerError` or `LinkLost`."""
        if self.connections is None:
            return fail(LinkLost())
        return self.connections.command.ask(*args).addErrback(self._check_refusal)  # type: ignore[no-any-return]

    def run_script(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, others_first: bool = False
    ) -> Deferred[Any]:
        """Run a script; errbacks `ServerError` or `LinkLost`.

        :param others_first: have the server wake others by it before it answers us.
        """
        if self.connections is None:
            return fail(LinkLost())
        connection = self.connections.command
        args = (b"%d" % len(keys), *keys, *arguments)
        answer: Deferred[Any] = connection.ask(b"EVALSHA", script.sha, *args, others_first=others_first)
        return answer.addErrback(self._not_run, connection, script, args)

    def _not_run(self, failure: Failure, connection: Any, script: Script, args: Sequence[bytes]) -> Any:
        failure.trap(ServerError)
        if str(failure.value).startswith("NOSCRIPT"):
            # Scripts die with a restart, a failover and SCRIPT FLUSH; EVAL brings this one back.
            return connection.ask(b"EVAL", script.text, *args).addErrback(self._check_refusal)
        return self._check_refusal(failure)

    def _check_refusal(self, failure: Failure) -> Failure:
        failure.trap(ServerError)
        try:
            self._check_server(str(failure.value))
        except LinkLost:
            raise LinkLeft(str(failure.value)) from None
        return failure

    async def count_replicas(self, wanted: int, due: float, on_progress: Any, *, new: bool) -> int:
        """Count the replicas that have what was applied; see `coord.link.replica_writer`.

        :raises ServerError, LinkLost: nothing is known.
        """
        if self.connections is None:
            raise LinkLost
        try:
            count: int = await self.connections.count_replicas(wanted, due, on_progress, new=new)
        except ServerError as error:
            message = str(error)
            if message.startswith("ERR WAIT cannot"):
                self.abandon(message)
                raise LinkLost from None
            self._check_server(message)
            raise
        return count

    def _check_server(self, message: str) -> None:
        """Give up the link where the server says that it cannot serve now."""
        if means_another_server(message):
            self.abandon(message)
            raise LinkLost

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Subscribe; the confirmations come to the receiver."""
        if self.connections is not None:
            self.connections.subscriber.subscribe(channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Unsubscribe; the confirmations come to the receiver."""
        if self.connections is not None:
            self.connections.subscriber.unsubscribe(channels)

    def abandon(self, reason: str) -> None:
        """Give up the present connections and make new ones."""
        if self.connections is not None:
            self.connections.lose(reason)

    async def _connect(self, lost: Callable[[str], None]) -> Any:
        check_fork()
        if self._is_copy:
            # ClientService's attempts end in this one. To stop it would end the connection that it has.
            await Deferred()
        self.attempts += 1
        self._denied = False
        opening = Deferred.fromCoroutine(self._make_connections())
        opening.addTimeout(2 * self._heartbeat, self._clock)
        try:
            connections = await opening
        except CancelledError:
            raise
        except ServerRefused as error:
            # The sentinels know no such service: nobody has to wait for that to change.
            self._denied_access(error)
            raise
        except ServerError as error:
            denied = explain(str(error), self.target.shown)
            if isinstance(denied, AccessDenied):
                self._denied_access(denied)
            else:
                self._attempt_failed(str(error))
            raise
        except defer.TimeoutError:
            # A server that waits for plain text is silent.
            hint = " (does it speak TLS?)" if self.target.shown.startswith("rediss") else ""
            self._attempt_failed(f"no answer within {2 * self._heartbeat:g} s{hint}")
            raise
        except Exception as error:
            self._attempt_failed(str(error) or type(error).__name__)
            raise
        connections.on_lost = lambda reason: self._connections_lost(connections, reason, lost)
        connections.on_heartbeat = self._heartbeat_returned
        connections.on_postponed = self._receiver.postponed
        # In a turn of its own, when ClientService has the connection: who hears of the link may close it at once.
        self._clock.callLater(0, self._connections_made, connections)
        return connections

    def _connections_made(self, connections: Any) -> None:
        if connections.lost is None and not self._is_copy:
            self.connections = connections
            self._receiver.link_made()

    async def _make_connections(self) -> Any:
        # Imported here, because it installs the global reactor.
        from coord.link.connections import Connections, connect

        found = await self._resolver.resolve(self._clock)
        self._address = found.address
        target = self.target
        if target.password is None and not target.username:
            target = replace(target, password=found.password)

        def connected(connection: Any) -> Any:
            return connect(connection, target, found.endpoint, self._client_name)

        receiver = self._receiver
        context = receiver.receive_context
        connections = Connections(self._channel, self._clock, self._heartbeat, receiver, context, connected)
        try:
            await connections.open()
        except LinkLost:
            raise NoServer(connections.lost) from None
        return connections

    def _primary_changed(self, address: str) -> None:
        if address == self._address or self._is_copy:
            return
        if self.connections is not None:
            self.abandon(f"the primary is {address} now")
        elif self._service.running:
            # Begin anew, at once: an attempt at the old place may hang, and the pause before the next may be long.
            self._service.stopService()
            self._service.startService()

    def _heartbeat_returned(self) -> None:
        self._losses = 0
        self._receiver.heartbeat()
        if self._checking is None or self._checking.called:
            self._checking = Deferred.fromCoroutine(self._check_primary())

    async def _check_primary(self) -> None:
        """Should the news of a move have been lost, find out."""
        try:
            found: Resolved = await self._resolver.resolve(self._clock)
        except Exception as error:  # noqa: BLE001 - the link is up; where a new one would go is no concern now
            self.log.debug("where is the server? {error}", error=error)
        else:
            self._primary_changed(found.address)

    def _denied_access(self, error: AccessDenied | ServerRefused) -> None:
        if not self._is_copy:
            self._denied = True
            self.trouble = str(error)
            self._receiver.denied(error)

    def _attempt_failed(self, reason: str) -> None:
        if not self._is_copy:
            self.trouble = reason
            self._receiver.attempt_failed(reason)

    def _connections_lost(self, connections: Any, reason: str, lost: Callable[[str], None]) -> None:
        self._clients = connections.clients
        if self.connections is connections:
            self.connections = None
            self.trouble = reason
            self._receiver.link_lost(reason)
        # Later, because ClientService must not hear of a loss while it is still being told of the connection.
        self._clock.callLater(0, lost, reason)


@implementer(IStreamClientEndpoint)
class _LinkEndpoint:
    """Shows a pair of connections to ``ClientService`` as one, which is there when the whole pair is."""

    def __init__(self, open_connections: Callable[[Callable[[str], None]], Any], shown: str) -> None:
        self._open = open_connections
        self._shown = shown

    def __repr__(self) -> str:
        return f"<link to {self._shown}>"

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> IProtocol:
        protocol: Any = None

        def lost(reason: str) -> None:
            protocol.connectionLost(Failure(ConnectionDone(reason)))

        connections = await self._open(lost)
        protocol = factory.buildProtocol(IPv4Address("TCP", "", 0))
        protocol.makeConnection(_LinkTransport(connections))
        return protocol  # type: ignore[no-any-return]


class _LinkTransport:
    """As much of a transport as ``ClientService`` asks for."""

    def __init__(self, connections: Any) -> None:
        self._connections = connections

    def loseConnection(self) -> None:
        self._connections.lose("closed")
