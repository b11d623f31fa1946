"""Acknowledgements: to say that a change is handled, and who has said so."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from coord.client.acting import ActingMap
from coord.client.looks import acks_of, is_change_of
from coord.core.acks import Acks
from coord.core.names import MEMBERS, check_name
from coord.core.records import Revision
from coord.errors import InvalidInput
from coord.web import bodies
from coord.web.bodies import Acked, Acknowledged, Key, RevisionText
from coord.web.checks import refused, revision_of
from coord.web.exchange import Answer, Exchange
from coord.web.leases import Lease, lease_of
from coord.web.problems import Problem
from coord.web.routes import Route

__all__ = ["ROUTES", "By", "acked_body", "by_of", "may_name"]

By = tuple[str, ...] | int | str


def by_of(text: str, parameter: str) -> By:
    """Return who has to acknowledge; raise the `Problem` 400 that names the parameter."""
    try:
        if text == "members":
            return MEMBERS
        if text.isdecimal() and text.isascii():
            if not 1 <= len(text) <= 7 or not 1 <= int(text) <= 1_000_000:
                raise InvalidInput("a number from 1 to 1000000")
            return int(text)
        return tuple(check_name("node", name) for name in text.split(","))
    except InvalidInput as error:
        raise Problem("invalid-parameter", f"{parameter}: {error}", parameter=parameter) from None


def may_name(exchange: Exchange[Any, Any], by: By) -> bool:
    """Whether an answer may say who has acknowledged a change of the key in the query, and who is missing."""
    names_members = isinstance(by, str)
    if names_members and not exchange.principal.may_all("read", MEMBERS):
        return False
    return exchange.may("read", exchange.query.key)


def acked_body(acks: Acks) -> Acked:
    """Return who has acknowledged, for an answer."""
    return Acked(names=[*acks.names], missing=[*acks.missing], left=[*acks.left])


class AckQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which change, of which key."""

    key: Key
    revision: RevisionText


Member: TypeAlias = Annotated[
    str,
    Meta(
        description="The member that acknowledges, which has joined under the lease; by default the token's name.",
        extra_json_schema={"pattern": "^[A-Za-z0-9._-]{1,128}$", "format": "coord-name"},
    ),
]


class AcknowledgeQuery(AckQuery, kw_only=True, forbid_unknown_fields=True):
    """Which change, and for which member: a name without a member counts with its first acknowledgement."""

    member: Member | None = None
    lease: Lease | None = None


async def _change(exchange: Exchange[Any, Any], verb: str) -> Revision:
    """Return the revision in the query; raise the `Problem` 400 if it is not known as one of the key.

    Who may do this to each key of the map may name any revision of it.
    """
    key, revision = exchange.query.key, revision_of(exchange.query.revision, "revision")
    if not exchange.principal.may_all(verb, exchange.map) and not await is_change_of(exchange.events(), revision, key):
        detail = "revision: the history has no change of this key with it"
        raise Problem("invalid-parameter", detail, parameter="revision")
    return revision


async def ack(exchange: Exchange[AcknowledgeQuery, None]) -> Answer:
    """Acknowledge a change under the principal's name, which is the same at each gateway, or as a member."""
    query = exchange.query
    name = query.member or exchange.principal.name
    if query.member is not None and not exchange.may("join", name, MEMBERS):
        raise refused(exchange.principal, "acknowledge as this member")
    revision = await _change(exchange, "ack")
    process = "web" if query.lease is None else lease_of(exchange, query.lease, MEMBERS).incarnation
    await ActingMap(exchange.events(), exchange.principal.name).acknowledge(revision, name, process)
    return Answer.of(Acknowledged(name=name, revision=str(revision)))


class AcksQuery(AckQuery, kw_only=True, forbid_unknown_fields=True):
    """Whose acknowledgements of which change."""

    by: bodies.By = "1"


async def get_acks(exchange: Exchange[AcksQuery, None]) -> Answer:
    """Answer with who has acknowledged a change so far."""
    query = exchange.query
    by = by_of(query.by, "by")
    if not may_name(exchange, by):
        raise refused(exchange.principal, "read of the members")
    revision = await _change(exchange, "read")
    return Answer.of(acked_body(await acks_of(exchange.events(), revision, by)))


ROUTES: tuple[Route[Any, Any], ...] = (
    Route(
        "POST",
        "/v1/maps/{map}/ack",
        ack,
        AcknowledgeQuery,
        verb="ack",
        answer=Acknowledged,
        problems=("unconfirmed",),
        call=True,
        summary="Acknowledge a change that you have handled.",
    ),
    Route(
        "GET",
        "/v1/maps/{map}/acks",
        get_acks,
        AcksQuery,
        verb="read",
        answer=Acked,
        summary="Who has acknowledged a change so far.",
    ),
)
