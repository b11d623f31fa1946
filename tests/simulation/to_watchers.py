"""The promises to a watcher: ordered, unique, gap-free, and never silent about what is lost."""

from __future__ import annotations

from coord.core.records import NEVER, CaughtUp, Record, Revision
from simulation.evidence import DENIED, Evidence, Found
from simulation.history import Change, Moment, Watching

__all__ = ["watch"]


def watch(evidence: Evidence) -> Found:
    """Ordered, unique, gap-free from where it began; it ends with `HistoryLost` where, and only where, it must."""
    for watching in evidence.history.watches:
        if watching.life.crashed is not None:
            continue
        for wrong in (*_contiguous(watching, evidence), *_ended(watching, evidence)):
            yield f"watch of {watching.map} from {watching.since} by {watching.life.name}: {wrong}"


def _contiguous(watching: Watching, evidence: Evidence) -> Found:
    position = watching.since if isinstance(watching.since, Revision) else None
    told = 0
    for moment, item in watching.items:
        if isinstance(item, CaughtUp):
            told += 1
            if position is None:
                yield from _is_head(item.revision, watching, moment, evidence)
            elif item.revision != position:
                yield f"caught up at {item.revision}, but stands at {position}"
            position = item.revision
            continue
        yield from _is_next(item, position, watching, evidence)
        position = item.revision
    if told > 1:
        yield "caught up more than once"


def _is_next(record: Record, position: Revision | None, watching: Watching, evidence: Evidence) -> Found:
    changes = evidence.by_revision.get((watching.map, record.revision), [])
    before = {change.previous for change in changes if change.where[1] == record.key and change.kind is record.kind}
    if not before:
        yield f"shows {record.revision}, which never was"
    elif position is None:
        if watching.since == "now":
            yield "shows a change before it says where now is"
        elif NEVER not in before and not _trimmed(watching, evidence):
            yield f"begins at {record.revision}, and {before} was before that"
    elif position not in before:
        yield f"goes from {position} to {record.revision}, and {before} was before that"


def _is_head(revision: Revision, watching: Watching, moment: Moment, evidence: Evidence) -> Found:
    """Where a watch begins with the end of the past, that was a head while it was asked for."""
    after = [
        change.moment
        for change in evidence.history.changes
        if change.where[0] == watching.map and change.previous == revision
    ]
    was = any(change.moment < moment for change in evidence.by_revision.get((watching.map, revision), ()))
    if revision != NEVER and not was:
        yield f"now is {revision}, which was not yet"
    elif (
        revision == NEVER or evidence.history.losses or evidence.split_at(watching.asked, evidence.delay(watching.life))
    ):
        # Whoever is at another server than the primary does not know what is over there.
        return
    elif after and max(after) < watching.asked:
        yield f"now is {revision}, which was over before it was asked for"


def _trimmed(watching: Watching, evidence: Evidence) -> bool:
    return any(server.trimmed[watching.map] for server in evidence.books)


def _ended(watching: Watching, evidence: Evidence) -> Found:
    if watching.ended is None:
        yield "never ended, though its node was closed"
    elif watching.end == "AccessDenied" and evidence.in_trouble(DENIED, watching.life.born, watching.ended):
        return
    elif watching.end not in ("HistoryLost", "CancelledError", "Closed"):
        yield f"ended with {watching.end}"
    elif watching.end == "HistoryLost" and not _trimmed(watching, evidence):
        position = watching.items[-1][1].revision if watching.items else watching.since
        # A server that was demoted in place has the new primary's history only from then on.
        elsewhere = evidence.split_at(watching.asked, evidence.delay(watching.life))
        had = all(_has(lines, position) for lines in evidence.of_map(watching.map)) and not elsewhere
        if position == NEVER or had:
            yield f"HistoryLost at {position}, which every server always had"


def _has(lines: list[Change], position: object) -> bool:
    return any(change.revision == position for change in lines)
