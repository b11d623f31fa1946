"""Locks, elections and semaphores under leases of clients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import floor
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from twisted.internet.defer import CancelledError

from coord.client.leases import Granted, NotGranted, Recovering, slots_of
from coord.errors import HoldLost
from coord.web.bodies import Applied, Record
from coord.web.checks import record_of, require
from coord.web.exchange import Answer, Exchange
from coord.web.leases import PROBLEMS, LeaseQuery, Ttl, lease_of, leasing, new_lease, withdrawn
from coord.web.preconditions import is_lenient
from coord.web.problems import Problem
from coord.web.routes import Route, Value
from coord.web.shared import taken
from coord.web.waits import waited_for

__all__ = ["ROUTES"]

Slots = Annotated[int, Meta(ge=1, le=1_000, description="A semaphore with so many slots: the locks KEY/0, KEY/1, ...")]


class UnlockQuery(LeaseQuery, kw_only=True, forbid_unknown_fields=True):
    """Which lock, under which lease."""

    slots: Slots | None = None


class LockQuery(UnlockQuery, kw_only=True, forbid_unknown_fields=True):
    """Which lock, under which lease, and for how long to wait."""

    ttl: Ttl | None = None
    token: (
        Annotated[
            str,
            Meta(pattern=r"^[0-9]{16}\.[0-9]{16}$", description="Renew the grant with this token, and take no other."),
        ]
        | None
    ) = None
    wait: Annotated[
        float, Meta(ge=0, le=300, description="Seconds to wait, but no longer than the ttl; with 0, it does not queue.")
    ] = 0.0


class LockGranted(Struct, kw_only=True):
    """The lock is yours, until ``waited + ttl`` seconds after you began to send the request.

    ``token`` is the fencing token: let what you write to refuse a lower one than it has seen. It is the same until the
    lock is given back.
    """

    owner: Literal[True] = True
    token: str
    ttl: float
    waited: float
    record: Record


class LockRefused(Struct, kw_only=True):
    """The lock is another's; ``queued``: you keep your ``place`` as long as the lease lives."""

    owner: Literal[False] = False
    queued: bool
    place: int | None


def _keys(exchange: Exchange[Any, Any]) -> list[str]:
    """Return the keys of the locks that are meant; raise the `Problem` 401 or 403 if one of them is not allowed."""
    keys = slots_of(exchange.query.key, exchange.query.slots)
    require(exchange, "lock", keys)
    return keys


def _spend(exchange: Exchange[Any, Any], keys: list[str]) -> None:
    """Count each further call of a request; raise the `Problem` 429 if there were too many lately."""
    exchange.gateway.limits.free.spend(exchange.spender, len(keys) - 1)


def _waiting(exchange: Exchange[LockQuery, Value], number: int) -> AbstractContextManager[None]:
    """Count a request that waits for so many locks; raise the `Problem` 429 if there are too many."""
    if not exchange.query.wait:
        return nullcontext()
    return taken(waited_for(exchange.gateway), exchange.principal.name, number)


async def put_lock(exchange: Exchange[LockQuery, Value]) -> Answer:
    """Ask for a lock, or renew it."""
    query = exchange.query
    keys = _keys(exchange)
    if query.token is None:
        exchange.gateway.limits.rate.spend(exchange.spender)
        _spend(exchange, keys)
        lease = new_lease(exchange, query.lease)
    else:
        lease = lease_of(exchange, query.lease)
    try:
        with leasing(), _waiting(exchange, len(keys)):
            granted = await lease.lock(keys, exchange.body.value, ttl=query.ttl, token=query.token, wait=query.wait)
    except NotGranted as refusal:
        return _refused(exchange, refusal)
    except HoldLost as error:
        raise Problem("lost", f"{query.key}: {error}") from None
    except CancelledError:
        if not exchange.gateway.stopping:
            raise
        raise Problem("stopping", "the gateway stops: ask again, and keep your place", applied="unknown") from None
    return Answer.of(_granted(exchange, granted))


def _granted(exchange: Exchange[Any, Any], granted: Granted) -> LockGranted:
    record = granted.record
    waited = floor(1000 * granted.waited) / 1000
    shown = record_of(exchange, record.key, record)
    return LockGranted(token=granted.token, ttl=granted.ttl, waited=waited, record=shown)


def _refused(exchange: Exchange[LockQuery, Value], refusal: NotGranted) -> Answer:
    """Answer that the lock is not the client's: an error, so that a shell goes no further."""
    query = exchange.query
    queued = bool(refusal.number) or bool(query.wait and query.slots)
    if isinstance(refusal, Recovering):
        text = "the server was restarted or has failed over: no lock is granted before its leases would have ended"
        raise Problem("recovering", text, queued=queued, place=refusal.number or None)
    if is_lenient(exchange):
        body = LockRefused(queued=queued, place=refusal.number or None)
        return Answer.of(body, headers={"Preference-Applied": "handling=lenient"})
    may_read = refusal.node and exchange.may("read", query.key)
    who = f"{refusal.node} has it" if may_read else "another has it"
    raise Problem("timed-out", who, queued=queued, place=refusal.number or None)


async def delete_lock(exchange: Exchange[UnlockQuery, None]) -> Answer:
    """Give a lock back, or leave its queue."""
    query, keys = exchange.query, _keys(exchange)
    _spend(exchange, keys)
    applied = await lease_of(exchange, query.lease).withdraw(keys)
    return withdrawn(exchange, query.key, applied)


_TEMPLATE: Final = "/v1/maps/{map}/lock"

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "PUT",
        _TEMPLATE,
        put_lock,
        LockQuery,
        Value,
        verb="lock",
        answer=LockGranted,
        problems=(*PROBLEMS, "timed-out", "lost", "recovering", "stopping"),
        call=True,
        free=True,
        long=True,
        summary="Ask for a lock, or renew it.",
    ),
    Route(
        "DELETE",
        _TEMPLATE,
        delete_lock,
        UnlockQuery,
        verb="lock",
        answer=Applied,
        problems=("corrupt-record", "unconfirmed"),
        call=True,
        free=True,
        summary="Give a lock back, or leave its queue.",
    ),
)
