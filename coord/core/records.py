"""Records: the latest change of a key, and its format.

In Redis, in the history and on a channel a record is the same bytes, a line of JSON and the value::

    [KIND, [GENERATION, NUMBER], TIME, NODE]
    VALUE

``TIME`` is the server's clock in microseconds. The header may have a fifth element, an object with further members.
``"wake": [KIND, GENERATION, NUMBER]`` is the last wake, which a reset or an end keeps, with its value. (A fired, failed
or pulsed record is its own last wake; without this member, a reset record has an empty value.) ``"ttl": MILLISECONDS``
is the TTL with which the event was fired. ``"since": [GENERATION, NUMBER]`` is the revision at which the key became
latched, if the record was replaced since while the key stayed latched. ``"held": HOLDER`` is the holder whose value the
record has. ``"token": [GENERATION, NUMBER]`` makes it that of a lock: the revision of the owner's grant.
``"count": COUNT`` makes it the record of a counter, and ``"goal": GOAL`` is that counter's goal, if it was
given one; a counter that has not reached a goal keeps the last wake and its value, as a reset does. Unknown members are
skipped here, and ``apply.lua`` keeps them when a reset rewrites the record.

``apply.lua`` reads and writes the header and never parses the value; this module parses it only on demand. The history
leaves out a large value and the newline before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from coord.core.names import MapNames, check_name
from coord.core.quoting import quoted
from coord.core.values import Json, decode
from coord.errors import CorruptRecord, InvalidInput, NewerLayout

__all__ = [
    "COUNTED",
    "EXPIRED",
    "FAILED",
    "FIRED",
    "LATCHED",
    "LAYOUT",
    "NEVER",
    "PULSED",
    "RESET",
    "SILENT",
    "WITHDRAWN",
    "Applied",
    "CaughtUp",
    "Counted",
    "Head",
    "Kind",
    "Listing",
    "Page",
    "Record",
    "Revision",
    "StoredRecord",
    "Tail",
    "not_a_record",
    "token_text",
]


class Kind(StrEnum):
    """What happened to a key last."""

    FIRED = "fired"
    FAILED = "failed"
    PULSED = "pulsed"
    RESET = "reset"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    COUNTED = "counted"


# Python 3.11 takes six times as long to look a member up on its class as to read a name.
FIRED, FAILED, PULSED, RESET, EXPIRED, WITHDRAWN, COUNTED = Kind

LATCHED: Final = (FIRED, FAILED)
"""The kinds that answer late waits. In a tuple the first member is found without hashing."""

SILENT: Final = (RESET, EXPIRED, WITHDRAWN, COUNTED)
"""The kinds that wake no waiter, and keep the last wake."""

# Sixteen digits hold microseconds until 2286, and stay exact in Lua's doubles until 2255.
_Whole = Annotated[int, Meta(ge=0, lt=10**16)]

LAYOUT: Final = 2
"""The layout of a map in Redis that this version writes; each head begins with it. Layout 1 has no holders."""

# An eighth word is the last number used without a line; only ``apply.lua`` needs it.
_HEAD: Final = re.compile(rb"[12] (\d{1,16}) (\d{1,16}) (-|\w+) (\w+) (\d{1,16}) (\d{1,16})(?: |\Z)")
_NEWER: Final = re.compile(rb"(\d{1,9}) ")
_REVISION: Final = re.compile(r"(\d{1,16})\.(\d{1,16})", re.ASCII)


class Revision(NamedTuple):
    """The position of a change in its map's history: ordered, never reused, written ``GENERATION.NUMBER``."""

    generation: _Whole
    number: _Whole

    def __str__(self) -> str:
        return f"{self.generation}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Revision:
        """Parse the text of a revision; raise `InvalidInput` for anything else."""
        match = _REVISION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidInput(f"revision {text!r}: a revision is GENERATION.NUMBER, like 1763820000000000.17")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, given: object) -> Revision:
        """Return ``given`` as a revision, if it is one or the text of one; else raise `InvalidInput`."""
        if isinstance(given, cls):
            # A tuple may hold anything; parsing its text checks that.
            given = str(given)
        return cls.parse(given)  # type: ignore[arg-type]


NEVER: Final = Revision(0, 0)


