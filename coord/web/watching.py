"""GET /v1/watch: the changes of up to 16 maps, as one stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct
from msgspec.json import encode
from twisted.internet import defer

from coord.clock import steady
from coord.core.names import MEMBERS, check_name, check_prefix
from coord.core.records import Record
from coord.errors import InvalidInput
from coord.web.bodies import MapName, Prefix, shown
from coord.web.exchange import Exchange, Stream
from coord.web.follower import Follower, Sight
from coord.web.formats import form_of
from coord.web.frames import LINES, Format
from coord.web.gateway import Gateway
from coord.web.hub import Hub, Wanted
from coord.web.outlet import Outlet
from coord.web.positions import NOW, Position, parse
from coord.web.problems import Problem
from coord.web.rights import Principal
from coord.web.routes import Route

__all__ = ["ROUTES", "hub_of"]

_MAPS: Final = 16

_LOOK: Final = 10.0
"""Seconds to find where a stream begins, before its status is known."""


class WatchQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which changes."""

    map: Annotated[tuple[MapName, ...], Meta(min_length=1, max_length=_MAPS)]
    prefix: Prefix = ""
    since: Annotated[str, Meta(description="now, start, or an id.", extra_json_schema={"format": "coord-id"})] = NOW
    follow: Annotated[bool, Meta(description="Whether to go on with what comes.")] = True


def hub_of(gateway: Gateway) -> Hub:
    """Return the gateway's streams."""
    return gateway.part(_make_hub)


def _make_hub(gateway: Gateway) -> Hub:
    def most() -> tuple[int, int]:
        limits = gateway.config.limits
        return limits.streams, limits.streams_of_one

    past = partial(gateway.events, slow=True)
    return Hub(gateway.events, past, _json_of, steady(gateway.clock), most=most)


def _json_of(record: Record) -> bytes:
    body = shown(record.map, record.key, record)
    try:
        return encode(body)
    except RecursionError:
        # Another program has written a value that is nested deeper than coord's own may be. It ends no stream.
        body.value, body.value_omitted = UNSET, True
        return encode(body)


Request = Exchange[WatchQuery, None]


async def get_watch(exchange: Request) -> Stream:
    """Answer with a stream that begins where the client has been, or at ``since``."""
    query = exchange.query
    form = form_of(exchange.header("accept"))
    wanted = [
        Wanted(name, position, _sight(exchange.principal, name, query.prefix))
        for name, position in zip(query.map, _positions(exchange), strict=True)
    ]
    if exchange.method == "HEAD":
        # A whole answer would say a length, and the stream has none.
        return _stream(form, lambda _: None)
    follower = hub_of(exchange.gateway).follow(exchange.principal.name, wanted, form, follow=query.follow)
    exchange.on_end(partial(_ended, follower))
    if form is LINES or not query.follow:
        # An EventSource learns of lost history by an event, as it gives up at any other status than 200. Others get
        # the status, so it has to be known before the first byte.
        await _ready(follower, exchange)
    return _stream(form, partial(Outlet.begin, follower))


def _stream(form: Format, begin: Callable[[Any], None]) -> Stream:
    return Stream(form.content_type, begin, {"X-Accel-Buffering": "no"})


async def _ready(follower: Follower, exchange: Request) -> None:
    try:
        await follower.ready().addTimeout(_LOOK, steady(exchange.gateway.clock))
    except defer.TimeoutError:
        raise Problem("unreachable", exchange.gateway.coordinator.reason) from None


def _ended(follower: Follower, why: BaseException | None) -> None:
    """End a stream whose client has gone, or whose token has ended. When the gateway stops, the hub ends them all."""
    if not isinstance(why, Problem):
        follower.gone()
    elif why.name != "stopping":
        follower.end(why)


def _positions(exchange: Request) -> list[Position]:
    maps = exchange.query.map
    if len(set(maps)) < len(maps):
        raise Problem("invalid-parameter", "map: a map is named twice", parameter="map")
    last = exchange.header("last-event-id")
    try:
        return parse(last or exchange.query.since, maps)
    except InvalidInput as error:
        if last:
            raise Problem("invalid-header", f"Last-Event-ID: {error}") from None
        raise Problem("invalid-parameter", f"since: now, start or an id; {error}", parameter="since") from None


def _sight(principal: Principal, name: str, prefix: str) -> Sight | None:
    """Return which keys a stream shows; raise the `Problem` 401, 403 or 404 if there can be none."""
    if name != MEMBERS:
        check_name("map", name)
    check_prefix(prefix)
    if not principal.may_some("read", name):
        if principal.anonymous:
            raise Problem("unauthorized")
        known = principal.rights.any(name)
        raise Problem("forbidden", f"read of {name} is not allowed") if known else Problem("not-found", "no such map")
    if not principal.may_all("read", name):
        return lambda key: key.startswith(prefix) and principal.may("read", name, key)
    return (lambda key: key.startswith(prefix)) if prefix else None


ROUTES = (
    Route(
        "GET",
        "/v1/watch",
        get_watch,
        WatchQuery,
        problems=("history-lost", "not-acceptable", "too-many"),
        headers=("last-event-id",),
        produces=("text/event-stream", "application/x-ndjson"),
        long=True,
        summary="The changes of up to 16 maps, as server-sent events or lines of JSON.",
    ),
)
