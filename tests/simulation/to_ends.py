"""The promises about ends: L10 and L11."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from coord.core.records import Kind, Record
from simulation.books import Books
from simulation.evidence import ENDED, SLACK, Evidence, Found, is_event, left_at_rest, named, shown, waiting_at
from simulation.history import BLUR, Call, Change, End, Key, Moment, NodeLife, Spell, Wait
from simulation.to_waiters import brought_back, came_back, contradicted, denied, hidden, in_reach, in_time, is_news

__all__ = ["l10_gone", "l11_ttl"]

_CLAIM = 10.0
"""Seconds for which a map is left to the node that asked for it."""

_AGAIN = 1.0
"""Seconds after which a map is swept again if an event in it was to be ended."""


def l10_gone(evidence: Evidence) -> Found:
    """A wait for the end is resolved at the end of the event on which it was armed: not before, and not much later."""
    for wait in evidence.history.gone:
        yield from _last_word(wait, evidence)
        if wait.outcome == "value":
            yield from _too_early(wait, evidence)
        if wait.settled is not None:
            yield from _missed(wait, wait.settled, evidence)
        yield from _never_armed(wait, evidence)
        yield from _behind_its_caller(wait, evidence)


def _last_word(wait: Wait, evidence: Evidence) -> Found:
    """Resolved exactly once; with an error only where a wait for the event would be, too."""
    if wait.times > 1:
        yield f"{shown(wait)}: resolved {wait.times} times"
    if wait.resolved is None and wait.life.crashed is None:
        yield f"{shown(wait)}: never resolved"
    if wait.outcome == "error":
        known = wait.error in ("Closed", "CancelledError", "TimedOut")
        if not known and not denied(wait, evidence):
            yield f"{shown(wait)}: ended with {wait.error}"
        if wait.error == "CancelledError" and wait.cancelled is None:
            yield f"{shown(wait)}: cancelled by nobody"
        if wait.error == "TimedOut" and not in_time(wait):
            yield f"{shown(wait)}: timed out at the wrong time"


def _lag(life: NodeLife, first: Moment, last: Moment, evidence: Evidence) -> float:
    """Return how old what a node goes by may be, in seconds: where nothing is broken, as old as messages are."""
    begin = first[1] - 2 * evidence.delay(life)
    broken = life.frozen or any(begin <= fault.moment[1] <= last[1] for fault in evidence.history.faults)
    return evidence.delay(life) if broken else 2 * evidence.setup.slowest + 0.01


def _since(wait: Wait, begin: Moment, evidence: Evidence) -> Moment:
    assert wait.resolved is not None
    return begin[0], begin[1] - _lag(wait.life, begin, wait.resolved, evidence)


def _lied_to(wait: Wait, since: Moment, until: Moment, evidence: Evidence) -> bool:
    early = since[1] - evidence.delay(wait.life)
    return any(early <= forgery.moment[1] <= until[1] for forgery in evidence.forged(wait.where))


def _too_early(wait: Wait, evidence: Evidence) -> Found:
    """While one event stands on every server, nobody is told that it is over."""
    assert wait.resolved is not None
    armed = wait.settled is not None and wait.settled < wait.resolved
    since = _since(wait, wait.settled if armed and wait.settled else wait.made, evidence)
    if _lied_to(wait, since, wait.resolved, evidence):
        return
    spells = evidence.any_spell(wait.where, since, wait.resolved)
    events = {evidence.event(spell.change) for spell in spells}
    if len(events) == 1 and not any(spell.pending for spell in spells):
        yield f"{shown(wait)}: resolved, and {_told(spells[0].change)} stood all the time"
    since = _since(wait, wait.made, evidence)
    if not any(_shows(wait.value, spell) for spell in evidence.any_spell(wait.where, since, wait.resolved)):
        yield f"{shown(wait)}: got {wait.value}, which was not the case"


def _told(change: Change | None) -> str:
    return f"{change.kind} {change.revision}" if change else "nothing"


def _shows(record: Record | None, spell: Spell) -> bool:
    """Whether a record says what was the case at some moment of a spell; an event that is over may count as expired."""
    change = spell.change
    if record is None or change is None:
        return record is None and change is None
    if record.revision != change.revision:
        return False
    if not change.latched:
        return record.kind is change.kind
    return spell.latched if record.kind is change.kind else spell.pending and record.kind is Kind.EXPIRED


def _missed(wait: Wait, settled: Moment, evidence: Evidence) -> Found:
    """What ends the event after a wait was armed resolves it, by the same measure as W2's for a wake."""
    left = left_at_rest(wait, evidence)
    # One that is overdue is L11's to see.
    standing = [spell.change for spell in evidence.any_spell(wait.where, evidence.rest, evidence.rest)]
    if left and not any(change is not None and change.latched for change in standing):
        yield f"{shown(wait)}: waits at rest, and its key is pending"
    for change in evidence.history.changes:
        ends = change.kind in (*ENDED, Kind.PULSED) or change.displaces
        if change.where != wait.where or not ends or change.moment < settled or hidden(wait, change, evidence):
            continue
        if in_reach(wait, change, evidence):
            yield f"{shown(wait)}: armed and connected, and not soon resolved by {_told(change)}"
        if change not in evidence.kept[wait.where[0]] or not is_news(change, evidence):
            continue
        if left and not evidence.lost_between(settled, evidence.rest):
            yield f"{shown(wait)}: armed, and not resolved by {_told(change)}"
        if came_back(wait, change, evidence):
            yield f"{shown(wait)}: armed, and not resolved when it was back by {_told(change)}"


