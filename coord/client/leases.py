"""Leases for programs that are no node: any node can hold, lock and renew for them, and none has to remember them.

A gateway serves such programs. A program names its lease itself, and renews it, at any gateway. What is under it ends
when that stops, whatever becomes of the gateways. A lease that ended is over: a program that goes on makes another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from coord.client.coordinator import Coordinator
from coord.core.leases import LeaseName, Place, token_of
from coord.core.names import MEMBERS, check_key, check_keys, check_name
from coord.core.records import Applied, Record, Revision, token_text
from coord.core.values import encode
from coord.errors import InvalidInput, InvalidName
from coord.link.link import CLOSED
from coord.link.replies import LeaseOver
from coord.session.answers import all_of
from coord.session.granting import Grant, Granting, NotGranted, Recovering, Request
from coord.session.leases import OtherTimes
from coord.session.places import HeldHere
from coord.session.settings import check_seconds, check_whole

__all__ = [
    "ClientLease",
    "Granted",
    "Held",
    "LeaseOver",
    "NotGranted",
    "OtherTimes",
    "Recovering",
    "Renewed",
    "UnderLease",
    "parse_token",
    "slots_of",
]

MIN_TTL: Final = 10.0
MAX_TTL: Final = 60.0
"""Seconds. A recovery is as long as the leases of the map, so one long lease would keep all its locks for that time."""

_MOST_NEEDED: Final = 1_000_000


class Held(NamedTuple):
    """A key is held: ``first`` if that wrote the ``record``, at the place ``number`` among its holders, from 1 on.

    ``owner``: the record is this holder's. ``ttl`` is the lease time in seconds.
    """

    first: bool
    number: int
    owner: bool
    record: Record | None
    ttl: float


class Granted(NamedTuple):
    """A lock is granted: it is the client's until ``waited + ttl`` seconds after it began to send the request."""

    record: Record
    token: str
    ttl: float
    waited: float


class UnderLease(NamedTuple):
    """What a lease holds of a key; ``lock``: it is a lock, or a place in its queue; ``lost``: its owner was evicted."""

    key: str
    lock: bool
    owner: bool
    token: str | None
    number: int
    lost: bool


class Renewed(NamedTuple):
    """A lease lives for ``ttl`` seconds from when the client sent the renewal, with all that it holds in the map."""

    ttl: float
    holds: list[UnderLease]


