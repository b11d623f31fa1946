"""Records: what stands for a key, and how it is written.

A record in Redis, in the history and on a channel is the same bytes, two lines of JSON::

    [KIND, [GENERATION, NUMBER], TIME, NODE]
    VALUE

``TIME`` is the server's clock in microseconds. A fired, failed or pulsed record is its own last wake; a reset one names
the wake that it keeps, ``["reset", ..., NODE, WAKE_KIND, [GENERATION, NUMBER]]``, and has that one's value; where there
was none, its second line is empty. ``apply.lua`` reads and writes the header and never looks into the value; neither
does this module before somebody wants it. In the history a large value is left out, with the end of the first line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct
from msgspec.json import Decoder
from msgspec.json import encode as to_json

from coord.core.names import check_name
from coord.core.values import Json, decode
from coord.errors import CorruptRecord, InvalidInput

__all__ = [
    "FAILED",
    "FIRED",
    "LATCHED",
    "NEVER",
    "PULSED",
    "RESET",
    "Applied",
    "CaughtUp",
    "Head",
    "Kind",
    "Listing",
    "Record",
    "Revision",
    "Stored",
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

# A sixth word says which numbers were spent without a line; only ``apply.lua`` needs it.
_HEAD: Final = re.compile(rb"(\d{1,16}) (\d{1,16}) (\S+) (\d{1,16}) (\d{1,16})(?: |\Z)")
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

    ``corrupt`` names the keys whose record was not written by coord.
    """

    records: tuple[Record, ...]
    revision: Revision
    corrupt: tuple[str, ...] = ()


class Stored(Struct, array_like=True, gc=False):
    """A record as it travels: the header read, the value still JSON.

    ``kept_kind`` and ``kept`` are the last wake that a reset record keeps, ``data`` is the last wake's value in JSON;
    ``None`` where the history has left it out.
    """

    kind: Kind
    revision: Revision
    time: _Whole
    node: str
    kept_kind: Kind | None = None
    kept: Revision = NEVER
    data: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes, *, whole: bool = True) -> Stored:
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
        if stored.kept_kind is not None and (stored.kind is not RESET or stored.kept_kind is RESET):
            raise ValueError("a reset, and nothing else, keeps a wake")
        stored.data = data if newline else None
        return stored

    @classmethod
    def made(cls, kind: Kind, revision: Revision, time: int, node: str, data: bytes) -> Stored:
        """Return the record that a fire, fail or pulse of our own has made."""
        return cls(kind, revision, time, node, None, NEVER, data)

    def pack(self) -> bytes:
        """Return the bytes that `parse` reads."""
        header: list[object] = [self.kind, self.revision, self.time, self.node]
        if self.kept_kind is not None:
            header += [self.kept_kind, self.kept]
        return to_json(header) + (b"" if self.data is None else b"\n" + self.data)

    @property
    def wake_kind(self) -> Kind | None:
        """The kind of the last wake, which every record keeps."""
        return self.kept_kind if self.kind is RESET else self.kind

    @property
    def wake(self) -> Revision:
        """The revision of the last wake."""
        return self.kept if self.kind is RESET else self.revision

    @property
    def latched(self) -> bool:
        """Whether a key with this record answers those that come late."""
        return self.kind in LATCHED

    def corrupt(self, key: str, error: ValueError) -> CorruptRecord:
        """Return the error for a key whose record cannot be shown to a user."""
        return CorruptRecord(f"{key}: record {self.revision} cannot be read ({error}); reset repairs it")

    def record(self, map_name: str, key: str) -> Record:
        """Return what the user sees; raise `CorruptRecord` where the value is no JSON, or the node has no name."""
        kind, data = self.kind, self.data
        try:
            value = None if data is None or kind is RESET else decode(data)
            # It ends up on terminals.
            node = _named(self.node)
        except ValueError as error:
            raise self.corrupt(key, error) from None
        omitted = data is None and kind is not RESET
        return Record(map_name, key, kind, value, self.revision, self.time / 1e6, node, omitted)


_parse = Decoder(Stored).decode
# A map has few nodes and many records.
_named = lru_cache(1_000)(partial(check_name, "node"))


class Head(NamedTuple):
    """A map's head: its generation and number, the server process they belong to, and what the generation follows."""

    revision: Revision
    process: bytes
    follows: Revision

    @classmethod
    def parse(cls, payload: bytes | None) -> Head | None:
        """Read a head's bytes (``None``: there is none); raise `ValueError` where they are not one."""
        if payload is None:
            return None
        match = _HEAD.match(payload)
        if match is None:
            raise ValueError("not a head")
        generation, number, process, *follows = match.groups()
        return cls(Revision(int(generation), int(number)), process, Revision(*map(int, follows)))
