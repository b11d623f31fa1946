"""How keys look to the holders that a client's lease may have of them (`coord.core.leases`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from coord.core.leases import Holder, LeaseName, Place
from coord.core.maps import MapState
from coord.core.records import StoredRecord, not_a_record
from coord.session.commands import Commands

__all__ = ["HeldHere", "Places"]

_FIELDS_A_READ: Final = 500
_UNDER_A_LEASE: Final = re.compile(rb"\0[\w.]+([\0\1])([\w.]+)")


class HeldHere(NamedTuple):
    """A holder under a lease; ``evicted``: it still owns a lock, and has to release it."""

    place: Place
    evicted: bool


class Places:
    """Asks for them; each method raises `Unreachable` if the server does not answer in time."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def of(self, map_state: MapState, name: LeaseName, keys: Sequence[bytes]) -> list[Place]:
        """Return how these keys look, in their order."""
        names = [name.holder(key) for key in keys]
        found = await self._fields(map_state, [*keys, *(b"\0holder:" + each for each in names)])
        records, holders = found[: len(keys)], found[len(keys) :]
        return [
            Place(key, each, _stored(key, record), Holder.parse(holder))
            for key, each, record, holder in zip(keys, names, records, holders, strict=True)
        ]

    async def held(self, map_state: MapState, name: LeaseName) -> list[HeldHere]:
        """Return what a client holds in a map, under its present lease or an earlier one."""
        prefix = b"\0%b." % name.incarnation.encode()
        entries = await self._asked(lambda: self._commands.entries(map_state.names, prefix), map_state)
        found = [match.groups() for entry in entries if (match := _UNDER_A_LEASE.fullmatch(entry))]
        fields = await self._fields(map_state, [b"\0holder:" + holder for _, holder in found])
        holders = [
            (each, mark == b"\1", holder)
            for (mark, each), field in zip(found, fields, strict=True)
            if (holder := Holder.parse(field))
        ]
        records = await self._fields(map_state, [holder.key for _, _, holder in holders])
        return [
            HeldHere(Place(holder.key, each, _stored(holder.key, record), holder), evicted)
            for (each, evicted, holder), record in zip(holders, records, strict=True)
        ]

    async def number_of(self, map_state: MapState, place: Place) -> int:
        """Return the number of a holder in the order of its key, from 1 on; 0 if there is no such holder."""
        holder = place.holder
        if holder is None:
            return 0
        last = b"%b\0%b\0%b" % (place.key, holder.sequence, place.name)
        before = await self._asked(lambda: self._commands.holders_before(map_state.names, place.key, last), map_state)
        return int(before) + 1

    async def is_evicted(self, map_state: MapState, place: Place) -> bool:
        """Whether the owner of a lock has to release it."""
        if place.holder is None:
            return False
        entry = b"\0%b\1%b" % (place.holder.lease, place.name)
        return await self._asked(lambda: self._commands.has_entry(map_state.names, entry), map_state) is not None

    async def _fields(self, map_state: MapState, fields: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(fields), _FIELDS_A_READ):
            some = fields[start : start + _FIELDS_A_READ]

            def ask(some: Sequence[bytes] = some) -> Deferred[list[bytes | None]]:
                return self._commands.fields(map_state.names, some)

            found += await self._asked(ask, map_state)
        return found

    def _asked(self, ask: Callable[[], Deferred[Any]], map_state: MapState) -> Deferred[Any]:
        asked = self._commands.retry_while_reconnecting(ask, map_state.names.name)
        return self._commands.with_deadline(Deferred.fromCoroutine(asked))


def _stored(key: bytes, payload: bytes | None) -> StoredRecord | None:
    if payload is None:
        return None
    try:
        return StoredRecord.parse(payload)
    except ValueError:
        raise not_a_record(key.decode()) from None
