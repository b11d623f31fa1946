"""Records: what stands for a key, and how it is written.

A record in Redis, in the history and on a channel is the same bytes, a line of JSON and the value::

    [KIND, [GENERATION, NUMBER], TIME, NODE]
    VALUE

``TIME`` is the server's clock in microseconds. The header may have a fifth element, an object: whatever else is known
of the record, by name. ``"wake": [KIND, GENERATION, NUMBER]`` is the last wake, which a reset keeps with its value (a
fired, failed or pulsed record is its own last wake; a reset one without it has an empty value). Names that this version
does not know are skipped here, and kept by ``apply.lua`` when a reset rewrites the record. ``apply.lua`` reads and
writes the header and never looks into the value; neither does this module before it is asked for. In the history a
large value is left out, with the end of the first line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct
from msgspec.json import Decoder

from coord.core.names import MapNames, check_name
from coord.core.quoting import quoted
from coord.core.values import Json, decode
from coord.errors import CorruptRecord, InvalidInput, NewerLayout

__all__ = [
    "FAILED",
    "FIRED",
    "LATCHED",
    "LAYOUT",
    "NEVER",
    "PULSED",
    "RESET",
    "Applied",
    "CaughtUp",
    "Head",
    "Kind",
    "Listing",
    "Page",
    "Record",
    "Revision",
    "StoredRecord",
    "Tail",
    "not_a_record",
]


class Kind(StrEnum):
    """What happened to a key last."""

    FIRED = "fired"
    FAILED = "failed"
    PULSED = "pulsed"
    RESET = "reset"


# Python 3.11 takes six times as long to look a member up on its class as to read a name.
FIRED, FAILED, PULSED, RESET = Kind

LATCHED: Final = (FIRED, FAILED)
"""What answers those that come late. A tuple: in it the first is found without being hashed."""

# Sixteen digits hold microseconds until 2286, and stay exact in Lua's doubles until 2255.
_Whole = Annotated[int, Meta(ge=0, lt=10**16)]

LAYOUT: Final = 1
"""The layout of a map in Redis that this version reads and writes; each head begins with it."""

# An eighth word says which numbers were spent without a line; only ``apply.lua`` needs it.
_HEAD: Final = re.compile(rb"1 (\d{1,16}) (\d{1,16}) (-|\w+) (\w+) (\d{1,16}) (\d{1,16})(?: |\Z)")
_LATER: Final = re.compile(rb"(\d{1,9}) ")
_REVISION: Final = re.compile(r"(\d{1,16})\.(\d{1,16})", re.ASCII)


class Revision(NamedTuple):
    """The place of a change in its map's history: ordered, never repeated, written ``GENERATION.NUMBER``."""

    generation: _Whole
    number: _Whole

    def __str__(self) -> str:
        return f"{self.generation}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Revision:
        """Read what ``str()`` of a revision wrote; raise `InvalidInput` for anything else."""
        match = _REVISION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidInput(f"revision {text!r}: a revision is GENERATION.NUMBER, like 1763820000000000.17")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, given: object) -> Revision:
        """Return what the user means by ``given``, a revision or its text; raise `InvalidInput` for anything else."""
        if isinstance(given, cls):
            # A tuple holds anything; its text holds only what a revision is made of.
            given = str(given)
        return cls.parse(given)  # type: ignore[arg-type]


NEVER: Final = Revision(0, 0)


class Record(Struct, frozen=True, gc=False):
    """What stands for a key.

    ``value`` is the value it was fired or pulsed with, or the reason of a failure; ``None`` after a reset. ``time``
    is in seconds since 1970, by the server's clock; ``node`` is the name of who did it. ``value_omitted`` is true
    where the history left a large value out and the record no longer stands.
    """

    map: str
    key: str
    kind: Kind
    value: Json
    revision: Revision
    time: float
    node: str
    value_omitted: bool = False

    @property
    def latched(self) -> bool:
        """Whether somebody who comes late is answered at once."""
        return self.kind in LATCHED


class Applied(Struct, frozen=True, gc=False):
    """A call's outcome: the record that stands, and whether this call put it there (``first``)."""

    record: Record | None
    first: bool


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A watch has shown the whole past; what comes next is new. ``revision`` is where that was."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Listing:
    """The records of a map as of ``revision``: resuming a watch from there misses nothing.

    ``corrupt`` names the keys whose record was not written by coord; and, escaped, what stands there under a name that
    can be no key.
    """

    records: tuple[Record, ...]
    revision: Revision
    corrupt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in no order: a key may come again in a later page, and a page may be empty.

    ``revision`` is that of the first page: resuming a watch from there misses nothing. ``next`` is what to ask for the
    next page with, ``None`` where there is none; ``corrupt`` is that of `Listing`.
    """

    records: tuple[Record, ...]
    revision: Revision
    next: str | None
    corrupt: tuple[str, ...] = ()


class Tail(Struct, gc=False):
    """What a record's header tells behind the node; members that are not known here are skipped."""

    wake: tuple[Kind, _Whole, _Whole] | None = None


