"""The session of a node with one server: a table of keys, a queue of calls for each map, and a link.

All requests of one reactor turn are sent together, at its end. The session makes no decision about a key; those are in
`coord.core.keys`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import Call
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.quoting import quoted
from coord.core.records import NEVER, Head, StoredRecord, not_a_record
from coord.core.subscriptions import Wake
from coord.errors import AccessDenied, Closed, CorruptRecord, Error, ServerRefused
from coord.link.forks import MADE_BEFORE, check_fork, detach, track
from coord.link.link import CLOSED, CONNECTED, SUSPENDED, Link, LinkState
from coord.link.replies import LinkLost, ServerError, explain, will_pass
from coord.session import unsent
from coord.session.arming import Arming
from coord.session.call_sender import CallSender
from coord.session.commands import Commands
from coord.session.doorbells import Doorbells
from coord.session.flush import FlushScheduler
from coord.session.node import Node
from coord.session.retry import Retry
from coord.session.sweeper import Sweeper
from coord.session.window import Window

__all__ = ["Session", "Waiter"]

_CHANNELS_A_FLUSH = 500
"""Each channel is confirmed in a reply of its own: this limit keeps the reactor's turns short."""

_SUBSCRIBES_IN_FLIGHT = 2_000
"""Paces the many subscriptions after a reconnect, for the server's sake, too."""

_HEADS_A_CALL = 500
"""Reading them takes the server half a millisecond."""

# Every wake-up uses this, and Python 3.11 is slow to look up a class method.
_parse = StoredRecord.parse


class Waiter(Protocol):
    """The interface of the client's waiters. ``called``: it is resolved, and must not be woken."""

    called: bool

    def wake(self, stored: StoredRecord, names: MapNames) -> None:
        """Resolve the waiter with the last wake of this record; never raises."""

    def give_up(self, error: Exception) -> None:
        """Resolve the waiter with an error; never raises."""