def _never_armed(wait: Wait, evidence: Evidence) -> Found:
    """Armed soon, where the link lasted, and resolved at once if the key is pending then."""
    soon = evidence.soon(wait.life, wait.made, wait.where)
    late = all(moment is None or moment[1] > soon for moment in (wait.settled, wait.resolved))
    if late and evidence.lasted(wait.life, wait.made, soon):
        yield f"{shown(wait)}: not armed soon, though the link lasted"
    settled = wait.settled
    if settled is None or not waiting_at(wait, settled) or wait.resolved is None or wait.resolved[1] == settled[1]:
        return
    since = wait.made[0], wait.made[1] - evidence.delay(wait.life)
    spells = evidence.any_spell(wait.where, since, settled)
    if not any(spell.latched for spell in spells) and not _lied_to(wait, since, settled, evidence):
        yield f"{shown(wait)}: settled, not resolved, and its key had long been pending"


def _behind_its_caller(wait: Wait, evidence: Evidence) -> Found:
    """A reset or pulse of the waiter's own node resolves it before the call is answered (W7)."""
    for call in evidence.history.calls.values():
        ends = call.kind in (Kind.RESET, Kind.PULSED) and call.first and call.answered is not None
        ends = ends and not (call.record is not None and call.record.latched)
        if not ends or call.life is not wait.life or call.where != wait.where:
            continue
        armed = wait.settled is not None and wait.settled < call.made
        if armed and call.answered is not None and waiting_at(wait, call.answered):
            yield f"{shown(wait)}: waited before {named(call)}, which was answered first"


def l11_ttl(evidence: Evidence) -> Found:
    """An event with a TTL ends when its time has come, by the server's clock; after that nobody takes it for one."""
    for server in evidence.books:
        for where, ends in server.ends.items():
            yield from _set(where, ends, evidence)
        for where in server.ends:
            yield from _overdue(server, where, evidence)
    for change in evidence.history.changes:
        if change.kind is Kind.EXPIRED and is_event(change.where):
            yield from _ended(change, evidence)
    if evidence.setup.timed:
        yield from _answers(evidence)
        yield from _looks(evidence)
        yield from _woken(evidence)


def _set(where: Key, ends: list[End], evidence: Evidence) -> Found:
    """Each end is one that a call asked for, and no fire makes it earlier; what has no TTL has none."""
    for before, end in pairwise((None, *ends)):
        assert end is not None
        if end.of is None or not end.of.latched or not end.of.ttl:
            if end.at is not None:
                yield f"{where}: {_told(end.of)} has no TTL, and an end"
        elif end.at is None:
            yield f"{where}: {_told(end.of)} has lost its end"
        elif not end.copied:
            last = before.at if before is not None and before.of is end.of else None
            if last is not None and last + BLUR < end.wall:
                yield f"{where}: the end of {_told(end.of)} was moved after it had passed"
            asking = [call for call in evidence.history.calls.values() if _under_way(call, where, end, evidence)]
            if not any(_asks(call, end, last, asking) for call in asking):
                yield f"{where}: the end of {_told(end.of)} is in {end.at - end.wall:g} s, for which nobody asked"