# The garbage collector need not visit these: a cache of ten thousand refers to no other object that it must find.
class StoredRecord(Struct, array_like=True, gc=False):
    """A record as it travels: the header read, the value still JSON.

    ``tail`` has the last wake that a reset record keeps. ``data`` is the last wake's value in JSON; ``None`` if the
    history, or an outcome that was kept, has left it out.
    """

    kind: Kind
    revision: Revision
    time: _Whole
    node: str
    tail: Tail | None = None
    data: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes, *, whole: bool = True) -> StoredRecord:
        """Read a record's bytes; raise `ValueError` where they are not one. The value is not looked at.

        :param whole: ``False`` for a line of the history, whose value may have been left out.
        """
        header, newline, data = payload.partition(b"\n")
        if whole and not newline:
            raise ValueError("a record without a value")
        try:
            stored = _parse(header)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if stored.tail is not None:
            stored._check_wake()
        stored.data = data if newline else None
        return stored

    def _check_wake(self) -> None:
        kept = self.tail and self.tail.wake
        if kept and (self.kind is not RESET or kept[0] is RESET):
            raise ValueError("a reset, and nothing else, keeps a wake")

    @classmethod
    def of_call(cls, kind: Kind, revision: Revision, time: int, node: str, data: bytes) -> StoredRecord:
        """Return the record that a fire, fail or pulse of our own has made."""
        return cls(kind, revision, time, node, None, data)

    @property
    def wake_kind(self) -> Kind | None:
        """The kind of the last wake, which every record keeps."""
        if self.kind is not RESET:
            return self.kind
        return self.tail.wake[0] if self.tail is not None and self.tail.wake else None

    @property
    def wake_revision(self) -> Revision:
        """The revision of the last wake."""
        if self.kind is not RESET:
            return self.revision
        return Revision(*self.tail.wake[1:]) if self.tail is not None and self.tail.wake else NEVER

    @property
    def latched(self) -> bool:
        """Whether a key with this record answers those that come late."""
        return self.kind in LATCHED

    def corrupt_error(self, key: str, error: ValueError) -> CorruptRecord:
        """Return the error for a key whose record cannot be shown to a user."""
        return CorruptRecord(f"{quoted(key)}: record {self.revision} cannot be read ({error}); reset repairs it")

    def record(self, map_name: str, key: str) -> Record:
        """Return what the user sees; raise `CorruptRecord` where the value is no JSON, or the node has no name."""
        kind, data = self.kind, self.data
        try:
            value = None if data is None or kind is RESET else decode(data)
            # It ends up on terminals.
            node = _named(self.node)
        except ValueError as error:
            raise self.corrupt_error(key, error) from None
        omitted = data is None and kind is not RESET
        return Record(map_name, key, kind, value, self.revision, self.time / 1e6, node, omitted)


_parse = Decoder(StoredRecord).decode
# A map has few nodes and many records.
_named = lru_cache(1_000)(partial(check_name, "node"))


class Head(NamedTuple):
    """A map's head: its newest revision, the server that it was written under, and what its generation follows.

    ``process`` is the server's run id, ``history`` its replication id (INFO's ``master_replid``), 16 digits of each.
    The process of a map that was idle for long is ``-``.
    """

    revision: Revision
    process: bytes
    follows: Revision
    history: bytes = b""

    @classmethod
    def parse(cls, payload: bytes | None) -> Head | None:
        """Read a head's bytes (``None``: there is none).

        :raises ValueError: they are no head.
        :raises NewerLayout: it was written by a later version of coord.
        """
        if payload is None:
            return None
        match = _HEAD.match(payload)
        if match is None:
            later = _LATER.match(payload)
            if later is not None and int(later[1]) > LAYOUT:
                raise NewerLayout(f"written in layout {int(later[1])} by a newer coord; this one reads layout {LAYOUT}")
            raise ValueError("not a head")
        generation, number, process, history, *follows = match.groups()
        return cls(Revision(int(generation), int(number)), process, Revision(*map(int, follows)), history)

    @classmethod
    def read(cls, names: MapNames, payload: object) -> Head | None:
        """Read what stands in a map's hash as its head; raise `CorruptRecord` or `NewerLayout`, naming the map."""
        try:
            return cls.parse(payload)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise CorruptRecord(f"{names.name}: the head of {names.records.decode()} is not one of coord's") from None
        except NewerLayout as error:
            raise NewerLayout(f"{names.name}: {error}") from None


def not_a_record(key: str) -> CorruptRecord:
    """Return the error for what is stored under a key and is not a record."""
    return CorruptRecord(f"{quoted(key)}: what stands in Redis for it is not a record of coord's; reset repairs it")
