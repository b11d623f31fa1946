"""One lock that this node wants or owns.

A lock is granted by the server alone, and the grant is believed from the answer to a call: messages, which anybody may
send, only make this node ask (L5). It is this node's until the deadline of the lease under which the server confirmed
it last, and that deadline moves only as long as it has not passed. So who sees that a lock is not valid any more never
sees it valid again.

After a recovery has begun, the owner tells the server its token under the next lease. Until the server has confirmed
that, the old deadline stands: nobody else is granted the lock before it (L6).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from coord.core.calls import LOCK, Outcome
from coord.core.conditions import Condition
from coord.core.leases import owner_of
from coord.core.names import MapNames
from coord.core.records import Revision, StoredRecord
from coord.errors import TimedOut
from coord.link.one_shot import resolve
from coord.session.holding import Held, Holding

if TYPE_CHECKING:
    from coord.core.maps import MapState
    from coord.session.delivery import Waiter

__all__ = ["FreeOrOwned", "LockHolding", "Turn", "Waits", "granted"]


class Waits(Protocol):
    """The waits of a session: see `coord.session.session.Session`."""

    def wait_until(self, map_state: MapState, channel: bytes, waiter: Waiter, condition: Condition) -> None:
        """Add a waiter for a condition."""

    def cancel(self, channel: bytes, waiter: Waiter) -> None:
        """Forget a waiter."""


class LockHolding(Holding):
    """One request for a lock, until it is released, or lost and released.

    ``answer`` is called back with the record of the grant. ``asked``: the server has answered. ``granted``: the caller
    has been told. ``token`` is the revision of the grant; ``behind`` is the last known record of another owner.

    :param once: do not wait for the lock if it is not free.
    """

    __slots__ = (
        "_carried", "_once", "_turn", "_waits", "_woken", "asked", "behind", "callbacks", "granted", "name", "token",
    )  # fmt: skip

    log = Logger()
    letter = LOCK

    def __init__(
        self, held: Held, key: bytes, data: bytes, answer: Deferred[StoredRecord], waits: Waits, *, once: bool
    ) -> None:
        super().__init__(held, key, data, 0, answer)
        self._waits = waits
        self._once = once
        # Why this asks again: a wake says that the lock may be free, or granted.
        self._turn: Turn | None = None
        self._woken = False
        self._carried = -inf
        self.name = b""
        self.token: Revision | None = None
        self.asked = self.granted = False
        self.behind: StoredRecord | None = None
        self.callbacks: list[Callable[[float], object]] = []

    @property
    def deadline(self) -> float:
        """Until when it is certainly this node's, in seconds of the clock; in the past, if it is not."""
        if not self.granted or self.number not in self.held.wanted:
            return -inf
        return self.held.deadline if self.lease == self.held.lease else self._carried

    @property
    def valid(self) -> bool:
        """Whether it is certainly this node's: nobody else can have been granted it."""
        return self.held.seconds() < self.deadline

    def request(self, name: bytes, lease: bytes) -> bytes:
        """Return what `apply.lua` takes to add it, under this name and lease."""
        self.name = name
        return b"%b %b %d,%d\n%b" % (name, lease, *(self.token or (0, 0)), self.data)

    def carry(self) -> None:
        """Keep the deadline, as the lease is about to be replaced."""
        self._carried = self.deadline

    def answered(self, outcome: Outcome, lease: int) -> None:
        """Take the outcome of a call under this lease."""
        stored, held = outcome.stored, self.held
        self.asked = True
        woken, self._woken = self._woken, False
        if owner_of(stored) == self.name.decode():
            self._owned(stored, lease)
        elif self._once:
            self.behind = stored
            resolve(self.answer, self.not_granted())
        elif stored is not None and stored.latched and lease == held.lease:
            self.behind = stored
            # If it was woken for nothing, or by a forged message, it asks again at the next renewal and not at once.
            if not woken:
                self.lease = lease
                self._wait_for_turn()
        # Else nobody owns it: this is a recovery. The next renewal asks again.

    def _owned(self, stored: StoredRecord | None, lease: int) -> None:
        held = self.held
        assert stored is not None
        assert stored.tail is not None
        assert stored.tail.token is not None
        if lease != held.lease or held.seconds() >= held.deadline or (self.granted and not self.valid):
            # Too late to be certain: the next renewal asks again, or finds that it is lost.
            return
        self.lease, self.token = lease, Revision(*stored.tail.token)
        self.stop_waiting()
        if self.granted:
            self.renewed()
        else:
            self.granted = True
            self.stop_timer()
            resolve(self.answer, stored)

    def renewed(self) -> None:
        """Tell the new deadline."""
        for callback in list(self.callbacks):
            try:
                callback(self.deadline)
            except Exception:  # noqa: BLE001 - a user's callback must not end the renewal
                self.log.failure("a callback of on_renewed raised")

    def not_granted(self) -> TimedOut:
        """Return the error of a request that waits no longer."""
        if self.behind is None or not self.behind.latched:
            return TimedOut("not granted in time: the server has restarted or failed over, and grants nothing yet")
        return TimedOut(f"not granted in time: {self.behind.node} has it")

    # Its turn.

    def _wait_for_turn(self) -> None:
        if self._turn is None:
            self._turn = turn = Turn(self.map_state.names.prefix + self.key, self._wake)
            self._waits.wait_until(self.map_state, turn.channel, turn, FreeOrOwned(self))

    def _wake(self, *, asks: bool) -> None:
        self._turn, self._woken = None, asks
        self.lease = 0
        if asks:
            self.held.confirm(self)

    def stop(self) -> None:
        """End what goes on for it: it is over."""
        super().stop()
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Wait for no turn any more."""
        turn, self._turn = self._turn, None
        if turn is not None and not turn.called:
            turn.called = True
            self._waits.cancel(turn.channel, turn)


def granted(held: Held) -> list[LockHolding]:
    """Return the locks of a map that this node owns."""
    return [holding for holding in held.wanted.values() if isinstance(holding, LockHolding) and holding.granted]


class Asks(Protocol):
    """Who asks for a lock: the ``name`` of its holder, and the last known record of another owner, ``behind``."""

    name: bytes
    behind: StoredRecord | None


class FreeOrOwned(Condition):
    """A lock is free, or a holder's own."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Asks) -> None:
        super().__init__()
        self._lock = lock

    def met(self, stored: StoredRecord | None, *, armed: bool) -> bool:
        """Whether nobody else owns it."""
        self.armed |= armed
        if stored is None or self.met_earlier(stored):
            return True
        self._lock.behind = stored
        return False

    def met_earlier(self, stored: StoredRecord) -> bool:
        """Whether nobody else owned it."""
        return owner_of(stored) in (None, self._lock.name.decode())


class Turn:
    """The waiter for a lock's turn: it has the holding ask."""

    __slots__ = ("_woken", "called", "channel")

    def __init__(self, channel: bytes, woken: Callable[..., None]) -> None:
        self.called = False
        self.channel = channel
        self._woken = woken

    def wake(self, stored: Any, names: MapNames) -> None:  # noqa: ARG002
        """Ask now."""
        self._end(asks=True)

    def give_up(self, error: Exception) -> None:  # noqa: ARG002
        """Ask at the next renewal."""
        self._end(asks=False)

    def _end(self, *, asks: bool) -> None:
        if not self.called:
            self.called = True
            self._woken(asks=asks)