class Record(Struct, frozen=True, gc=False):
    """The latest change of a key, or one change in its history.

    ``value`` is the value of a fire or pulse, the reason of a failure, or the count of a counter; ``None`` after a
    reset or an end. ``time`` is in seconds since 1970, by the server's clock; ``node`` is the name of the node that
    made the call (of an end: that fired the event). ``value_omitted`` is true if the history left a large value out and
    the record has been replaced since. ``expires_in`` is the seconds until an event that was fired with a TTL ends;
    only queries know it. ``latched_at`` is the revision at which a latched key became so: an earlier one than the
    record's if the record was replaced while the key stayed latched. ``None`` if the key is pending. ``held``: it is
    latched while it is held. ``goal`` is that of a counter, if it was given one. ``token`` is the fencing token of a
    lock's owner: text of a fixed width, of which a later one is higher.
    """

    map: str
    key: str
    kind: Kind
    value: Json
    revision: Revision
    time: float
    node: str
    value_omitted: bool = False
    expires_in: float | None = None
    latched_at: Revision | None = None
    held: bool = False
    goal: int | None = None
    token: str | None = None

    @property
    def count(self) -> int | None:
        """What the counter stands at; ``None`` if the key is not a counter."""
        # A counter is fired by its goal only.
        return self.value if self.kind is COUNTED or self.goal is not None else None  # type: ignore[return-value]

    @property
    def latched(self) -> bool:
        """Whether a wait for this key is answered at once."""
        return self.kind in LATCHED

    @property
    def passed(self) -> bool:
        """Whether this record replaced another one while the key stayed latched: it woke nobody."""
        return self.latched_at is not None and self.latched_at < self.revision


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A watch has shown all past changes, up to ``revision``; what comes next is new."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Listing:
    """The records of a map as of ``revision``: a watch from there misses nothing.

    ``corrupt`` has the keys whose record was not written by coord, and, escaped, other names in the map that cannot be
    keys.
    """

    records: tuple[Record, ...]
    revision: Revision
    corrupt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in no order: a key may come again in a later page, and a page may be empty.

    ``revision`` is that of the first page: a watch from there misses nothing. Pass ``next`` as ``after`` for the next
    page; it is ``None`` on the last one. ``corrupt`` is as in `Listing`.
    """

    records: tuple[Record, ...]
    revision: Revision
    next: str | None
    corrupt: tuple[str, ...] = ()


class Tail(Struct, gc=False):
    """The further members of a record's header; unknown ones are skipped."""

    wake: tuple[Kind, _Whole, _Whole] | None = None
    ttl: _Whole | None = None
    since: tuple[_Whole, _Whole] | None = None
    held: str | None = None
    token: tuple[_Whole, _Whole] | None = None
    count: _Whole | None = None
    goal: _Whole | None = None


_NO_TAIL: Final = Tail()


# Not tracked by the garbage collector: a cache may hold ten thousand, and none of them is part of a cycle.
class StoredRecord(Struct, array_like=True, gc=False):
    """A record with its header parsed and its value still JSON.

    ``tail`` has the header's further members. ``data`` is the value of the last wake in JSON;
    ``None`` if the history, or a remembered outcome, has left it out.
    """

    kind: Kind
    revision: Revision
    time: _Whole
    node: str
    tail: Tail | None = None
    data: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes, *, whole: bool = True) -> StoredRecord:
        """Parse the bytes of a record, but not its value; raise `ValueError` if they are none.

        :param whole: ``False`` for a line of the history, whose value may be left out.
        """
        header, newline, data = payload.partition(b"\n")
        if whole and not newline:
            raise ValueError("a record without a value")
        try:
            stored = _parse(header)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if stored.tail is not None:
            stored._check_tail(stored.tail)
        elif stored.kind is COUNTED:
            raise ValueError("a counted record without a count")
        stored.data = data if newline else None
        return stored

    def _check_tail(self, tail: Tail) -> None:
        if tail.wake and (self.kind not in SILENT or tail.wake[0] in SILENT):
            raise ValueError("a reset, an end or a count, and nothing else, keeps a wake")
        if (self.kind is COUNTED) if tail.count is None else (self.kind not in (COUNTED, FIRED)):
            raise ValueError("a counted record, and else only a fired one, has a count")
        if tail.since and (self.kind not in LATCHED or tail.since >= self.revision):
            raise ValueError("only a latched key has been so since an earlier revision")

    @classmethod
    def of_call(cls, kind: Kind, revision: Revision, time: int, node: str, data: bytes) -> StoredRecord:
        """Return the record that our own fire, fail or pulse has written."""
        return cls(kind, revision, time, node, None, data)

    @property
    def wake_kind(self) -> Kind | None:
        """The kind of the last wake; ``None`` if there was none."""
        if self.kind not in SILENT:
            return self.kind
        return self.tail.wake[0] if self.tail is not None and self.tail.wake else None

    @property
    def wake_revision(self) -> Revision:
        """The revision of the last wake; `NEVER` if there was none."""
        if self.kind not in SILENT:
            return self.revision
        return Revision(*self.tail.wake[1:]) if self.tail is not None and self.tail.wake else NEVER

    @property
    def latched(self) -> bool:
        """Whether a wait for a key with this record is answered at once."""
        return self.kind in LATCHED

    @property
    def latched_at(self) -> Revision | None:
        """The revision at which the key became latched; ``None`` if it is pending."""
        if self.kind not in LATCHED:
            return None
        return Revision(*self.tail.since) if self.tail is not None and self.tail.since else self.revision

    @property
    def count(self) -> int | None:
        """What the counter stands at; ``None`` if this is not the record of a counter."""
        return None if self.tail is None else self.tail.count

    @property
    def perishable(self) -> bool:
        """Whether it is an event with a TTL, which the server may have ended since, or will."""
        return self.tail is not None and self.tail.ttl is not None and self.kind in LATCHED

    def over(self) -> StoredRecord:
        """Return what a key counts as once the end of this event has passed, before a call has ended it."""
        return StoredRecord(EXPIRED, self.revision, self.time, self.node, Tail((self.kind, *self.revision)), self.data)

    def corrupt_error(self, key: str, error: ValueError) -> CorruptRecord:
        """Return the error for a key whose record cannot be decoded."""
        return CorruptRecord(f"{quoted(key)}: record {self.revision} cannot be read ({error}); reset repairs it")

    def record(self, map_name: str, key: str, left: int | None = None) -> Record:
        """Return the record for the user; raise `CorruptRecord` if its value is not JSON or its node not a name.

        :param left: milliseconds until the end, if this is an event with a TTL; 0 if that has passed.
        """
        kind, expires_in = self.kind, None
        if left is not None and self.perishable:
            if not left:
                return self.over().record(map_name, key)
            expires_in = left / 1000
        try:
            # Checked, as it is shown on terminals.
            node = _named(self.node)
            value, omitted = self._value()
        except ValueError as error:
            raise self.corrupt_error(key, error) from None
        tail, time = self.tail or _NO_TAIL, self.time / 1e6
        return Record(
            map_name, key, kind, value, self.revision, time, node, omitted, expires_in, self.latched_at,
            tail.held is not None, tail.goal, token_text(tail.token),
        )  # fmt: skip

    def _value(self) -> tuple[Json, bool]:
        """Return the value, and whether it was left out."""
        if self.count is not None:
            return self.count, False
        if self.kind in SILENT:
            return None, False
        return (None, True) if self.data is None else (decode(self.data), False)


