"""Parse VALUE: JSON, or a string if it does not parse as JSON; ``-`` is stdin."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, NoReturn

import coord

if TYPE_CHECKING:
    from coord import Json

__all__ = ["parse_value", "read_value", "whole_number"]

_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)

# A value is 64 KiB; this leaves ample room for white space, but stops an endless stream.
_MOST_BYTES = 1 << 20


def parse_value(text: str, *, string: bool = False, strict: bool = False, what: str = "value: ") -> Json:
    """Return the value of ``text``; raise `InvalidValue` if it is JSON beyond coord's limits.

    :param string: take it as a string, even if it is JSON.
    :param strict: refuse it if it is not JSON.
    :param what: the beginning of error messages.
    """
    if string:
        return text
    try:
        return json.loads(text, parse_constant=_not_json)  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        if strict:
            raise coord.InvalidValue(f"{what}not JSON: {_explained(error, text)}") from None
        return text
    except RecursionError:
        raise coord.InvalidValue(f"{what}nested more than 100 deep") from None
    except ValueError as error:
        raise coord.InvalidValue(f"{what}{error}") from None


def read_value(text: str | None, *, string: bool = False, strict: bool = False) -> Json:
    """Return the value of an argument: `True` without one, and the content of stdin for ``-``."""
    if text is None:
        return True
    return parse_value(_stdin() if text == "-" else text, string=string, strict=strict)


def whole_number(text: str) -> int | str:
    """Return the whole number in ``text``; any other text as it is, for the error of who needs a number."""
    return int(text) if _WHOLE.fullmatch(text) else text


def _explained(error: json.JSONDecodeError, text: str) -> str:
    """Return what is wrong with ``text`` and at which position; the line only if there are several."""
    what = error.msg.removesuffix(" at")
    what = what if what[1:2].isupper() else what[:1].lower() + what[1:]
    line = f"line {error.lineno}, " if "\n" in text else ""
    return f"{what} at {line}column {error.colno}" if error.doc == text else what


def _not_json(constant: str) -> NoReturn:
    # NaN and Infinity: Python's parser accepts them, the standard does not.
    raise json.JSONDecodeError(f"JSON has no number {constant}", constant, 0)


def _stdin() -> str:
    if sys.stdin is None:
        raise coord.InvalidValue("value -: standard input is closed")
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise coord.InvalidValue(f"value on standard input: more than {_MOST_BYTES} bytes; a value is at most 65536")
    try:
        # A final line end comes from the shell, not the value: `echo v1.2 | coord fire deploy ready -`.
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise coord.InvalidValue("value on standard input: not UTF-8") from None
