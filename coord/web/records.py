"""What stands: records, one by one and in pages, and who holds a key."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct
from msgspec.structs import asdict
from twisted.internet.defer import Deferred

from coord.client.events import EventMap
from coord.client.looks import Held, held_by
from coord.client.reads import Reads
from coord.core.records import EXPIRED, Record
from coord.core.records import Page as Listed
from coord.errors import InvalidInput
from coord.web import bodies
from coord.web.bodies import Holder, Holders, Key, Page, Prefix, RecordAndHolders, shown
from coord.web.exchange import Answer, Exchange
from coord.web.gateway import Gateway
from coord.web.limits import Quota
from coord.web.preconditions import etag, none_match
from coord.web.problems import Problem
from coord.web.routes import Route
from coord.web.shared import taken

__all__ = ["ROUTES", "PageQuery", "page_of"]

_MOST_HOLDERS: Final = 100


class RecordQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which record."""

    key: Key
    holders: Annotated[bool, Meta(description="Also who holds the key, and when its event expires.")] = False


async def get_record(exchange: Exchange[RecordQuery, None]) -> Answer:
    """Answer with what stands; its ETag is its revision."""
    key = exchange.query.key
    if exchange.query.holders:
        return await _with_holders(exchange)
    record = await exchange.gateway.part(_reads).record(exchange.events(), key)
    headers = {"ETag": etag(record)}
    # The end of an event with a TTL that nobody has announced yet has the revision of the event.
    if none_match(exchange, record) and (record is None or record.kind is not EXPIRED):
        return Answer(304, headers=headers)
    body = shown(exchange.map, key, record)
    body.expires_in = UNSET
    return Answer.of(body, headers=headers)


async def _with_holders(exchange: Exchange[RecordQuery, None]) -> Answer:
    if exchange.header("if-none-match") is not None:
        raise Problem("invalid-header", "If-None-Match: not with holders=1, as such an answer has no ETag")
    events, key = exchange.events(), exchange.query.key
    record = await events.record(key)
    held = await held_by(events, key, _MOST_HOLDERS)
    return Answer.of(RecordAndHolders(**asdict(shown(exchange.map, key, record)), holders=_holders(held)))


def _reads(_: Gateway) -> Reads:
    """Return what reads the records that clients ask for one by one."""
    return Reads()


class HoldersQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose holders, and how many of them."""

    key: Key
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


async def get_holders(exchange: Exchange[HoldersQuery, None]) -> Answer:
    """Answer with who holds a key."""
    return Answer.of(_holders(await held_by(exchange.events(), exchange.query.key, exchange.query.limit)))


def _holders(held: Held) -> Holders:
    holders = [
        Holder(place=place, node=each.node, since=each.time, value=each.value)
        for place, each in enumerate(held.holders, 1)
    ]
    rule = ("hold" if held.need else "lock") if holders else None
    return Holders(rule=rule, need=held.need, count=held.number, holders=holders)


class PageQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which part of a listing."""

    prefix: Prefix = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    next: (
        Annotated[
            str,
            Meta(
                description="What the previous page said; it is not for reading.",
                extra_json_schema={"pattern": r"^[0-9]{1,20}-\w{1,64}-[0-9]{1,16}\.[0-9]{1,16}-[0-9]{1,6}-[0-9]{1,7}$"},
            ),
        ]
        | None
    ) = None


def page_of(events: EventMap, query: PageQuery) -> Deferred[Listed]:
    """Ask for a page of a map: it has at most about ``limit`` records, and 1 MiB.

    :raises Problem: 400, if no page has said ``next``.
    """
    try:
        return events.page(query.prefix, query.next, query.limit)
    except InvalidInput as error:
        if query.next is None or not str(error).startswith("after: "):
            raise
        raise Problem("invalid-parameter", f"next: {str(error)[7:]}", parameter="next") from None


class RecordsQuery(PageQuery, kw_only=True, forbid_unknown_fields=True):
    """Which part of which keys."""

    values: Annotated[bool, Meta(description="Whether to show values.")] = True


async def get_records(exchange: Exchange[RecordsQuery, None]) -> Answer:
    """Answer with a page of what the principal may read."""
    query = exchange.query
    with taken(_listings_of(exchange.gateway), exchange.principal.name):
        page = await page_of(exchange.events(slow=True), query)
    records = [
        _listed(exchange.map, each, values=query.values) for each in page.records if exchange.may("read", each.key)
    ]
    corrupt = [name for name in page.corrupt if exchange.may("read", name)]
    return Answer.of(Page(revision=str(page.revision), records=records, corrupt=corrupt, next=page.next))


def _listed(map_name: str, record: Record, *, values: bool) -> bodies.Record:
    body = shown(map_name, record.key, record)
    if not values:
        body.value = UNSET
    return body


def _listings_of(gateway: Gateway) -> Quota:
    """Return what counts the listings: their answers are large, and each takes the server some time."""
    return gateway.part(_listings).within(gateway.config.limits.listings, 1)


def _listings(_: Gateway) -> Quota:
    return Quota("listings", 0, 1)


ROUTES = (
    Route(
        "GET",
        "/v1/maps/{map}/record",
        get_record,
        RecordQuery,
        verb="read",
        answer=RecordAndHolders,
        problems=("corrupt-record",),
        headers=("if-none-match",),
        summary="What stands for a key.",
    ),
    Route(
        "GET",
        "/v1/maps/{map}/records",
        get_records,
        RecordsQuery,
        verb="read",
        answer=Page,
        problems=("listing-lost", "too-many"),
        summary="What stands for many keys, in pages.",
    ),
    Route(
        "GET",
        "/v1/maps/{map}/holders",
        get_holders,
        HoldersQuery,
        verb="read",
        answer=Holders,
        summary="Who holds a key, or waits for its lock.",
    ),
)
