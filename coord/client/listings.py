"""The records of a map, in pages: each is bounded in records and in bytes, whatever the size of the map.

A page is read with HSCAN, whose cursor is valid for one server process only. HSCAN returns every field that exists from
the first page to the last. A field that exists for part of that time may be missing, and a field may be returned twice
if the hash grows or shrinks meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Self

from twisted.internet.defer import Deferred

from coord.core.names import MapNames, check_prefix, map_key_prefix, map_of_key, parse_key, printable_field
from coord.core.records import NEVER, Head, Listing, Page, Record, Revision, StoredRecord
from coord.errors import AccessDenied, CorruptRecord, InvalidInput, ListingLost, Unreachable
from coord.link.replies import LinkLost
from coord.session.answers import query
from coord.session.commands import Commands

__all__ = ["Listings", "Pages", "map_names"]

_PAGE_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 18
"""Target for the size of one reply, estimated from the sizes seen so far."""

_FIRST: Final = 4
"""Fields in the first chunk, when no size is known yet."""

_MOST: Final = 500
_CHUNKS: Final = 20
"""Most commands for one page: a page of a rare prefix ends early, and may be empty."""

_LOSSES: Final = 10
"""How often a page is tried; from the fourth time on, with the smallest possible request."""

_MOST_LIMIT: Final = 100_000

_NOT_OURS: Final = b"[^\0]*"
"""Matches every field but coord's internal ones: a listing never transfers the outcomes of named calls."""

_POSITION: Final = re.compile(r"(\d{1,20})-(\w{1,64})-(\d{1,16})\.(\d{1,16})-(\d{1,6})-(\d{1,7})", re.ASCII)


