"""The promises of locks: L5 to L9."""

from __future__ import annotations

from simulation.evidence import Evidence, Found, noted
from simulation.history import Change, Held, Moment, NodeLife, Request
from simulation.to_holders import away_of, renewals, steps_ahead

__all__ = ["answers", "l5_one_at_a_time", "l6_the_owner_goes_on", "l7_through_a_split", "l8_tokens_rise", "l9_in_order"]

_ERRORS = ("", "TimedOut", "Unreachable", "Unconfirmed", "Closed", "AccessDenied", "ServerRefused", "CancelledError")


def _named(request: Request) -> str:
    return f"request {request.serial} of {request.life.name}/{request.life.number} for {'/'.join(request.where)}"


def answers(evidence: Evidence) -> Found:
    """Each request ends, and as its caller was told that it would."""
    for request in evidence.history.locks.values():
        if request.life.crashed is not None:
            continue
        if request.error not in _ERRORS:
            yield f"{_named(request)}: ended with {request.error}"
        if request.error == "TimedOut" and request.timeout is None:
            yield f"{_named(request)}: timed out, and had no time"
        if request.error == "CancelledError" and not request.cancelled:
            yield f"{_named(request)}: cancelled, and nobody did"
        if request.over is None:
            yield f"{_named(request)}: never ended"
    yield from _untold(evidence)


def _untold(evidence: Evidence) -> Found:
    """An owner that was asked to release its lock hears of it, if the server keeps its data meanwhile."""
    for eviction in evidence.history.evictions:
        owner = evidence.history.locks.get(eviction.owner or 0)
        if eviction.answered is None or owner is None or owner.granted is None:
            continue
        until = evidence.soon(owner.life, eviction.answered) + 2 * evidence.setup.heartbeat + 6 * evidence.setup.slowest
        # An eviction that nobody has noticed is undone by a restart: also if the owner has not come back from it.
        since = eviction.asked[1] - evidence.delay(owner.life)
        kept = not any(since < fault.moment[1] <= until for fault in evidence.history.faults)
        ends = owner.over or owner.life.crashed
        if kept and until < evidence.rest[1] and (ends is None or ends[1] > until) and not owner.life.frozen:
            yield f"{_named(owner)}: evicted at {eviction.answered[1]:g}, and not told by {until:g}"


# L5.


def l5_one_at_a_time(evidence: Evidence) -> Found:
    """No two are valid at once; and what is not valid any more stays so."""
    yield from noted(evidence, "L5")
    yield from _overlaps(evidence, in_split=False)


def l7_through_a_split(evidence: Evidence) -> Found:
    """No two are valid at once, also while a primary is cut off, if it stops taking writes in time."""
    if evidence.setup.careful:
        yield from _overlaps(evidence, in_split=True)


def _overlaps(evidence: Evidence, *, in_split: bool) -> Found:
    for overlap in evidence.history.overlaps:
        since = overlap.first.granted or overlap.first.made
        if _in_split(evidence, overlap.moment) is not in_split or _excused(evidence, since, overlap.moment):
            continue
        # A map that was made in the lost second, or on the side that is lost.
        if not in_split or overlap.first.where[0] not in evidence.history.unclocked:
            yield f"{_named(overlap.first)} and {_named(overlap.second)} are both valid at {overlap.moment[1]:g}"


def _in_split(evidence: Evidence, moment: Moment) -> bool:
    """Whether a lock may have been granted on the other side of a split."""
    setup = evidence.setup
    return evidence.split_at(moment, 2 * (setup.lease + setup.grace) + setup.slowest)


def _excused(evidence: Evidence, since: Moment, moment: Moment) -> bool:
    """Whether a limit is passed: a flush, or a server's clock that was set far ahead.

    The answer to who was granted a lock ``since`` then may have been under way at the flush.
    """
    setup = evidence.setup
    life = setup.lease + setup.grace
    if any(since[1] - setup.slowest <= flushed[1] and flushed <= moment for flushed in evidence.history.flushes):
        return True
    begin = moment[0], moment[1] - 2 * life
    return any(sum(steps_ahead(server, begin, moment, evidence)) > setup.grace for server in evidence.books)


# L3, L6.


def l6_the_owner_goes_on(evidence: Evidence) -> Found:
    """Who reaches the server in time loses no lock: neither while all is well, nor over a restart or a failover."""
    for request in evidence.history.locks.values():
        lost = request.lost
        if lost is None or lost > evidence.rest or _may_lose(request, lost, evidence):
            continue
        moment = _late_renewal(request.life, lost, evidence)
        if moment is not None:
            yield f"{_named(request)}: lost at {lost[1]:g}, and its node reached the server at {moment[1]:g}"


