"""Counters."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from coord.session.settings import MOST_COUNTED, MOST_GOAL
from coord.web.bodies import Count, Counted, Key
from coord.web.calls import acting, outcome
from coord.web.checks import record_of
from coord.web.exchange import Answer, Exchange
from coord.web.preconditions import call_name
from coord.web.problems import Problem
from coord.web.routes import Route

__all__ = ["ROUTES"]


class CountQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which counter, and how much to add to it."""

    key: Key
    by: Annotated[int, Meta(ge=1, le=MOST_COUNTED)] = 1
    goal: Annotated[int, Meta(ge=1, le=MOST_GOAL, description="The count at which the key is fired.")] | None = None
    who: Annotated[Key, Meta(description="A name that counts once, until the counter is reset.")] | None = None


async def count(exchange: Exchange[CountQuery, None]) -> Answer:
    """Add to a counter, once: so the call needs a name, or that of who counts."""
    query, once = exchange.query, call_name(exchange)
    if query.who is None and once is None:
        raise Problem(
            "invalid-parameter", "who: give who, or an Idempotency-Key: a repeated request would count twice",
            parameter="who",
        )  # fmt: skip
    call = acting(exchange).count(query.key, query.by, goal=query.goal, who=query.who, once=once)
    counted = await outcome(exchange, query.key, call)
    body = Counted(
        first=counted.first,
        record=record_of(exchange, query.key, counted.record),
        count=counted.count,
        goal=counted.goal,
        reached=_reached(counted.count, counted.goal),
    )
    return Answer.of(body)


class CounterQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which counter."""

    key: Key


async def get_count(exchange: Exchange[CounterQuery, None]) -> Answer:
    """Answer with what a counter stands at."""
    key = exchange.query.key
    record = await exchange.events().record(key)
    number = None if record is None else record.count
    if record is None or number is None:
        if record is not None and record.latched:
            raise Problem("in-use", "the key is an event, and no counter")
        return Answer.of(Count(count=0, goal=None, reached=False, revision=None))
    reached = _reached(number, record.goal)
    return Answer.of(Count(count=number, goal=record.goal, reached=reached, revision=str(record.revision)))


def _reached(number: int, goal: int | None) -> bool:
    return goal is not None and number >= goal


ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "POST",
        "/v1/maps/{map}/count",
        count,
        CountQuery,
        verb="count",
        answer=Counted,
        problems=("in-use", "name-reused", "corrupt-record", "unconfirmed"),
        headers=("idempotency-key",),
        call=True,
        summary="Add to a counter, once.",
    ),
    Route(
        "GET",
        "/v1/maps/{map}/count",
        get_count,
        CounterQuery,
        verb="read",
        answer=Count,
        problems=("in-use", "corrupt-record"),
        summary="What a counter stands at.",
    ),
)
