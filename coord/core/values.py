"""Values: JSON, within the limits of docs/semantics.md, "Values, names, limits", on every path."""

from __future__ import annotations

from math import isfinite
from typing import Final, TypeAlias

import msgspec

from coord.errors import InvalidValue

__all__ = ["MAX_DEPTH", "MAX_VALUE_BYTES", "Json", "decode", "encode"]

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

MAX_VALUE_BYTES: Final = 65_536
MAX_DEPTH: Final = 100


def _plain(value: object) -> object:
    """Return a subclass that the codec does not know, such as `numpy.float64`, as a plain value."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder().decode


def encode(value: object) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; raise `InvalidValue` if it breaks a rule."""
    if value is True:
        return b"true"
    if type(value) is not str:
        _check(value, 0, "value")
    try:
        encoded = _encode(value)
    except UnicodeEncodeError:
        raise InvalidValue("value: a string in it has a lone surrogate, which is no UTF-8") from None
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidValue(f"value: {error}") from None
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidValue(f"value: {len(encoded)} bytes of JSON, where {MAX_VALUE_BYTES} are allowed")
    return encoded


def decode(data: bytes) -> Json:
    """Return the value of ``data``.

    :raises ValueError: it is not JSON. The caller knows which record it belongs to.
    """
    try:
        return _decode(data)  # type: ignore[no-any-return]
    except RecursionError:
        raise ValueError("nested too deep") from None


def _check(value: object, depth: int, where: str) -> int:
    """Refuse what JSON cannot hold: the codec would turn NaN into null, and bytes into a string.

    Return a lower bound of the size in bytes. Counting it on the way ends the visit of a value whose parts contain each
    other many times: it is small in memory and huge in JSON.
    """
    match value:
        case str():
            return len(value) + 2
        case None | bool() | int():
            return 1
        case float():
            if not isfinite(value):
                raise InvalidValue(f"{where}: {value} is not JSON")
            return 1
        case list() | tuple():
            return _check_items(value, depth, where)
        case dict():
            return _check_members(value, depth, where)
        case _:
            raise InvalidValue(f"{where}: a {type(value).__name__} is not JSON")


def _check_items(items: list[object] | tuple[object, ...], depth: int, where: str) -> int:
    _check_depth(depth, where)
    size = 1
    for index, item in enumerate(items):
        size += 1 + _check(item, depth + 1, f"{where}[{index}]" if depth < 3 else where)
        _check_size(size, where)
    return size


def _check_members(members: dict[object, object], depth: int, where: str) -> int:
    _check_depth(depth, where)
    size = 1
    for name, item in members.items():
        if not isinstance(name, str):
            raise InvalidValue(f"{where}: a name in it is of type {type(name).__name__}; names in JSON are strings")
        size += 4 + len(name) + _check(item, depth + 1, f"{where}[{name[:40]!r}]" if depth < 3 else where)
        _check_size(size, where)
    return size


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise InvalidValue(f"{where}: nested more than {MAX_DEPTH} deep")


def _check_size(size: int, where: str) -> None:
    if size > MAX_VALUE_BYTES:
        raise InvalidValue(f"{where}: {size} bytes of JSON or more, where {MAX_VALUE_BYTES} are allowed")
