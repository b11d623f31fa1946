"""Holds: what this node holds in each map, and the lease that keeps it there.

A map's lease is made by the first hold and renewed by the heartbeat. At each renewal, what is wanted is compared with
what the server has confirmed: each hold that is not confirmed under the present lease is sent again, under its name,
and each that is not wanted any more is withdrawn. So the next renewal mends whatever was lost - an answer, the link,
the lease, the server's last second - in whatever order that happened.

A renewal also tells how many holders the lease has: answers come in order, so what was answered before is counted. If
these are fewer than the server has confirmed, somebody has evicted them.

If the server ended the lease, or began a recovery (another process, or other data), the next lease has another name,
and the old one runs out: with it goes what a failover may have brought back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import Call
from coord.core.maps import MapState
from coord.core.quoting import quoted
from coord.core.records import FIRED, WITHDRAWN, Applied, StoredRecord
from coord.errors import Closed, Error, HoldLost, InvalidTime, Unconfirmed, Unreachable
from coord.link.link import CLOSED, CONNECTED
from coord.link.one_shot import resolve
from coord.link.replies import GrantLost, LeaseOver, LinkLost, ServerError, explain, will_pass
from coord.session.commands import Commands
from coord.session.holding import Held, Holding
from coord.session.locking import LockHolding, Waits, granted
from coord.session.node import Node

__all__ = ["Holds"]

H = TypeVar("H", bound=Holding)

_TOO_LATE: Final = "the server was not reached in time"

_CLOSING_TIME: Final = 2.0
"""Seconds for which `Holds.withdraw_all` waits for its answers: the leases end without them, too."""


class Holds:
    """All holds of one session.

    :param call: queues a call of a map.
    :param order: returns the next number in the order of this node's waits and calls.
    :param waits: what locks wait with.
    """

    log = Logger()

    def __init__(
        self,
        node: Node,
        commands: Commands,
        call: Callable[[MapState, Call], None],
        order: Callable[[], int],
        waits: Waits,
    ) -> None:
        self._node = node
        self._clock = node.clock
        self._commands = commands
        self._call = call
        self._order = order
        self._waits = waits
        self._maps: dict[MapState, Held] = {}
        # No lease has the name of an earlier one, also in a map that was not held for a while: a failover may have
        # brought that one back, with what was withdrawn.
        self._leases = count(1)
        # A hold is named by this node's incarnation and its number.
        self._numbers = count(1)
        # Nothing is held from the beginning of a close on.
        self._closing = False
        # Fire when the answers of the withdrawals under way have come.
        self._withdrawals: list[Deferred[None]] = []

    def __len__(self) -> int:
        return sum(len(held.wanted) for held in self._maps.values())

    def figures(self) -> tuple[int, int, int, float]:
        """Return how many holds there are, locks that are granted, and leases, and when the first lease may end.

        Without a lease that is infinite. Any thread may call this.
        """
        every = [held for held in list(self._maps.values()) if held.wanted]
        holdings = [holding for held in every for holding in list(held.wanted.values())]
        locks = sum(isinstance(holding, LockHolding) and bool(holding.granted) for holding in holdings)
        return len(holdings), locks, len(every), min((held.deadline for held in every), default=inf)

    # Requests of the client.

    def hold(
        self, map_state: MapState, key: bytes, data: bytes, need: int, timeout: float, answer: Deferred[Applied]
    ) -> Holding:
        """Hold a key from now on, until it is withdrawn; ``answer`` errbacks if that fails within ``timeout``."""
        return self._want(Holding(self._held_in(map_state), key, data, need, answer), timeout)

    def lock(
        self,
        map_state: MapState,
        key: bytes,
        data: bytes,
        timeout: float | None,
        answer: Deferred[StoredRecord],
        *,
        once: bool,
    ) -> LockHolding:
        """Ask for a lock; ``answer`` errbacks if it is not granted within ``timeout``, or ``once`` it was not free."""
        held = self._held_in(map_state)
        return self._want(LockHolding(held, key, data, answer, self._waits, once=once), timeout)

    def _held_in(self, map_state: MapState) -> Held:
        return self._maps.get(map_state) or Held(
            map_state, self._clock.seconds, self._confirm, self._leases, self._numbers
        )

    def _want(self, holding: H, timeout: float | None) -> H:
        held = holding.held
        if self._closing or self._node.link_status.state is CLOSED:
            self._end(holding, self._node.link_status.closed_error())
            return holding
        self._maps[held.map_state] = held
        if not held.wanted and self._may_be_nearly_over(held):
            self._renew(held)
        held.wanted[holding.number] = holding
        if timeout is not None:
            holding.timer = self._clock.callLater(timeout, self._too_late, holding)
        self._confirm(holding)
        return holding

    def withdraw(self, holding: Holding, timeout: float) -> Deferred[Applied | None]:
        """End a hold; the Deferred fires with the outcome, ``None`` if the server never had it or it was over.

        If it errbacks, the hold is over all the same: it is withdrawn as soon as the server can be reached.
        """
        held = holding.held
        if self._maps.get(held.map_state) is not held or not held.take(holding):
            return succeed(None)
        holding.stop()
        holding.lost.fire(Closed("the hold was withdrawn"))
        if not holding.known:
            return succeed(None)
        return self._withdraw(held, holding.number, holding.key, timeout)

    def give_up(self, holding: Holding) -> None:
        """End a hold whose caller has cancelled it: it may have been sent."""
        answer = self.withdraw(holding, self._node.settings.timeout)
        answer.addErrback(lambda failure: failure.trap(Error))

    def withdraw_all(self) -> Deferred[Any]:
        """End all holds, at most for a moment: what cannot be withdrawn now ends with its lease."""
        self._closing = True
        if self._node.link_status.state is not CONNECTED:
            return succeed(None)
        holdings = [each for held in self._maps.values() for each in (*held.wanted.values(), *held.locks.values())]
        for each in holdings:
            if each.answer.called:
                self.give_up(each)
            else:
                self._fail(each, Closed("closed before the hold was answered"))
        # Also of those that were withdrawn, or given up, just before.
        answers = DeferredList(self._withdrawals, consumeErrors=True)
        return answers.addTimeout(_CLOSING_TIME, self._clock).addErrback(lambda _: None)

    def close(self, error: Callable[[], Closed]) -> None:
        """Fail what has no answer; the leases run out."""
        # First of all, so that what callbacks withdraw is over.
        maps, self._maps = self._maps, {}
        for held in maps.values():
            holdings = [*held.wanted.values(), *held.locks.values()]
            held.wanted, held.locks = {}, {}
            for holding in holdings:
                self._end(holding, error())

    def forked(self) -> None:
        """Own nothing, in the child of a fork; `close` tells that later."""
        for held in self._maps.values():
            held.locks |= held.wanted
            held.wanted = {}

    def fail_unanswered(self, error: Error) -> None:
        """Fail what has no answer, as the server denies access."""
        for held in list(self._maps.values()):
            for holding in self._unanswered(held):
                self._fail(holding, type(error)(*error.args))

    # Events of the link.

    def link_made(self) -> None:
        """Renew the leases first: another server may answer."""
        for held in self._maps.values():
            held.checked = held.renewing = False
        self.heartbeat()

    def heartbeat(self) -> None:
        """Renew the leases of all maps in which this node holds something."""
        for map_state, held in list(self._maps.items()):
            if held.wanted or held.unwanted:
                self._renew(held)
            elif not (held.calls or held.locks) and held.deadline < self._clock.seconds():
                del self._maps[map_state]

    # Leases.

    def _renew(self, held: Held) -> None:
        if held.renewing or self._node.link_status.state is not CONNECTED:
            return
        held.renewing = True
        settings, lease, sent = self._node.settings, held.lease, self._clock.seconds()
        times = settings.lease, settings.grace
        answer = self._commands.renew(held.map_state.names, self._name(lease), times, makes=not held.epoch)
        answer.addCallbacks(self._renewed, self._not_renewed, callbackArgs=(held, lease, sent), errbackArgs=(held,))
        answer.addErrback(lambda failure: self.log.failure("internal error", failure))

    def _may_be_nearly_over(self, held: Held) -> bool:
        """Whether the lease is older than a heartbeat, which renews it only while something is held."""
        settings = self._node.settings
        age: float = self._clock.seconds() - (held.deadline - settings.lease)
        return age >= settings.heartbeat

    def _name(self, number: int) -> bytes:
        return b"%b.%d" % (self._node.incarnation.encode(), number)

    def _renewed(self, reply: list[Any], held: Held, lease: int, sent: float) -> None:
        held.renewing = False
        answer, *about = reply
        if answer == b"OTHER":
            self._other_times(held, *about)
            return
        epoch, holders = about
        if lease != held.lease:
            self._renew(held)
        elif answer == b"OVER" or (held.epoch and epoch != held.epoch):
            self._next_lease(held, recovers=epoch != held.epoch)
            self._renew(held)
        else:
            self._move_deadline(held, sent + self._node.settings.lease)
            held.checked, held.epoch = True, epoch
            if holders < len(held.there):
                self._find_evicted(held)
            self._reconcile(held)

    def _next_lease(self, held: Held, *, recovers: bool) -> None:
        """Hold everything under another lease: the present one is over, or this is a recovery."""
        if recovers:
            for lock in granted(held):
                lock.carry()
        else:
            for lock in granted(held):
                self._lose(lock, "its lease is over")
        held.next_lease()

    def _move_deadline(self, held: Held, deadline: float) -> None:
        # A lock that is not valid any more never becomes so again.
        for lock in granted(held):
            if not lock.valid:
                self._lose(lock, _TOO_LATE)
        held.deadline = deadline
        for lock in granted(held):
            lock.renewed()

    def _find_evicted(self, held: Held) -> None:
        """Ask which holders the lease has, and give up those that it has no more."""
        lease, numbers = held.lease, list(held.there)
        answer = self._commands.held_under(held.map_state.names, self._name(lease))

        def found(names: list[bytes]) -> None:
            left = set(names)
            for number in numbers:
                # The callback of one may have replaced the lease, or withdrawn another.
                if lease == held.lease and self._name(number) not in left:
                    held.there.discard(number)
                    if number in held.wanted:
                        self._take_away(held.wanted[number])

        # The next renewal asks again.
        answer.addCallbacks(found, lambda failure: failure.trap(LinkLost, ServerError))
        answer.addErrback(lambda failure: self.log.failure("internal error", failure))

    def _take_away(self, holding: Holding) -> None:
        if isinstance(holding, LockHolding) and not holding.granted:
            # It was in a queue, which was forgotten: it queues again.
            holding.lease = 0
        else:
            self._lose(holding, "its holders were evicted")

    def _other_times(self, held: Held, lease: int, grace: int) -> None:
        """The leases of the map have other times: no hold of this node can be one there."""
        settings = self._node.settings
        said = (
            f"map {held.map_state.names.name}: its holders have lease={lease / 1000:g} and grace={grace / 1000:g}, "
            f"this node has lease={settings.lease:g} and grace={settings.grace:g}: all of a map must agree"
        )
        for holding in self._unanswered(held):
            self._fail(holding, InvalidTime(said))
        if held.wanted:
            self.log.warn("{error}", error=said)

    def _not_renewed(self, failure: Failure, held: Held) -> None:
        failure.trap(LinkLost, ServerError)
        if failure.check(LinkLost):
            return
        # Tried again at the next heartbeat.
        held.renewing = False
        message = str(failure.value)
        if will_pass(message, writing=True):
            return
        for holding in self._unanswered(held):
            self._fail(holding, explain(message, held.map_state.names.name))

    # Calls.

    def _reconcile(self, held: Held) -> None:
        """Send what the server has not confirmed under the present lease."""
        if not held.checked:
            self._renew(held)
            return
        for holding in list(held.wanted.values()):
            self._confirm(holding)
        for number, key in list(held.unwanted.items()):
            del held.unwanted[number]
            self._withdraw(held, number, key, self._node.settings.timeout).addErrback(lambda _: None)

    def _confirm(self, holding: Holding) -> None:
        """Send it, if the server has not confirmed it under the present lease."""
        held = holding.held
        if not held.checked:
            self._renew(held)
        elif held.lease not in (holding.lease, holding.sent):
            self._send(held, holding)

    def _send(self, held: Held, holding: Holding) -> None:
        holding.sent, holding.known = held.lease, True
        self._count(held)
        data = holding.request(self._name(holding.number), self._name(held.lease))
        result: Deferred[Any] = Deferred()
        result.addBoth(self._count_answer, held)
        about = held, holding, held.lease
        result.addCallbacks(self._held, self._not_held, about, errbackArgs=about)
        result.addErrback(lambda failure: self.log.failure("internal error", failure))
        deadline = self._clock.seconds() + self._node.settings.timeout
        self._call(
            held.map_state, Call(FIRED, holding.key, data, deadline, self._order(), result, letter=holding.letter)
        )

    def _count(self, held: Held) -> None:
        held.calls += 1

    def _count_answer(self, result: Any, held: Held) -> Any:
        held.calls -= 1
        return result

    def _held(self, outcome: Any, held: Held, holding: Holding, lease: int) -> None:
        self._is_answered(holding, lease)
        if lease == held.lease:
            held.there.add(holding.number)
        if holding.number not in held.wanted:
            return
        had = holding.answer.called
        holding.answered(outcome, lease)
        if isinstance(holding, LockHolding) and holding.answer.called and not had:
            self._lock_answered(holding)
        if lease != held.lease:
            self._reconcile(held)

    def _is_answered(self, holding: Holding, lease: int) -> None:
        # A call under a later lease may be under way by now.
        if holding.sent == lease:
            holding.sent = 0

    def _lock_answered(self, lock: LockHolding) -> None:
        if lock.granted:
            self._watch_deadline(lock)
        else:
            self.give_up(lock)

    def _watch_deadline(self, lock: LockHolding) -> None:
        """Have the lock lost at its deadline, though the server is not reached."""
        lock.timer = None
        left = lock.deadline - self._clock.seconds()
        if left > 0:
            lock.timer = self._clock.callLater(left, self._watch_deadline, lock)
        else:
            self._lose(lock, _TOO_LATE)

    def _lose(self, holding: Holding, reason: str) -> None:
        """End a hold that this node did not withdraw."""
        held = holding.held
        if not held.wanted.pop(holding.number, None):
            return
        holding.stop()
        if isinstance(holding, LockHolding):
            # Its owner may need time to end its work. The server gives as much after a lease is over.
            held.locks[holding.number] = holding
            holding.timer = self._clock.callLater(self._node.settings.grace, self.give_up, holding)
        holding.lost.fire(HoldLost(f"{quoted(holding.key.decode())}: {reason}"))

    def _not_held(self, failure: Failure, held: Held, holding: Holding, lease: int) -> None:
        failure.trap(Error)
        self._is_answered(holding, lease)
        if holding.number not in held.wanted:
            return
        error: Any = failure.value
        if isinstance(error, LeaseOver):
            if lease == held.lease:
                # The renewal tells whether a recovery is the reason, in which the owner of a lock goes on.
                held.checked = False
            self._reconcile(held)
        elif isinstance(error, GrantLost):
            self._lose(holding, str(error))
        elif holding.answer.called or isinstance(error, Unreachable | Unconfirmed):
            # Sent again after the next renewal; without an answer, until its caller's time is over.
            self.log.info("a hold is not confirmed: {error}", error=error)
        else:
            self._fail(holding, error)

    def _withdraw(self, held: Held, number: int, key: bytes, timeout: float) -> Deferred[Applied | None]:
        result: Deferred[Any] = Deferred()

        def failed(failure: Failure) -> Failure:
            if not failure.check(Closed):
                held.unwanted[number] = key
            return failure

        def answered(result: Any) -> Any:
            self._withdrawals.remove(under_way)
            under_way.callback(None)
            return result

        def gone(applied: Applied) -> Applied:
            held.there.discard(number)
            return applied

        under_way: Deferred[None] = Deferred()
        self._withdrawals.append(under_way)
        self._count(held)
        result.addBoth(self._count_answer, held)
        result.addCallbacks(gone, failed)
        result.addBoth(answered)
        deadline = self._clock.seconds() + timeout
        self._call(held.map_state, Call(WITHDRAWN, key, self._name(number), deadline, self._order(), result))
        return result

    # Ends of holds that have no answer.

    def _unanswered(self, held: Held) -> list[Holding]:
        return [holding for holding in held.wanted.values() if not holding.answer.called]

    def _too_late(self, holding: Holding) -> None:
        holding.timer = None
        if isinstance(holding, LockHolding) and holding.asked:
            error: Error = holding.not_granted()
        elif holding.known:
            error = Unconfirmed("sent, not answered in time: if it was applied, it is withdrawn")
        else:
            error = Unreachable(f"no lease in time ({self._node.link_status.reason}): not held")
        self._fail(holding, error)

    def _fail(self, holding: Holding, error: Error) -> None:
        self.give_up(holding)
        resolve(holding.answer, error)

    def _end(self, holding: Holding, error: Closed) -> None:
        holding.stop()
        resolve(holding.answer, error)
        holding.lost.fire(error)
