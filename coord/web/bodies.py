"""What answers say, and how parameters are written: the structs from which the document is made, too."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from coord.core import records as core
from coord.core.records import Kind

__all__ = [
    "Acked",
    "Acknowledged",
    "Applied",
    "By",
    "Count",
    "Counted",
    "Fired",
    "Holder",
    "Holders",
    "Key",
    "Keys",
    "KeysBody",
    "MapName",
    "Page",
    "Prefix",
    "Record",
    "RecordAndHolders",
    "RevisionText",
    "Subscribers",
    "Value",
    "Waited",
    "Waiting",
    "WaitingKey",
    "shown",
]

Value: TypeAlias = Any
"""JSON. `coord.core.values.Json`, which names itself, cannot be made a schema."""

Key: TypeAlias = Annotated[
    str,
    Meta(
        description="1 to 512 bytes of UTF-8 without control characters.",
        # For people and test tools; the checks are coord's own, which count bytes.
        extra_json_schema={"format": "coord-key", "minLength": 1, "maxLength": 512},
    ),
]
Prefix: TypeAlias = Annotated[
    str, Meta(description="What the keys begin with.", extra_json_schema={"format": "coord-prefix", "maxLength": 512})
]
By: TypeAlias = Annotated[
    str,
    Meta(
        description="Who has to acknowledge: names with commas, a number of names, or members.",
        extra_json_schema={
            "pattern": r"^([1-9][0-9]{0,5}|members|[A-Za-z._-][A-Za-z._-]{0,20}(,[A-Za-z._-]{1,20}){0,9})$"
        },
    ),
]
Keys: TypeAlias = Annotated[tuple[Key, ...], Meta(min_length=1, max_length=100)]
MapName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": "^([A-Za-z0-9._-]{1,128}|@members)$", "format": "coord-name"})
]
RevisionText: TypeAlias = Annotated[
    str,
    Meta(description="GENERATION.NUMBER", extra_json_schema={"pattern": r"^[0-9]{1,16}\.[0-9]{1,16}$"}),
]


class Record(Struct, kw_only=True):
    """The latest change of a key; ``kind`` and ``revision`` are null if there is none.

    ``value`` and ``node`` are left out for who may not read the key. ``time`` and ``node`` are null for a wake whose
    record was replaced since. Members may be added: ignore those that you do not know.
    """

    map: str
    key: str
    kind: Kind | None
    latched: bool
    revision: RevisionText | None
    time: float | None
    value: Value | UnsetType = UNSET
    node: str | None | UnsetType = UNSET
    value_omitted: bool | UnsetType = UNSET
    passed: bool | UnsetType = UNSET
    latched_at: RevisionText | UnsetType = UNSET
    held: bool | UnsetType = UNSET
    goal: int | UnsetType = UNSET
    expires_in: float | UnsetType = UNSET
    token: str | UnsetType = UNSET


def shown(map_name: str, key: str, record: core.Record | None, *, read: bool = True) -> Record:
    """Return the record of a key for an answer.

    :param read: whether the principal may read the key; if not, it sees no value and no node.
    """
    if record is None:
        body = Record(map=map_name, key=key, kind=None, latched=False, revision=None, time=None)
        if read:
            body.value = body.node = None
        return body
    body = Record(
        map=map_name,
        key=key,
        kind=record.kind,
        latched=record.latched,
        revision=str(record.revision),
        time=record.time,
    )
    if record.passed:
        body.passed, body.latched_at = True, str(record.latched_at)
    if record.held:
        body.held = True
    if record.expires_in is not None:
        body.expires_in = record.expires_in
    if read:
        _show_value(body, record)
    return body


def _show_value(body: Record, record: core.Record) -> None:
    body.value, body.node = record.value, record.node
    if record.value_omitted:
        body.value_omitted = True
    if record.goal is not None:
        body.goal = record.goal
    if record.token is not None:
        body.token = record.token


class Holder(Struct, kw_only=True):
    """One holder of a key: in which place, and since when, in seconds since 1970."""

    place: int
    node: str
    since: float
    value: Value


class Holders(Struct, kw_only=True):
    """Who holds a key, the oldest first. ``rule`` is ``lock``, ``hold`` or null; ``need`` is that of a hold.

    The first holder of a lock owns it, and the others queue. ``count`` is the number of all.
    """

    rule: str | None
    need: int
    count: int
    holders: list[Holder]


class RecordAndHolders(Record, kw_only=True):
    """A record, and who holds its key, if that was asked for."""

    holders: Holders | UnsetType = UNSET


class Page(Struct, kw_only=True):
    """A part of a listing, in no order; a key may come again in a later page, and a page may be empty.

    ``revision`` is that of the first page: a watch from there misses nothing. ``next`` is for the next page; null on
    the last. ``corrupt`` has the keys whose record cannot be read.
    """

    revision: RevisionText
    records: list[Record]
    corrupt: list[str]
    next: str | None


class KeysBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys that do not fit in a URL."""

    keys: Keys


class Waited(Struct, kw_only=True):
    """What was waited for; the next wait goes on from ``revision`` (``since``) and misses nothing."""

    revision: RevisionText
    events: list[Record]


class Subscribers(Struct, kw_only=True):
    """For each key, how many nodes wait for it, or cache it."""

    subscribers: dict[str, int]


class WaitingKey(Struct, kw_only=True):
    """A key that is waited for; ``kind`` is that of its last change, null if there was none."""

    key: str
    subscribers: int
    kind: Kind | None


class Waiting(Struct, kw_only=True):
    """Keys that are waited for and not latched; ``more``: there are more than these."""

    waiting: list[WaitingKey]
    more: bool


class Applied(Struct, kw_only=True):
    """The outcome of a call: whether it changed the key, and the record after it."""

    first: bool
    record: Record


class Acked(Struct, kw_only=True):
    """Who has acknowledged a change, who is missing, and who left before it did."""

    names: list[str]
    missing: list[str]
    left: list[str]


class Acknowledged(Struct, kw_only=True):
    """A change is acknowledged under this name."""

    name: str
    revision: RevisionText


class Fired(Applied, kw_only=True):
    """The outcome of a fire; ``acks`` if they were waited for."""

    acks: Acked | UnsetType = UNSET


class Counted(Applied, kw_only=True):
    """The outcome of a count; ``reached``: the goal is."""

    count: int
    goal: int | None
    reached: bool


class Count(Struct, kw_only=True):
    """What a counter stands at; 0 if there is none."""

    count: int
    goal: int | None
    reached: bool
    revision: RevisionText | None