class Session:
    """See the module's docstring.

    :param link: a link to the server that is not started.
    """

    log = Logger()

    def __init__(self, node: Node, link: Link) -> None:
        self.node = node
        self.link = link
        self.clock = node.clock
        self.thread = node.thread
        self.link_status = node.link_status
        self.counters = node.counters
        self.table = KeyTable(node.settings.cache_size)
        self.flush_scheduler = self.receive_context = FlushScheduler(self.clock, self._send, self._has_pending)
        self.doorbells = Doorbells(self.table, self.schedule)
        self.arming = Arming(self.table)
        self.ever_linked = False
        self.commands = Commands(node, link, self._wait_to_retry)
        self.call_sender = CallSender(node, link, self.commands, self.table, self.deliver, self._postpone)
        self._retry = Retry(self.clock, self._resume)
        self._window = Window()
        self._sweeper = Sweeper(self.commands, self._names)
        self._subscribing = 0
        self._reading = 0
        # What parts want done at each heartbeat, and on each link once requests can be sent, in this order.
        self.heartbeat_tasks = [
            self._window.heartbeat,
            self._read_used_heads,
            self.table.verify,
            self._sweeper.sweep,
            self.call_sender.forget,
        ]
        self.link_made_tasks = [self.call_sender.link_made, self._sweeper.sweep]
        # In the child of a fork: the node belongs to the parent, and this is a copy.
        self.is_copy = False
        self._copy_ended = False
        detach(self.clock)
        track(self)
        unsent.watch(self)

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
        return not (pending or self._reading or self._subscribing)

    @property
    def server(self) -> str:
        """The server's address, without secrets."""
        return self.link.target.shown

    def pending(self) -> dict[str, int]:
        """Count the requests that are not answered."""
        waits = sum(subscription.count for subscription in self.table.subscriptions.values())
        return {"call": len(self.call_sender), "wait": waits, "other request": self.link_status.waiting}

    def start(self) -> None:
        """Begin to connect."""
        self.link.start(self)

    def map(self, name: str) -> MapState:
        """Return the state of a map; the same object for the same name."""
        state = self.table.maps.get(name)
        if state is None:
            state = self.table.maps[name] = MapState(self._names(name))
        return state

    def _names(self, name: str) -> MapNames:
        return MapNames(self.node.namespace, name, self.link.target.database)

    def wait(self, map_state: MapState, channel: bytes, waiter: Waiter) -> StoredRecord | None:
        """Add a waiter, or return the record from the live cache."""
        stored = self.table.wait(map_state, channel, waiter)
        if stored is None:
            self.counters.waits += 1
            self.schedule()
        else:
            self.counters.cache_hits += 1
        return stored

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
        self._give_up_waiters(error)
        end_calls()
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
        self._subscribing = self._reading = 0
        self.link_status.change(CONNECTED, "connected")
        self.link_status.resolve_waiting(None)
        for task in self.link_made_tasks:
            task()
        self.schedule()

    def link_lost(self, reason: str) -> None:
        """The link is lost."""
        self.counters.losses += 1
        self.table.link_lost()
        hint = self._window.link_lost(self._reading)
        said = f"{reason} ({hint})" if hint else reason
        self.link_status.change(SUSPENDED, said)
        log = self.log.warn if hint else self.log.info
        log("link to {server} suspended: {reason}", server=self.link.target.shown, reason=said)
        self.doorbells.ring_all()

    def attempt_failed(self, reason: str) -> None:
        """An attempt to connect failed."""
        self.link_status.reason = reason

    def denied(self, error: AccessDenied | ServerRefused) -> None:
        """Access is denied until an operator changes that: fail the calls; the waiters only before a first link."""
        self.link_status.reason = str(error)
        self.log.warn("{error}", error=self.reason)
        self.link_status.resolve_waiting(error)
        self.call_sender.fail_unsent(error)
        if not self.ever_linked:
            self._give_up_waiters(lambda: type(error)(*error.args))
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
        self._refuse(channels[0], None, message)
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
            stored = _parse(payload)
        except ValueError:
            stored = None
        wake = self.table.message_received(channel, stored)
        if wake is not None:
            self.deliver(wake)
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
        reads = self.table.take_reads(self._window.room(self._reading))
        for name, wanted in reads.items():
            self._read(self.table.maps[name], wanted)
        self._read_heads(self.table.take_checks())
        if self.table.busy and (unsubscribes or subscribes or reads):
            # Send the rest in later turns, so that no turn gets long. If a limit is reached, answers make room.
            self.schedule()
        self.arming.check()

    def _read_used_heads(self) -> None:
        """Read the heads of all maps in use: another generation may mean that data was lost."""
        self._read_heads([map_state for map_state in self.table.maps.values() if map_state.channels])

    def _read_heads(self, maps: list[MapState]) -> None:
        """Read the heads of many maps in one command, which is ten times as fast as one command for each.

        A cluster, whose maps are on several servers, would need one command for each map.
        """
        for start in range(0, len(maps), _HEADS_A_CALL):
            some = maps[start : start + _HEADS_A_CALL]
            answer: Deferred[Any] = self.commands.heads(map_state.names for map_state in some)
            answer.addCallbacks(self._heads_received, self._heads_refused, callbackArgs=(some,), errbackArgs=(some,))
            answer.addErrback(self._internal_error)

    def _heads_received(self, heads: list[bytes | None], maps: list[MapState]) -> None:
        for map_state, payload in zip(maps, heads, strict=True):
            self._read_answered([payload], map_state, [])
            self.doorbells.head_read(map_state, payload)

    def _heads_refused(self, failure: Failure, maps: list[MapState]) -> None:
        self._read_unanswered(failure, [])
        for map_state in maps:
            # The watchers read for themselves.
            self.doorbells.ring(map_state.names.doorbell)
        if failure.check(ServerError) and not will_pass(str(failure.value), writing=False):
            # One map that may not be read fails the command for all others.
            for map_state in maps:
                self._read(map_state, [])

    def _read(self, map_state: MapState, wanted: list[tuple[bytes, int]]) -> None:
        names = map_state.names
        self._reading += len(wanted)
        start = len(names.prefix)
        answer: Deferred[Any] = self.commands.read(names, [channel[start:] for channel, _ in wanted])
        answer.addCallbacks(
            self._read_answered,
            self._read_unanswered,
            callbackArgs=(map_state, wanted),
            errbackArgs=(wanted,),
        )
        answer.addErrback(self._internal_error)

    def _read_answered(self, reply: list[bytes | None], map_state: MapState, wanted: list[tuple[bytes, int]]) -> None:
        self._reading -= len(wanted)
        try:
            head = Head.read(map_state.names, reply[0])
        except Error as error:
            for channel, ticket in wanted:
                self._fail(channel, ticket, _copies(error))
            return
        if self.table.head_received(map_state, head):
            self.log.warn(
                "map {name}: its data was lost on the server (flushed, or restored)",
                name=map_state.names.name,
            )
        as_of = head.revision if head else NEVER
        # One at a time: a callback may wait for a key whose answer comes later in this reply.
        for (channel, ticket), payload in zip(wanted, reply[1:], strict=True):
            try:
                stored = None if payload is None else _parse(payload)
            except ValueError:
                self._fail(channel, ticket, not_a_record)
                continue
            wake = self.table.read_answered(channel, ticket, as_of, stored)
            if wake is not None:
                self.deliver(wake)

    def _read_unanswered(self, failure: Failure, wanted: list[tuple[bytes, int]]) -> None:
        failure.trap(LinkLost, ServerError)
        if failure.check(LinkLost):
            return
        self._reading -= len(wanted)
        message = str(failure.value)
        if will_pass(message, writing=False):
            for channel, ticket in wanted:
                self.table.postpone(channel, ticket)
            self._postpone(message)
            return
        for channel, ticket in wanted:
            self._refuse(channel, ticket, message)

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

    def _refuse(self, channel: bytes, ticket: int | None, message: str) -> None:
        """Fail the waiters of a key; but armed ones stay, as what was allowed before may be allowed again."""
        corrupt = isinstance(explain(message, ""), CorruptRecord)
        self._fail(channel, ticket, lambda key: explain(message, quoted(key)), for_good=corrupt)
        subscription = self.table.subscriptions.get(channel)
        if subscription is not None and subscription.unarmed:
            self._retry_later(message)

    # Resolving waiters.

    def deliver(self, wake: Wake) -> None:
        """Resolve the waiters of a wake, in the order they came."""
        stored, names = wake.stored, wake.entry.map.names
        self.counters.wakes += len(wake.waiters)
        if len(wake.waiters) == 1:
            # The usual case: with one waiter, `armed` need not be held back, and the waiter was not cancelled, as that
            # would have removed it from the table.
            wake.waiters[0].wake(stored, names)  # type: ignore[attr-defined]
            if self.arming.waiting:
                self.arming.check()
            return
        with self.arming:
            for waiter in wake.waiters:
                # The callback of another waiter may have cancelled this one.
                if not waiter.called:  # type: ignore[attr-defined]
                    waiter.wake(stored, names)  # type: ignore[attr-defined]

    def _fail(
        self, channel: bytes, ticket: int | None, error: Callable[[str], Exception], *, for_good: bool = True
    ) -> None:
        subscription = self.table.subscriptions.get(channel)
        waiters = self.table.failed(channel, ticket, for_good=for_good)
        if waiters and subscription is not None:
            key = subscription.map.names.key_of(channel)
            with self.arming:
                for waiter in waiters:
                    waiter.give_up(error(key))  # type: ignore[attr-defined]

    def _give_up_waiters(self, error: Callable[[], Exception]) -> None:
        waiters = self.table.take_all_waiters()
        with self.arming:
            for waiter in waiters:
                waiter.give_up(error())  # type: ignore[attr-defined]

    def _internal_error(self, failure: Failure) -> None:
        self.log.failure("internal error", failure)
        self.link.abandon("an internal error; starting over")


def _copies(error: Error) -> Callable[[str], Error]:
    """Return a function that copies the error, as no two waiters may share one."""
    return lambda _: type(error)(*error.args)
