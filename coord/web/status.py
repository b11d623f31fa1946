"""The state of things: maps, members, the server and this gateway."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import Struct

from coord import errors
from coord.clock import steady
from coord.core.names import MEMBERS
from coord.core.records import Kind
from coord.doctor import Askers, Facts, Finding, Level, cluster_facts_of, facts_of, judge, judge_cluster
from coord.link.link import CONNECTED
from coord.link.target import Target
from coord.web.bodies import RevisionText, Value
from coord.web.checks import refused
from coord.web.exchange import Answer, Exchange
from coord.web.gateway import Gateway
from coord.web.records import PageQuery, page_of
from coord.web.routes import NoQuery, Route
from coord.web.shared import Memo
from coord.web.waits import waited_for
from coord.web.watching import hub_of

__all__ = ["ROUTES"]


class Maps(Struct, kw_only=True):
    """The maps of which the token may read anything."""

    maps: list[str]


async def get_maps(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with the maps that there are, as of the last 30 s."""
    gateway, principal = exchange.gateway, exchange.principal
    if not principal.rights:
        raise refused(principal, "read")
    names = await gateway.part(_Names).get((), lambda: _names(gateway))
    return Answer.of(Maps(maps=[name for name in names if principal.may_some("read", name)]))


class _Names(Memo[tuple[str, ...]]):
    """The names of all maps: the server has to visit all its keys for them."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, 30.0)


async def _names(gateway: Gateway) -> tuple[str, ...]:
    if gateway.config.maps is not None:
        # Where the gateway's user may not SCAN.
        return tuple(sorted(gateway.config.maps))
    return await gateway.slow.maps()


class Member(Struct, kw_only=True):
    """A member. ``kind`` is ``fired`` if it is there, ``withdrawn`` if it left, and ``expired`` if it died.

    ``since`` is when that happened, in seconds since 1970.
    """

    name: str
    kind: Kind
    value: Value
    since: float


class Members(Struct, kw_only=True):
    """The members that are there, and for an hour those that left or died.

    Each page is sorted by name; the pages are in no order. A later page may repeat a name, and a page may be empty.
    ``revision`` is that of the first page. ``next`` asks for the next page, and is null on the last one.
    """

    revision: RevisionText
    members: list[Member]
    next: str | None


async def get_members(exchange: Exchange[PageQuery, None]) -> Answer:
    """Answer with a page of the members of the namespace that the principal may read."""
    principal = exchange.principal
    if not principal.may_some("read", MEMBERS):
        raise refused(principal, "read of the members")
    page = await page_of(exchange.gateway.slow.members, exchange.query)
    members = [
        Member(name=each.key, kind=each.kind, value=each.value, since=each.time)
        for each in sorted(page.records, key=attrgetter("key"))
        if principal.may("read", MEMBERS, each.key)
    ]
    return Answer.of(Members(revision=str(page.revision), members=members, next=page.next))


class Warned(Struct, kw_only=True):
    """What is wrong with the server, and the setting to change."""

    check: str
    text: str
    fix: str | None


class ServerStatus(Struct, kw_only=True):
    """The Redis server; what it does not report is null."""

    address: str
    role: str | None
    version: str | None
    persistence: str | None
    warnings: list[Warned]


class Status(Struct, kw_only=True):
    """The link to the server, the server, and this gateway: its streams, and the keys that its clients wait for."""

    link: str
    reason: str
    server: ServerStatus
    gateway: str
    namespace: str
    version: str
    streams: int
    waits: int


async def get_status(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with how things stand; the server is asked once a minute."""
    gateway, principal = exchange.gateway, exchange.principal
    if not principal.rights:
        raise refused(principal, "read")
    coordinator = gateway.coordinator
    status = Status(
        link=str(coordinator.link),
        reason=coordinator.reason,
        server=await _server(gateway),
        gateway=gateway.name,
        namespace=coordinator.namespace,
        version=version("coord"),
        streams=len(hub_of(gateway)),
        waits=waited_for(gateway).taken,
    )
    return Answer.of(status)


async def _server(gateway: Gateway) -> ServerStatus:
    """Return what the server says of itself, if it says anything now."""
    address = gateway.coordinator.server
    nothing = ServerStatus(address=address, role=None, version=None, persistence=None, warnings=[])
    if gateway.coordinator.link is not CONNECTED:
        return nothing
    try:
        examined = await gateway.part(_Examined).get((), lambda: _examine(gateway))
    except errors.Error as error:
        nothing.warnings.append(Warned(check="server", text=str(error), fix=None))
        return nothing
    return _told(address, examined)


class _Found(NamedTuple):
    """What a server, or a cluster's servers, said: the facts of one, the role, and what is judged of all."""

    facts: Facts
    role: str | None
    findings: Sequence[Finding]


async def _examine(gateway: Gateway) -> _Found:
    target = gateway.target
    if target is not None and target.cluster is not None:
        return await _examine_cluster(gateway, target)
    facts = await facts_of(gateway.coordinator)
    return _Found(facts, facts.role, judge(facts))


async def _examine_cluster(gateway: Gateway, target: Target) -> _Found:
    ask_at = Askers(target, steady(gateway.clock))

    async def ask(*words: str) -> object:
        return await ask_at.any_of(gateway.coordinator, *words)

    found = await cluster_facts_of(ask, ask_at)
    one = next(iter(found.facts.values()), Facts({}, {}, 0))
    return _Found(one, f"cluster of {len(found.primaries)} primaries", judge_cluster(found))


class _Examined(Memo[_Found]):
    """What the server has said of itself."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, 60.0)


def _told(address: str, found: _Found) -> ServerStatus:
    findings = found.findings
    warnings = [
        Warned(check=each.check, text=each.text, fix=each.fix) for each in findings if each.level is Level.WARNING
    ]
    return ServerStatus(
        address=address,
        role=found.role,
        version=" ".join(found.facts.program) if "redis_version" in found.facts.info else None,
        persistence=next((each.text for each in findings if each.check == "persistence"), None),
        warnings=warnings,
    )


ROUTES: tuple[Route[Any, Any], ...] = (
    Route("GET", "/v1/maps", get_maps, answer=Maps, summary="The maps that there are."),
    Route(
        "GET",
        "/v1/members",
        get_members,
        PageQuery,
        answer=Members,
        problems=("listing-lost",),
        summary="The members, and who left or died, in pages.",
    ),
    Route("GET", "/v1/status", get_status, answer=Status, summary="How the server and this gateway are."),
)
