"""The session of a node with one server: a table of keys, a queue of calls for each map, and a link.

All requests of one reactor turn are sent together, at its end. The session makes no decision about a key; those are in
`coord.core.entries`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import Call
from coord.core.conditions import Condition
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.records import StoredRecord
from coord.errors import AccessDenied, Closed, ServerRefused
from coord.link.backoff import short_pause
from coord.link.forks import MADE_BEFORE, check_fork, detach, track
from coord.link.link import CLOSED, CONNECTED, SUSPENDED, LinkState
from coord.link.replies import explain, will_pass
from coord.session import figures
from coord.session.arming import Arming
from coord.session.call_sender import CallSender
from coord.session.commands import Commands
from coord.session.delivery import Delivery, Waiter
from coord.session.doorbells import Doorbells
from coord.session.ends import Ends
from coord.session.flush import FlushScheduler
from coord.session.holds import Holds
from coord.session.leases import Leases
from coord.session.node import Node
from coord.session.reader import Reader, parse_record
from coord.session.retry import Retry
from coord.session.sweeper import Sweeper

if TYPE_CHECKING:
    from coord.link.map_link import AnyLink

__all__ = ["Session"]

_CHANNELS_A_FLUSH = 500
"""Each channel is confirmed in a reply of its own: this limit keeps the reactor's turns short."""

_SUBSCRIBES_IN_FLIGHT = 2_000
"""Paces the many subscriptions after a reconnect, for the server's sake, too."""


