"""The promises to a caller: F1 to F4."""

from __future__ import annotations

from collections.abc import Iterator

from coord.core.records import Kind, Revision
from simulation.evidence import DENIED, ENDED, FULL, LATCHED, Evidence, Found, frozen, is_event, named
from simulation.history import Call, Change, Key, Moment, NodeLife
from simulation.steps import UNMENDED

__all__ = ["f1_acknowledged", "f2_applied_once", "f3_the_one_doubt", "f4_replicas"]


def f1_acknowledged(evidence: Evidence) -> Found:
    """Answered only after it was applied, with what was applied; calls of one node on one map in their order."""
    for call in evidence.history.calls.values():
        if call.answered is None or not call.first or call.kind is Kind.EXPIRED:
            continue
        assert call.record is not None
        changes = evidence.by_revision.get((call.where[0], call.record.revision), [])
        if not any(change.moment < call.answered and change.where == call.where for change in changes):
            yield f"{named(call)}: answered, and not applied"
        elif not any(_is_of(change, call, evidence) for change in changes):
            yield f"{named(call)}: answered with another's change {call.record.revision}"
    for lines in evidence.lineages:
        for life, mine in _by_life(lines, evidence):
            calls = [call for call in evidence.history.calls.values() if call.life is life]
            yield from _placed(mine, [call for call in calls if call.where[0] == mine[0].where[0]], lines)


def _is_of(change: Change, call: Call, evidence: Evidence) -> bool:
    if call.kind in (Kind.RESET, Kind.PULSED) and evidence.hold_of(change) is not None:
        # Who held the key behind the event has taken over.
        return id(change) in evidence.first_of or change.displaces
    return change.kind is call.kind and (call.kind is Kind.RESET or change.serial == call.serial)


def _by_life(lines: list[Change], evidence: Evidence) -> Iterator[tuple[NodeLife, list[Change]]]:
    for life in evidence.history.lives:
        mine = [
            change
            for change in lines
            if change.node == f"{life.name}-{life.number}"
            and change.kind not in (Kind.EXPIRED, Kind.WITHDRAWN)
            and is_event(change.where)
            and evidence.hold_of(change) is None
        ]
        if mine:
            yield life, mine


_NOT_APPLIED = ("Unreachable", "Closed", "ServerRefused", "AccessDenied")


def _placed(mine: list[Change], calls: list[Call], lines: list[Change]) -> Found:
    """Give every change of a node the call that made it, in order, none twice."""
    revisions = {change.revision for change in lines}
    at = 0
    for change in mine:
        places = [index for index, call in enumerate(calls) if _may_have_made(call, change, revisions)]
        fitting = [index for index in places if index >= at]
        if not fitting:
            why = "made twice, or out of order" if places else "made by no call"
            yield f"the change {change.revision} ({change.kind} of {change.where}, {change.serial}): {why}"
            return
        at = fitting[0] + 1


def _may_have_made(call: Call, change: Change, revisions: set[Revision]) -> bool:
    if call.where != change.where or call.kind is not change.kind or call.error in _NOT_APPLIED:
        return False
    if change.kind is not Kind.RESET:
        return call.serial == change.serial
    told = call.record.revision if call.first and call.record else None
    return change.moment > call.made and (told is None or told not in revisions or told == change.revision)


def f2_applied_once(evidence: Evidence) -> Found:
    """Applied once, by the table of docs/semantics.md, "What happens to a key"; ``first`` is true only once.

    F1 sees that no reset is applied twice. An event whose end has passed does not stand in the way of another.
    """
    for lines in evidence.lineages:
        seen: set[int] = set()
        stands: dict[Key, Change] = {}
        for change in [change for change in lines if is_event(change.where)]:
            before = stands.get(change.where)
            latched = before is not None and before.kind in LATCHED
            holds = evidence.hold_of(change) is not None
            if change.kind in LATCHED and latched and not change.displaces and not holds:
                yield f"{change.kind} {change.revision} of a latched key"
            if change.kind in ENDED and not latched:
                yield f"{change.kind} {change.revision} of a pending key"
            if change.kind is not Kind.RESET and change.serial is not None and not holds:
                if change.serial in seen:
                    yield f"call {change.serial} was applied twice"
                seen.add(change.serial)
            stands[change.where] = change
    kept = {
        change.serial: change for lines in evidence.kept.values() for change in lines if change.kind is not Kind.RESET
    }
    for call in evidence.history.calls.values():
        made = kept.get(call.serial) if call.first is False and call.kind is not Kind.RESET else None
        if made is not None and not _by_a_lost_copy(call, made, evidence):
            yield f"{named(call)}: answered as not the first, and it was"
        if call.first and call.wanted is not None:
            yield from _took_back(call, evidence)


