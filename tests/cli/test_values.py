"""VALUE on the way in."""

from __future__ import annotations

import pytest

from coord import InvalidValue, Json
from coord.cli._values import parse_value, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('"x"', "x"),
        ('{"a": [1, {}]}', {"a": [1, {}]}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_json_is_taken_as_json(text: str, value: Json) -> None:
    """What parses as JSON is the value that it denotes."""
    assert parse_value(text) == value


@pytest.mark.parametrize(
    "text", ["007", "v1.2", "", "NaN", "Infinity", "-Infinity", "-x", "{", "/mnt/abc", "True", "é"]
)
def test_what_is_no_json_is_a_string(text: str) -> None:
    """Anything else is the string that it is, NaN included."""
    assert parse_value(text) == text


@pytest.mark.parametrize("text", ["7", "true", '"x"', "v1"])
def test_string_forces_a_string(text: str) -> None:
    """With --string the words are taken as they are."""
    assert parse_value(text, string=True) == text


def test_no_value_is_true() -> None:
    """Where VALUE is left out, the value is true."""
    assert read_value(None) is True
    assert read_value(None, string=True) is True


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "9" * 5000])
def test_json_beyond_the_limits_is_refused_and_not_taken_as_a_string(text: str) -> None:
    """JSON that is too deep or a number that is too long is an error, not a string that happens to look like JSON."""
    with pytest.raises(InvalidValue, match="value: "):
        parse_value(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{bad json", "value: not JSON: expecting property name enclosed in double quotes at column 2"),
        ('"a\tb"', "value: not JSON: invalid control character at column 3"),
        ("[1,\n2", "value: not JSON: expecting ',' delimiter at line 2, column 2"),
        ("v1.2", "value: not JSON: expecting value at column 1"),
        ("", "value: not JSON: expecting value at column 1"),
        ("[NaN]", "value: not JSON: JSON has no number NaN"),
    ],
)
def test_strict_refuses_what_is_no_json_and_says_where(text: str, said: str) -> None:
    """With --json-value what is no JSON is an error with its position, and no string."""
    with pytest.raises(InvalidValue) as raised:
        parse_value(text, strict=True)
    assert str(raised.value) == said
    assert parse_value(text) == text
