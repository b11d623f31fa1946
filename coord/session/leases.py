"""Leases that clients of this node renew (`coord.core.leases`): nothing is kept of them that cannot be asked again.

A holder under such a lease is added, moved and removed by the calls of this node, which can be repeated without harm,
as each names the holder. A renewal is the command that this node's own leases are renewed with.

What is remembered of a map - the epoch of its lease clock, and the times of its leases - only saves questions: each
answer of the server tells if it was wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from coord.core.calls import HOLD, LOCK, Call, Outcome
from coord.core.leases import LeaseName, Place
from coord.core.maps import MapState
from coord.core.records import FIRED, WITHDRAWN, Applied, Revision
from coord.errors import Error, InvalidTime
from coord.link.replies import LeaseOver
from coord.session.commands import Commands
from coord.session.node import Node
from coord.session.places import Places

__all__ = ["LeaseTimes", "Leases", "OtherTimes", "Renewal"]

_MAPS_REMEMBERED: Final = 1_000
_TRIES: Final = 5


class OtherTimes(InvalidTime):
    """Leases of the map have another lease time than the one asked for: ``lease``, in seconds."""

    def __init__(self, message: str, lease: float) -> None:
        super().__init__(message)
        self.lease = lease


class LeaseTimes(NamedTuple):
    """The lease time and the grace time of a map, in seconds."""

    lease: float
    grace: float


class Renewal(NamedTuple):
    """A lease lives: its name, its times, and when the renewal was sent, in seconds of the clock."""

    lease: bytes
    times: LeaseTimes
    sent: float


class _Known(NamedTuple):
    epoch: bytes
    times: LeaseTimes


class Leases:
    """All leases of clients of one session.

    :param call: queues a call of a map.
    :param order: returns the next number in the order of this node's waits and calls.
    """

    log = Logger()

    def __init__(
        self, node: Node, commands: Commands, call: Callable[[MapState, Call], None], order: Callable[[], int]
    ) -> None:
        settings = node.settings
        self.clock = node.clock
        self.pause: float = settings.heartbeat
        self._own_times = LeaseTimes(settings.lease, settings.grace)
        self._timeout = settings.timeout
        self.places = Places(commands)
        self._commands = commands
        self._call = call
        self._order = order
        # By the name of the map: a map that is not used is forgotten.
        self._known: dict[str, _Known] = {}
        # The owners of locks that were evicted, with their tokens, and what will release these.
        self._evicted: dict[tuple[MapState, bytes, Revision | None], Any] = {}

    def close(self) -> None:
        """Release no lock any more."""
        evicted, self._evicted = self._evicted, {}
        for timer in evicted.values():
            timer.cancel()

    # Leases.

    async def renew(self, map_state: MapState, name: LeaseName, ttl: float | None, *, makes: bool) -> Renewal:
        """Renew a lease, or make it if there is none.

        :param ttl: the lease time, in seconds, if it is to be no other.
        :raises LeaseOver: it has ended, or was never made, or a recovery has begun since.
        :raises OtherTimes: leases of the map have another lease time than ``ttl``.
        """
        known = self._known.get(map_state.names.name)
        epoch = known.epoch if known else b""
        times = LeaseTimes(ttl, self._own_times.grace) if ttl else known.times if known else self._own_times
        for _ in range(_TRIES):
            # Without an epoch, this asks for it.
            sent, (answer, *about) = await self._beat(map_state, name.lease(epoch), times, makes=makes and epoch != b"")
            if answer == b"OTHER":
                times = _other(map_state, ttl, LeaseTimes(*(milliseconds / 1000 for milliseconds in about)))
                continue
            self._remember(map_state.names.name, _Known(about[0], times))
            if about[0] != epoch:
                epoch = about[0]
            elif answer == b"OVER":
                break
            else:
                return Renewal(name.lease(epoch), times, sent)
        raise LeaseOver(f"{map_state.names.name}: the lease is over, or was never made")

    async def _beat(
        self, map_state: MapState, lease: bytes, times: LeaseTimes, *, makes: bool
    ) -> tuple[float, list[Any]]:
        sent = 0.0

        def ask() -> Deferred[list[Any]]:
            nonlocal sent
            sent = self.clock.seconds()
            return self._commands.renew(map_state.names, lease, times, makes=makes)

        asked = self._commands.retry_while_reconnecting(ask, map_state.names.name, writing=True)
        reply = await self._commands.with_deadline(Deferred.fromCoroutine(asked))
        return sent, reply

    def _remember(self, name: str, known: _Known) -> None:
        self._known.pop(name, None)
        self._known[name] = known
        if len(self._known) > _MAPS_REMEMBERED:
            del self._known[next(iter(self._known))]

    # Calls.

    def hold(
        self, map_state: MapState, place: Place, renewal: Renewal, data: bytes, need: int, node: str
    ) -> Deferred[Applied]:
        """Add a holder of a key, or move it under this lease."""
        words = b"%b %b %d\n%b" % (place.name, renewal.lease, need, data)
        return self._send(map_state, Call(FIRED, place.key, words, 0.0, 0, letter=HOLD, node=node))

    def ask(
        self, map_state: MapState, place: Place, renewal: Renewal, data: bytes, node: str, token: Revision | None = None
    ) -> Deferred[Outcome]:
        """Ask for a lock, or move its owner under this lease; ``token`` is that of the grant."""
        words = b"%b %b %d,%d\n%b" % (place.name, renewal.lease, *(token or (0, 0)), data)
        return self._send(map_state, Call(FIRED, place.key, words, 0.0, 0, letter=LOCK, node=node))

    def withdraw(self, map_state: MapState, place: Place) -> Deferred[Applied]:
        """Remove a holder."""
        return self._send(map_state, Call(WITHDRAWN, place.key, place.name, 0.0, 0))

    def leave(self, map_state: MapState, place: Place) -> Deferred[Applied]:
        """Remove a holder that is only in the queue of a lock.

        This may be applied late, when its client has asked again and was granted the lock: so the owner stays.
        """
        return self._send(map_state, Call(WITHDRAWN, place.key, place.name + b" q", 0.0, 0))

    def _send(self, map_state: MapState, call: Call) -> Deferred[Any]:
        call.deadline, call.order = self.clock.seconds() + self._timeout, self._order()
        # Its canceller: a call that was not sent yet never is.
        result: Deferred[Any] = Deferred(call)
        call.result = result
        self._call(map_state, call)
        return result

    # Evictions.

    def release_later(self, map_state: MapState, name: LeaseName, place: Place, seconds: float) -> None:
        """Release a lock whose owner was evicted, when its client cannot take it for its own any more.

        That is for this grant only: the client may have released it, asked again, and been evicted again.
        """
        grant = map_state, place.name, place.token
        if grant not in self._evicted:
            self._evicted[grant] = self.clock.callLater(seconds, self._release, map_state, name, place)

    def _release(self, map_state: MapState, name: LeaseName, place: Place) -> None:
        del self._evicted[map_state, place.name, place.token]
        released = Deferred.fromCoroutine(self._release_evicted(map_state, name, place))
        # Another renewal finds it again.
        released.addErrback(lambda failure: failure.trap(Error))
        released.addErrback(lambda failure: self.log.failure("internal error", failure))

    async def _release_evicted(self, map_state: MapState, name: LeaseName, place: Place) -> None:
        (now,) = await self.places.of(map_state, name, [place.key])
        if place.token is not None and await self.places.is_evicted(map_state, now):
            await self._send(map_state, Call(WITHDRAWN, now.key, b"%b %d,%d" % (now.name, *place.token), 0.0, 0))


def _other(map_state: MapState, ttl: float | None, times: LeaseTimes) -> LeaseTimes:
    if ttl is not None and ttl != times.lease:
        raise OtherTimes(
            f"map {map_state.names.name}: its holders have a lease time of {times.lease:g} s, and all of a map must "
            f"agree; ask for that, or for none",
            times.lease,
        )
    return times