def _by_a_lost_copy(call: Call, made: Change, evidence: Evidence) -> bool:
    """Whether a change may be the work of a copy that was under way on a lost link while the data were flushed.

    The call was answered on the next link, truthfully. The server has forgotten that with all the rest, and F2 has it
    apply a number that it knows nothing of. Only a flush leaves the lost link's connection open at the server's end.
    """
    assert call.answered is not None
    lost = any(state == "suspended" and call.made < moment < call.answered for moment, state, _ in call.life.links)
    return lost and any(
        fault.verb == "data flushed" and call.answered < fault.moment < made.moment for fault in evidence.history.faults
    )


def _took_back(call: Call, evidence: Evidence) -> Found:
    assert call.record is not None
    for lines in evidence.lineages:
        before: Change | None = None
        for change in lines:
            if change.where != call.where:
                continue
            if change.revision == call.record.revision and (before is None or before.revision != call.wanted):
                yield f"{named(call)}: took back {before and before.revision} where it should {call.wanted}"
            before = change


def f3_the_one_doubt(evidence: Evidence) -> Found:
    """Only `Unconfirmed` leaves a doubt, and only where it was sent; every answer comes by the deadline."""
    for call in evidence.history.calls.values():
        life = call.life
        if call.error in _NOT_APPLIED and call.kind is not Kind.RESET and evidence.by_serial.get(call.serial):
            yield f"{named(call)}: ended with {call.error}, and was applied"
        if call.answered is not None:
            yield from _refused(call, call.answered, evidence)
        if call.error not in ("", "Unconfirmed", "NotReplicated", "CancelledError", *_NOT_APPLIED):
            yield f"{named(call)}: ended with {call.error}"
        if call.error == "Unconfirmed" and not _was_linked(call):
            yield f"{named(call)}: Unconfirmed, though it can't have been sent"
        if call.answered is not None:
            if call.answered[1] > call.made[1] + call.timeout + frozen(life) + 1e-6:
                yield f"{named(call)}: answered {call.answered[1] - call.made[1]:g} s after it was made"
        elif life.crashed is None:
            yield f"{named(call)}: never answered"
        soon = evidence.soon(life, call.made) + call.within
        late = call.answered is None or call.answered[1] > soon
        if late and evidence.lasted(life, call.made, soon) and not _behind_replicas(call, evidence):
            yield f"{named(call)}: not answered soon, though the link lasted"


def _behind_replicas(call: Call, evidence: Evidence) -> bool:
    """Whether a call waits for replicas, or behind one that does."""
    return "held up" in UNMENDED and any(
        other.replicas and other.life is call.life and other.where[0] == call.where[0] and other.made <= call.made
        for other in evidence.history.calls.values()
    )


def _refused(call: Call, answered: Moment, evidence: Evidence) -> Found:
    """A refusal is an answer only where somebody has to do something: what passes is waited for."""
    if call.error == "ServerRefused" and not evidence.in_trouble(FULL, call.made, answered):
        yield f"{named(call)}: refused by a server that lacks nothing"
    if call.error == "AccessDenied" and not evidence.in_trouble(DENIED, call.life.born, answered):
        yield f"{named(call)}: denied by a server that lets it in"


def f4_replicas(evidence: Evidence) -> Found:
    """Acknowledged once a replica has it; what is not, was applied all the same (that is F1's to see)."""
    for call in evidence.history.calls.values():
        if call.error == "NotReplicated" and not call.replicas:
            yield f"{named(call)}: NotReplicated, and it wanted no replica"
        if call.replicas and call.answered is not None and not call.error:
            yield from _unacknowledged(call, call.answered, evidence)
            had: dict[int, int] = {}
            for moment, server, number in evidence.history.replicas:
                if moment < call.answered:
                    had[server] = number if moment < call.made else max(number, had.get(server, 0))
            if not any(had.values()):
                yield f"{named(call)}: acknowledged, and there was no replica"


def _unacknowledged(call: Call, answered: Moment, evidence: Evidence) -> Found:
    """The replicas had its change when it was acknowledged, by the server that made it, on a link that lasted."""
    if call.record is None:
        return
    for change in evidence.by_revision.get((call.where[0], call.record.revision), ()):
        reached = max(
            (
                place
                for moment, process, place in evidence.history.acknowledged
                if moment < answered and process == change.process
            ),
            default=0,
        )
        here = call.first and evidence.lasted(call.life, change.moment, answered[1])
        if here and reached < change.written:
            yield f"{named(call)}: acknowledged, and no replica had it"


def _was_linked(call: Call) -> bool:
    assert call.answered is not None
    links = call.life.links
    for index, (begin, state, _) in enumerate(links):
        end = links[index + 1][0] if index + 1 < len(links) else call.answered
        if state == "connected" and begin < call.answered and end >= call.made:
            return True
    return False
