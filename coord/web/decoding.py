"""Requests become structs: the query and the body, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec
from msgspec import ValidationError

from coord.core.values import decode
from coord.web.problems import Problem
from coord.web.routes import Route, Value

__all__ = ["body_of", "query_of"]

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MOST_PARAMETERS: Final = 1_000


def _unescaped(text: str, name: str) -> str:
    if "%" not in text and "+" not in text:
        return text  # nearly always
    if _BAD_ESCAPE.search(text):
        raise Problem("invalid-parameter", f"{name}: % is followed by two hexadecimal digits", parameter=name)
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem("invalid-parameter", f"{name}: not UTF-8", parameter=name) from None


def query_of(route: Route[Any, Any], query: bytes) -> Any:
    """Return a query as the struct of its route; raise the `Problem` 400, which names the parameter."""
    try:
        words = query.decode("ascii").split("&") if query else []
    except UnicodeDecodeError:
        raise Problem("invalid-request", "the query is not ASCII: escape the rest with %") from None
    if len(words) > _MOST_PARAMETERS:
        raise Problem("invalid-request", f"more than {_MOST_PARAMETERS} parameters")
    given: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        name = _unescaped(name, "the query")
        value = _unescaped(text, name[:40])
        if name in route.many:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Problem("invalid-parameter", f"{name}: given twice", parameter=name)
        elif word:
            given[name] = value
    return _query(route, given)


def _query(route: Route[Any, Any], given: Mapping[str, Any]) -> Any:
    for name, text in given.items():
        # A client whose variable is empty by mistake would fire without a TTL, or wait for something else.
        if name in route.nullable and text.lower() == "null":
            raise Problem("invalid-parameter", f"{name}: leave it out if there is none", parameter=name)
    try:
        return msgspec.convert(given, route.query, strict=False)
    except ValidationError as error:
        name, detail = _told(error)
        raise Problem("invalid-parameter", detail, parameter=name) from None


_AT: Final = re.compile(r" - at `\$\.?([^`]*)`")
_FIELD: Final = re.compile(r"field `([^`]*)`")


def _told(error: ValidationError) -> tuple[str, str]:
    """Return the parameter that msgspec complains of, and its words without the value."""
    text = str(error)
    at, field = _AT.search(text), _FIELD.search(text)
    name = at[1] if at and at[1] else field[1] if field else ""
    words = re.sub(r"Invalid enum value .*", "not one of the choices", _AT.sub("", text))
    return name, f"{name[:80]}: {words}" if at and at[1] else words


def body_of(route: Route[Any, Any], raw: bytes, content_type: str) -> Any:
    """Return a body as the struct of its route; raise the `Problem` 400, 413 or 415."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise Problem("media-type", "send JSON, or a string as text/plain")
    if route.body is None:
        if raw:
            raise Problem("invalid-body", "this route takes no body")
        return None
    try:
        if route.body is Value:
            return _value(raw, kind)
        return msgspec.json.decode(raw, type=route.body)
    except ValidationError as error:
        raise Problem("invalid-body", _told(error)[1]) from None
    except (ValueError, RecursionError):
        raise Problem("invalid-body", "the body is not JSON in UTF-8") from None


def _value(raw: bytes, kind: str) -> Value:
    if not raw:
        return Value()
    return Value(raw.decode() if kind == "text/plain" else decode(raw))
