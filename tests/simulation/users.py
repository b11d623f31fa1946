"""What the users of nodes do, and what they see."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.core.records import Kind, Listing, Record, Revision
from coord.errors import EventFailed, NotReplicated
from simulation.history import Call, Hold, Key, Look, Wait, Watching
from simulation.node import SimNode
from simulation.world import World

__all__ = ["CALLS", "MANNERS", "TTLS", "Users"]

MANNERS = ("plain", "plain", "plain", "again", "again", "raise", "cancel", "mutate", "call", "timeout")
"""What a wait's callback does, or that the wait has a deadline."""

CALLS = ("fire", "fail", "pulse", "reset")
"""The verbs whose third number says, among others, whether replicas have to have it."""

_TIMEOUTS = (30.0, 30.0, 30.0, 30.0, 5.0, 0.3, 0.01)

TTLS = (0.001, 0.02, 0.1, 0.3, 1.0, 2.0, 5.0, 12.0, 40.0, 600.0)
"""Seconds: many events end within a schedule, some in the next beat, some not before its end."""

_WITHIN = (0.4, 0.4, 0.4, 3.0, 3.0, 12.0)
"""Seconds that replicas are given."""


class HandlerError(Exception):
    """What a handler raises that is badly written."""


class Users:
    """The users' verbs. Numbers stand for what there is: they are reduced to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = world.history
        # Whether the schedule is over, and nobody begins anything in a callback any more.
        self.resting = False

    # Waits.

    def wait(self, a: int, b: int, c: int) -> None:
        """Wait for a key on a node, in one of the manners."""
        node = self.world.node(a)
        if node is not None:
            self.make_wait(node, self.world.where(b), MANNERS[c % len(MANNERS)])

    def make_wait(self, node: SimNode, where: Key, manner: str, parent: Wait | None = None) -> Wait:
        """Wait for a key."""
        history = self.history
        cached = self.world.channel(where) in node.session(where[0]).table.cache
        wait = Wait(len(history.waits), node.life, where, history.now(), cached, manner, parent)
        history.waits.append(wait)
        events = node.maps[where[0]]
        if manner == "timeout":
            wait.timeout = 0.5 if wait.number % 2 else 3.0
        deferred: Deferred[Any] = events[where[1]] if wait.timeout is None else events.wait(where[1], wait.timeout)
        wait.deferred = deferred
        node.pending.append(wait)
        deferred.addCallbacks(self._woken, self._ended, callbackArgs=(node, wait), errbackArgs=(node, wait))
        deferred.addErrback(self._raised)
        wait.sync = wait.resolved is not None
        if not wait.sync:
            events.armed().addCallbacks(self._settled, lambda _: None, callbackArgs=(node, wait))
        return wait

    def _settled(self, _: object, node: SimNode, wait: Wait) -> None:
        if wait.settled is None and node.life.crashed is None:
            wait.settled = self.history.now()

    def _resolved(self, node: SimNode, wait: Wait) -> None:
        wait.times += 1
        wait.resolved = self.history.now()
        for waiting in (node.pending, node.ending, node.reaching):
            if wait in waiting:
                waiting.remove(wait)

    def _woken(self, value: Any, node: SimNode, wait: Wait) -> object:
        if node.life.crashed is None:
            self._resolved(node, wait)
            wait.outcome, wait.value = "value", dict(value) if isinstance(value, dict) else value
            self._react(node, wait, value)
        return "what another handler returns"

    def _ended(self, failure: Failure, node: SimNode, wait: Wait) -> None:
        if node.life.crashed is not None:
            return
        self._resolved(node, wait)
        if isinstance(failure.value, EventFailed):
            reason: Any = failure.value.reason
            wait.outcome, wait.value = "failed", dict(reason) if isinstance(reason, dict) else reason
            self._react(node, wait, reason)
        else:
            wait.outcome, wait.error = "error", type(failure.value).__name__

    def _react(self, node: SimNode, wait: Wait, value: Any) -> None:
        if isinstance(wait.value, dict):
            wait.serial = wait.value.get("n")
        match wait.manner:
            case "again":
                self.make_wait(node, wait.where, "plain", wait)
            case "raise":
                raise HandlerError
            case "cancel":
                for sibling in [other for other in node.pending if other.where == wait.where][::2]:
                    self._cancel(sibling)
            case "mutate" if isinstance(value, dict):
                value.clear()
                value["spoilt"] = True
            case "call":
                map_name, key = wait.where
                other = map_name, f"k{(int(key[1:]) + 1) % self.world.setup.keys}"
                self.make_call(node, other, Kind.FIRED if wait.number % 2 else Kind.PULSED)

    @staticmethod
    def _raised(failure: Failure) -> None:
        failure.trap(HandlerError)

    def cancel(self, a: int, b: int) -> None:
        """Cancel one of a node's waits."""
        node = self.world.node(a)
        if node is not None and node.pending:
            self._cancel(node.pending[b % len(node.pending)])

    def _cancel(self, wait: Wait) -> None:
        wait.cancelled = self.history.now()
        try:
            wait.deferred.cancel()
        except Exception as error:  # noqa: BLE001 - that it raises is what is wrong
            self.history.wrong.append(("W4", f"cancelling wait {wait.number} raised {error!r}"))

    # Waits for the end of an event.

    def end_of(self, a: int, b: int, c: int) -> None:
        """Wait for the end of an event."""
        node = self.world.node(a)
        if node is None:
            return
        history, where = self.history, self.world.where(b)
        wait = Wait(len(history.gone), node.life, where, history.now(), False, "gone", None)
        wait.timeout = (0.5, 3.0)[c % 2] if c % 10 == 9 else None
        history.gone.append(wait)
        node.ending.append(wait)
        events = node.maps[where[0]]
        wait.deferred = events.gone(where[1], wait.timeout)
        wait.deferred.addCallbacks(self._gone, self._ended, callbackArgs=(node, wait, c), errbackArgs=(node, wait))
        wait.sync = wait.resolved is not None
        if not wait.sync:
            events.armed().addCallbacks(self._settled, lambda _: None, callbackArgs=(node, wait))

    def _gone(self, record: Record | None, node: SimNode, wait: Wait, c: int) -> None:
        if node.life.crashed is not None:
            return
        self._resolved(node, wait)
        wait.outcome, wait.value = "value", record
        if c % 4 == 1 and node.awake and not self.resting:
            self.make_call(node, wait.where, Kind.FIRED, ttl=TTLS[c % len(TTLS)])

    def forgo(self, a: int, b: int) -> None:
        """Cancel one of a node's waits for an end."""
        node = self.world.node(a)
        if node is not None and node.ending:
            self._cancel(node.ending[b % len(node.ending)])

    # Calls.

    def fire_for(self, a: int, b: int, c: int) -> None:
        """Fire a key with a TTL."""
        self._call_for(a, b, c, Kind.FIRED)

    def expire(self, a: int, b: int, c: int) -> None:
        """Move the end of a key's event."""
        self._call_for(a, b, c, Kind.EXPIRED)

    def _call_for(self, a: int, b: int, c: int, kind: Kind) -> None:
        node = self.world.node(a)
        if node is not None:
            then, timeout = "wait" if c % 7 == 0 else "", _TIMEOUTS[c // 10 % len(_TIMEOUTS)]
            self.make_call(node, self.world.where(b), kind, timeout, then=then, ttl=TTLS[c % len(TTLS)])

    def fire(self, a: int, b: int, c: int) -> None:
        """Fire a key."""
        self._call(a, b, c, Kind.FIRED)

    def fail(self, a: int, b: int, c: int) -> None:
        """Let a key fail."""
        self._call(a, b, c, Kind.FAILED)

    def pulse(self, a: int, b: int, c: int) -> None:
        """Pulse a key."""
        self._call(a, b, c, Kind.PULSED)

    def reset(self, a: int, b: int, c: int) -> None:
        """Reset a key."""
        self._call(a, b, c, Kind.RESET)

    def take_back(self, a: int, b: int, c: int) -> None:
        """Reset a key if a certain record still stands: mostly one of the latest."""
        where = self.world.where(b)
        known = [change.revision for change in self.history.changes if change.where == where]
        node = self.world.node(a)
        if node is not None and known:
            wanted = known[-1 - c % min(3, len(known))]
            self.make_call(node, where, Kind.RESET, wanted=wanted)

    def _call(self, a: int, b: int, c: int, kind: Kind) -> None:
        node = self.world.node(a)
        if node is not None:
            then = "wait" if c % 3 == 0 else ""
            timeout = _TIMEOUTS[(c // 3) % len(_TIMEOUTS)]
            within = _WITHIN[c // 10 % len(_WITHIN)] if c % 10 == 9 else 0.0
            self.make_call(node, self.world.where(b), kind, timeout, then=then, within=within)

    def make_call(
        self,
        node: SimNode,
        where: Key,
        kind: Kind,
        timeout: float = 30.0,
        *,
        wanted: Revision | None = None,
        then: str = "",
        within: float = 0.0,
        ttl: float = 0.0,
    ) -> Call:
        """Make a call; ``then`` says what its callback does, ``within`` how soon a replica has to have it, if one."""
        history = self.history
        # The time for the replicas comes on top of a call's deadline.
        call = Call(
            history.serial(), node.life, where, kind, history.now(), timeout + within, wanted, int(within > 0), within
        )
        call.ttl = ttl
        history.calls[call.serial] = call
        events, key, value = node.maps[where[0]], where[1], {"n": call.serial} | self.world.setup.pad
        options: Any = {"timeout": timeout}
        if within:
            options |= {"replicas": 1, "within": within}
        answer: Deferred[Any]
        if kind is Kind.RESET:
            answer = events.reset(key, wanted, **options)
        elif kind is Kind.EXPIRED:
            answer = events.expire(key, ttl, **options)
        elif ttl:
            answer = events.fire(key, value, ttl=ttl, **options)
        else:
            verbs: dict[Kind, Any] = {Kind.FIRED: events.fire, Kind.FAILED: events.fail, Kind.PULSED: events.pulse}
            answer = verbs[kind](key, value, **options)
        call.deferred = answer
        node.calling.append(call)
        answer.addCallbacks(self._applied, self._refused, callbackArgs=(node, call, then), errbackArgs=(node, call))
        return call

    def _applied(self, applied: Any, node: SimNode, call: Call, then: str) -> None:
        if node.life.crashed is not None:
            return
        node.calling.remove(call)
        call.answered = self.history.now()
        call.first, call.record = applied.first, applied.record
        call.guest = node.is_guest(call.where[0])
        if then == "wait" and node.awake:
            self.make_wait(node, call.where, "plain")

    def _refused(self, failure: Failure, node: SimNode, call: Call) -> None:
        if node.life.crashed is not None:
            return
        node.calling.remove(call)
        call.answered = self.history.now()
        call.error = type(failure.value).__name__
        if isinstance(failure.value, NotReplicated):
            applied: Any = failure.value.applied
            call.first, call.record = applied.first, applied.record

    def forget(self, a: int, b: int) -> None:
        """Cancel a call's Deferred: its caller does not want to know any more."""
        node = self.world.node(a)
        if node is not None and node.calling:
            call = node.calling[b % len(node.calling)]
            call.cancelled = self.history.now()
            call.deferred.cancel()

    # Counters.

    def count(self, a: int, b: int, c: int) -> None:
        """Count, up to four times at once."""
        node, where = self.world.node(a), self.world.counter(b)
        goal = (None, None, None, 4, 4, 4, 9)[c % 7]
        who = (None, None, None, "x", "y")[c % 5]
        for number in range(1 + c % 4):
            if node is not None and node.awake:
                n, who = 1 + (c + number) % 3, who if number % 2 == 0 else None
                call = self._counter_call(node, where, Kind.COUNTED, c)
                call.n, call.goal, call.who = n, goal, who
                answer = node.maps[where[0]].count(where[1], n, goal=goal, who=who, timeout=call.timeout)
                self._follow_call(node, call, answer)

    def begin_anew(self, a: int, b: int, c: int) -> None:
        """Reset a counter."""
        node, where = self.world.node(a), self.world.counter(b)
        if node is not None:
            call = self._counter_call(node, where, Kind.RESET, c)
            self._follow_call(node, call, node.maps[where[0]].reset(where[1], timeout=call.timeout))

    def misuse(self, a: int, b: int, c: int) -> None:
        """Fire or pulse the key of a counter: that is refused while it is one."""
        node, where = self.world.node(a), self.world.counter(b)
        if node is not None:
            kind = Kind.FIRED if c % 3 == 0 else Kind.PULSED
            call = self._counter_call(node, where, kind, c)
            events = node.maps[where[0]]
            make: Any = events.fire if kind is Kind.FIRED else events.pulse
            self._follow_call(node, call, make(where[1], -call.serial, timeout=call.timeout))

    def reset_counters(self) -> None:
        """Reset all counters, each from a node that is awake."""
        for number in range(self.world.setup.maps * self.world.setup.counters):
            self.begin_anew(number % self.world.setup.maps, number, 0)

    def _counter_call(self, node: SimNode, where: Key, kind: Kind, c: int) -> Call:
        history = self.history
        call = Call(history.serial(), node.life, where, kind, history.now(), _TIMEOUTS[c // 10 % len(_TIMEOUTS)])
        history.counts[call.serial] = call
        node.calling.append(call)
        return call

    def _follow_call(self, node: SimNode, call: Call, answer: Deferred[Any]) -> None:
        call.deferred = answer
        answer.addCallbacks(self._counted, self._refused, callbackArgs=(node, call), errbackArgs=(node, call))

    def _counted(self, applied: Any, node: SimNode, call: Call) -> None:
        call.count = applied.count if call.kind is Kind.COUNTED else 0
        self._applied(applied, node, call, "")

    def goal(self, a: int, b: int, c: int) -> None:
        """Wait for a counter's goal."""
        node = self.world.node(a)
        if node is not None:
            self.make_wait(node, self.world.counter(b), ("plain", "plain", "again", "timeout")[c % 4])

    def reach(self, a: int, b: int, c: int) -> None:
        """Wait for a count."""
        node = self.world.node(a)
        if node is None:
            return
        history, where = self.history, self.world.counter(b)
        wait = Wait(len(history.reaching), node.life, where, history.now(), False, "reach", None, least=1 + c % 9)
        history.reaching.append(wait)
        node.reaching.append(wait)
        events = node.maps[where[0]]
        wait.deferred = events.reaches(where[1], wait.least)
        wait.deferred.addCallbacks(self._reached, self._ended, callbackArgs=(node, wait), errbackArgs=(node, wait))
        wait.sync = wait.resolved is not None
        if not wait.sync:
            events.armed().addCallbacks(self._settled, lambda _: None, callbackArgs=(node, wait))

    def _reached(self, record: Record, node: SimNode, wait: Wait) -> None:
        if node.life.crashed is None:
            self._resolved(node, wait)
            wait.outcome, wait.value = "value", record

    def unreach(self, a: int, b: int) -> None:
        """Cancel one of a node's waits for a count."""
        node = self.world.node(a)
        if node is not None and node.reaching:
            self._cancel(node.reaching[b % len(node.reaching)])

    # Holds.

    def hold(self, a: int, b: int, c: int) -> None:
        """Hold a key."""
        node = self.world.node(a)
        if node is not None and not node.life.over:
            self.make_hold(node, self.world.where(b), _TIMEOUTS[c % len(_TIMEOUTS)])

    def make_hold(self, node: SimNode, where: Key, timeout: float = 30.0) -> None:
        """Hold a key."""
        history = self.history
        hold = Hold(history.serial(), node.life, where, history.now(), self.world.need(where), timeout)
        history.holds[hold.serial] = hold
        node.holding.append(hold)
        value = {"n": hold.serial} | self.world.setup.pad
        hold.deferred = node.maps[where[0]].hold(where[1], value, need=hold.need, timeout=timeout)
        hold.deferred.addCallbacks(self._held, self._not_held, callbackArgs=(node, hold), errbackArgs=(node, hold))

    def _held(self, held: Any, node: SimNode, hold: Hold) -> None:
        if node.life.crashed is None:
            hold.answered, hold.held = self.history.now(), held

    def _not_held(self, failure: Failure, node: SimNode, hold: Hold) -> None:
        if node.life.crashed is None:
            hold.answered, hold.error = self.history.now(), type(failure.value).__name__
            self._over(node, hold)

    def _over(self, node: SimNode, hold: Hold) -> None:
        hold.released = hold.released or self.history.now()
        if hold in node.holding:
            node.holding.remove(hold)

    def withdraw(self, a: int, b: int, c: int) -> None:
        """Withdraw one of a node's holds."""
        node = self.world.node(a)
        holds = [hold for hold in node.holding if hold.held is not None] if node else []
        if node is not None and holds:
            self.free(node, holds[b % len(holds)], _TIMEOUTS[c % len(_TIMEOUTS)])

    def free(self, node: SimNode, hold: Hold, timeout: float = 30.0) -> None:
        """Withdraw a hold."""
        self._over(node, hold)

        def freed(_: object) -> None:
            hold.freed = self.history.now()

        def failed(failure: Failure) -> None:
            hold.freed, hold.trouble = self.history.now(), type(failure.value).__name__

        hold.held.withdraw(timeout).addCallbacks(freed, failed)

    def give_up(self, a: int, b: int) -> None:
        """Cancel a hold that is not answered."""
        node = self.world.node(a)
        holds = [hold for hold in node.holding if hold.held is None] if node else []
        if holds:
            hold = holds[b % len(holds)]
            hold.cancelled, hold.released = True, self.history.now()
            hold.deferred.cancel()

    # Looks and watches.

    def look(self, a: int, b: int) -> None:
        """Ask for a key's record."""
        node = self.world.node(a)
        if node is None:
            return
        look = Look(node.life, self.world.where(b), self.history.now())
        self.history.looks.append(look)

        def answered(record: Record | None) -> None:
            look.answered, look.record = self.history.now(), record

        def failed(failure: Failure) -> None:
            look.error = type(failure.value).__name__

        node.maps[look.where[0]].record(look.where[1]).addCallbacks(answered, failed)

    def listing(self, a: int, b: int) -> None:
        """List a map, and watch it from there."""
        node = self.world.node(a)
        if node is None:
            return
        name = list(self.world.names)[b % len(self.world.names)]
        asked = self.history.now()
        self.history.listings.append(asked)

        def answered(listing: Listing) -> None:
            now = self.history.now()
            found = {record.key: record for record in listing.records}
            for key in [key for map_name, key in self.world.keys if map_name == name]:
                self.history.looks.append(Look(node.life, (name, key), asked, now, found.get(key), listed=True))
            if node.awake:
                self._watch(node, name, listing.revision, slow=False)

        node.maps[name].records().addCallbacks(answered, lambda _: None)

    def watch(self, a: int, b: int, c: int) -> None:
        """Watch a map: from now, from the start, or from some revision; every third watcher is slow."""
        node = self.world.node(a)
        if node is None:
            return
        name = list(self.world.names)[b % len(self.world.names)]
        known = [change.revision for change in self.history.changes if change.where[0] == name]
        since: str | Revision = ("now", "start")[c % 2]
        if c % 4 == 3 and known:
            since = known[-1 - (c // 4) % len(known)]
        self._watch(node, name, since, slow=c % 3 == 0)

    def _watch(self, node: SimNode, name: str, since: str | Revision, *, slow: bool) -> None:
        if len(node.watches) >= 3:
            return
        watching = Watching(node.life, name, since, self.history.now())
        self.history.watches.append(watching)
        gate: list[Deferred[None] | None] = [None]
        task = Deferred.fromCoroutine(self._follow(node, watching, gate, slow=slow))
        node.watches.append((watching, task, gate))
        task.addErrback(self._unfollowed, node, watching)

    async def _follow(
        self, node: SimNode, watching: Watching, gate: list[Deferred[None] | None], *, slow: bool
    ) -> None:
        async with node.maps[watching.map].watch(since=watching.since) as changes:
            watching.entered = self.history.now()
            async for change in changes:
                watching.items.append((self.history.now(), change))
                if slow and gate:
                    opened: Deferred[None] = Deferred()
                    gate[0] = opened
                    await opened

    def _unfollowed(self, failure: Failure, node: SimNode, watching: Watching) -> None:
        if node.life.crashed is not None:
            return
        watching.ended = self.history.now()
        watching.stopped = failure.check(CancelledError) is not None
        watching.end = type(failure.value).__name__

    def pull(self, a: int) -> None:
        """Let a node's slow watchers take the next item."""
        node = self.world.node(a)
        for _, _, gate in node.watches if node else ():
            release(gate)

    def unwatch(self, a: int, b: int) -> None:
        """End one of a node's watches."""
        node = self.world.node(a)
        if node is not None and node.watches:
            _, task, _ = node.watches.pop(b % len(node.watches))
            task.cancel()

    def close(self, a: int) -> None:
        """Close a node, and start another in its place."""
        node = self.world.node(a)
        if node is not None:
            self.shut(node)
            self.world.replace(node)

    def shut(self, node: SimNode) -> None:
        """Close a node."""
        node.life.closing = self.history.now()

        def closed(_: object) -> None:
            node.life.closed = self.history.now()

        node.coordinator.close().addCallback(closed)
        hurry(node)


def hurry(node: SimNode) -> None:
    """Let a node's slow watchers be quick from now on."""
    for _, _, gate in node.watches:
        waiting = gate.pop() if gate else None
        release([waiting])


def release(gate: list[Deferred[None] | None]) -> None:
    """Let whoever stands at a gate go on."""
    waiting = gate[0] if gate else None
    if waiting is not None and not waiting.called:
        waiting.callback(None)
