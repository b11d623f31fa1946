"""What a cluster adds: whose link is lost, how late a wake-up is, and when locks are granted again."""

from __future__ import annotations

from collections.abc import Iterator

from coord.core.records import token_text
from simulation.evidence import Evidence, Found, named, shown
from simulation.history import Call, Change, Move, Wait

__all__ = ["links_alone", "no_doubt", "no_grant_after_a_move", "woken_soon"]

_MOVES = ("slot moves",)
"""Faults that break nothing."""


def _moves(evidence: Evidence) -> list[Move]:
    return evidence.history.moves


def _broken(evidence: Evidence, first: float, last: float, *harmless: str) -> bool:
    """Whether anything was broken between two times but what does no harm."""
    troubles = (trouble for trouble in evidence.history.troubles if trouble.kind not in harmless)
    return any(
        first <= fault.moment[1] <= last and fault.verb not in harmless for fault in evidence.history.faults
    ) or any(trouble.begin[1] <= last and (trouble.end is None or trouble.end[1] >= first) for trouble in troubles)


def links_alone(evidence: Evidence) -> Found:
    """A map's link is lost only where its slot moves, or something is broken; not where a server has no time."""
    setup = evidence.setup
    for life in evidence.history.lives:
        for moment, state, reason in life.links:
            since = moment[1] - 2 * setup.heartbeat - 8 * setup.slowest - 2.0
            moves = any(move.begin < moment and (move.end is None or move.end[1] >= since) for move in _moves(evidence))
            over = life.closing is not None and moment > life.closing
            lost = state == "suspended" and not moves and not over
            if lost and not life.frozen and not _broken(evidence, since, moment[1], "cluster down"):
                yield f"{life.name}/{life.number}: lost its link for {evidence.map} at {moment[1]:g}: {reason}"


def woken_soon(evidence: Evidence) -> Found:
    """Where slots do no more than move, a wake-up is late by a heartbeat; by nothing if the caller has followed."""
    setup = evidence.setup
    for wait, call in _woken(evidence):
        assert wait.resolved is not None
        assert call.answered is not None
        # A node that has not been at the other server yet connects to it: a dozen round trips.
        bound = call.answered[1] + 30 * setup.slowest + 1.0 + (0.0 if call.guest else 2 * setup.heartbeat)
        since = call.made[1] - 2 * setup.heartbeat - 8 * setup.slowest - 2.0
        late = wait.resolved[1] > bound and not wait.life.frozen
        if late and not _broken(evidence, since, wait.resolved[1], *_MOVES):
            yield f"{shown(wait)}: woken {wait.resolved[1] - call.answered[1]:g} s after {named(call)} was answered"


def _woken(evidence: Evidence) -> Iterator[tuple[Wait, Call]]:
    for wait in evidence.history.waits:
        call = evidence.history.calls.get(wait.serial or 0)
        if wait.settled is None or wait.resolved is None or call is None or call.answered is None:
            continue
        if call.first and not call.error and not call.replicas and call.made > wait.settled:
            yield wait, call


def no_doubt(evidence: Evidence) -> Found:
    """A call that servers only refuse, as half a map does, is not in doubt when its time is over.

    Where deliveries take time, a copy of it may be under way just then: F3 promises nothing of that. There is none if
    its link was lost for what the server refused, and not made again. A node that is closed does not wait for answers.
    """
    for call in evidence.history.calls.values():
        if call.error != "Unconfirmed" or call.answered is None or call.life.frozen:
            continue
        closing = call.life.closing
        if closing is not None and call.answered >= closing:
            continue
        if _left_refused(call, 2 * evidence.setup.slowest):
            yield f"{named(call)}: Unconfirmed, and the only server that it was sent to has refused it"
        elif not evidence.setup.slowest and not _broken(evidence, call.made[1] - 2.0, call.answered[1], *_MOVES):
            yield f"{named(call)}: Unconfirmed, and nothing was broken"


def _left_refused(call: Call, under_way: float) -> bool:
    """Whether a call was made on a link that was then lost for a refusal, for the rest of its time.

    A connection answers in order: what was applied before was answered before, and what came later was refused, too.
    But it may have been another call's refusal: its own may be ``under_way`` for so many seconds, and F3 goes by what
    has come when the time of a call is over.
    """
    assert call.answered is not None
    links = [link for link in call.life.links if link[0] < call.answered]
    if len(links) < 2 or call.answered[1] <= links[-1][0][1] + under_way:
        return False
    (made, before, _), (lost, after, reason) = links[-2:]
    left = (before, after) == ("connected", "suspended") and any(word in reason for word in (" MOVED ", " ASK "))
    return left and made < call.made < lost


def no_grant_after_a_move(evidence: Evidence) -> Found:
    """After a map has come to another server, no lock is granted for T + G: the owner may still be there."""
    wait = evidence.setup.lease + evidence.setup.grace
    for change in evidence.history.changes:
        granted = change.latched and change.token == token_text(change.revision)
        came = _came(change, evidence) if granted else None
        if came is not None and change.moment[1] < came + wait - 0.01:
            yield f"{change.where} was granted at {change.moment[1]:g}, and its map had come at {came:g} or later"


def _came(change: Change, evidence: Evidence) -> float | None:
    """Return when a map had come, at the earliest, to the server that made a change; ``None`` if it was always there.

    That is the last time at which another server has looked at its lease clock.
    """
    looks = evidence.primary.clocks.get(change.where[0], [])
    others = [moment for moment, process in looks if moment < change.moment and process != change.process]
    return others[-1][1] if others else None
