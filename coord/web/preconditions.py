"""Headers with a meaning of their own: conditions, names of calls, preferences."""

from __future__ import annotations

import re
from typing import Any, Final

from coord.core.records import NEVER, Record, Revision
from coord.errors import InvalidInput
from coord.web.exchange import Exchange
from coord.web.problems import Problem

__all__ = ["call_name", "etag", "is_lenient", "matched", "none_match", "only_if_new"]

_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")


def etag(record: Record | None) -> str:
    """Return the entity tag of a record: its revision, or that of nothing."""
    return f'"{NEVER if record is None else record.revision}"'


def none_match(exchange: Exchange[Any, Any], record: Record | None) -> bool:
    """Whether the client has this record already (If-None-Match)."""
    given = exchange.header("if-none-match")
    if given is None:
        return False
    if given.strip() == "*":
        return record is not None
    return etag(record)[1:-1] in _ETAG.findall(given)


def only_if_new(exchange: Exchange[Any, Any]) -> bool:
    """Whether a call is for a pending key only (``If-None-Match: *``); raise the `Problem` 400 for anything else."""
    given = exchange.header("if-none-match")
    if given is None:
        return False
    if given.strip() != "*":
        raise Problem("invalid-header", "If-None-Match: a call takes only *: if the key is not latched yet")
    return True


def matched(exchange: Exchange[Any, Any]) -> Revision | None:
    """Return the revision that the record must still have (If-Match), if there is one; raise the `Problem` 400."""
    given = exchange.header("if-match")
    if given is None:
        return None
    match = _ETAG.fullmatch(given.strip())
    try:
        if match is None or given.strip().startswith("W/"):
            raise InvalidInput("not one entity tag")
        return Revision.parse(match[1])
    except InvalidInput:
        raise Problem("invalid-header", "If-Match: one ETag of a record, with its quotes") from None


def call_name(exchange: Exchange[Any, Any]) -> str | None:
    """Return the name of a call (Idempotency-Key), without quotes around it; raise the `Problem` 400 or 429."""
    given = exchange.header("idempotency-key")
    if given is None:
        return None
    quoted = _QUOTED.fullmatch(given.strip())
    name = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given.strip()
    if not _NAME.fullmatch(name):
        raise Problem("invalid-header", "Idempotency-Key: 1 to 255 visible characters of ASCII")
    # The server remembers each for an hour.
    exchange.gateway.limits.named.spend(exchange.principal.name)
    return name


def is_lenient(exchange: Exchange[Any, Any]) -> bool:
    """Whether a wait that is not over in time is no error (``Prefer: handling=lenient``)."""
    given = (exchange.header("prefer") or "").lower()
    return any(each.replace(" ", "").replace('"', "") == "handling=lenient" for each in re.split("[,;]", given))
