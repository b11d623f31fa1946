"""Values: what is JSON, what is not, and that the codec never decides that for us."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, deque, namedtuple
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coord.core.values import MAX_DEPTH, MAX_VALUE_BYTES, Json, decode, encode
from coord.errors import InvalidValue

QUICK = settings(deadline=None, derandomize=True, database=None)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**4299), 10**4299)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=30,
)
# Made when it is drawn: Python is not willing to write it in decimal, and hypothesis would.
HUGE = st.builds(pow, st.just(10), st.just(5000))
JUNK = st.recursive(
    SCALARS
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(pow, st.just(10), st.just(5000))
    | st.complex_numbers()
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.sets(st.integers(), max_size=2)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=15,
)


class Word(str):
    """A string of somebody's own class."""

    __slots__ = ()


class Count(int):
    """An integer of somebody's own class."""


class Ratio(float):
    """A float of somebody's own class, such as numpy's."""


class Colour(StrEnum):
    """Names."""

    RED = "red"


class Level(IntEnum):
    """Numbers."""

    HIGH = 3


class Opaque(Enum):
    """Neither."""

    THING = 1


Point = namedtuple("Point", "x y")


def nested(depth: int) -> Json:
    """Return a list in a list in a list."""
    value: Json = []
    for _ in range(depth - 1):
        value = [value]
    return value


@QUICK
@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Json) -> None:
    """Through the codec and back, nothing changes, and any other JSON parser reads the same."""
    encoded = encode(value)
    assert decode(encoded) == value
    assert json.loads(encoded) == value
    assert type(decode(encoded)) is type(value)


@QUICK
@given(JUNK)
def test_nothing_but_the_documented_error_is_raised(value: object) -> None:
    """Whatever somebody fires with, it is JSON or `InvalidValue`."""
    with suppress(InvalidValue):
        decode(encode(value))


@QUICK
@given(st.binary() | st.text(alphabet='[]{}",:0123456789eE.-+truefalsnN\\ud8 ').map(str.encode))
def test_junk_is_a_value_error_and_nothing_else(data: bytes) -> None:
    """What coord reads from Redis may have been written by anybody."""
    with suppress(ValueError):
        decode(data)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (True, b"true"),
        (False, b"false"),
        (None, b"null"),
        ("007", b'"007"'),
        (7, b"7"),
        (-0.0, b"-0.0"),
        (1.0, b"1.0"),
        (2**64, b"18446744073709551616"),
        ("é\0\n", b'"\xc3\xa9\\u0000\\n"'),
        ({}, b"{}"),
        ([], b"[]"),
        ((1, (2,)), b"[1,[2]]"),
        (Point(1, 2), b"[1,2]"),
        ({"a": {"b": []}}, b'{"a":{"b":[]}}'),
        (OrderedDict(a=1), b'{"a":1}'),
        (defaultdict(int, a=1), b'{"a":1}'),
        (Word("word"), b'"word"'),
        ({Word("word"): Word("x")}, b'{"word":"x"}'),
        (Count(5), b"5"),
        ([Ratio(1.5)], b"[1.5]"),
        (Colour.RED, b'"red"'),
        (Level.HIGH, b"3"),
    ],
)
def test_what_is_json_is_written_compactly(value: object, encoded: bytes) -> None:
    """Strings stay strings, and a subclass counts as what it is."""
    assert encode(value) == encoded
    assert decode(encoded) == json.loads(encoded)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (float("nan"), "nan is not JSON"),
        (float("inf"), "inf is not JSON"),
        (1e400, "inf is not JSON"),
        ([1, [2, float("-inf")]], r"value\[1\]\[1\]: -inf"),
        (Ratio("nan"), "nan is not JSON"),
        pytest.param(10**4300, "4300 digits", id="huge"),
        pytest.param(Count(10**4300), "4300 digits", id="huge-subclass"),
        (b"abc", "a bytes is not JSON"),
        (bytearray(), "a bytearray"),
        ({"a": b"abc"}, r"value\['a'\]: a bytes"),
        ({1, 2}, "a set"),
        (deque([1]), "a deque"),
        (range(3), "a range"),
        (Decimal(1), "a Decimal"),
        (datetime.now(UTC), "a datetime"),
        (UUID(int=1), "a UUID"),
        (Opaque.THING, "an? Opaque"),
        (1j, "a complex"),
        (object(), "a object"),
        (int, "a type"),
        ({1: 2}, "of type int; names in JSON are strings"),
        pytest.param({10**5000: 2}, "of type int", id="huge-name"),
        ({None: 2}, "of type NoneType"),
        ({True: 2}, "of type bool"),
        ({b"a": 2}, "of type bytes"),
        ([{("a",): 2}], r"value\[0\].* of type tuple"),
        ("\ud800", "lone surrogate"),
        ("\ud83d\ude00", "lone surrogate"),
        ({"\udcff": 1}, "lone surrogate"),
        ([Word("\udcff")], "lone surrogate"),
    ],
)
def test_what_is_not_json_is_refused_with_the_rule(value: object, rule: str) -> None:
    """The error says where in the value the offender is, and what is wrong with it."""
    with pytest.raises(InvalidValue, match=rule) as refusal:
        encode(value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH])
