"""Calls: fire, fail, pulse, reset and renew."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any, TypedDict, TypeVar

from msgspec import Meta, Struct
from twisted.internet.defer import Deferred

from coord import errors
from coord.client.acting import ActingMap
from coord.core import records
from coord.core.records import NEVER, Revision
from coord.web import bodies
from coord.web.acks import By, acked_body, by_of, may_name
from coord.web.bodies import Applied, Fired, Key
from coord.web.checks import record_of, require
from coord.web.exchange import Answer, Exchange
from coord.web.preconditions import call_name, matched, only_if_new
from coord.web.problems import Problem
from coord.web.routes import Route, Value
from coord.web.shared import taken
from coord.web.waits import waited_for

__all__ = ["ROUTES", "acting", "outcome"]

A = TypeVar("A", bound=records.Applied)

Ttl = Annotated[float, Meta(ge=0.001, le=315_360_000, description="Seconds until the event ends by itself.")]
Within = Annotated[float, Meta(ge=0.001, le=2, description="Seconds for the replicas.")]


class _Options(TypedDict, total=False):
    once: str | None
    replicas: int
    within: float


def acting(exchange: Exchange[Any, Any], *, slow: bool = False) -> ActingMap:
    """Return the map in the path for calls of the principal."""
    return ActingMap(exchange.events(slow=slow), exchange.principal.name)


async def outcome(exchange: Exchange[Any, Any], key: str, call: Deferred[A]) -> A:
    """Return the outcome of a call; a problem that knows the record shows it as an answer does."""
    try:
        return await call
    except errors.NotReplicated as error:
        problem = Problem("not-replicated", str(error))
        applied = error.applied
        if isinstance(applied, records.Applied):
            problem.members |= {"first": applied.first, "record": record_of(exchange, key, applied.record)}
        raise problem from None


def _applied(exchange: Exchange[Any, Any], key: str, applied: records.Applied) -> Answer:
    return Answer.of(Applied(first=applied.first, record=record_of(exchange, key, applied.record)))


class CallQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which key."""

    key: Key


class FireQuery(CallQuery, kw_only=True, forbid_unknown_fields=True):
    """Which key, for how long, and what to wait for before the answer."""

    ttl: Ttl | None = None
    replicas: Annotated[int, Meta(ge=0, le=1_000, description="How many replicas must have it.")] = 0
    within: Within = 2.0
    acks: bodies.By | None = None
    ack_within: Annotated[float, Meta(ge=0.001, le=300, description="Seconds for those.")] = 25.0


async def fire(exchange: Exchange[FireQuery, Value]) -> Answer:
    """Fire the event of a key; with ``If-None-Match: *`` it is a problem if it is latched."""
    query, new = exchange.query, only_if_new(exchange)
    if new and query.ttl is not None:
        raise Problem(
            "invalid-header", "If-None-Match: not with ttl, as such a fire makes the end of an earlier event later"
        )
    by = None if query.acks is None else by_of(query.acks, "acks")
    # Whoever may wait no more is told so before the event is fired.
    with nullcontext() if by is None else taken(waited_for(exchange.gateway), exchange.principal.name):
        return Answer.of(await _fired(exchange, by, new=new))


async def _fired(exchange: Exchange[FireQuery, Value], by: By | None, *, new: bool) -> Fired:
    query = exchange.query
    options: _Options = {"once": call_name(exchange)}
    if query.replicas:
        options |= {"replicas": query.replicas, "within": query.within}
    events = acting(exchange, slow=bool(query.replicas))
    applied = await outcome(exchange, query.key, events.fire(query.key, exchange.body.value, ttl=query.ttl, **options))
    record = record_of(exchange, query.key, applied.record)
    if new and not applied.first:
        raise Problem("precondition", "the key is latched", record=record)
    body = Fired(first=applied.first, record=record)
    if by is not None:
        await _wait_for_acks(exchange, body, applied, by)
    return body


