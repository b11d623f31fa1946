"""The promise of counters: L12."""

from __future__ import annotations

from collections.abc import Iterator

from coord.core.records import Kind, Record, Revision
from simulation.evidence import Evidence, Found, frozen, is_counter, left_at_rest, named, shown, waiting_at
from simulation.history import Call, Change, Wait
from simulation.to_waiters import denied, in_reach

__all__ = ["l12_counted"]

_NOT_APPLIED = ("Unreachable", "Closed", "ServerRefused", "AccessDenied", "WrongKind", "OtherGoal")
_KNOWN = ("", "Unconfirmed", "CancelledError", *_NOT_APPLIED)

Life = list[Change]
"""The changes of one counter, from its first count to the last before it is reset."""


def l12_counted(evidence: Evidence) -> Found:
    """Each acknowledged count is in the count once; the goal fires in the step that reaches it; `reaches` resolves."""
    if not evidence.setup.counters:
        return
    for lines in evidence.lineages:
        for where in {change.where for change in lines if is_counter(change.where)}:
            changes = [change for change in lines if change.where == where]
            yield from _by_the_table(changes)
            for life in _lives(changes):
                yield from _summed(life, changes, evidence)
    for call in evidence.history.counts.values():
        yield from _answered(call, evidence)
    for wait in evidence.history.reaching:
        yield from _reached(wait, evidence)


def _words(change: Change | None) -> str:
    return "nothing" if change is None else f"{change.kind} {change.revision} ({change.count} of {change.goal})"


def _by_the_table(changes: list[Change]) -> Found:
    """Each change follows the one before it as docs/semantics.md has it."""
    before: Change | None = None
    for change in changes:
        stands = before if before is not None and before.count is not None else None
        if change.count is None:
            if change.kind is Kind.RESET and (before is None or not (before.latched or stands)):
                yield f"{_words(change)} of a pending key"
            if change.kind is not Kind.RESET and stands is not None:
                yield f"{_words(change)} of a counter that stood at {_words(stands)}"
        else:
            yield from _of_a_count(change, stands, before)
        before = change


def _of_a_count(change: Change, stands: Change | None, before: Change | None) -> Found:
    assert change.count is not None
    if stands is None and before is not None and before.latched:
        yield f"{_words(change)}: counted on an event"
    if change.count <= (stands.count or 0 if stands else 0):
        yield f"{_words(change)}: not more than {_words(stands)}"
    if stands is not None and stands.goal not in (None, change.goal):
        yield f"{_words(change)}: another goal than {_words(stands)}"
    if change.latched != (change.goal is not None and change.count >= change.goal):
        yield f"{_words(change)}: fired below its goal, or not fired at it"
    since = stands.latched_at if stands is not None and stands.latched else change.revision
    if change.latched and change.latched_at != since:
        yield f"{_words(change)}: latched at {change.latched_at} where it should {since}"


def _lives(changes: list[Change]) -> Iterator[Life]:
    life: Life = []
    for change in changes:
        if change.count is not None:
            life.append(change)
        elif life:
            yield life
            life = []
    if life:
        yield life


def _summed(life: Life, changes: list[Change], evidence: Evidence) -> Found:
    """What the acknowledged counts were told lies side by side in the count; what is between may be of others."""
    revisions, elsewhere = {change.revision for change in life}, {change.revision for change in changes}
    # What a server applied whose data was lost may have been refused by the next one, under the same number.
    lost = life[-1] not in evidence.kept[life[-1].where[0]]
    counts = [call for call in evidence.history.counts.values() if _may_count(call, life, lost=lost)]
    mine = [call for call in counts if call.first and call.record is not None and call.record.revision in revisions]
    total, end = life[-1].count or 0, 0
    for call in sorted(mine, key=lambda call: call.count):
        if call.count - call.n < end:
            yield f"{named(call)}: told {call.count}, of which {call.n} are its own, and others had that"
        end = call.count
    if end > total:
        yield f"told {end}, and {_words(life[-1])} was the last"
    doubtful = [call for call in counts if call not in mine and not _is_of(call, elsewhere)]
    if total > sum(call.n for call in (*mine, *doubtful)):
        yield f"{_words(life[-1])}, which is more than was counted"
    yield from _names(mine, doubtful, life, evidence)


def _may_count(call: Call, life: Life, *, lost: bool) -> bool:
    applied = lost or (call.error not in _NOT_APPLIED and call.first is not False)
    return applied and call.kind is Kind.COUNTED and call.where == life[0].where and call.made < life[-1].moment


def _is_of(call: Call, revisions: set[Revision]) -> bool:
    return call.record is not None and call.record.revision in revisions