def _may_lose(request: Request, lost: Moment, evidence: Evidence) -> bool:
    since = request.granted or request.made
    evicted = any(
        each.asked < lost and each.where == request.where and (each.answered is None or each.answered > request.made)
        for each in evidence.history.evictions
    )
    begin = lost[1] - evidence.setup.lease - evidence.setup.grace
    troubles = any(
        trouble.begin < lost and (trouble.end is None or trouble.end[1] > begin)
        for trouble in evidence.history.troubles
    )
    # Of two owners on the sides of a split, one loses it when that is over.
    shared = any(
        request in (overlap.first, overlap.second) and _in_split(evidence, overlap.moment)
        for overlap in evidence.history.overlaps
    )
    return evicted or troubles or shared or bool(request.life.frozen) or _excused(evidence, since, lost)


def _late_renewal(life: NodeLife, lost: Moment, evidence: Evidence) -> Moment | None:
    """Return when a node reached a server within T before a loss, with the time to say what it owns."""
    setup = evidence.setup
    # A renewal that finds a recovery, one under the next lease, and the call: each there and back, perhaps twice.
    says = 12 * setup.slowest + 0.2
    for server in evidence.books:
        for moment in renewals(life, server.number, lost, evidence):
            early = lost[1] - setup.lease + 2 * setup.slowest + 0.1
            # What lets nothing through is noticed within two heartbeats.
            quiet = not any(
                moment[1] - ("stall" in fault.verb) * 2 * setup.heartbeat <= fault.moment[1] <= moment[1] + says
                for fault in evidence.history.faults
            )
            if early < moment[1] < lost[1] - says and quiet and away_of(life, moment, lost[1]) == 0:
                return moment
    return None


# L8.


def l8_tokens_rise(evidence: Evidence) -> Found:
    """Each grant that somebody was told of has a higher token than those before it; and so has each on a server."""
    yield from noted(evidence, "L8")
    if evidence.history.flushes:
        return
    granted = sorted(
        (request for request in evidence.history.locks.values() if request.granted),
        key=lambda each: each.granted or (0, 0.0),
    )
    highest: dict[tuple[str, str], Request] = {}
    for request in granted:
        before = highest.get(request.where)
        if before is not None and before.lock.token >= request.lock.token and not evidence.history.splits:
            yield f"{_named(request)}: its token is {request.lock.token}, after {before.lock.token} of {_named(before)}"
        highest[request.where] = request
    if evidence.history.splits and not evidence.setup.careful:
        # Who owned it on the other side comes back with its token, which a resource refuses.
        return
    for server in evidence.books:
        for lineage in (*server.ended, server.lineage):
            for lines in lineage.values():
                yield from _rising(lines)


def _rising(lines: list[Change]) -> Found:
    highest: dict[tuple[str, str], str] = {}
    for change in [change for change in lines if change.token]:
        assert change.token is not None
        if change.token < highest.get(change.where, ""):
            yield f"{change.where} has the token {change.token} at {change.revision}, after {highest[change.where]}"
        highest[change.where] = change.token


# L9.


def l9_in_order(evidence: Evidence) -> Found:
    """A grant passes nobody by whose node lives; and everybody gets one in the end."""
    yield from noted(evidence, "L9")
    setup = evidence.setup
    for change in evidence.history.changes:
        request = evidence.history.locks.get(change.serial or 0)
        if request is None or not change.latched or change.moment > evidence.rest:
            continue
        begin = change.moment[1] - 2 * (setup.lease + setup.grace)
        disturbed = any(begin < copy[1] and copy < change.moment for copy in evidence.history.copies) or any(
            trouble.begin < change.moment and (trouble.end or evidence.rest)[1] > begin
            for trouble in evidence.history.troubles
        )
        own = _place(change, request.serial, evidence)
        if own is None or disturbed or _in_split(evidence, change.moment):
            continue
        if _excused(evidence, own.begin, change.moment):
            continue
        for other in evidence.history.queued:
            if _passed_by(other, own, change, evidence):
                yield f"{_named(request)}: granted at {change.moment[1]:g} before {other.serial}, which came earlier"


def _place(change: Change, serial: int, evidence: Evidence) -> Held | None:
    """Return the place in the queue of the owner of a change."""
    places = [
        held
        for held in evidence.history.queued
        if held.server == change.server and held.serial == serial and (held.end is None or held.end > change.moment)
    ]
    return places[0] if places else None


def _passed_by(other: Held, own: Held, change: Change, evidence: Evidence) -> bool:
    if other.where != change.where or other.server != change.server or other.begin >= own.begin or other.copied:
        return False
    # Whoever released it goes in the same step.
    if other.end is not None and other.end[1] <= change.moment[1]:
        return False
    life = evidence.history.locks[other.serial].life
    since = change.moment[1] - evidence.setup.lease
    # It renewed its lease within T, so that it lives; and its place is as old as that.
    return any(
        server == change.server and since < moment[1] and moment < change.moment
        and moment[1] + 4 * evidence.setup.slowest + 0.1 < change.moment[1]
        for moment, server in life.reached
    )  # fmt: skip
