"""Reads of many records of one map for many askers: what is asked while a read is under way goes as one command."""

from __future__ import annotations

from itertools import islice
from typing import Final
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.client.events import EventMap
from coord.core.names import check_key
from coord.core.records import Record, StoredRecord, not_a_record
from coord.errors import CorruptRecord, Error
from coord.link.one_shot import resolve
from coord.session.answers import Answer

__all__ = ["Reads"]

_MOST: Final = 64
"""Keys in a command: a record may have 64 KiB."""

Found = Record | Error | None


class Reads:
    """The reads of a node. A lone one is sent at once; of many at a time, one costs a fifth."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[EventMap, _MapReads] = WeakKeyDictionary()

    def record(self, events: EventMap, key: str) -> Deferred[Record | None]:
        """Return what ``EventMap.record`` does. Askers of one moment may get the same record."""
        check_key(key)
        reads = self._of.get(events)
        if reads is None:
            reads = self._of[events] = _MapReads()
        return reads.ask(events, key)


class _MapReads:
    """The reads of one map. It refers to the map while one is under way only."""

    def __init__(self) -> None:
        self._gathering: dict[str, list[Answer[Record | None]]] = {}
        self._reading = False

    def ask(self, events: EventMap, key: str) -> Deferred[Record | None]:
        """Read a key, with the next command."""
        answer: Answer[Record | None] = Answer(f"the record of {events.name}/{key}")
        self._gathering.setdefault(key, []).append(answer)
        if not self._reading:
            self._send(events)
        return answer

    def _send(self, events: EventMap) -> None:
        self._reading = True
        asked = {key: self._gathering.pop(key) for key in list(islice(self._gathering, _MOST))}
        reading = events._commands.with_deadline(Deferred.fromCoroutine(_read(events, list(asked))))
        reading.addBoth(self._answered, events, asked)

    def _answered(
        self, found: dict[str, Found] | Failure, events: EventMap, asked: dict[str, list[Answer[Record | None]]]
    ) -> None:
        self._reading = False
        if isinstance(found, Failure):
            # Who has asked since would be told the same, much later.
            asked, self._gathering = asked | self._gathering, {}
            error: Exception = found.value  # type: ignore[assignment]
            found = dict.fromkeys(asked, error)  # type: ignore[arg-type]
        elif self._gathering:
            self._send(events)
        for key, answers in asked.items():
            for answer in answers:
                resolve(answer, found[key])


async def _read(events: EventMap, keys: list[str]) -> dict[str, Found]:
    names, commands = events._map.names, events._commands
    encoded = [key.encode() for key in keys]
    _, *payloads = await commands.retry_while_reconnecting(lambda: commands.read(names, encoded), names.name)
    found = {key: _parsed(key, payload) for key, payload in zip(keys, payloads, strict=True)}
    timed = [key for key, stored in found.items() if isinstance(stored, StoredRecord) and stored.perishable]
    left: dict[str, int] = {}
    if timed:
        wanted = [key.encode() for key in timed]
        look = await commands.retry_while_reconnecting(lambda: commands.look(names, wanted), names.name)
        found |= {key: _parsed(key, each) for key, each in zip(timed, look.records, strict=True)}
        left = dict(zip(timed, look.left, strict=True))
    return {key: _shown(events.name, key, stored, left.get(key)) for key, stored in found.items()}


def _parsed(key: str, payload: bytes | None) -> StoredRecord | CorruptRecord | None:
    try:
        return None if payload is None else StoredRecord.parse(payload)
    except ValueError:
        return not_a_record(key)


def _shown(map_name: str, key: str, stored: StoredRecord | CorruptRecord | None, left: int | None) -> Found:
    if not isinstance(stored, StoredRecord):
        return stored
    try:
        return stored.record(map_name, key, left)
    except CorruptRecord:
        return not_a_record(key)