class _Position(NamedTuple):
    """The position of a listing, and how much it requests at once; ``str()`` of it is the ``next`` of a page."""

    cursor: int = 0
    process: str = ""
    revision: Revision = NEVER
    fields: int = _FIRST
    chunk: int = _CHUNK_BYTES

    def __str__(self) -> str:
        return f"{self.cursor}-{self.process}-{self.revision}-{self.fields}-{self.chunk}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse what ``str()`` of a position wrote; raise `InvalidInput` for anything else."""
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidInput(f"after: the `next` of the previous page, not {ascii(text)[:80]}")
        cursor, process, generation, number, fields, chunk = match.groups()
        revision = Revision(int(generation), int(number))
        return cls(int(cursor), process, revision, _clamped(int(fields), _MOST), _clamped(int(chunk), _CHUNK_BYTES))

    def advanced(self, cursor: bytes, answered: int) -> Self:
        """Return the position after a chunk of ``answered`` bytes; the next has twice the fields if they will fit."""
        fitting = self.fields * self.chunk // answered if answered > self.chunk else 2 * self.fields
        return self._replace(cursor=int(cursor), fields=_clamped(fitting, _MOST))

    def halved(self) -> Self:
        """Return the same position with half the request size, after the link was lost during a request."""
        return self._replace(fields=_clamped(self.fields // 2, _MOST), chunk=_clamped(self.chunk // 2, _CHUNK_BYTES))


def _clamped(number: int, most: int) -> int:
    return max(1, min(most, number))


class Listings:
    """The listings of one map."""

    def __init__(self, commands: Commands, names: MapNames) -> None:
        self._commands = commands
        self._names = names

    def page(self, prefix: str, after: str | None, limit: int) -> Deferred[Page]:
        """See ``EventMap.page``."""
        pattern, position = _pattern(prefix), _Position() if after is None else _Position.parse(after)
        return self._commands.with_deadline(Deferred.fromCoroutine(self._page(pattern, position, _checked(limit))))

    def records(self, prefix: str) -> Deferred[Listing]:
        """See ``EventMap.records``."""
        return self._commands.with_deadline(Deferred.fromCoroutine(self.whole(check_prefix(prefix))))

    async def whole(self, prefix: str = "") -> Listing:
        """Return the same, however long the server cannot be reached."""
        pattern = _pattern(prefix)
        while True:
            try:
                return await self._all(pattern)
            except ListingLost:
                continue

    async def _all(self, pattern: bytes) -> Listing:
        records: dict[str, Record] = {}
        corrupt: set[str] = set()
        position: _Position | None = _Position()
        while position is not None:
            page = await self._page(pattern, position, _MOST)
            # If a key is returned twice, the later record is the newer one.
            records.update((record.key, record) for record in page.records)
            corrupt.update(page.corrupt)
            position = None if page.next is None else _Position.parse(page.next)
        return Listing(tuple(records[key] for key in sorted(records)), page.revision, tuple(sorted(corrupt)))

    async def _page(self, pattern: bytes, position: _Position, limit: int) -> Page:
        names = self._names
        position, fields = await self._read(pattern, position, limit)
        left = await self._look(fields)
        records, corrupt = [], []
        for field, payload in fields.items():
            record = _shown(names.name, field, _stored(payload), left.get(field))
            if record is None:
                corrupt.append(printable_field(field))
            else:
                records.append(record)
        following = str(position) if position.cursor else None
        return Page(tuple(records), position.revision, following, tuple(corrupt))

    async def _look(self, fields: dict[bytes, bytes]) -> dict[bytes, int]:
        """Read events that have a TTL again, and return the milliseconds until the end of each."""
        timed = [field for field, payload in fields.items() if (stored := _stored(payload)) and stored.perishable]
        if not timed:
            return {}
        names, commands = self._names, self._commands
        look = await commands.retry_while_reconnecting(lambda: commands.look(names, timed), names.name)
        for field, payload in zip(timed, look.records, strict=True):
            if payload is None:
                del fields[field]
            else:
                fields[field] = payload
        return dict(zip(timed, look.left, strict=True))

    async def _read(self, pattern: bytes, position: _Position, limit: int) -> tuple[_Position, dict[bytes, bytes]]:
        """Read a page, across links to the same server process if need be; return where it ends, and its fields."""
        name, commands = self._names.name, self._commands
        losses = 0

        async def ask() -> tuple[_Position, dict[bytes, bytes]]:
            nonlocal losses, position
            if position.process not in ("", commands.server_process):
                raise ListingLost(f"{name}: another server process answers now: begin the listing again")
            try:
                return await self._chunks(pattern, position, limit)
            except LinkLost:
                # A map of which some keys have moved goes to and fro, and that may take as long as an operator does.
                if commands.moving:
                    raise
                losses, position = losses + 1, position.halved()
                if losses < _LOSSES:
                    raise
            raise Unreachable(
                f"{name}: the link was lost on each of {_LOSSES} tries to read a page ({commands.reason}): "
                "check the server's client-output-buffer-limit for normal clients and its maxmemory-clients"
            )

        return await commands.retry_while_reconnecting(lambda: Deferred.fromCoroutine(ask()), name)

    async def _chunks(self, pattern: bytes, position: _Position, limit: int) -> tuple[_Position, dict[bytes, bytes]]:
        found: dict[bytes, bytes] = {}
        if not position.process:
            position = await self._begin(position, found if pattern == _NOT_OURS else {})
        size = 0
        for _ in range(_CHUNKS):
            count = min(position.fields, max(_FIRST, limit - len(found)))
            cursor, reply = await self._commands.scan(self._names, position.cursor, pattern, count)
            found.update(zip(reply[::2], reply[1::2], strict=True))
            answered = sum(map(len, reply))
            size += answered
            position = position.advanced(cursor, answered)
            if position.cursor == 0 or len(found) >= limit or size >= _PAGE_BYTES:
                break
        return position, found

    async def _begin(self, position: _Position, found: dict[bytes, bytes]) -> _Position:
        """Read the head, before any page: a watch from its revision repeats changes made during the listing.

        Also read the field with the empty name, which `_NOT_OURS` does not match.
        """
        process = self._commands.server_process
        payload, nameless = await self._commands.read(self._names, [b""])
        head = Head.read(self._names, payload)
        if nameless is not None:
            found[b""] = nameless
        return position._replace(process=process, revision=head.revision if head else NEVER)

    def remove_foreign(self) -> Deferred[tuple[str, ...]]:
        """See ``EventMap.remove_foreign``."""
        return self._commands.with_deadline(Deferred.fromCoroutine(self._remove_foreign()))

    async def _remove_foreign(self) -> tuple[str, ...]:
        removed: set[bytes] = set()
        position = _Position()
        while True:
            try:
                position, found = await self._read(_NOT_OURS, position, _MOST)
                foreign = [field for field in found if parse_key(field) is None]
                if foreign:
                    await self._remove(foreign)
                removed.update(foreign)
            except ListingLost:
                position = _Position()
                continue
            if position.cursor == 0:
                return tuple(sorted(map(printable_field, removed)))

    def _remove(self, fields: list[bytes]) -> Any:
        commands, names = self._commands, self._names
        return commands.retry_while_reconnecting(
            lambda: commands.remove_fields(names, fields), names.name, writing=True
        )


class Pages:
    """The pages of a listing, in order, for ``async for``; see ``EventMap.pages``.

    Not an asynchronous generator: under Twisted one stays open after a loop breaks out of it.
    """

    def __init__(self, read: Callable[[str, str | None, int], Awaitable[Page]], prefix: str, limit: int) -> None:
        self._read = read
        self._what = check_prefix(prefix), _checked(limit)
        self._after: str | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        if self._over:
            raise StopAsyncIteration
        prefix, limit = self._what
        page = await self._read(prefix, self._after, limit)
        self._after, self._over = page.next, page.next is None
        return page


def map_names(servers: Callable[[], Deferred[list[Commands]]], namespace: str) -> Deferred[tuple[str, ...]]:
    """See ``Coordinator.maps``; ``servers`` returns the commands of each server."""
    return query(Deferred.fromCoroutine(_map_names(servers, namespace)))


async def _map_names(servers: Callable[[], Deferred[list[Commands]]], namespace: str) -> tuple[str, ...]:
    found: set[str] = set()
    while True:
        try:
            for commands in await servers():
                found |= await _names_at(commands, namespace)
        except ListingLost:
            # A server was replaced: ask those that there are now.
            continue
        return tuple(sorted(found))


async def _names_at(commands: Commands, namespace: str) -> set[str]:
    names: set[str] = set()
    cursor, process = b"0", ""
    while True:
        scanned = Deferred.fromCoroutine(_scan_names(commands, namespace, cursor, process))
        process, cursor, keys = await commands.with_deadline(scanned)
        names.update(name for key in keys if (name := map_of_key(namespace, key)) is not None)
        if cursor == b"0":
            return names


async def _scan_names(
    commands: Commands, namespace: str, cursor: bytes, process: str
) -> tuple[str, bytes, list[bytes]]:
    """Scan some of the server's keys; return the process that answered, its cursor, and the keys."""
    pattern = _escaped(map_key_prefix(namespace)) + b"*}"

    async def ask() -> tuple[str, bytes, list[bytes]]:
        now = commands.server_process
        # A cursor is not valid for another server process: begin again, and keep the names found so far.
        at = cursor if now == process else b"0"
        following, keys = await commands.scan_hashes(at, pattern)
        return now, following, keys

    try:
        return await commands.retry_while_reconnecting(lambda: Deferred.fromCoroutine(ask()), "the list of maps")
    except AccessDenied as error:
        if "'scan'" not in str(error).lower():
            # The login was denied.
            raise
        raise AccessDenied(f"{error} (the list of maps needs the command SCAN: ACL rule +scan)") from None


def _checked(limit: object) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST_LIMIT:
        raise InvalidInput(f"limit: a whole number from 1 to {_MOST_LIMIT}, not {limit!r}")
    return limit


def _pattern(prefix: str) -> bytes:
    """Return the pattern that matches the keys that begin with ``prefix``."""
    check_prefix(prefix)
    return _escaped(prefix.encode()) + b"*" if prefix else _NOT_OURS


def _escaped(text: bytes) -> bytes:
    """Return the pattern that matches this text only."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", text)


def _stored(payload: bytes) -> StoredRecord | None:
    """Return the record of a field; ``None`` if it is none."""
    try:
        return StoredRecord.parse(payload)
    except ValueError:
        return None


def _shown(map_name: str, field: bytes, stored: StoredRecord | None, left: int | None) -> Record | None:
    """Return the record of a field for the user; ``None`` if the field is no key, or its record cannot be read."""
    key = parse_key(field)
    if key is None or stored is None:
        return None
    try:
        return stored.record(map_name, key, left)
    except CorruptRecord:
        return None
