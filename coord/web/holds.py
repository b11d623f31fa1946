"""Events that are held, and members, under leases of clients."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from coord.client.leases import ClientLease
from coord.core.names import MEMBERS, check_name
from coord.errors import InvalidInput
from coord.web.bodies import Applied
from coord.web.checks import record_of, refused
from coord.web.exchange import Answer, Exchange
from coord.web.leases import PROBLEMS, Lease, LeaseQuery, Ttl, lease_of, leasing, new_lease, withdrawn
from coord.web.problems import Problem
from coord.web.routes import Route, Value

__all__ = ["ROUTES"]


class HoldQuery(LeaseQuery, kw_only=True, forbid_unknown_fields=True):
    """Which key, under which lease, and with how many others."""

    ttl: Ttl | None = None
    need: Annotated[int, Meta(ge=1, le=1_000_000, description="How many must hold the key to latch it.")] = 1


class Held(Applied, kw_only=True):
    """A key is held; ``first``: this changed its record, and ``owner``: that is this lease's.

    ``place`` is the place among the holders, from 1 on. It is certain for ``ttl`` seconds from when the request was
    sent.
    """

    place: int
    owner: bool
    ttl: float


async def put_hold(exchange: Exchange[HoldQuery, Value]) -> Answer:
    """Hold a key, or renew that, or hold it with another value."""
    query = exchange.query
    return await _hold(exchange, new_lease(exchange, query.lease), query.key, need=query.need)


async def _hold(
    exchange: Exchange[Any, Value], lease: ClientLease, key: str, *, map_name: str = "", need: int
) -> Answer:
    try:
        with leasing():
            held = await lease.hold(key, exchange.body.value, need=need, ttl=exchange.query.ttl)
    except InvalidInput as error:
        if type(error) is not InvalidInput:
            raise
        # The server says it: the other holders need another number.
        raise Problem("in-use", str(error)) from None
    record = record_of(exchange, key, held.record, map_name)
    return Answer.of(Held(first=held.first, record=record, place=held.number, owner=held.owner, ttl=held.ttl))


async def delete_hold(exchange: Exchange[LeaseQuery, None]) -> Answer:
    """Hold a key no longer."""
    key = exchange.query.key
    return withdrawn(exchange, key, await lease_of(exchange, exchange.query.lease).withdraw([key]))


# Members.


class MemberQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Under which lease."""

    lease: Lease


class JoinQuery(MemberQuery, kw_only=True, forbid_unknown_fields=True):
    """Under which lease, and for how long."""

    ttl: Ttl | None = None


def _member(exchange: Exchange[Any, Any]) -> str:
    """Return the name in the path, if the principal may join under it."""
    name = check_name("member", exchange.path["name"])
    if not exchange.may("join", name, MEMBERS):
        raise refused(exchange.principal, "join under this name")
    return name


async def put_member(exchange: Exchange[JoinQuery, Value]) -> Answer:
    """Be a member, or renew that, or say something else of oneself."""
    name = _member(exchange)
    lease = new_lease(exchange, exchange.query.lease, MEMBERS, name)
    return await _hold(exchange, lease, name, map_name=MEMBERS, need=1)


async def delete_member(exchange: Exchange[MemberQuery, None]) -> Answer:
    """Be a member no longer."""
    name = _member(exchange)
    applied = await lease_of(exchange, exchange.query.lease, MEMBERS, name).withdraw([name])
    return withdrawn(exchange, name, applied, MEMBERS)


_HOLD: Final = "/v1/maps/{map}/hold"
_MEMBER: Final = "/v1/members/{name}"

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "PUT",
        _HOLD,
        put_hold,
        HoldQuery,
        Value,
        verb="hold",
        answer=Held,
        problems=PROBLEMS,
        call=True,
        summary="Hold a key: its event lasts as long as the lease.",
    ),
    Route(
        "DELETE",
        _HOLD,
        delete_hold,
        LeaseQuery,
        verb="hold",
        answer=Applied,
        problems=("corrupt-record", "unconfirmed"),
        call=True,
        free=True,
        summary="Hold a key no longer.",
    ),
    Route(
        "PUT",
        _MEMBER,
        put_member,
        JoinQuery,
        Value,
        answer=Held,
        problems=PROBLEMS,
        call=True,
        summary="Be a member as long as the lease; the body says something of it.",
    ),
    Route(
        "DELETE",
        _MEMBER,
        delete_member,
        MemberQuery,
        answer=Applied,
        problems=("corrupt-record", "unconfirmed"),
        call=True,
        free=True,
        summary="Be a member no longer.",
    ),
)
