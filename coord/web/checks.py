"""Rights that a handler has to ask for itself, and what an answer shows to who has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coord.core import records
from coord.core.records import Revision
from coord.errors import InvalidInput
from coord.web.bodies import Record, shown
from coord.web.exchange import Exchange
from coord.web.problems import Problem
from coord.web.rights import Principal

__all__ = ["record_of", "refused", "require", "revision_of"]


def refused(principal: Principal, what: str) -> Problem:
    """Return the problem of a principal that may not do ``what``."""
    return Problem("unauthorized" if principal.anonymous else "forbidden", f"{what} is not allowed here")


def require(exchange: Exchange[Any, Any], verb: str, keys: Iterable[str]) -> None:
    """Raise the `Problem` 401 or 403 if the principal may not do ``verb`` to each key of the map."""
    if not all(exchange.may(verb, key) for key in keys):
        raise refused(exchange.principal, verb)


def record_of(
    exchange: Exchange[Any, Any], key: str, record: records.Record | None, map_name: str | None = None
) -> Record:
    """Return a record for an answer: without what the principal may not read (S2)."""
    return shown(map_name or exchange.map, key, record, read=exchange.may("read", key, map_name))


def revision_of(text: str, parameter: str) -> Revision:
    """Return the revision in a parameter; raise the `Problem` 400 that names it."""
    try:
        return Revision.parse(text)
    except InvalidInput as error:
        raise Problem("invalid-parameter", f"{parameter}: {error}", parameter=parameter) from None
