"""What is printed on standard output: values, records, lines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from coord.cli._durations import remaining
from coord.cli._escapes import escaped, is_plain

if TYPE_CHECKING:
    from coord import Record

__all__ = [
    "WITHOUT_VALUE",
    "counted",
    "end_fields",
    "in_line",
    "json_text",
    "or_dash",
    "record_fields",
    "record_json",
    "time_text",
    "variables_of",
]

WITHOUT_VALUE: Final = ("reset", "expired", "withdrawn")
"""The kinds of records that have no value."""


def json_text(value: object) -> str:
    """Return ``value`` as compact JSON without escapes for letters, which would turn 64 KiB into 300.

    Output to a terminal is escaped when it is written (`coord.cli._escapes`).
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def in_line(value: object) -> str:
    """Return a value or key for a line of standard output: a string that is not plain is written as JSON."""
    if isinstance(value, str) and is_plain(value):
        return value
    return escaped(json_text(value))


def record_fields(
    key: str, record: Record | None, *more: object, holders: int = 0, short: bool = False
) -> tuple[str, ...]:
    """Return the record of a key as fields: KEY, KIND, VALUE, REVISION, TIME, NODE and ``more``.

    ``-`` stands for a missing field. KIND is ``held`` if the key has holders. For an event with a TTL, the last
    field is the time that is left.

    :param holders: how many hold the key; NODE has the number of those behind it.
    :param short: show the local time, as ls(1) does; else UTC.
    """
    if record is None:
        fields: tuple[object, ...] = ("pending", "-", "-", "-", "-")
    else:
        has_value = record.kind not in WITHOUT_VALUE and not record.value_omitted
        value = in_line(record.value) if has_value else "-"
        at = time_text(record.time, short=short)
        node = f"{in_line(record.node)} +{holders - 1}" if holders > 1 else in_line(record.node)
        fields = ("held" if record.held else record.kind, value, record.revision, at, node)
        if record.expires_in is not None:
            more = (*more, f"{'' if short else 'expires '}in {remaining(record.expires_in)}")
    return (in_line(key), *map(str, (*fields, *more)))


def end_fields(key: str, record: Record | None, *, short: bool = False) -> tuple[str, ...]:
    """Return what ended an event as fields: KEY, KIND, TIME and NODE. ``short`` is as in `record_fields`."""
    key, kind, _, _, time, node = record_fields(key, record, short=short)[:6]
    return key, kind, time, node


def counted(subscribers: int | None, holders: int | None = None) -> dict[str, int]:
    """Return counts for ``--json``: no field for one that is not known."""
    counts = {"subscribers": subscribers, "holders": holders}
    return {name: count for name, count in counts.items() if count is not None}


def or_dash(subscribers: int | None) -> int | str:
    """Return a count for a line."""
    return "-" if subscribers is None else subscribers


def variables_of(value: object) -> dict[str, str | None]:
    """Return a value as environment variables: COORD_VALUE is JSON, COORD_TEXT the same without a string's quotes.

    COORD_TEXT is unset if it contains a NUL, which no environment can hold.
    """
    text = value if isinstance(value, str) else json_text(value)
    return {"COORD_VALUE": json_text(value), "COORD_TEXT": None if "\0" in text else text}


def record_json(map_name: str, key: str, record: Record | None, **more: object) -> str:
    """Return the record of a key as one line of JSON, with ``null`` for missing fields."""
    if record is None:
        absent = dict.fromkeys(("revision", "time", "node"))
        return json_text(
            {
                "map": map_name,
                "key": key,
                "kind": None,
                "latched": False,
                "value": None,
                **absent,
                **more,
            }
        )
    fields = {
        "map": map_name,
        "key": key,
        "kind": record.kind,
        "latched": record.latched,
        "value": record.value,
        "revision": str(record.revision),
        "time": record.time,
        "node": record.node,
    }
    return json_text({**fields, **_rare_fields(record), **more})


def _rare_fields(record: Record) -> dict[str, object]:
    """Return the fields that only some records have."""
    fields = {
        "value_omitted": record.value_omitted or None,
        "passed": record.passed or None,
        "latched_at": str(record.latched_at) if record.passed else None,
        "held": record.held or None,
        "goal": record.goal,
        "expires_in": record.expires_in,
    }
    return {name: field for name, field in fields.items() if field is not None}


def time_text(seconds: float, *, short: bool) -> str:
    """Return a server's time: as ls(1) shows it (``short``), or in UTC."""
    return _local(seconds) if short else _utc(seconds)


def _local(seconds: float) -> str:
    """Return a server's time in our zone: the time if it is today, else the date."""
    then = datetime.fromtimestamp(seconds)
    return f"{then:%H:%M:%S}" if then.date() == datetime.now().date() else f"{then:%Y-%m-%d}"


def _utc(seconds: float) -> str:
    """Return a server's time as UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
