"""Leases that clients renew: each client makes the name of its own, and any gateway serves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from coord.client.leases import MAX_TTL, MIN_TTL, ClientLease, LeaseOver, OtherTimes, UnderLease
from coord.core.names import MEMBERS
from coord.core.records import Applied as AppliedCall
from coord.web.bodies import Applied, Key
from coord.web.checks import record_of, refused
from coord.web.exchange import Answer, Exchange
from coord.web.gateway import Gateway
from coord.web.problems import Problem
from coord.web.routes import NoQuery, Route

__all__ = ["PROBLEMS", "ROUTES", "Lease", "LeaseQuery", "Ttl", "lease_of", "leasing", "new_lease", "withdrawn"]

Lease: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_-]{16,64}$",
        description="The client's own name for its lease: a UUID, a new one for each process.",
    ),
]
Ttl: TypeAlias = Annotated[
    float,
    Meta(ge=MIN_TTL, le=MAX_TTL, description="Seconds for which the lease is certain; without it, those of the map."),
]


class LeaseQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which key, and whose."""

    key: Key
    lease: Lease


PROBLEMS: Final = ("in-use", "other-ttl", "lease-ended", "corrupt-record", "unconfirmed", "too-many")
"""Those of the routes that make a lease."""

_ENDED: Final = "the lease has ended, or was never made: ask again for what you want, under a lease of a new name"


def lease_of(exchange: Exchange[Any, Any], name: str, map_name: str = "", node: str = "") -> ClientLease:
    """Return a lease of the principal, in the map in the path by default."""
    caller, gateway = exchange.principal.name, exchange.gateway
    return ClientLease(gateway.coordinator, map_name or exchange.map, caller, name, node or f"{gateway.name}.{caller}")


def new_lease(exchange: Exchange[Any, Any], name: str, map_name: str = "", node: str = "") -> ClientLease:
    """Return the same for a request that may make the lease; raise the `Problem` 429 if it may not."""
    lease = lease_of(exchange, name, map_name, node)
    exchange.gateway.part(_Seen).note(exchange.spender, (map_name or exchange.map, name))
    return lease


@contextmanager
def leasing() -> Iterator[None]:
    """Raise as problems what leases raise."""
    try:
        yield
    except LeaseOver:
        raise Problem("lease-ended", _ENDED) from None
    except OtherTimes as error:
        raise Problem("other-ttl", str(error), ttl=error.lease) from None


def withdrawn(exchange: Exchange[Any, Any], key: str, applied: AppliedCall | None, map_name: str = "") -> Answer:
    """Answer that a lease holds a key no longer; ``applied`` is `None` if it held none."""
    first, record = (applied.first, applied.record) if applied is not None else (False, None)
    key = key if record is None else record.key
    return Answer.of(Applied(first=first, record=record_of(exchange, key, record, map_name)))


class _Seen:
    """The leases that this gateway has seen lately: a limit for those of one principal."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._of: dict[str, dict[tuple[str, str], float]] = {}

    def note(self, spender: str, lease: tuple[str, str]) -> None:
        """Note that a lease may be made; raise the `Problem` 429 if its principal has too many."""
        now, most = self._gateway.clock.seconds(), self._gateway.config.limits.leases_of_one
        self._forget(now - 2 * MAX_TTL)
        leases = self._of[spender] = self._of.pop(spender, {})
        # In the order in which they were noted.
        while leases and (oldest := next(iter(leases))) and leases[oldest] < now - 2 * MAX_TTL:
            del leases[oldest]
        if lease not in leases and len(leases) >= most:
            raise Problem("too-many", f"leases: at most {most} of one at once")
        leases.pop(lease, None)
        leases[lease] = now

    def _forget(self, old: float) -> None:
        """Forget who has made none for long: whoever shows no token is told apart by address, and there are many."""
        # In the order in which they made their last ones.
        while self._of:
            spender, leases = next(iter(self._of.items()))
            if next(reversed(leases.values())) >= old:
                return
            del self._of[spender]

    def forget(self, spender: str, lease: tuple[str, str]) -> None:
        """Count a lease no more: it was given up."""
        leases = self._of.get(spender, {})
        leases.pop(lease, None)
        if not leases:
            self._of.pop(spender, None)


# What a lease holds.


class LeaseHold(Struct, kw_only=True):
    """What a lease holds of a key, in which place in the order of those who do.

    The ``owner`` of a lock has it, under the ``token``; who is no owner is in its queue. The owner of an event is who
    its record names. ``lost``: somebody has evicted the owner of a lock, who must give it back.
    """

    key: str
    rule: Literal["hold", "lock"]
    owner: bool
    place: int
    token: str | UnsetType = UNSET
    lost: bool | UnsetType = UNSET


class Holding(Struct, kw_only=True):
    """What a lease holds in a map."""

    holds: list[LeaseHold]


class Renewed(Holding, kw_only=True):
    """A lease is certain for ``ttl`` seconds from when its renewal was sent."""

    ttl: float


class Withdrawn(Struct, kw_only=True):
    """How much a lease held, and holds no more."""

    withdrawn: int


def _shown(holds: list[UnderLease]) -> list[LeaseHold]:
    return [
        LeaseHold(
            key=each.key,
            rule="lock" if each.lock else "hold",
            owner=each.owner,
            place=each.number,
            token=each.token or UNSET,
            lost=each.lost or UNSET,
        )
        for each in holds
    ]


class RenewQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """For how long."""

    ttl: Ttl | None = None


async def put_lease(exchange: Exchange[RenewQuery, None]) -> Answer:
    """Renew all that a lease holds in the map; if it has ended, say what it held."""
    lease = _lease(exchange)
    try:
        with leasing():
            renewed = await lease.renew(exchange.query.ttl)
    except Problem as problem:
        if problem.name == "lease-ended":
            problem.members["holds"] = _shown(await lease.holds())
        raise
    return Answer.of(Renewed(ttl=renewed.ttl, holds=_shown(renewed.holds)))


async def get_lease(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with what a lease holds."""
    return Answer.of(Holding(holds=_shown(await _lease(exchange).holds())))


async def delete_lease(exchange: Exchange[NoQuery, None]) -> Answer:
    """Withdraw all that a lease holds."""
    withdrawn = await _lease(exchange).withdraw_all()
    exchange.gateway.part(_Seen).forget(exchange.spender, (exchange.map, exchange.path["lease"]))
    return Answer.of(Withdrawn(withdrawn=withdrawn))


def _lease(exchange: Exchange[Any, Any]) -> ClientLease:
    """Return the lease in the path, for who may have made it."""
    verbs = ("join",) if exchange.map == MEMBERS else ("hold", "lock")
    if not any(exchange.principal.may_some(verb, exchange.map) for verb in verbs):
        raise refused(exchange.principal, " and ".join(verbs))
    return lease_of(exchange, exchange.path["lease"])


_TEMPLATE: Final = "/v1/maps/{map}/leases/{lease}"

ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "PUT",
        _TEMPLATE,
        put_lease,
        RenewQuery,
        answer=Renewed,
        problems=("lease-ended", "other-ttl", "unconfirmed"),
        call=True,
        free=True,
        summary="Renew all that a lease holds in the map.",
    ),
    Route(
        "GET",
        _TEMPLATE,
        get_lease,
        answer=Holding,
        summary="What a lease holds in the map.",
    ),
    Route(
        "DELETE",
        _TEMPLATE,
        delete_lease,
        answer=Withdrawn,
        problems=("unconfirmed",),
        call=True,
        free=True,
        summary="Withdraw all that a lease holds in the map.",
    ),
)
