r"""Records: what stands for a key, and how it is written.

A record in Redis, in the history and on a channel is the same bytes::

    KIND GENERATION NUMBER TIME NODE[ WAKE_KIND WAKE_GENERATION WAKE_NUMBER]\n
    JSON of the last wake's value

``KIND`` is one letter (`Kind`), ``TIME`` the server's clock in microseconds. A fired, failed or pulsed record is
its own last wake; a reset one names the wake that it keeps (``-`` where there was none). ``apply.lua`` reads and
writes the header and never looks into the JSON; neither does this module before somebody wants the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from coord.core.values import Json, decode
from coord.errors import CorruptRecord, InvalidInput

__all__ = [
    "FAILED",
    "FIRED",
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

_KIND_OF: Final = {b"F": FIRED, b"X": FAILED, b"P": PULSED, b"R": RESET}
_LETTER_OF: Final = {kind: letter for letter, kind in _KIND_OF.items()}

# Sixteen digits hold microseconds until 2286, and stay exact in Lua's doubles until 2255.
_HEADER: Final = re.compile(
    rb"([FXPR]) (\d{1,16}) (\d{1,16}) (\d{1,16}) ([A-Za-z0-9._-]{1,128})(?: ([FXP-]) (\d{1,16}) (\d{1,16}))?\n"
)
# A sixth word says which numbers were spent without a line; only ``apply.lua`` needs it.
_HEAD: Final = re.compile(rb"(\d{1,16}) (\d{1,16}) (\S+) (\d{1,16}) (\d{1,16})(?: |\Z)")
_REVISION: Final = re.compile(r"(\d{1,16})\.(\d{1,16})", re.ASCII)


class Revision(NamedTuple):
    """The place of a change in its map's history: ordered, never repeated, written ``GENERATION.NUMBER``."""

    generation: int
    number: int

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
_tuple: Final = tuple.__new__


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
        return self.kind is FIRED or self.kind is FAILED


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


class Stored(Struct, gc=False):
    """A record as it travels: the header read, the value still JSON.

    ``wake`` is the revision of the last wake, which every record keeps; ``data`` its value in JSON.
    """

    kind: Kind
    revision: Revision
    time: int
    node: bytes
    wake_kind: Kind | None
    wake: Revision
    data: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Stored:
        """Read a record's bytes; raise `ValueError` where they are not one. The value is not looked at."""
        match = _HEADER.match(payload)
        if match is None:
            raise ValueError("not a record")
        letter, generation, number, time, node, wake_letter, wake_generation, wake_number = match.groups()
        kind = _KIND_OF[letter]
        # A named tuple's own constructor takes twice as long; every message passes here.
        revision = _tuple(Revision, (int(generation), int(number)))
        if (kind is RESET) is (wake_letter is None):
            raise ValueError("a reset, and nothing else, names the wake that it keeps")
        data = payload[match.end() :]
        if wake_letter is None:
            return cls(kind, revision, int(time), node, kind, revision, data)
        wake = Revision(int(wake_generation), int(wake_number))
        return cls(kind, revision, int(time), node, _KIND_OF.get(wake_letter), wake, data)

    @classmethod
    def made(cls, kind: Kind, revision: Revision, time: int, node: bytes, data: bytes) -> Stored:
        """Return the record that a fire, fail or pulse of our own has made."""
        return cls(kind, revision, time, node, kind, revision, data)

    def pack(self) -> bytes:
        """Return the bytes that `parse` reads."""
        fields = [_LETTER_OF[self.kind], b"%d %d %d" % (*self.revision, self.time), self.node]
        if self.kind is RESET:
            letter = b"-" if self.wake_kind is None else _LETTER_OF[self.wake_kind]
            fields.append(b"%s %d %d" % (letter, *self.wake))
        return b" ".join(fields) + b"\n" + self.data

    @property
    def latched(self) -> bool:
        """Whether a key with this record answers those that come late."""
        return self.kind is FIRED or self.kind is FAILED

    def value(self) -> Json:
        """Return the last wake's value, decoded afresh so that no two waiters share a mutable one.

        :raises ValueError: where it is no JSON; `corrupt` makes of it what a user can understand.
        """
        return decode(self.data)

    def corrupt(self, key: str, error: ValueError) -> CorruptRecord:
        """Return the error for a key whose record holds no JSON."""
        return CorruptRecord(f"{key}: the value of record {self.revision} is not JSON ({error}); reset repairs it")

    def record(self, map_name: str, key: str, *, omitted: bool = False) -> Record:
        """Return what the user sees; raise `CorruptRecord` where the value is no JSON."""
        try:
            value = None if omitted or self.kind is RESET else self.value()
        except ValueError as error:
            raise self.corrupt(key, error) from None
        time, node = self.time / 1e6, self.node.decode()
        return Record(map_name, key, self.kind, value, self.revision, time, node, omitted)


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