def _names(mine: list[Call], doubtful: list[Call], life: Life, evidence: Evidence) -> Found:
    """A name counts once, and who is told that it has counted is told the truth."""
    named_ones = [call for call in mine if call.who is not None]
    for who in {call.who for call in named_ones}:
        if len([call for call in named_ones if call.who == who]) > 1:
            yield f"{who} counted twice in {_words(life[-1])}"
    revisions = {change.revision for change in life}
    for call in evidence.history.counts.values():
        repeats = call.kind is Kind.COUNTED and call.first is False and call.where == life[0].where
        known = any(other.who == call.who for other in (*mine, *doubtful))
        if repeats and _is_of(call, revisions) and not known:
            yield f"{named(call)}: {call.who} has not counted in {_words(life[-1])}"


def _answered(call: Call, evidence: Evidence) -> Found:
    if call.answered is None:
        if call.life.crashed is None:
            yield f"{named(call)}: never answered"
        return
    if call.answered[1] > call.made[1] + call.timeout + frozen(call.life) + 1e-6:
        yield f"{named(call)}: answered {call.answered[1] - call.made[1]:g} s after it was made"
    if call.error not in _KNOWN:
        yield f"{named(call)}: ended with {call.error}"
    stood = [each for every in evidence.stood(call.where, call.made, call.answered) for each in every]
    counters = [each for each in stood if each is not None and each.count is not None]
    if call.error == "WrongKind" and call.kind is not Kind.COUNTED and not counters:
        yield f"{named(call)}: WrongKind, and its key was no counter"
    events = [each for each in stood if each is not None and each.count is None and each.latched]
    if call.error == "WrongKind" and call.kind is Kind.COUNTED and not events:
        yield f"{named(call)}: WrongKind, and its key was no event"
    resets = call.kind is Kind.RESET and not call.error and not call.first
    if resets and all(each is not None and (each.latched or each.count is not None) for each in stood):
        yield f"{named(call)}: told that nothing was to be reset"
    if call.error == "OtherGoal" and all(each.goal in (None, call.goal) for each in counters):
        yield f"{named(call)}: OtherGoal, and its counter had none"
    if call.first and call.record is not None:
        yield from _told(call, call.record, evidence)


def _told(call: Call, record: Record, evidence: Evidence) -> Found:
    """A call that was the first is told a change that was made; what it fires has woken its own node's waits (W7)."""
    changes = evidence.by_revision.get((call.where[0], record.revision), [])
    fitting = [each for each in changes if each.where == call.where and each.kind is record.kind]
    if not any(each.count is None or each.count == record.count for each in fitting):
        yield f"{named(call)}: told {record}, which was not made"
    for wait in evidence.history.waits:
        before = wait.life is call.life and wait.where == call.where and wait.made < call.made
        if record.latched and before and call.answered is not None and waiting_at(wait, call.answered):
            yield f"{shown(wait)}: waited before {named(call)}, which was answered first"


def _reached(wait: Wait, evidence: Evidence) -> Found:
    """Resolved once, with a record that was there and has the count; soon, where it is armed and connected."""
    if wait.times > 1:
        yield f"{shown(wait)}: resolved {wait.times} times"
    if wait.resolved is None and wait.life.crashed is None:
        yield f"{shown(wait)}: never resolved"
    known = wait.error in ("", "Closed") or (wait.error == "CancelledError" and wait.cancelled is not None)
    if not known and not denied(wait, evidence):
        yield f"{shown(wait)}: ended with {wait.error}"
    if wait.outcome == "value":
        record: Record = wait.value
        changes = evidence.by_revision.get((wait.where[0], record.revision), [])
        was = any(each.where == wait.where and each.count == record.count for each in changes)
        if (record.count or 0) < wait.least or not was:
            yield f"{shown(wait)}: resolved with {record}"
    yield from _not_reached(wait, evidence)


def _enough(change: Change | None, wait: Wait) -> bool:
    return change is not None and change.count is not None and change.count >= wait.least


def _not_reached(wait: Wait, evidence: Evidence) -> Found:
    standing = [each for every in evidence.stood(wait.where, evidence.rest, evidence.rest) for each in every]
    if left_at_rest(wait, evidence) and standing and all(_enough(each, wait) for each in standing):
        yield f"{shown(wait)}: waits at rest, and {_words(standing[0])} stands"
    for change in evidence.history.changes:
        later = wait.settled is not None and change.moment >= wait.settled and change.where == wait.where
        if later and _enough(change, wait) and in_reach(wait, change, evidence) and not _reset_early(change, evidence):
            yield f"{shown(wait)}: armed and connected, and not soon resolved by {_words(change)}"


def _reset_early(change: Change, evidence: Evidence) -> bool:
    """Whether the counter was reset at once, and soon after the generation began.

    A read that was sent before that and answered after it makes a node subscribe again. It is deaf for so long, and a
    read tells of no count before a reset.
    """
    changes = [each for each in evidence.history.changes if each.where[0] == change.where[0]]
    began = min(each.moment for each in changes if each.revision.generation == change.revision.generation)
    deaf = began[1] + 6 * evidence.setup.slowest
    return any(
        each.where == change.where and change.moment < each.moment and each.moment[1] < deaf and each.count is None
        for each in changes
    )
