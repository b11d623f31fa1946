"""One request for a lock under a client's lease (`coord.session.leases`): asked, waited for, renewed.

A lock is granted by the server alone, and nothing is believed but its answers: messages only make this ask. A request
that has a token is for that grant and no other. It is renewed by reading that the grant stands, after the lease was
renewed. So a token that a client made up grants nothing: it is told to the server only if the server has it as well,
and only to move the grant under the lease of another epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from coord.core.leases import LeaseName, Place, owner_of, token_of
from coord.core.maps import MapState
from coord.core.records import Revision, StoredRecord
from coord.errors import Error, HoldLost, TimedOut
from coord.link.replies import GrantLost, LeaseOver
from coord.session.leases import Leases, Renewal
from coord.session.locking import FreeOrOwned, Turn, Waits

if TYPE_CHECKING:
    from coord.core.calls import Outcome

__all__ = ["Grant", "Granting", "NotGranted", "Recovering", "Request"]

_AGAIN: Final = 1.0
"""Seconds before it is asked again after a wake that was for nothing: a message may be forged."""


class NotGranted(TimedOut):
    """The lock is another's.

    ``number`` is the place in the order of those who want it, 0 for none; ``node`` has it, as far as is known.
    """

    def __init__(self, message: str, number: int = 0, node: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.node = node


class Recovering(NotGranted):
    """The server has restarted or failed over, and grants no lock yet."""


class Request(NamedTuple):
    """What is asked for: one of these locks, with this value, under the lease of this name.

    ``ttl`` is the lease time in seconds if it is to be no other, ``wait`` how long to wait, ``token`` that of the grant
    which is renewed, ``node`` the name that the record has.
    """

    name: LeaseName
    keys: Sequence[bytes]
    data: bytes
    node: str
    ttl: float | None = None
    token: Revision | None = None
    wait: float = 0.0


class Grant(NamedTuple):
    """A lock that is granted: its key and record; it is certain until the lease time after ``renewal`` was sent."""

    key: bytes
    stored: StoredRecord
    renewal: Renewal


class Granting:
    """Answers one request.

    :param waits: what it waits with.
    """

    def __init__(self, leases: Leases, waits: Waits, map_state: MapState, request: Request) -> None:
        self._leases = leases
        self._waits = waits
        self._map = map_state
        self._request = request
        self._begun: float = leases.clock.seconds()
        self._renewal: Renewal
        self._places: list[Place] = []
        self._recovering = False

    async def run(self) -> Grant:
        """Return the grant.

        :raises NotGranted, Recovering: not in time. Who waited keeps its place for as long as the lease lives.
        :raises HoldLost: the grant that was to be renewed is over, or the owner was evicted.
        :raises LeaseOver: the lease of a request without a token is over.
        :raises InvalidTime: see `Leases.renew`.
        :raises WrongKind: the key is none of a lock.
        """
        if self._request.token is not None:
            return await self._keep()
        grant = await self._renewed(makes=True)
        if grant is not None:
            return grant
        return await (self._wait() if self._request.wait else self._once())

    # What stands.

    async def _keep(self) -> Grant:
        """Renew the grant that the token is of."""
        grant: Grant | None = None
        with suppress(LeaseOver):
            grant = await self._renewed(makes=False)
        if grant is None and await self._look():
            # The lease is over, perhaps because a recovery has begun: then another one can be made.
            with suppress(LeaseOver):
                grant = await self._renewed(makes=True)
        if grant is None:
            raise HoldLost("this grant is over, or was never this lease's")
        return grant

    async def _look(self) -> list[Place]:
        """Look what stands; return what this lease owns, under the token if there is one."""
        request = self._request
        self._places = await self._leases.places.of(self._map, request.name, request.keys)
        return [place for place in self._places if place.owned and request.token in (None, place.token)]

    async def _renewed(self, *, makes: bool) -> Grant | None:
        """Renew the lease, and look what stands; return the grant if there is one."""
        request = self._request
        self._renewal = await self._leases.renew(self._map, request.name, request.ttl, makes=makes)
        owned = await self._look()
        return await self._kept(owned[0]) if owned else None

    async def _kept(self, place: Place) -> Grant | None:
        """Return the grant that stands, once it is under the present lease."""
        if await self._leases.places.is_evicted(self._map, place):
            self._leases.release_later(self._map, self._request.name, place, self._renewal.times.lease)
            raise HoldLost("its owner was evicted")
        if place.holder is not None and place.holder.lease == self._renewal.lease and place.stored is not None:
            return Grant(place.key, place.stored, self._renewal)
        try:
            outcome = await self._ask(place, self._request.token)
        except GrantLost as error:
            raise HoldLost(str(error)) from None
        return self._granted(place, outcome, self._request.token)

    def _granted(self, place: Place, outcome: Outcome, token: Revision | None = None) -> Grant | None:
        stored = outcome.stored
        self._recovering = stored is None or not stored.latched
        if stored is None or owner_of(stored) != place.name.decode() or token not in (None, token_of(stored)):
            return None
        return Grant(place.key, stored, self._renewal)

    def _ask(self, place: Place, token: Revision | None = None) -> Deferred[Outcome]:
        request = self._request
        return self._leases.ask(self._map, place, self._renewal, request.data, request.node, token)

    # Trying.

    async def _once(self) -> Grant:
        """Take a lock that is free; queue for none."""
        grant = await self._free()
        if grant is None:
            raise await self._refusal()
        return grant

    async def _free(self) -> Grant | None:
        """Take one of those that are free."""
        for place in self._places:
            if place.token is None and (grant := await self._take(place)) is not None:
                return grant
        return None

    async def _take(self, place: Place) -> Grant | None:
        """Take a lock, if it is free still: another may be quicker, and then this leaves the queue."""
        before = place.holder is not None
        try:
            grant = self._granted(place, await self._ask(place))
        except BaseException:
            # Its client may have gone.
            if not before:
                self._leases.leave(self._map, place).addErrback(lambda failure: failure.trap(Error))
            raise
        if grant is None and not before:
            await self._leases.leave(self._map, place)
            # It may have become the owner in between.
            (now,) = await self._leases.places.of(self._map, self._request.name, [place.key])
            if now.owned and now.stored is not None:
                grant = Grant(now.key, now.stored, self._renewal)
        return grant

    async def _wait(self) -> Grant:
        """Wait for the turn: in the queue of one lock; of several, until one of them is free."""
        end = self._begun + min(self._request.wait, self._renewal.times.lease)
        queues = len(self._places) == 1
        grant = self._granted(self._places[0], await self._ask(self._places[0])) if queues else await self._free()
        woken = False
        while grant is None:
            left = end - self._leases.clock.seconds()
            if left <= 0:
                raise await self._refusal()
            if woken or self._recovering:
                await deferLater(self._leases.clock, min(left, self._leases.pause if self._recovering else _AGAIN))
            else:
                await self._turn(left)
            grant, woken = await self._again(queues=queues), True
        return grant

    async def _again(self, *, queues: bool) -> Grant | None:
        """Look whether it is granted by now."""
        grant = await self._renewed(makes=False)
        if grant is not None or not queues:
            return grant or await self._free()
        (place,) = self._places
        if place.holder is None:
            raise HoldLost("it was withdrawn meanwhile")
        # Nobody is granted one in a recovery: who asks after it is.
        return self._granted(place, await self._ask(place)) if place.token is None else None

    def _turn(self, seconds: float) -> Deferred[Any]:
        """Return a Deferred that fires when one of the locks is free or granted, or the time is over."""
        turns: list[Turn] = []
        turned: Deferred[Any] = Deferred()

        def end(result: Any) -> Any:
            for turn in turns:
                if not turn.called:
                    turn.called = True
                    self._waits.cancel(turn.channel, turn)
            return result

        def wake(*, asks: bool) -> None:  # noqa: ARG001
            if not turned.called:
                turned.callback(None)

        turned.addBoth(end)
        turned.addTimeout(seconds, self._leases.clock, onTimeoutCancel=lambda _, __: None)
        for place in self._places:
            turn = Turn(self._map.names.prefix + place.key, wake)
            turns.append(turn)
            self._waits.wait_until(self._map, turn.channel, turn, FreeOrOwned(_Asking(place)))
            if turned.called:
                end(None)
                break
        return turned

    # Ends.

    async def _refusal(self) -> NotGranted:
        """Return why nothing was granted."""
        place, number = self._places[0], 0
        if len(self._places) == 1:
            (place,) = await self._leases.places.of(self._map, self._request.name, [place.key])
            number = await self._leases.places.number_of(self._map, place)
        if self._recovering:
            return Recovering("the server has restarted or failed over, and grants no lock yet", number)
        node = place.stored.node if place.stored is not None and place.stored.latched else ""
        return NotGranted(f"not granted in time: {node or 'another'} has it", number, node)


class _Asking:
    """What `FreeOrOwned` looks at."""

    def __init__(self, place: Place) -> None:
        self.name = place.name
        self.behind: StoredRecord | None = None