class Session:
    """See the module's docstring.

    :param link: a link to the server that is not started; on a cluster, the link of one map.
    :param of: returns the session that serves a map; by default this one serves all.
    """

    log = Logger()

    def __init__(self, node: Node, link: AnyLink, of: Callable[[str], Session] | None = None) -> None:
        self.node = node
        self.link = link
        self.of: Callable[[str], Session] = of or (lambda _: self)
        self.clock, self.thread = node.clock, node.thread
        self.link_status, self.counters = node.link_status, node.counters
        self.table = KeyTable(node.settings.cache_size)
        self.flush_scheduler = self.receive_context = FlushScheduler(self.clock, self._send, self._has_pending)
        self.doorbells = Doorbells(self.table, self.schedule)
        self.arming = Arming(self.table)
        self.ever_linked = False
        # Seconds since 1970, for metrics.
        self.linked_at = 0.0
        self.commands = Commands(node, link, self._wait_to_retry)
        self._retry = Retry(self.clock, self._resume, short_pause if node.alone else None)
        self._delivery = Delivery(self.table, self.arming, self._retry_later)
        self._deliver = self._delivery.deliver
        self.call_sender = CallSender(node, link, self.commands, self.table, self._deliver, self._postpone)
        ends = Ends(node, self.call, self.table.order)
        self._reader = Reader(
            self.commands,
            self.table,
            self._delivery,
            self.doorbells,
            ends,
            self._postpone,
            self._internal_error,
            alone=bool(node.alone),
        )
        self._sweeper = sweeper = Sweeper(
            node,
            self.commands,
            self._names,
            lambda name, letter, key, data: ends.end(self.map(name), letter, key, data),
        )
        self.holds = Holds(node, self.commands, self.call, self.table.order, self)
        self.leases = Leases(node, self.commands, self.call, self.table.order)
        self._subscribing = 0
        # What parts want done at each heartbeat, and on each link once requests can be sent, in this order.
        self.heartbeat_tasks = [self._reader.heartbeat, self.holds.heartbeat, sweeper.sweep, self.call_sender.forget]
        self.link_made_tasks = [
            self._reader.link_made,
            self.call_sender.link_made,
            self.holds.link_made,
            sweeper.sweep,
        ]
        # In the child of a fork: the node belongs to the parent, and this is a copy.
        self.is_copy = False
        self._copy_ended = False
        detach(self.clock)
        track(self)

    # Requests of the client.

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self.link_status.state

    @property
    def reason(self) -> str:
        """Why it is in this state."""
        return self.link_status.reason

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent and every request is answered."""
        pending = self.flush_scheduler.scheduled or self.table.busy or len(self.call_sender)
        return not (pending or self._reader.reading or self._subscribing)

    @property
    def server(self) -> str:
        """The server's address, without secrets."""
        return self.link.target.shown

    def pending(self) -> dict[str, int]:
        """Count the requests that are not answered."""
        waits = sum(subscription.count for subscription in self.table.subscriptions.values())
        return {"call": len(self.call_sender), "wait": waits, "other request": self.link_status.waiting}

    def figures(self) -> figures.Figures:
        """Return what `coord.metrics` shows of this node. It takes as long with one waiter as with a million.

        Any thread may call this.
        """
        counters, link = self.counters, self.link
        tallies = dict(counters.tallies)
        holds, locks, leases, deadline = self.holds.figures()
        return figures.Figures(
            namespace=self.node.namespace,
            node=self.node.name,
            server=self.server,
            link=self.state,
            attempts=link.attempts,
            losses=counters.losses,
            linked_at=self.linked_at,
            round_trip=link.round_trip,
            waiters=sum(tally.waiting for tally in tallies.values()),
            subscriptions=len(self.table.subscriptions),
            cached=len(self.table.cache),
            pending_calls=len(self.call_sender),
            tallies=tallies,
            counters=counters,
            watches=sum(map(len, list(self.doorbells.callbacks.values()))),
            holds=holds,
            locks=locks,
            leases=leases,
            lease_left=deadline - self.clock.seconds(),
        )

    def start(self) -> None:
        """Begin to connect."""
        self.link.start(self)

    def map(self, name: str) -> MapState:
        """Return the state of a map; the same object for the same name."""
        state = self.table.maps.get(name)
        if state is None:
            state = self.table.maps[name] = MapState(self._names(name), self.counters.tally(name))
        return state

    def _names(self, name: str) -> MapNames:
        return MapNames(self.node.namespace, name, self.link.target.database, alone=bool(self.node.alone))

    def wait(self, map_state: MapState, channel: bytes, waiter: Waiter) -> StoredRecord | None:
        """Add a waiter, or return the record from the live cache."""
        stored = self.table.wait(map_state, channel, waiter)
        if stored is None:
            map_state.tally.waits += 1
            if not self.flush_scheduler.scheduled:
                self.schedule()
        else:
            self.counters.cache_hits += 1
        return stored

    def wait_until(self, map_state: MapState, channel: bytes, waiter: Waiter, condition: Condition) -> None:
        """Add a waiter for a condition, or resolve it if that is known to be met."""
        map_state.tally.waits += 1
        wake = self.table.wait_until(map_state, channel, waiter, condition)
        if wake is not None:
            self._deliver(wake)
        self.schedule()

    def cancel(self, channel: bytes, waiter: Waiter) -> None:
        """Forget a waiter."""
        self.table.cancel(channel, waiter)
        self.schedule()
        if self.arming.waiting:
            self.arming.check()

    def call(self, map_state: MapState, call: Call) -> None:
        """Queue a call; the call sender resolves its result."""
        self.call_sender.add(map_state, call)
        if not self.flush_scheduler.scheduled:
            self.schedule()

    def close(self) -> Deferred[None]:
        """Fail all waiters and calls, and then close the connections."""
        if self.is_copy:
            self._end_copy()
            return succeed(None)
        self.link_status.change(CLOSED, "closed")
        self._end(Closed, self.call_sender.close)
        return self.link.close()

    def _end(self, error: Callable[[], Closed], end_calls: Callable[[], None]) -> None:
        self.flush_scheduler.cancel()
        self._retry.close()
        self.link_status.resolve_waiting(error())
        # Before the waiters: failing them does not mean that they were armed.
        self.arming.close(error())
        self._delivery.give_up_all(error)
        # Before the calls: a hold whose call fails would be withdrawn by another.
        self.holds.close(error)
        self.leases.close()
        end_calls()
        self._sweeper.cancel()
        self.doorbells.ring_all(error())
        self.table.link_lost()

    def forked(self) -> None:
        """Be closed, in the child of a fork.

        Pending waits and calls end when the child's reactor runs, or when the child closes this. Users' code must not
        run now: the child may be about to exec another program.
        """
        detach(self.clock)
        # A child has one thread.
        self.thread.note()
        if self.state is not CLOSED:
            self.is_copy = True
            self.holds.forked()
            self.link_status.forked(MADE_BEFORE)
            self.link.forked()
            self.clock.callLater(0, self._end_copy)

    def _end_copy(self) -> None:
        if self._copy_ended:
            return
        self._copy_ended = True
        self.link_status.change(CLOSED, MADE_BEFORE)
        self._end(self.link_status.closed_error, lambda: self.call_sender.fail_inherited(self.link_status.closed_error))
        self.link.fail_inherited()

    def __reduce__(self) -> NoReturn:
        """Raise: a copy would be the same node a second time (`coord.link.forks`)."""
        raise TypeError("a coordinator and its parts cannot be copied or pickled: connect in the other process")

    # Events of the link.

    def link_made(self) -> None:
        """The link is up."""
        # However the reactor is run, this is its thread.
        self.thread.note()
        self.log.info("linked to {server}", server=self.link.target.shown)
        self.ever_linked = True
        self._subscribing = 0
        self.linked_at = time()
        self.link_status.change(CONNECTED, "connected")
        self.link_status.resolve_waiting(None)
        for task in self.link_made_tasks:
            task()
        self.schedule()

    def link_lost(self, reason: str) -> None:
        """The link is lost."""
        self.counters.losses += 1
        self.table.link_lost()
        self._sweeper.cancel()
        # A map that moves loses its link, and no answer was too large.
        hint = "" if self.link.moving else self._reader.link_lost()
        said = f"{reason} ({hint})" if hint else reason
        self.link_status.change(SUSPENDED, said)
        log = self.log.warn if hint else self.log.info
        log("link to {server} suspended: {reason}", server=self.link.target.shown, reason=said)
        self.doorbells.ring_all()

    def attempt_failed(self, reason: str) -> None:
        """An attempt to connect failed."""
        self.link_status.failed(reason)

    def denied(self, error: AccessDenied | ServerRefused) -> None:
        """Access is denied until an operator changes that: fail the calls; the waiters only before a first link."""
        self.link_status.failed(str(error))
        self.log.warn("{error}", error=self.reason)
        self.link_status.resolve_waiting(error)
        self.call_sender.fail_unsent(error)
        self.holds.fail_unanswered(error)
        if not self.ever_linked:
            self._delivery.give_up_all(lambda: type(error)(*error.args))
            self.doorbells.ring_all(type(error)(*error.args))

    def heartbeat(self) -> None:
        """The server has answered a heartbeat."""
        if not self._retry.pausing:
            self.link_status.reason = "connected"
        for task in self.heartbeat_tasks:
            task()
        self.schedule()

    def postponed(self, message: str) -> None:
        """The server has no time now; all requests stay pending."""
        if self.link_status.state is CONNECTED:
            self.link_status.reason = f"connected, but the server asks to try again later: {message}"

    def subscribed(self, channel: bytes) -> None:
        """A subscription is confirmed."""
        self._subscribing -= 1
        if self.table.subscribed(channel):
            self.doorbells.ring(channel)

    def unsubscribed(self, channel: bytes) -> None:
        """The end of a subscription is confirmed."""
        self.table.unsubscribed(channel)

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused to subscribe to these channels, because of one of them."""
        self._subscribing -= len(channels)
        if will_pass(message, writing=False):
            for channel in channels:
                self.table.postpone(channel)
            self._postpone(message)
            return
        if len(channels) > 1:
            for channel in channels:
                self._subscribing += 1
                self.link.subscribe([channel])
            return
        self._delivery.refuse(channels[0], None, message)
        self.doorbells.ring(channels[0], explain(message, "the map's doorbell"))

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused to unsubscribe from these channels."""
        for channel in channels:
            self.table.unsubscribe_refused(channel)
        if will_pass(message, writing=False):
            self._postpone(message)
        else:
            self._retry_later(message)

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """A message came: a key's new record, or a doorbell."""
        try:
            stored = parse_record(payload)
        except ValueError:
            stored = None
        wake = self.table.message_received(channel, stored)
        if wake is not None:
            self._deliver(wake)
        elif channel in self.doorbells.callbacks:
            self.doorbells.ring(channel)

    # Requests to the link, once a turn.

    def schedule(self) -> None:
        """Send new requests at the end of this reactor turn."""
        if self.link_status.state is CONNECTED:
            self.flush_scheduler.schedule()

    def _has_pending(self) -> bool:
        """Whether there are requests to send, or Deferreds of `armed` to check."""
        return self.table.busy or bool(self.call_sender.ready or self.arming.waiting)

    def _send(self) -> None:
        check_fork()
        if self.link_status.state is not CONNECTED:
            return
        self.call_sender.send()
        unsubscribes = self.table.take_unsubscribes(_CHANNELS_A_FLUSH)
        if unsubscribes:
            self.link.unsubscribe(unsubscribes)
        subscribes = self.table.take_subscribes(min(_CHANNELS_A_FLUSH, _SUBSCRIBES_IN_FLIGHT - self._subscribing))
        if subscribes:
            self._subscribing += len(subscribes)
            self.link.subscribe(subscribes)
        reads = self._reader.send()
        if self.table.busy and (unsubscribes or subscribes or reads):
            # Send the rest in later turns, so that no turn gets long. If a limit is reached, answers make room.
            self.schedule()
        self.arming.check()

    # Requests that the server had no time for.

    def _wait_to_retry(self, message: str) -> Deferred[None]:
        """Return a Deferred that fires when to ask a server again that answered with this message."""
        self._postpone(message)
        return self._retry.wait_over()

    def _postpone(self, message: str) -> None:
        self.postponed(message)
        self._retry_later(message)

    def _retry_later(self, message: str) -> None:
        if self._retry.begin():
            self.log.warn("trying again until the server allows it: {error}", error=message)

    def _resume(self) -> None:
        if self.link_status.state is CONNECTED:
            self.table.resume()
            self.call_sender.resume()
            self.schedule()

    def _internal_error(self, failure: Failure) -> None:
        self.log.failure("internal error", failure)
        self.link.abandon("an internal error; starting over")
