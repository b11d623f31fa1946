"""Values: JSON, within limits that hold on every path (see DESIGN, section 3)."""

from __future__ import annotations

from math import isfinite
from typing import Final, TypeAlias

import msgspec

from coord.errors import InvalidValue

__all__ = ["MAX_DEPTH", "MAX_VALUE_BYTES", "Json", "decode", "encode"]

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

MAX_VALUE_BYTES: Final = 65_536
MAX_DEPTH: Final = 100

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def encode(value: object) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; raise `InvalidValue`, naming the rule that it breaks."""
    if value is True:
        return b"true"
    _check(value, 0, "value")
    try:
        encoded = _encode(value)
    except UnicodeEncodeError:
        raise InvalidValue("value: a string in it has a lone surrogate, which is no UTF-8") from None
    except (ValueError, OverflowError) as error:
        raise InvalidValue(f"value: {error}") from None
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidValue(f"value: {len(encoded)} bytes of JSON, where {MAX_VALUE_BYTES} are allowed")
    return encoded


def decode(data: bytes) -> Json:
    """Return the value that ``data`` holds.

    :raises ValueError: for anything that is not JSON. The caller knows whose record it was.
    """
    if data == b"true":
        return True
    try:
        return _decode(data)  # type: ignore[no-any-return]
    except RecursionError:
        raise ValueError("nested too deep") from None


def _check(value: object, depth: int, where: str) -> None:
    """Hold ``value`` to what JSON can say: the codec would make null of NaN, and a string of bytes."""
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not isfinite(value):
                raise InvalidValue(f"{where}: {value} is not JSON")
        case list() | tuple():
            _check_depth(depth, where)
            for index, item in enumerate(value):
                _check(item, depth + 1, f"{where}[{index}]" if depth < 3 else where)
        case dict():
            _check_depth(depth, where)
            for name, item in value.items():
                if not isinstance(name, str):
                    raise InvalidValue(
                        f"{where}: the name {name!r} is a {type(name).__name__}; names in JSON are strings"
                    )
                _check(item, depth + 1, f"{where}[{name!r}]" if depth < 3 else where)
        case _:
            raise InvalidValue(f"{where}: a {type(value).__name__} is not JSON")


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise InvalidValue(f"{where}: nested more than {MAX_DEPTH} deep")