def _under_way(call: Call, where: Key, end: End, evidence: Evidence) -> bool:
    """Whether a call may have set an end; where data were lost, also a copy of it that was left on a lost link."""
    kept = not (evidence.history.losses or evidence.history.splits)
    over = kept and call.answered is not None and call.answered < end.moment and not call.error
    return call.ttl > 0 and call.where == where and call.made < end.moment and not over


def _asks(call: Call, end: End, last: float | None, asking: list[Call]) -> bool:
    """Whether a call asked for an end which was ``last`` before; one of the same batch may have made that earlier."""
    assert end.at is not None
    earlier = last is not None and end.at < last
    moves = any(each.kind is Kind.EXPIRED and each.life is call.life for each in (call, *asking))
    return abs(end.wall + call.ttl - end.at) <= BLUR and (moves or not earlier)


def _ended(change: Change, evidence: Evidence) -> Found:
    """What was ended had a TTL, its time had come, and its node is named; what was held is L2's and L3's to see."""
    server = evidence.books[change.server]
    moments = [moment for moment, _ in server.standing[change.where]]
    at = moments.index(change.moment)
    before = server.standing[change.where][at - 1][1] if at else None
    if before is None or not before.latched or evidence.hold_of(before) is not None:
        return
    ends = [end for end in server.ends.get(change.where, ()) if end.of is before and end.moment < change.moment]
    if not before.ttl:
        yield f"{_told(change)} of {change.where}: {_told(before)} had no TTL"
    elif ends and ends[-1].at is not None and server.wall(change.moment) < ends[-1].at - BLUR:
        yield f"{_told(change)} of {change.where}: {ends[-1].at - server.wall(change.moment):g} s too early"
    if change.node != before.node:
        yield f"{_told(change)} of {change.where}: told of {change.node}, and {before.node} had fired it"


def _overdue(server: Books, where: Key, evidence: Evidence) -> Found:
    """Whoever is linked ends what is over, within a heartbeat."""
    standing = server.standing.get(where, [])
    for (begin, change), (until, _) in pairwise([*standing, (evidence.rest, None)]):
        if change is None or not change.ttl or not change.latched or begin >= evidence.rest:
            continue
        over = _over_since(server.spells(where, begin, min(until, evidence.rest)))
        if over is not None and _left_too_long(over, until, server, evidence):
            yield f"{where}: {_told(change)} was over for {until[1] - over:g} s, and nobody ended it"


def _over_since(spells: Iterator[Spell]) -> float | None:
    """Return since when an event has been over without a break, in virtual seconds; ``None`` if it is not."""
    since: float | None = None
    for spell in spells:
        if spell.at is None or spell.end < spell.at + BLUR:
            since = None
        elif since is None or spell.begin < spell.at:
            since = spell.since + max(0.0, spell.at - spell.begin)
    return since


def _left_too_long(over: float, until: Moment, server: Books, evidence: Evidence) -> bool:
    usual = evidence.setup.heartbeat + 6 * evidence.setup.slowest + SLACK
    if until == evidence.rest:
        # All has been well for longer than a claim lasts.
        late = _AGAIN + (_CLAIM + usual if server.set_back else 0.0)
        return server is evidence.primary and until[1] > over + usual + late
    if any(split[0] < until for split in evidence.history.splits):
        return False
    if not _broken(over - _CLAIM - usual, over + usual, evidence):
        return until[1] > over + usual and _someone_stays(over, over + usual, evidence)
    for life in evidence.history.lives:
        soon = evidence.soon(life, (0, over)) + usual + _CLAIM
        if until[1] > soon and _stays(life, over, soon):
            return True
    return False


def _broken(first: float, last: float, evidence: Evidence) -> bool:
    """Whether anything was broken between two times, or a node came or went."""
    faults = any(first <= fault.moment[1] <= last for fault in evidence.history.faults)
    moments = [moment for life in evidence.history.lives for moment, _, _ in life.links]
    moments += [life.closing for life in evidence.history.lives if life.closing]
    return faults or any(first <= moment[1] <= last for moment in moments)


def _someone_stays(first: float, last: float, evidence: Evidence) -> bool:
    return any(_stays(life, first, last) for life in evidence.history.lives)


def _stays(life: NodeLife, first: float, last: float) -> bool:
    """Whether a life's link was connected at a time, and stayed so until another."""
    over = life.crashed or life.closing
    before = [state for moment, state, _ in life.links if moment[1] <= first]
    changes = any(first < moment[1] <= last for moment, _, _ in life.links)
    return before[-1:] == ["connected"] and not changes and not life.frozen and (over is None or over[1] > last)


