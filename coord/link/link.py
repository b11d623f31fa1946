"""The link to a server, reconnecting when it is lost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.errors import AccessDenied, ServerRefused
from coord.link.backoff import backoff, spread
from coord.link.discovery import Resolver
from coord.link.forks import MADE_BEFORE, check_fork
from coord.link.keep_up import KeepUp
from coord.link.receiver import Receiver
from coord.link.replication import Data
from coord.link.replies import LinkLeft, LinkLost, NoServer, ServerError, describe, explain, means_another_server
from coord.link.scripts import Script
from coord.link.target import Target

if TYPE_CHECKING:
    # They import txredisapi and OpenSSL.
    from coord.link.connections import Connections
    from coord.link.protocol import Connection
    from coord.link.replica_writer import OnProgress

__all__ = ["CLOSED", "CONNECTED", "CONNECTING", "SUSPENDED", "Link", "LinkState"]

_DENIED_RETRY = 5.0
"""Seconds between attempts if the server denies access: an operator has to change something first."""


class LinkState(StrEnum):
    """What a user can expect of the link."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    SUSPENDED = "suspended"
    CLOSED = "closed"


# As with the kinds of records: a name is read faster than a member of its class.
CONNECTING, CONNECTED, SUSPENDED, CLOSED = LinkState


