"""Who waits: how many nodes for a key, and for which keys though they do not come."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from coord.client.looks import Awaited, awaited
from coord.core.names import check_keys, check_prefix
from coord.web.bodies import Keys, KeysBody, Prefix, Subscribers, Waiting, WaitingKey
from coord.web.checks import refused, require
from coord.web.exchange import Answer, Exchange
from coord.web.gateway import Gateway
from coord.web.routes import NoQuery, Route
from coord.web.shared import Memo

__all__ = ["ROUTES"]


class KeysQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which keys."""

    key: Keys


async def get_subscribers(exchange: Exchange[KeysQuery, None]) -> Answer:
    """Answer with how many nodes are subscribed to each key of the query."""
    return await _subscribers(exchange, exchange.query.key)


async def post_subscribers(exchange: Exchange[NoQuery, KeysBody]) -> Answer:
    """Answer with how many nodes are subscribed to each key of the body."""
    require(exchange, "read", exchange.body.keys)
    return await _subscribers(exchange, exchange.body.keys)


async def _subscribers(exchange: Exchange[Any, Any], keys: tuple[str, ...]) -> Answer:
    return Answer.of(Subscribers(subscribers=await exchange.events().subscribers(check_keys(keys))))


class WaitingQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which keys, and how many of them."""

    prefix: Prefix = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


async def get_waiting(exchange: Exchange[WaitingQuery, None]) -> Answer:
    """Answer with what is waited for and does not come: the same for 5 s, as it costs the server a lot."""
    query = exchange.query
    check_prefix(query.prefix)
    if not exchange.principal.may_all("read", exchange.map):
        raise refused(exchange.principal, "read of the whole map")
    events = exchange.events(slow=True)
    found, more = await exchange.gateway.part(_Awaited).get(exchange.map, lambda: awaited(events))
    wanted = [each for each in found if each.key.startswith(query.prefix)]
    waiting = [WaitingKey(key=key, subscribers=count, kind=kind) for key, count, kind in wanted[: query.limit]]
    return Answer.of(Waiting(waiting=waiting, more=more or len(wanted) > len(waiting)))


class _Awaited(Memo[tuple[list[Awaited], bool]]):
    """What is waited for in each map."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, 5.0)


ROUTES = (
    Route(
        "GET",
        "/v1/maps/{map}/subscribers",
        get_subscribers,
        KeysQuery,
        verb="read",
        answer=Subscribers,
        summary="How many nodes wait for a key, or cache it.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/subscribers",
        post_subscribers,
        body=KeysBody,
        verb="read",
        answer=Subscribers,
        summary="The same for keys that do not fit in a URL.",
    ),
    Route(
        "GET",
        "/v1/maps/{map}/waiting",
        get_waiting,
        WaitingQuery,
        answer=Waiting,
        summary="What is waited for and does not come.",
    ),
)
