"""What is printed on standard output."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from coord import Json, Kind, Record, Revision
from coord.cli import _printing as printing

AT = 1_763_820_000.125


def _record(value: Json = "v", kind: Kind = Kind.FIRED, *, omitted: bool = False) -> Record:
    return Record("deploy", "ready", kind, value, Revision(17, 3), AT, "node1", omitted)


@pytest.mark.parametrize(
    ("value", "text"),
    [("007", "007"), (7, "7"), (None, "null"), (True, "true"), ({"ä": [1, 2]}, '{"ä":[1,2]}'), ("a b", "a b")],
)
def test_a_plain_value_is_raw_or_compact_json(value: Json, text: str) -> None:
    """A plain string prints raw, anything else as compact JSON without escapes."""
    assert printing.in_line(value) == text


@pytest.mark.parametrize("value", ["a\nb", "a\tb", "\x1b[2J", "a\u2028b", ["\u202e"], {"\x9b": "\U000e0041"}])
def test_no_value_breaks_a_line(value: Json) -> None:
    """Among others in a line, a string that would break it or command the terminal goes as JSON."""
    text = printing.in_line(value)
    assert text.isprintable()
    assert json.loads(text) == value


def test_a_record_is_a_line_of_fields() -> None:
    """KEY, KIND, VALUE, REVISION, TIME, NODE, and what else there is."""
    fields = printing.record_fields("ready", _record(), 2)
    assert fields == ("ready", "fired", "v", "17.3", "2025-11-22T14:00:00.125Z", "node1", "2")


@pytest.mark.parametrize(
    "record", [_record(None, Kind.RESET), _record(None, Kind.EXPIRED), _record(None, omitted=True)]
)
def test_no_value_is_shown_where_there_is_none(record: Record) -> None:
    """A reset and an end have no value, and one that the history left out is not null."""
    assert printing.record_fields("ready", record)[2] == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 s"),
        (0.25, "0.2 s"),
        (9.99, "9.9 s"),
        (59.7, "59 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (172_799, "47 h"),
        (864_000, "10 days"),
    ],
)
def test_an_event_with_a_ttl_shows_when_it_expires(seconds: float, text: str) -> None:
    """The time until its end comes last: rounded down in lines, exact in JSON."""
    record = structs.replace(_record(), expires_in=seconds)
    assert printing.record_fields("ready", record, 2)[6:] == ("2", f"expires in {text}")
    assert printing.record_fields("ready", record, 2, short=True)[6:] == ("2", f"in {text}")
    assert json.loads(printing.record_json("deploy", "ready", record))["expires_in"] == seconds


def test_an_end_is_a_line_of_its_own_fields() -> None:
    """KEY, KIND, TIME and NODE; of a key that nothing is known of there are dashes."""
    assert printing.end_fields("k", _record(None, Kind.EXPIRED)) == (
        "k",
        "expired",
        "2025-11-22T14:00:00.125Z",
        "node1",
    )
    assert printing.end_fields("k", None) == ("k", "pending", "-", "-")


def test_nothing_is_one_line_too() -> None:
    """A key that nothing is known of prints as pending, with as many fields."""
    assert printing.record_fields("k", None, 0) == ("k", "pending", "-", "-", "-", "-", "0")


def test_json_has_the_fields_of_the_contract_in_its_order() -> None:
    """A whole record is one line of JSON: map, key, kind, and so on to node, and then what else is asked for."""
    text = printing.record_json("deploy", "ready", _record({"a": 1}), first=True)
    assert "\n" not in text
    assert list(json.loads(text).items()) == [
        ("map", "deploy"),
        ("key", "ready"),
        ("kind", "fired"),
        ("latched", True),
        ("value", {"a": 1}),
        ("revision", "17.3"),
        ("time", AT),
        ("node", "node1"),
        ("first", True),
    ]


def test_json_of_nothing_has_the_same_fields() -> None:
    """Where nothing is known the fields are there, and null."""
    assert set(json.loads(printing.record_json("m", "k", None))) == set(
        json.loads(printing.record_json("m", "k", _record()))
    )


def test_json_says_that_a_value_was_left_out() -> None:
    """A value that the history left out is marked, so that its null is not taken for one."""
    assert json.loads(printing.record_json("m", "k", _record(None, omitted=True)))["value_omitted"] is True