def _answers(evidence: Evidence) -> Found:
    """Calls are answered by what stands: an end as it was asked for, and nothing that is over stands in the way."""
    for call in evidence.history.calls.values():
        ends = call.kind in (Kind.RESET, Kind.PULSED)
        # Before keys could be held, nothing kept a reset or a pulse from being the first but a pending key.
        if call.answered is None or call.error or (ends and (call.first or not evidence.setup.held)):
            continue
        spells = evidence.any_spell(call.where, call.made, call.answered)
        if call.kind is Kind.EXPIRED:
            fits = any(_moved(call, spell) for spell in spells)
        elif ends:
            fits = any(_shows(call.record, spell) for spell in spells)
        else:
            fits = bool(call.first) or any(_stood_in_the_way(call, spell) for spell in spells)
        if not fits and not _in_one_batch(call, evidence):
            first = "the first" if call.first else "not the first"
            yield f"{named(call)}: answered as {first} with {call.record}, which was not the case"


def _in_one_batch(call: Call, evidence: Evidence) -> bool:
    """Whether other calls on the key may have been applied in the same step: nobody sees what was in between.

    Such calls are answered together, but for those that wait for replicas or were given up.
    """
    return any(
        other is not call
        and other.life is call.life
        and other.where == call.where
        and (
            _answered_at(other) == _answered_at(call)
            or (other.error != "" and _at_one_time(other, call))
            or other.replicas > 0
            or call.replicas > 0
        )
        for other in evidence.history.calls.values()
    )


def _at_one_time(one: Call, other: Call) -> bool:
    """Whether both were under way at some moment."""
    return all(
        later.answered is None or earlier.made < later.answered for earlier, later in ((one, other), (other, one))
    )


def _answered_at(call: Call) -> float | None:
    return call.answered[1] if call.answered is not None else None


def _moved(call: Call, spell: Spell) -> bool:
    """Whether a spell bears out the answer to an ``expire``."""
    timed = spell.change is not None and spell.change.ttl > 0
    if not call.first:
        return spell.pending or not timed
    at = spell.at
    return timed and at is not None and spell.begin - BLUR <= at - call.ttl <= spell.end + BLUR


def _stood_in_the_way(call: Call, spell: Spell) -> bool:
    """Whether a spell bears out that a fire was not the first; one with a TTL lets the event stand so much longer."""
    if call.record is None or spell.change is None or call.record.revision != spell.change.revision:
        return False
    return spell.latched and (not call.ttl or spell.at is None or spell.at - spell.begin >= call.ttl - BLUR)


def _looks(evidence: Evidence) -> Found:
    """``record()`` and a listing show what is over as expired, and how long an event has left."""
    for look in evidence.history.looks:
        if look.answered is None or look.error or evidence.is_cursor_lost(look):
            continue
        spells = evidence.any_spell(look.where, look.asked, look.answered)
        if not any(_shows(look.record, spell) and _has_left(look.record, spell) for spell in spells):
            yield f"record({look.where}) said {look.record}, which was not the case"


def _has_left(record: Record | None, spell: Spell) -> bool:
    if record is None or record.expires_in is None:
        return record is None or not record.latched or spell.at is None
    return spell.at is not None and spell.at - spell.end - BLUR <= record.expires_in <= spell.at - spell.begin + BLUR


def _woken(evidence: Evidence) -> Found:
    """No event wakes a wait that began after its end."""
    for wait in evidence.history.waits:
        changes = evidence.by_serial.get(wait.serial, []) if wait.serial is not None else []
        if changes and all(_was_over(change, wait, evidence) for change in changes):
            yield f"{shown(wait)}: woken by {_told(changes[-1])}, whose end had passed before"


def _was_over(change: Change, wait: Wait, evidence: Evidence) -> bool:
    if not change.ttl or wait.resolved is None or evidence.split_at(wait.made, evidence.delay(wait.life)):
        return False
    since = _since(wait, wait.made, evidence)
    excused = brought_back(change, wait, evidence) or contradicted(change, wait, evidence)
    if change.moment[1] > since[1] or excused:
        return False
    spells = [spell for spell in evidence.any_spell(wait.where, since, wait.resolved) if spell.change is change]
    return bool(spells) and not any(spell.latched for spell in spells)