def token_text(revision: tuple[int, int] | None) -> str | None:
    """Return a fencing token as users see it: later ones are higher as text."""
    return None if revision is None else "{:016d}.{:016d}".format(*revision)


_parse = Decoder(StoredRecord).decode
# A map has few nodes and many records.
_named = lru_cache(1_000)(partial(check_name, "node"))


class Applied(Struct, frozen=True, eq=False, gc=False):
    """A call's outcome: the ``record`` after it, and whether this call wrote that record (``first``)."""

    _made: Record | StoredRecord | None
    first: bool
    _map: str = ""
    _key: bytes = b""

    @property
    def record(self) -> Record | None:
        """The key's record after the call; ``None`` if there is none.

        Made when it is first asked for: most callers only wait, and this is a tenth of what a call costs.
        """
        made = self._made
        if isinstance(made, StoredRecord):
            made = made.record(self._map, self._key.decode())
            force_setattr(self, "_made", made)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Applied):
            return NotImplemented
        return (self.record, self.first) == (other.record, other.first)

    def __hash__(self) -> int:
        return hash((self.record, self.first))

    def __repr__(self) -> str:
        return f"Applied(record={self.record!r}, first={self.first})"


class Counted(Applied, frozen=True, eq=False, gc=False):
    """The outcome of a count: ``count`` after it, and whether this call changed it (``first``).

    Counts that one node makes at the same time share a record, so ``record`` may show a higher count.
    """

    count: int = 0

    @property
    def goal(self) -> int | None:
        """The goal of the counter, if it was given one."""
        return None if self.record is None else self.record.goal

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counted):
            return NotImplemented
        return (self.record, self.first, self.count) == (other.record, other.first, other.count)

    __hash__ = Applied.__hash__

    def __repr__(self) -> str:
        return f"Counted(count={self.count}, goal={self.goal}, record={self.record!r}, first={self.first})"


class Head(NamedTuple):
    """A map's head: its newest revision, the server that wrote it, and the revision that its generation follows.

    ``process`` is the server's run id, ``history`` its replication id (INFO's ``master_replid``), 16 digits of each.
    ``process`` is ``-`` for a map that was idle for long.
    """

    revision: Revision
    process: bytes
    follows: Revision
    history: bytes = b""

    @classmethod
    def parse(cls, payload: bytes | None) -> Head | None:
        """Parse the bytes of a head; ``None`` if there is none.

        :raises ValueError: it is not a head.
        :raises NewerLayout: it was written by a later version of coord.
        """
        if payload is None:
            return None
        match = _HEAD.match(payload)
        if match is None:
            newer = _NEWER.match(payload)
            if newer is not None and int(newer[1]) > LAYOUT:
                raise NewerLayout(f"written in layout {int(newer[1])} by a newer coord; this one reads layout {LAYOUT}")
            raise ValueError("not a head")
        generation, number, process, history, *follows = match.groups()
        return cls(Revision(int(generation), int(number)), process, Revision(*map(int, follows)), history)

    @classmethod
    def read(cls, names: MapNames, payload: object) -> Head | None:
        """Parse the head field of a map's hash; raise `CorruptRecord` or `NewerLayout`, naming the map."""
        try:
            return cls.parse(payload)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise CorruptRecord(f"{names.name}: the head of {names.records.decode()} is not one of coord's") from None
        except NewerLayout as error:
            raise NewerLayout(f"{names.name}: {error}") from None


def not_a_record(key: str) -> CorruptRecord:
    """Return the error for a key whose stored bytes are not a record."""
    return CorruptRecord(f"{quoted(key)}: what stands in Redis for it is not a record of coord's; reset repairs it")
