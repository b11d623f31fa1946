"""A node on the model of a server, the two connections between them, and the books of what was promised.

`Cluster` drives a real `KeyTable` and real `CallQueue`s the way that the session does, but every step of a message
or a request (sent, carried out by the server, delivered) is a step of its own, so that a schedule of steps is an
interleaving. It also keeps books of its own about who was told what and when; each promise of the contract that is
about waiters is an assertion here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from coord.core.calls import Batch, Call, CallQueue, Outcome
from coord.core.doorbell import Doorbell
from coord.core.entries import Entry
from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.records import NEVER, Kind, Revision, StoredRecord
from coord.core.subscriptions import Phase, Wake
from core.server_model import CHANNELS, KINDS, MAP_OF, NAMES, Data, Operation, Server

__all__ = ["Cluster", "Waiter"]

FOREVER = 1 << 60


class Waiter:
    """One waiter, and what the books say of it."""

    __slots__ = ("again", "armed", "came_armed", "channel", "floor", "made", "resolved", "turn")

    def __init__(self, channel: bytes, turn: int, made: int, floor: Revision, *, again: bool) -> None:
        self.channel = channel
        self.turn = turn
        self.made = made
        self.floor = floor
        self.again = again
        self.armed: int | None = None
        # Came to a key that was armed already: news on its way may still be for it.
        self.came_armed = False
        self.resolved: StoredRecord | str | None = None

    def __repr__(self) -> str:
        return f"<waiter {self.turn} of {self.channel!r}, armed {self.armed}, resolved {self.resolved}>"


@dataclass
class Link:
    """The two connections, with what is on its way on each of them."""

    # Requests sent and not carried out; answers and messages not delivered. ``calls`` is a third way (F4).
    asked_subscriber: deque[tuple[str, bytes]] = field(default_factory=deque)
    from_subscriber: deque[tuple[str, bytes, StoredRecord | None, int]] = field(default_factory=deque)
    asked_command: deque[Callable[[bool], Callable[[], None]]] = field(default_factory=deque)
    from_command: deque[Callable[[], None]] = field(default_factory=deque)
    asked_calls: deque[Callable[[bool], Callable[[], None]]] = field(default_factory=deque)
    from_calls: deque[Callable[[], None]] = field(default_factory=deque)
    subscribed: dict[bytes, int] = field(default_factory=dict)


class Cluster:
    """One node, one server, other nodes as far as they change things, and the books.

    :param split: whether own calls travel on a connection of their own, not in order with the reads.
    """

    def __init__(self, table: KeyTable | None = None, *, cache_size: int = 2, split: bool = False) -> None:
        self.table = table or KeyTable(cache_size)
        self.split = split
        self.server = Server()
        self.server.publish = self._publish
        self.link: Link | None = None
        self.maps = {name: MapState(names) for name, names in NAMES.items()}
        self.table.maps.update(self.maps)
        self.queues = {name: CallQueue() for name in NAMES}
        for queue in self.queues.values():
            # One call is a large batch, which is sent behind another.
            queue.most = 2
        self.bells: dict[bytes, Doorbell] = {}
        self.waiters: list[Waiter] = []
        self.turn = 0
        self.serial = 0
        # The newest record of each key that the node was told of, whatever way the news took.
        self.reported: dict[bytes, tuple[int, Revision]] = {}
        self.woken = 0
        # Where the answer to a call of our own is being delivered: the turn before which its wake is for everybody.
        self.calling = 0

    # What users do.

    def wait(self, key: int, *, again: bool = False) -> None:
        """Make a waiter; one that waits ``again`` does so from its callback, once."""
        self._wait(CHANNELS[key % len(CHANNELS)], again=again)

    def _wait(self, channel: bytes, *, again: bool) -> None:
        name = MAP_OF[channel]
        self.turn += 1
        waiter = Waiter(channel, self.turn, self.server.moment, self._reported(channel), again=again)
        # A later wake may also be resolved inside `wait`, so the books have it before the table does.
        self.waiters.append(waiter)
        stored = self.table.wait(self.maps[name], channel, waiter)
        if stored is not None:
            assert stored.latched, "W1: answered with a record that is not latched"
            self._resolve(waiter, stored)
        else:
            entry = self.table.subscriptions[channel]
            assert isinstance(entry, Entry)
            if not entry.unarmed:
                waiter.armed, waiter.came_armed = self.server.moment, True

    def cancel(self, index: int) -> None:
        """Cancel one of the waiters."""
        waiting = self._waiting()
        if waiting:
            waiter = waiting[index % len(waiting)]
            self.waiters.remove(waiter)
            self.table.cancel(waiter.channel, waiter)

    def own(self, kind: int, key: int) -> None:
        """Make a call on this node."""
        channel = CHANNELS[key % len(CHANNELS)]
        self.turn += 1
        self.serial += 1
        data = b"" if KINDS[kind % 4] is Kind.RESET else b"%d" % self.serial
        call = Call(KINDS[kind % 4], channel, data, FOREVER, self.table.order(), self.turn)
        self.queues[MAP_OF[channel]].add(call)

    def other(self, kind: int, key: int) -> None:
        """Have another node make a call."""
        channel = CHANNELS[key % len(CHANNELS)]
        self.serial += 1
        self.server.apply(MAP_OF[channel], [Operation(KINDS[kind % 4], channel, b"%d" % self.serial)])

    def watch(self, which: int) -> None:
        """Begin to listen to a map's doorbell, or end it."""
        name = list(NAMES)[which % 2]
        channel = NAMES[name].doorbell
        bell = self.bells.pop(channel, None)
        if bell is None:
            self.bells[channel] = self.table.add_watcher(self.maps[name])
        else:
            self.table.remove_watcher(bell)

    # What becomes of what was asked.

    def send(self, most: int = 500) -> None:
        """End a turn of the reactor: send what the table and the queues want sent."""
        link = self.link
        if link is None:
            return
        for name, queue in self.queues.items():
            while (batch := queue.next()) is not None:
                self._send_batch(link, name, batch)
        link.asked_subscriber += [("unsubscribe", channel) for channel in self.table.take_unsubscribes(most)]
        link.asked_subscriber += [("subscribe", channel) for channel in self.table.take_subscribes(most)]
        for name, wanted in self.table.take_reads(most).items():
            self._send_read(link, name, wanted)
        for map_state in self.table.take_checks():
            self._send_read(link, map_state.names.name, [])

    def serve_subscriber(self, refusal: str = "") -> None:
        """Carry out the next SUBSCRIBE or UNSUBSCRIBE, or have it refused: for good, for a while, or put off."""
        link = self.link
        if link is None or not link.asked_subscriber:
            return
        what, channel = link.asked_subscriber.popleft()
        if refusal:
            what = "unsubscribe refused" if what == "unsubscribe" else refusal
        elif what == "unsubscribe":
            link.subscribed.pop(channel, None)
        else:
            link.subscribed[channel] = self.server.moment
        link.from_subscriber.append((what, channel, None, self.server.moment))

    def serve_command(self, *, busy: bool = False) -> None:
        """Carry out the next read, check or batch of calls, or have it put off."""
        if self.link is not None and self.link.asked_command:
            self.link.from_command.append(self.link.asked_command.popleft()(busy))

    def serve_calls(self, *, busy: bool = False) -> None:
        """Carry out the next batch of calls, where these travel alone, or have it put off."""
        if self.link is not None and self.link.asked_calls:
            self.link.from_calls.append(self.link.asked_calls.popleft()(busy))

    def busy(self, which: int) -> None:
        """Have the next request on one of the connections put off."""
        if which % 3 == 0:
            self.serve_subscriber("put off")
        elif which % 3 == 1:
            self.serve_command(busy=True)
        else:
            self.serve_calls(busy=True)

    def resume(self) -> None:
        """Ask again for all that was put off, or refused for a while."""
        if self.link is not None:
            self.table.resume()
            for name, queue in self.queues.items():
                for batch in list(queue.sent):
                    if batch.postponed:
                        batch.postponed = ""
                        self._send_batch(self.link, name, batch)

    def hear(self) -> None:
        """Deliver what comes next from the subscriber connection."""
        if self.link is None or not self.link.from_subscriber:
            return
        what, channel, stored, moment = self.link.from_subscriber.popleft()
        if what == "subscribe":
            self._subscribed(channel)
        elif what == "unsubscribe":
            self.table.unsubscribed(channel)
        elif what == "unsubscribe refused":
            self.table.unsubscribe_refused(channel)
        elif what == "put off":
            self.table.postpone(channel)
        elif what == "refused" or what == "withdrawn":
            self._refused(channel, for_good=what == "refused")
        elif what == "beat":
            self._beat(self.link)
        else:
            self._heard(channel, stored, moment)

    def answer(self) -> None:
        """Deliver what comes next from the command connection."""
        if self.link is not None and self.link.from_command:
            self.link.from_command.popleft()()

    def answer_calls(self) -> None:
        """Deliver the next answer to calls, where these travel alone."""
        if self.link is not None and self.link.from_calls:
            self.link.from_calls.popleft()()

    def double(self, index: int, later: int) -> None:
        """Have a message come twice, but not past what comes next on its channel: it would contradict that."""
        if self.link is None or not self.link.from_subscriber:
            return
        coming = self.link.from_subscriber
        index %= len(coming)
        message = coming[index]
        if message[0] != "message":
            return
        at = index + 1
        while at < len(coming) and later and coming[at][1] != message[1]:
            at += 1
            later -= 1
        coming.insert(at, message)

    # What goes wrong.

    def connect(self) -> None:
        """Make a new link, unless there is one."""
        if self.link is None:
            self.link = Link()
            for name, queue in self.queues.items():
                for batch in queue.sent:
                    batch.repeated = batch.in_doubt
                    batch.early, batch.postponed = False, ""
                    self._send_batch(self.link, name, batch)

    def cut(self) -> None:
        """Lose the link and all that is on its way on it."""
        if self.link is not None:
            self.link = None
            self.table.link_lost()
            self._check_outside()

    def fail_over(self, lost: int) -> None:
        """Cut the link; the next one leads to another process, which lacks the last changes."""
        self.cut()
        self.server.fail_over(lost)

    def flush(self, which: int) -> None:
        """Lose the data of a map."""
        self.server.flush(list(NAMES)[which % 2])

    def junk(self, key: int) -> None:
        """Have somebody publish junk on a key's channel."""
        self._publish(CHANNELS[key % len(CHANNELS)], None, self.server.moment)

    def corrupt(self, key: int) -> None:
        """Have somebody put junk in a record's place."""
        self.server.corrupt(CHANNELS[key % len(CHANNELS)])

    def forget(self, key: int) -> None:
        """Let the retention of a pending key's record pass; nothing is on its way for that long."""
        if self.link is not None and not self._busy() and not self.table.busy:
            self.server.forget(CHANNELS[key % len(CHANNELS)])

    def beat(self) -> None:
        """Send a heartbeat: heads are read when it has come round."""
        if self.link is None:
            return
        link = self.link

        def carry_out(busy: bool) -> Callable[[], None]:
            if busy:
                return lambda: None
            link.from_subscriber.append(("beat", b"", None, self.server.moment))
            return lambda: None

        link.asked_command.append(carry_out)

    def rest(self) -> None:
        """Let everything that is on its way arrive."""
        if self.link is not None:
            self._pump()

    def rest_subscriber(self) -> None:
        """Let everything arrive that takes the subscriber connection, while the other one stalls."""
        self.send()
        while self.link is not None and (self.link.asked_subscriber or self.link.from_subscriber):
            self.serve_subscriber()
            self.hear()
            self.send()

    def rest_command(self) -> None:
        """Let everything arrive that does not take the subscriber connection."""
        self.send()
        while self.link is not None and (self.link.asked_command or self.link.from_command):
            self.serve_command()
            self.answer()
            self.send()

    # Nothing is on its way any more, and then the promises are due.

    def settle(self) -> None:
        """Deliver everything, then a heartbeat, and hold the node to its promises."""
        self.connect()
        self._pump()
        self.resume()
        losses = dict(self.server.losses)
        self._pump()
        for name in NAMES:
            if losses[name] == 0:
                self._check_cache(name)
        self.beat()
        self._pump()
        self._check_settled()

    def finish(self) -> None:
        """Settle, see that everybody can still be woken, and that nothing stays behind."""
        self.settle()
        for waiter in self._waiting():
            waiter.again = False
        for key, channel in enumerate(CHANNELS):
            if isinstance(self.server.record(channel), bytes):
                self.other(3, key)
            if not self._latched(channel):
                self.other(2, key)
        self._pump()
        assert not self._waiting(), f"W2: no wake reached {self._waiting()}"
        for bell in self.bells.values():
            self.table.remove_watcher(bell)
        self.bells.clear()
        for key in range(len(CHANNELS)):
            self.other(3, key)
        self.settle()
        self._check_empty()

    # The ways of one request.

    def _send_batch(self, link: Link, name: str, batch: Batch) -> None:
        operations = [Operation(call.kind, call.key, call.data) for call in batch.calls]
        before = self.queues[name].before(batch)

        def carry_out(busy: bool) -> Callable[[], None]:
            if busy:
                return lambda: self._put_off(batch)
            outcomes = self.server.apply(name, operations, batch.number, before)
            return lambda: self._applied(name, batch, outcomes)

        (link.asked_calls if self.split else link.asked_command).append(carry_out)

    def _send_read(self, link: Link, name: str, wanted: list[tuple[bytes, int]]) -> None:
        def carry_out(busy: bool) -> Callable[[], None]:
            if busy:
                return lambda: self._unread(wanted)
            data, moment = self.server.data[name], self.server.moment
            return lambda: self._answered(name, wanted, data, moment)

        link.asked_command.append(carry_out)

    def _beat(self, link: Link) -> None:
        for name, state in self.maps.items():
            if state.channels:
                self._send_read(link, name, [])

    def _publish(self, channel: bytes, stored: StoredRecord | None, moment: int) -> None:
        if self.link is not None and channel in self.link.subscribed:
            self.link.from_subscriber.append(("message", channel, stored, moment))

    # What is delivered.

    def _subscribed(self, channel: bytes) -> None:
        bell = self.table.subscriptions.get(channel)
        if self.table.subscribed(channel):
            assert isinstance(bell, Doorbell), "a key is not read after its confirmation"
            assert bell is self.bells.get(channel) or not bell.watchers

    def _refused(self, channel: bytes, *, for_good: bool) -> None:
        self.bells.pop(channel, None)
        self._fail(self.table.failed(channel, for_good=for_good))

    def _put_off(self, batch: Batch) -> None:
        batch.postponed = "BUSY"

    def _unread(self, wanted: list[tuple[bytes, int]]) -> None:
        for channel, ticket in wanted:
            self.table.postpone(channel, ticket)

    def _heard(self, channel: bytes, stored: StoredRecord | None, moment: int) -> None:
        if stored is not None:
            self._tell(channel, stored)
        wake = self.table.message_received(channel, stored)
        self._deliver(wake)
        self._note_armed(channel, moment)

    def _answered(self, name: str, wanted: list[tuple[bytes, int]], data: Data, moment: int) -> None:
        state = self.maps[name]
        told = state.record_revision
        self.table.head_received(state, data.head)
        if self.split and told != NEVER and state.record_revision == NEVER:
            self._forgive(name)
        as_of = data.head.revision if data.head else NEVER
        for channel, ticket in wanted:
            stored = data.records.get(channel)
            if isinstance(stored, bytes):
                self._fail(self.table.failed(channel, ticket))
                continue
            entry = self.table.subscriptions.get(channel)
            if stored is not None and isinstance(entry, Entry) and entry.ticket == ticket:
                self._tell(channel, stored)
            wake = self.table.read_answered(channel, ticket, as_of, stored)
            self._deliver(wake)
            self._note_armed(channel, moment)

    def _forgive(self, name: str) -> None:
        """Where an answer to a call overtakes a read, a node in doubt about a generation forgets what it was told."""
        for channel in [channel for channel in self.reported if MAP_OF[channel] == name]:
            del self.reported[channel]
        for waiter in self.waiters:
            if MAP_OF[waiter.channel] == name:
                waiter.floor = NEVER

    def _applied(self, name: str, batch: Batch, outcomes: list[Outcome] | None) -> None:
        if outcomes is None:
            batch.early = True
            return
        if not self.queues[name].answered(batch):
            return
        repeated = batch.repeated
        learn = self.table.call_repeated if repeated else self.table.call_applied
        newest: StoredRecord | None = None
        for call, outcome in zip(batch.calls, outcomes, strict=True):
            stored = outcome.stored
            if stored is not None:
                self._tell(call.key, stored)
            if outcome.first and not self.table.is_tracked(call.key):
                newest = stored
            elif outcome.error is None:
                order = call.order if outcome.first else 0
                if repeated:
                    self.calling = call.result if outcome.first else 0
                else:
                    self.calling = FOREVER if outcome.first or (stored is not None and stored.latched) else 0
                self._deliver(learn(self.maps[name], call.key, stored, order))
            self.calling = 0
            self._check_own_calls(call, outcome)
        if newest is not None:
            self.table.note_seen(self.maps[name], newest.revision)

    def _deliver(self, wake: Wake | None) -> None:
        if wake is None:
            return
        waiters = list(wake.waiters)
        assert waiters, "a wake that wakes nobody"
        assert all(isinstance(waiter, Waiter) and waiter.channel == wake.entry.channel for waiter in waiters)
        assert wake.stored is not None
        turns = [waiter.turn for waiter in waiters if isinstance(waiter, Waiter)]
        assert turns == sorted(turns), "W3: not in the order they came"
        for waiter in waiters:
            assert isinstance(waiter, Waiter)
            # One that was cancelled by a callback before it is skipped, as the client does.
            if waiter in self.waiters:
                self._resolve(waiter, wake.stored)

    def _fail(self, waiters: list[object]) -> None:
        for waiter in waiters:
            assert isinstance(waiter, Waiter)
            assert waiter.resolved is None, "W3: resolved twice"
            waiter.resolved = "failed"
            self.waiters.remove(waiter)

    def _resolve(self, waiter: Waiter, stored: StoredRecord) -> None:
        assert waiter.resolved is None, "W3: resolved twice"
        waiter.resolved = stored
        self.waiters.remove(waiter)
        self.woken += 1
        self._check_wake(waiter, stored)
        if waiter.again:
            self._wait(waiter.channel, again=False)

    # The books.

    def _waiting(self) -> list[Waiter]:
        return self.waiters

    def _latched(self, channel: bytes) -> bool:
        record = self.server.record(channel)
        return isinstance(record, StoredRecord) and record.latched

    def _reported(self, channel: bytes) -> Revision:
        losses, revision = self.reported.get(channel, (0, NEVER))
        return revision if losses == self.server.losses[MAP_OF[channel]] else NEVER

    def _tell(self, channel: bytes, stored: StoredRecord) -> None:
        losses = self.server.losses[MAP_OF[channel]]
        self.reported[channel] = (losses, max(self._reported(channel), stored.revision))

    def _note_armed(self, channel: bytes, moment: int) -> None:
        """Where the table holds a key for armed, note since when: from then on no wake may pass it by."""
        entry = self.table.subscriptions.get(channel)
        if isinstance(entry, Entry) and not entry.unarmed:
            for waiter in self.waiters:
                if waiter.armed is None and waiter in entry.waiters:
                    waiter.armed = moment

    def _check_wake(self, waiter: Waiter, stored: StoredRecord) -> None:
        """Nobody is woken by what was over before, as far as the node knew or could know."""
        channel = waiter.channel
        woke = self.server.made.get((channel, stored.wake_revision))
        assert woke is not None, "woken by something that never happened"
        if self.server.lost[MAP_OF[channel]] >= min(woke, waiter.made) or waiter.turn < self.calling:
            # What was lost since, nobody is promised anything about; and our own call's wake is news to us (W7).
            return
        news = stored.revision if stored.latched else stored.wake_revision
        over = news < waiter.floor or (news == waiter.floor and not stored.latched)
        assert not over, "W7: woken by what the node knew to be over"
        if not stored.latched and not waiter.came_armed:
            subscribed = self.link.subscribed.get(channel, FOREVER) if self.link else FOREVER
            since = min(waiter.made, subscribed) if waiter.armed is None else waiter.armed
            assert woke > since, "woken by a pulse from before it was armed"

    def _check_own_calls(self, call: Call, outcome: Outcome) -> None:
        """After a call of its own, the node's own waits have seen what it did (W7)."""
        if outcome.first and call.kind is not Kind.RESET:
            left = [waiter for waiter in self.waiters if waiter.channel == call.key and waiter.turn < call.result]
            assert not left, f"W7: own {call.kind} did not wake {left}"
        if outcome.stored is None and outcome.error is None:
            assert call.key not in self.table.cache, "W7: nothing stands, and the live cache answers"

    def _check_outside(self) -> None:
        for channel, subscription in self.table.subscriptions.items():
            assert subscription.phase is Phase.UNSUBSCRIBED, f"{channel!r} is {subscription.phase} without a link"
        assert not self.table.cache, "the live cache outlives the link"

    def _check_cache(self, name: str) -> None:
        for channel, entry in self.table.cache.items():
            record = self.server.record(channel)
            if MAP_OF[channel] == name and not isinstance(record, bytes):
                assert isinstance(entry, Entry)
                assert entry.stored is record, f"W8: {channel!r} is cached as {entry.stored}, and is {record}"

    def _check_settled(self) -> None:
        table, link = self.table, self.link
        assert link is not None
        for name in NAMES:
            self._check_cache(name)
        needed = {waiter.channel for waiter in self.waiters} | set(table.cache) | set(self.bells)
        assert set(table.subscriptions) == needed, "W5: an entry without need"
        assert set(link.subscribed) == needed, "W5: a subscription without need, or a need without one"
        assert len(table.cache) <= table.cache_size, "the live cache is not bounded"
        for waiter in self.waiters:
            self._check_waiter(waiter)
        for name, state in self.maps.items():
            assert state.channels == sum(each.map is state for each in table.subscriptions.values())
            assert not len(self.queues[name]), "F1: a call is left unanswered"

    def _check_waiter(self, waiter: Waiter) -> None:
        entry = self.table.subscriptions[waiter.channel]
        assert isinstance(entry, Entry)
        assert waiter in entry.waiters, "W3: a waiter is lost"
        assert not entry.unarmed, "a waiter is never armed"
        assert waiter.armed is not None
        assert not self._latched(waiter.channel), f"W1: {waiter} waits for a latched key"
        record = self.server.record(waiter.channel)
        if isinstance(record, StoredRecord) and record.wake_kind is not None:
            woke = self.server.made[waiter.channel, record.wake_revision]
            assert woke <= waiter.armed, f"W2: {waiter} missed the wake of {woke}"

    def _check_empty(self) -> None:
        assert self.link is not None
        assert not self.table.subscriptions, "W5: an entry stays behind"
        assert not self.table.cache, "W5: a reset key stays in the live cache"
        assert not self.link.subscribed, "W5: a subscription stays behind"
        assert all(state.channels == 0 for state in self.maps.values()), "W5: the count of entries is wrong"

    # Going on until nothing is left to do.

    def _busy(self) -> bool:
        link = self.link
        assert link is not None
        return any((link.asked_subscriber, link.from_subscriber, link.asked_command, link.from_command)) or bool(
            link.asked_calls or link.from_calls
        )

    def _pump(self) -> None:
        for _ in range(200):
            self.send()
            if not self._busy():
                return
            while self._busy():
                self.serve_subscriber()
                self.serve_command()
                self.serve_calls()
                self.hear()
                self.answer()
                self.answer_calls()
        raise AssertionError("it never comes to rest")