class Link:
    """Keeps connections to a server up, and sends commands.

    ``attempts`` counts the attempts to connect; ``trouble`` is the last known reason for having no link.

    :param channel: the node's own channel, for the heartbeat.
    :param heartbeat: its interval in seconds; a server that hangs is noticed within two of them.
    :param clock: stands in for the reactor; a ``task.Clock`` in tests.
    """

    log = Logger()

    guest = moving = False
    """Whether the server serves the maps only while they move to it, and whether these leave; see `MapLink`."""

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
        self.connections: Connections | None = None
        self.attempts = 0
        self.trouble = ""
        self._receiver: Receiver
        self._channel = channel
        self._client_name = client_name
        self._heartbeat = heartbeat
        self._clock = clock
        self._denied = False
        # In the child of a fork: the connections belong to the parent, and this is a copy.
        self._is_copy = False
        self._inherited: Connections | None = None
        self._resolver: Resolver
        # The address of the server that is connected or tried.
        self._address = ""
        self._checking: Deferred[None] | None = None
        self._unwatch: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._pause = backoff()
        # The number of links in a row that were lost before a heartbeat, and of failed attempts.
        self._losses = 0
        # The latest known number of the server's clients.
        self._clients = 0
        self._keep_up = KeepUp(self._connect, self._next_pause, clock)

    def _next_pause(self, _: int) -> float:
        """Return how long to wait before the next attempt.

        A link that is lost before its first heartbeat, for example because it reads too much, is another failure.
        """
        self._losses += 1
        pause = _DENIED_RETRY if self._denied else self._pause(self._losses)
        return pause + spread(self._clients)

    def start(self, receiver: Receiver) -> None:
        """Begin to connect in the background; pass events to ``receiver``."""
        self._receiver = receiver
        self._resolver = self.target.resolver()
        self._unwatch = self._resolver.watch(self._clock, self._primary_changed)
        self._keep_up.start()

    def close(self) -> Deferred[None]:
        """Close the link for good; return a Deferred that fires when all connections are gone."""
        self.connections = None
        return Deferred.fromCoroutine(self._stop())

    def forked(self) -> None:
        """Leave the connections to the parent, in the child of a fork, and report no more events."""
        self._is_copy = True
        self._inherited, self.connections = self.connections, None
        if self._inherited is not None:
            self._inherited.forked(MADE_BEFORE)

    def fail_inherited(self) -> None:
        """Fail all unanswered commands, and stop watching for another primary."""
        if self._inherited is not None:
            self._inherited.fail_inherited()
        self._unwatch().addErrback(lambda _: None)

    async def _stop(self) -> None:
        stopped = self._keep_up.stop()
        if self._checking is not None:
            self._checking.cancel()
        await self._unwatch()
        await stopped

    @property
    def up(self) -> bool:
        """Whether the link is up."""
        return self.connections is not None

    @property
    def process(self) -> bytes:
        """The run id of the server process; empty without a link."""
        return self.connections.process if self.connections is not None else b""

    @property
    def round_trip(self) -> float:
        """The seconds that the last heartbeat took, through both connections; infinite without a link."""
        return inf if self.connections is None else self.connections.round_trip

    @property
    def data(self) -> Data | None:
        """The identity of the server's data, for `has_still`."""
        return None if self.connections is None else self.connections.data

    def has_still(self, data: Data | None) -> bool:
        """Whether the server still has the data that an earlier link found (`data`)."""
        return data is not None and self.connections is not None and self.connections.has_still(data)

    def ask(self, *args: bytes) -> Deferred[Any]:
        """Send one command; errbacks `ServerError` or `LinkLost`."""
        if self.connections is None:
            return fail(LinkLost())
        return self.connections.command.ask(*args).addErrback(self._check_refusal)

    def run_script(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, others_first: bool = False
    ) -> Deferred[Any]:
        """Run a script; errbacks `ServerError` or `LinkLost`.

        :param others_first: have the server publish to others before it replies to us.
        """
        if self.connections is None:
            return fail(LinkLost())
        connection = self.connections.command
        args = (b"%d" % len(keys), *keys, *arguments)
        answer: Deferred[Any] = connection.ask(b"EVALSHA", script.sha, *args, others_first=others_first)
        return answer.addErrback(self._not_run, connection, script, args)

    def _not_run(self, failure: Failure, connection: Connection, script: Script, args: Sequence[bytes]) -> Any:
        failure.trap(ServerError)
        if str(failure.value).startswith("NOSCRIPT"):
            # A restart, a failover or SCRIPT FLUSH removes scripts; EVAL loads this one again.
            return connection.ask(b"EVAL", script.text, *args).addErrback(self._check_refusal)
        return self._check_refusal(failure)

    def _check_refusal(self, failure: Failure) -> Failure:
        failure.trap(ServerError)
        try:
            self._check_server(str(failure.value))
        except LinkLost:
            raise LinkLeft(str(failure.value)) from None
        return failure

    async def count_replicas(self, wanted: int, due: float, on_progress: OnProgress | None, *, new: bool) -> int:
        """Count the replicas that have all applied calls; see `coord.link.replica_writer`.

        :raises ServerError, LinkLost: the number is unknown.
        """
        if self.connections is None:
            raise LinkLost
        try:
            return await self.connections.count_replicas(wanted, due, on_progress, new=new)
        except ServerError as error:
            message = str(error)
            if message.startswith("ERR WAIT cannot"):
                self.abandon(message)
                raise LinkLost from None
            self._check_server(message)
            raise

    def _check_server(self, message: str) -> None:
        """Give up the link, and raise `LinkLost`, if this error means that the server cannot serve us now."""
        if means_another_server(message):
            self.abandon(message)
            raise LinkLost

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Subscribe; the receiver gets the confirmations."""
        if self.connections is not None:
            self.connections.subscriber.subscribe(channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Unsubscribe; the receiver gets the confirmations."""
        if self.connections is not None:
            self.connections.subscriber.unsubscribe(channels)

    def call_across(self, channels: Sequence[bytes]) -> None:
        """Do nothing: no map moves."""

    def abandon(self, reason: str) -> None:
        """Close the present connections, and connect again."""
        if self.connections is not None:
            self.connections.lose(reason)

    def _connect(self) -> Deferred[Connections]:
        check_fork()
        if self._is_copy:
            # Never fires: there are no more attempts.
            return Deferred()
        self.attempts += 1
        self._denied = False
        opening = Deferred.fromCoroutine(self._make_connections())
        opening.addTimeout(2 * self._heartbeat, self._clock)
        return opening.addCallbacks(self._opened, self._not_opened)

    def _not_opened(self, failure: Failure) -> Failure:
        """Tell the receiver why an attempt failed, unless it was given up."""
        match failure.value:
            case CancelledError():
                pass
            case ServerRefused() as refused:
                # The sentinels do not know the service: callers need not wait for that to change.
                self._denied_access(refused)
            case ServerError() as error:
                denied = explain(str(error), self.target.shown)
                if isinstance(denied, AccessDenied):
                    self._denied_access(denied)
                else:
                    self._attempt_failed(describe(str(error)))
            case defer.TimeoutError():
                # A server that does not speak TLS waits for more data and says nothing.
                hint = " (does it speak TLS?)" if self.target.shown.startswith("rediss") else ""
                self._attempt_failed(f"no answer within {2 * self._heartbeat:g} s{hint}")
            case error:
                self._attempt_failed(str(error) or type(error).__name__)
        return failure

    def _opened(self, connections: Connections) -> Connections:
        connections.on_lost = lambda reason: self._connections_lost(connections, reason)
        connections.on_heartbeat = self._heartbeat_returned
        connections.on_postponed = self._receiver.postponed
        # Later: now an answer is being received, and a callback would be called in the middle of that.
        self._clock.callLater(0, self._connections_made, connections)
        return connections

    def _connections_made(self, connections: Connections) -> None:
        if connections.lost is None and not self._is_copy:
            self.connections = connections
            self._receiver.link_made()

    async def _make_connections(self) -> Connections:
        # Imported late: it imports txredisapi and OpenSSL.
        from coord.link.handshake import connect

        found = await self._resolver.resolve(self._clock)
        self._address = found.address
        target = self.target
        if target.password is None and not target.username:
            target = replace(target, password=found.password)

        def connected(connection: Connection) -> Coroutine[Any, Any, bytes]:
            return connect(connection, target, found.endpoint, self._client_name)

        connections = self._new_connections(connected)
        try:
            await connections.open()
        except LinkLost:
            raise NoServer(connections.lost) from None
        return connections

    def _new_connections(self, connected: Callable[[Connection], Coroutine[Any, Any, bytes]]) -> Connections:
        from coord.link.connections import Connections

        return Connections(self._channel, self._clock, self._heartbeat, self._receiver, connected)

    def _primary_changed(self, address: str) -> None:
        if address == self._address or self._is_copy:
            return
        if self.connections is not None:
            self.abandon(f"the primary is {address} now")
        else:
            # An attempt at the old address may hang, and the next pause may be long.
            self._keep_up.retry_now()

    def _heartbeat_returned(self) -> None:
        self._losses = 0
        self._receiver.heartbeat()
        if self._checking is None or self._checking.called:
            self._checking = Deferred.fromCoroutine(self._check_primary())

    async def _check_primary(self) -> None:
        """Ask again where the primary is, in case a notification was lost."""
        try:
            found = await self._resolver.resolve(self._clock)
        except Exception as error:  # noqa: BLE001 - the link is up: the next one does not matter now
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

    def _connections_lost(self, connections: Connections, reason: str) -> None:
        self._clients = connections.clients
        if self.connections is connections:
            self.connections = None
            self.trouble = reason
            self._receiver.link_lost(reason)
