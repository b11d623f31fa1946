"""Waits as long polls: each answer says from which revision the next one misses nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.client.polls import Goal, Poll, Standing, wake_of
from coord.clock import steady
from coord.core.names import check_keys
from coord.core.records import StoredRecord
from coord.errors import Error, Unreachable
from coord.link.link import CONNECTED
from coord.web.bodies import Keys, KeysBody, Record, RevisionText, Waited, shown
from coord.web.checks import require, revision_of
from coord.web.exchange import Answer, Exchange
from coord.web.gateway import Gateway
from coord.web.limits import Quota
from coord.web.preconditions import is_lenient
from coord.web.problems import Problem, problem_of
from coord.web.routes import Route
from coord.web.shared import taken

__all__ = ["ROUTES"]


class WaitOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to wait for, from which revision on, and for how many seconds."""

    for_: Annotated[
        Literal["all", "any", "gone"],
        Meta(description="A wake of all keys, or of any, or the end of the events of all."),
    ] = field(default="all", name="for")
    at_least: Annotated[int, Meta(ge=1, le=10**15, description="Wait for this count instead of a wake.")] | None = None
    since: Annotated[RevisionText, Meta(description="What came after this revision counts.")] | None = None
    wait: Annotated[float, Meta(ge=0, le=300, description="Seconds; 0 only looks.")] = 25.0


class WaitQuery(WaitOptions, kw_only=True, forbid_unknown_fields=True):
    """The same, and the keys."""

    key: Keys


async def wait(exchange: Exchange[WaitQuery, None]) -> Answer:
    """Wait for the keys in the query."""
    return await _wait(exchange, exchange.query.key)


async def wait_for_many(exchange: Exchange[WaitOptions, KeysBody]) -> Answer:
    """Wait for the keys in the body."""
    require(exchange, "read", exchange.body.keys)
    return await _wait(exchange, exchange.body.keys)


async def _wait(exchange: Exchange[Any, Any], keys: tuple[str, ...]) -> Answer:
    query: WaitOptions = exchange.query
    gateway = exchange.gateway
    poll = _poll(exchange, keys)
    if query.wait > gateway.config.limits.wait:
        raise Problem("invalid-parameter", f"wait: at most {gateway.config.limits.wait} s", parameter="wait")
    try:
        with taken(waited_for(gateway), exchange.principal.name, len(poll.keys)):
            found = await (poll.look() if query.wait == 0 else _polled(poll, gateway, query.wait))
    except CancelledError:
        if not gateway.stopping:
            raise
        raise _problem(Problem("stopping", "the gateway stops: wait again"), poll) from None
    except (Error, Problem) as error:
        raise _problem(problem_of(error), poll) from None
    if found is None:
        return _too_late(exchange, poll)
    events = [_event(exchange.map, key, stored, found, poll.goal) for key, stored in found.records.items()]
    return Answer.of(Waited(revision=str(found.revision), events=events))


def _poll(exchange: Exchange[Any, Any], keys: tuple[str, ...]) -> Poll:
    query: WaitOptions = exchange.query
    if query.for_ == "gone" and query.at_least is not None:
        raise Problem("invalid-parameter", "at_least: not with for=gone", parameter="at_least")
    goal = Goal.GONE if query.for_ == "gone" else Goal.WAKE if query.at_least is None else Goal.COUNT
    since = None if query.since is None else revision_of(query.since, "since")
    check_keys(keys)
    return Poll(exchange.events(), keys, goal, of_any=query.for_ == "any", since=since, least=query.at_least or 1)


async def _polled(poll: Poll, gateway: Gateway, seconds: float) -> Standing | None:
    """Return what was waited for; `None` if it did not come in time.

    :raises Unreachable: Redis is not reached, so nobody knows.
    """
    polling: Deferred[Standing | None] = Deferred.fromCoroutine(poll.run())
    found: Standing | None = await polling.addTimeout(
        seconds, steady(gateway.clock), onTimeoutCancel=_none_if_cancelled
    )
    if found is None and gateway.coordinator.link is not CONNECTED:
        raise Unreachable(f"{gateway.coordinator.server} is not reached ({gateway.coordinator.reason})")
    return found


def _none_if_cancelled(result: Any, _: float) -> Any:
    if isinstance(result, Failure):
        result.trap(CancelledError)
        return None
    return result


def _too_late(exchange: Exchange[Any, Any], poll: Poll) -> Answer:
    """Answer that nothing came in time."""
    if is_lenient(exchange):
        answer = Waited(revision=str(poll.revision), events=[])
        return Answer.of(answer, headers={"Preference-Applied": "handling=lenient"})
    seconds = exchange.query.wait
    when = f"within {seconds:g} s" if seconds else "now"
    raise _problem(Problem("timed-out", f"not {when}: wait again, since this revision"), poll)


def _problem(problem: Problem, poll: Poll) -> Problem:
    """Have a problem say where the next wait goes on, if that is known."""
    if poll.revision is not None:
        problem.members["revision"] = str(poll.revision)
    return problem


def _event(map_name: str, key: str, stored: StoredRecord | None, found: Standing, goal: Goal) -> Record:
    """Return what an answer says of a key: its last wake, or as what it stands."""
    wake = wake_of(stored) if stored is not None and goal is Goal.WAKE else stored
    event = shown(map_name, key, None if wake is None else wake.record(map_name, key, found.left.get(key)))
    if wake is not stored:
        event.time = event.node = None
        event.latched = False
        event.passed = event.latched_at = UNSET
    return event


def waited_for(gateway: Gateway) -> Quota:
    """Return what counts the keys that clients wait for, with the limits of the settings as they are now."""
    limits = gateway.config.limits
    return gateway.part(_waits).within(limits.waits, limits.waits_of_one)


def _waits(_: Gateway) -> Quota:
    return Quota("keys that are waited for", 0, 0)


_PROBLEMS = ("timed-out", "event-failed", "corrupt-record", "unreachable", "stopping", "too-many")

ROUTES = (
    Route(
        "GET",
        "/v1/maps/{map}/wait",
        wait,
        WaitQuery,
        verb="read",
        answer=Waited,
        problems=_PROBLEMS,
        long=True,
        summary="Wait for keys, and miss nothing between two waits.",
    ),
    Route(
        "POST",
        "/v1/maps/{map}/wait",
        wait_for_many,
        WaitOptions,
        KeysBody,
        verb="read",
        answer=Waited,
        problems=_PROBLEMS,
        long=True,
        summary="Wait for keys that do not fit in a URL.",
    ),
)