async def _wait_for_acks(exchange: Exchange[FireQuery, Value], body: Fired, applied: records.Applied, by: By) -> None:
    """Have the answer to a fire say who has acknowledged it: to those who may read that."""
    may_read = may_name(exchange, by)
    assert applied.record is not None
    try:
        acks = await exchange.events().acked(applied.record, by, timeout=exchange.query.ack_within)
    except errors.Unacknowledged as error:
        text = str(error) if may_read else "not acknowledged in time"
        problem = Problem("unacknowledged", text, first=body.first, record=body.record)
        if may_read:
            problem.members |= {"names": error.names, "missing": error.missing, "left": error.left}
        raise problem from None
    if may_read:
        body.acks = acked_body(acks)


async def fail(exchange: Exchange[CallQuery, Value]) -> Answer:
    """Fail the event of a key."""
    key = exchange.query.key
    call = acting(exchange).fail(key, exchange.body.value, once=call_name(exchange))
    return _applied(exchange, key, await outcome(exchange, key, call))


async def pulse(exchange: Exchange[CallQuery, Value]) -> Answer:
    """Wake all who wait for a key."""
    key = exchange.query.key
    call = acting(exchange).pulse(key, exchange.body.value, once=call_name(exchange))
    return _applied(exchange, key, await outcome(exchange, key, call))


class ResetQuery(CallQuery, kw_only=True, forbid_unknown_fields=True):
    """Which key, and whether also if it is held."""

    evict: Annotated[bool, Meta(description="End all holds of the key, too; needs the right evict.")] = False


async def reset(exchange: Exchange[ResetQuery, None]) -> Answer:
    """Make a key pending again; with ``If-Match`` only if its record is still that one."""
    query, revision = exchange.query, matched(exchange)
    if query.evict:
        require(exchange, "evict", (query.key,))
        if revision is not None:
            raise Problem("invalid-header", "If-Match: not with evict, which ends all holds, whatever the record")
    call = acting(exchange).reset(query.key, revision, evict=query.evict, once=call_name(exchange))
    applied = await outcome(exchange, query.key, call)
    if not applied.first and revision is not None and _revision(applied.record) != revision:
        record = record_of(exchange, query.key, applied.record)
        raise Problem("precondition", f"the record is not that of {revision} any more", record=record)
    return _applied(exchange, query.key, applied)


def _revision(record: records.Record | None) -> Revision:
    return NEVER if record is None else record.revision


class RenewQuery(CallQuery, kw_only=True, forbid_unknown_fields=True):
    """Which key, and how long its event is to last from now on."""

    ttl: Ttl


async def renew(exchange: Exchange[RenewQuery, None]) -> Answer:
    """Move the end of an event that was fired with a TTL."""
    key = exchange.query.key
    call = acting(exchange).expire(key, exchange.query.ttl, once=call_name(exchange))
    return _applied(exchange, key, await outcome(exchange, key, call))


_NAMED = ("idempotency-key",)
_PROBLEMS = ("in-use", "name-reused", "corrupt-record", "unconfirmed")

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "POST",
        "/v1/maps/{map}/fire",
        fire,
        FireQuery,
        Value,
        verb="fire",
        answer=Fired,
        problems=(*_PROBLEMS, "precondition", "not-replicated", "unacknowledged"),
        headers=(*_NAMED, "if-none-match"),
        call=True,
        summary="Fire the event of a key.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/fail",
        fail,
        CallQuery,
        Value,
        verb="fail",
        answer=Applied,
        problems=_PROBLEMS,
        headers=_NAMED,
        call=True,
        summary="Fail the event of a key; the body is the reason.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/pulse",
        pulse,
        CallQuery,
        Value,
        verb="pulse",
        answer=Applied,
        problems=_PROBLEMS,
        headers=_NAMED,
        call=True,
        summary="Wake all who wait for a key.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/reset",
        reset,
        ResetQuery,
        verb="reset",
        answer=Applied,
        problems=(*_PROBLEMS, "precondition"),
        headers=(*_NAMED, "if-match"),
        call=True,
        summary="Make a key pending again.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/renew",
        renew,
        RenewQuery,
        verb="fire",
        answer=Applied,
        problems=_PROBLEMS,
        headers=_NAMED,
        call=True,
        summary="Move the end of an event that has a TTL.",
    ),
)