def test_a_value_may_be_100_deep(depth: int) -> None:
    """As deep as the contract allows, and back."""
    assert decode(encode(nested(depth))) == nested(depth)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_000, 100_000])
def test_a_deeper_one_is_refused(depth: int) -> None:
    """Also one that is deeper than Python's own stack."""
    with pytest.raises(InvalidValue, match="more than 100 deep"):
        encode(nested(depth))


def test_dicts_count_as_depth_too() -> None:
    """A level is a level."""
    value: Json = {}
    for _ in range(MAX_DEPTH):
        value = {"a": value}
    with pytest.raises(InvalidValue, match="more than 100 deep"):
        encode(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    """Cycles end at the depth that is allowed."""
    items: list[object] = []
    items.append(items)
    members: dict[str, object] = {}
    members["again"] = members
    for value in (items, members):
        with pytest.raises(InvalidValue, match="more than 100 deep"):
            encode(value)


@pytest.mark.parametrize("make", [lambda part: [part, part], lambda part: {"a": part, "b": part}])
def test_a_value_whose_parts_hold_each_other_over_and_over_is_refused_at_once(make: object) -> None:
    """Ninety lists in memory, and two to the ninetieth in JSON."""
    assert callable(make)
    value: object = []
    for _ in range(90):
        value = make(value)
    with pytest.raises(InvalidValue, match="bytes of JSON or more"):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * (MAX_VALUE_BYTES - 2),
        "é" * (MAX_VALUE_BYTES // 2 - 1),
        ["x" * (MAX_VALUE_BYTES - 4)],
        [0] * ((MAX_VALUE_BYTES - 1) // 2),
        {"name": "x" * (MAX_VALUE_BYTES - 11)},
        [[]] * ((MAX_VALUE_BYTES - 1) // 3),
    ],
    ids=["ascii", "utf8", "list", "zeros", "dict", "lists"],
)
def test_64_kib_are_allowed_and_not_a_byte_more(value: object) -> None:
    """The limit is on the UTF-8 that is sent, exactly."""
    encoded = encode(value)
    assert MAX_VALUE_BYTES - 2 <= len(encoded) <= MAX_VALUE_BYTES
    assert decode(encoded) == value
    more = {**value, "": 1} if isinstance(value, dict) else value + value[:1] * 2  # type: ignore[operator, index]
    with pytest.raises(InvalidValue, match=f"{MAX_VALUE_BYTES} are allowed"):
        encode(more)


@QUICK
@given(VALUES)
def test_the_size_is_never_guessed_too_high(value: Json) -> None:
    """What is refused for its size before it is written is too long when written."""
    room = MAX_VALUE_BYTES - len(encode([value, ""]))
    assert len(encode([value, "x" * room])) == MAX_VALUE_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"nan",
        b"NaN",
        b"Infinity",
        b"1e400",
        b"-1e400",
        b"1" * 4301,
        b"01",
        b"1.",
        b"'a'",
        b'"a" "b"',
        b"{1:2}",
        b'"\\ud800"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\0"',
        b"\xef\xbb\xbf1",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_json_in_redis_is_a_value_error(data: bytes) -> None:
    """NaN, what is out of range, broken UTF-8 and endless nesting included."""
    with pytest.raises(ValueError, match=r"."):
        decode(data)


def test_numbers_are_exact() -> None:
    """Big integers do not become floats on the way."""
    for number in (2**53 + 1, -(2**63) - 1, 2**64 + 1, 10**4299):
        assert decode(encode(number)) == number