class ClientLease:
    """One lease of one client in one map, as this node serves it.

    :param caller: who the client is; another one's lease of the same name is another.
    :param name: its own name for the lease: 16 to 64 of ``A-Za-z0-9_-``, such as a UUID.
    :param node: the name that its records have.
    :raises InvalidName: one of them is no name.
    """

    def __init__(self, coordinator: Coordinator, map_name: str, caller: str, name: str, node: str) -> None:
        if not 16 <= len(name) <= 64 or not all(each.isascii() and (each.isalnum() or each in "_-") for each in name):
            raise InvalidName("lease: 16 to 64 letters (A-Z, a-z), digits, '_' and '-'")
        events = coordinator.members if map_name == MEMBERS else coordinator.events(map_name)
        self._session = events._session
        self._leases = self._session.leases
        self._node = check_name("node", node)
        self._name = LeaseName.of(coordinator.namespace, caller, name)
        self._map = events._map

    @property
    def incarnation(self) -> str:
        """The incarnation under which it holds: that of its acknowledgements, too."""
        return self._name.incarnation

    # Requests.

    async def hold(self, key: str, value: object = True, *, need: int = 1, ttl: float | None = None) -> Held:
        """Hold a key, or hold it with another value; the lease is renewed.

        :raises LeaseOver: the lease has ended.
        :raises OtherTimes: leases of the map have another lease time than ``ttl``.
        :raises WrongKind, InvalidInput: as `coord.EventMap.hold`.
        """
        data, keys = encode(value), [check_key(key)]
        check_whole("need", need, _MOST_NEEDED)
        _check_ttl(ttl)
        renewal = await self._leases.renew(self._map, self._name, ttl, makes=True)
        (place,) = self._no_places(keys)
        applied = await self._leases.hold(self._map, place, renewal, data, need, self._node)
        (place,) = await self._leases.places.of(self._map, self._name, keys)
        number = await self._leases.places.number_of(self._map, place)
        return Held(applied.first, number, place.owned, self._record(place), renewal.times.lease)

    async def lock(
        self,
        keys: Iterable[str],
        value: object = True,
        *,
        ttl: float | None = None,
        token: str | None = None,
        wait: float = 0.0,
    ) -> Granted:
        """Ask for one of these locks, or renew the grant with this token; the lease is renewed.

        :param wait: seconds, but no longer than the lease time; with 0, it does not queue.
        :raises NotGranted: it is not granted in time. Who waited keeps its place for as long as the lease lives.
        :raises Recovering: nor can it be, as the server has restarted or failed over.
        :raises HoldLost: the grant that was to be renewed is over.
        :raises LeaseOver, OtherTimes, WrongKind: as `hold`.
        """
        session, data, begun = self._session, encode(value), self._leases.clock.seconds()
        wanted = [check_key(key) for key in check_keys(keys)]
        _check_ttl(ttl)
        given = None if token is None else parse_token(token)
        request = Request(self._name, wanted, data, self._node, ttl, given, wait)
        grant = await Granting(self._leases, session, self._map, request).run()
        return self._granted(grant, begun)

    def _granted(self, grant: Grant, begun: float) -> Granted:
        record = grant.stored.record(self._map.names.name, grant.key.decode())
        renewal = grant.renewal
        return Granted(record, record.token or "", renewal.times.lease, max(0.0, renewal.sent - begun))

    async def withdraw(self, keys: Iterable[str]) -> Applied | None:
        """Hold these keys no longer, nor own or want their locks; return what that did to the first."""
        wanted = [check_key(key) for key in check_keys(keys)]
        if self._session.link_status.state is CLOSED:
            raise self._session.link_status.closed_error()
        applied = await all_of(self._leases.withdraw(self._map, place) for place in self._no_places(wanted))
        return next((each for each in applied if each.first), applied[0]) if applied else None

    async def renew(self, ttl: float | None = None) -> Renewed:
        """Renew the lease.

        :raises LeaseOver: it has ended, or a recovery has begun: what the client wants, it has to ask for again.
        """
        _check_ttl(ttl)
        renewal = await self._leases.renew(self._map, self._name, ttl, makes=False)
        found = await self._leases.places.held(self._map, self._name)
        for each in found:
            if each.evicted:
                self._leases.release_later(self._map, self._name, each.place, renewal.times.lease)
        return Renewed(renewal.times.lease, await self._shown(found))

    async def holds(self) -> list[UnderLease]:
        """Return what it holds in the map."""
        return await self._shown(await self._leases.places.held(self._map, self._name))

    async def withdraw_all(self) -> int:
        """Hold nothing any more in the map; return how much that was."""
        found = await self._leases.places.held(self._map, self._name)
        await self.withdraw([each.place.key.decode() for each in found])
        return len(found)

    # What is told.

    def _no_places(self, keys: list[bytes]) -> list[Place]:
        return [Place(key, self._name.holder(key), None, None) for key in keys]

    def _record(self, place: Place) -> Record | None:
        stored = place.stored
        return None if stored is None else stored.record(self._map.names.name, place.key.decode())

    async def _shown(self, found: list[HeldHere]) -> list[UnderLease]:
        holds = []
        for place, evicted in found:
            lock = place.holder is not None and not place.holder.need
            token = token_text(token_of(place.stored)) if lock and place.owned else None
            number = await self._leases.places.number_of(self._map, place)
            holds.append(UnderLease(place.key.decode(), lock, place.owned, token, number, evicted))
        return sorted(holds)


def slots_of(key: str, slots: int | None) -> list[str]:
    """Return the keys of a semaphore with so many slots, or the one of a lock."""
    if slots is None:
        return [key]
    return [f"{key}/{number}" for number in range(check_whole("slots", slots, 1_000))]


def parse_token(text: str) -> Revision:
    """Return the revision that a fencing token is; raise `InvalidInput` if it is none."""
    generation, dot, number = text.partition(".")
    if not (dot and len(generation) == len(number) == 16 and text.isascii() and (generation + number).isdigit()):
        raise InvalidInput("token: the token of a grant, as it was told")
    return Revision(int(generation), int(number))


def _check_ttl(ttl: float | None) -> None:
    if ttl is not None:
        check_seconds("ttl", ttl, least=MIN_TTL, most=MAX_TTL)
