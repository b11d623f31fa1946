"""One function a promise: each looks at what was observed, and yields in words what breaks its promise.

What is left out, and why:

- what the server lost (flushed, restarted empty, failed over without its last writes) is promised to nobody. A change
  counts as kept if it is part of what the last primary's data are made of;
- where data were lost *and* a clock went back, a new generation may be lower than one that nobody alive has seen;
  such changes wake nobody reliably, and are left out of W2;
- a crashed incarnation is promised nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from coord.core.records import NEVER, CaughtUp, Kind, Record, Revision
from simulation.history import Call, Change, History, Key, Moment, NodeLife, Wait, Watching
from simulation.servers import SimServer
from simulation.world import Setup

__all__ = ["CHECKERS", "Evidence", "check"]

_LATCHED = (Kind.FIRED, Kind.FAILED)
_SLACK = 0.5
"""Seconds: what is done in the next beat after a bound has not broken it."""

Found = Iterator[str]


@dataclass
class Evidence:
    """What the checkers look at. ``rest`` is when everything was mended and had come to rest, before the last fire.

    ``kept`` is what the last primary's data were made of then, ``lineages`` what any server's data ever were made of.
    """

    history: History
    setup: Setup
    servers: list[SimServer]
    rest: Moment
    kept: dict[str, list[Change]]
    lineages: list[list[Change]] = field(default_factory=list)

    @cached_property
    def by_serial(self) -> dict[int, list[Change]]:
        """The changes that each call made: more than one only where the first was lost."""
        found: dict[int, list[Change]] = {}
        for change in self.history.changes:
            if change.serial is not None and change.kind is not Kind.RESET:
                found.setdefault(change.serial, []).append(change)
        return found

    @cached_property
    def by_revision(self) -> dict[tuple[str, Revision], list[Change]]:
        """The change at each revision: more than one only where the first was lost and a clock went back."""
        found: dict[tuple[str, Revision], list[Change]] = {}
        for change in self.history.changes:
            found.setdefault((change.where[0], change.revision), []).append(change)
        return found

    def of_map(self, name: str) -> Iterator[list[Change]]:
        """Yield what each server's data of a map were made of, those that were lost included."""
        for server in self.servers:
            for lineage in (*server.ended, server.lineage):
                yield lineage[name]

    def lost_between(self, first: Moment, last: Moment) -> bool:
        """Whether any server's data were replaced between two moments."""
        return any(first < loss and loss[1] <= last[1] for loss in self.history.losses)

    def split_at(self, moment: Moment, late: float = 0.0) -> bool:
        """Whether a node that is so late, in seconds, may have been at an old server then.

        Nobody there knows what is over at the new one.
        """
        return any(
            older.retired is not None and newer.born < moment and moment[1] <= older.retired[1] + late
            for older, newer in zip(self.servers, self.servers[1:], strict=False)
        )

    def delay(self, life: NodeLife) -> float:
        """Return how late a node may know what happened, in seconds: a message's delay, or a silent death."""
        return 2 * self.setup.heartbeat + self.setup.slowest + _SLACK + _frozen(life)

    def stood(self, where: Key, first: Moment, last: Moment) -> Iterator[list[Change | None]]:
        """Yield, for each server that was there between two moments, what stood for a key during them."""
        for server in self.servers:
            if server.born > last or (server.retired is not None and server.retired[1] < first[1]):
                continue
            stood: list[Change | None] = [None]
            for moment, change in server.standing.get(where, ()):
                if moment > last:
                    break
                if (moment[1], moment[0]) <= (first[1], first[0]):
                    stood = [change]
                else:
                    stood.append(change)
            yield stood


def _shown(wait: Wait) -> str:
    return f"wait {wait.number} of {wait.life.name}/{wait.life.number} for {'/'.join(wait.where)}"


def _waiting_at(wait: Wait, moment: Moment) -> bool:
    return wait.made < moment and (wait.resolved is None or wait.resolved > moment)


def _left(wait: Wait, evidence: Evidence) -> bool:
    """Whether a wait was still there when everything had come to rest."""
    over = wait.life.crashed or wait.life.closing
    return _waiting_at(wait, evidence.rest) and (over is None or over > evidence.rest)


# To a waiter.


def w1_late(evidence: Evidence) -> Found:
    """A wait on a latched key is answered as soon as it is armed; on a cached one, before the subscript returns."""
    for wait in evidence.history.waits:
        if wait.cached and not wait.sync:
            yield f"{_shown(wait)}: in the live cache, and not answered at once"
        if wait.settled is not None and _waiting_at(wait, wait.settled) and not _given_up(wait, wait.settled):
            # One that joins an armed key is armed as of what the node has heard: a message may be on its way.
            since = wait.made[0], wait.made[1] - evidence.delay(wait.life)
            stood = list(evidence.stood(wait.where, since, wait.settled))
            if stood and all(change is not None and change.kind in _LATCHED for each in stood for change in each):
                yield f"{_shown(wait)}: settled, not answered, and its key had long been latched"
        if _left(wait, evidence):
            last = next((each for each in reversed(evidence.kept[wait.where[0]]) if each.where == wait.where), None)
            if last is not None and last.kind in _LATCHED:
                yield f"{_shown(wait)}: waits at rest, and its key is {last.kind} at {last.revision}"


def _given_up(wait: Wait, moment: Moment) -> bool:
    """Whether a wait was cancelled, or its time was over, just then."""
    return wait.outcome == "error" and wait.resolved is not None and wait.resolved[1] == moment[1]


def w2_no_lost_wake_up(evidence: Evidence) -> Found:
    """A waiter that was armed (``settled()`` said so) is woken by every later wake that the server kept.

    Soon, where the link stayed connected all the time and asked the server that made the change; else soon after a
    link came to stay; at rest in any case.
    """
    for wait in evidence.history.waits:
        if wait.settled is None:
            continue
        left = _left(wait, evidence)
        for change in evidence.history.changes:
            if change.where != wait.where or change.kind is Kind.RESET or change.moment < wait.settled:
                continue
            if _in_reach(wait, change, evidence):
                yield f"{_shown(wait)}: armed and connected, and not soon woken by {change.kind} {change.revision}"
            if change not in evidence.kept[wait.where[0]] or not _is_news(change, evidence):
                continue
            if left:
                yield f"{_shown(wait)}: armed, and not woken by {change.kind} {change.revision}"
            if _came_back(wait, change, evidence):
                yield f"{_shown(wait)}: armed, and not woken when it was back by {change.kind} {change.revision}"


def _came_back(wait: Wait, change: Change, evidence: Evidence) -> bool:
    """Whether a wait was not resolved soon after the link was back, and lasted."""
    assert wait.settled is not None
    life = wait.life
    links = life.links
    for index, (moment, state, _) in enumerate(links):
        soon = moment[1] + evidence.delay(life)
        end = links[index + 1][0] if index + 1 < len(links) else life.crashed
        lasted = moment > change.moment and state == "connected" and (end is None or end[1] > soon)
        if lasted and not evidence.split_at(moment) and not evidence.lost_between(wait.settled, (moment[0], soon)):
            return wait.resolved is None or wait.resolved[1] > soon
    return False


def _in_reach(wait: Wait, change: Change, evidence: Evidence) -> bool:
    """Whether a wait was not resolved soon, though its link lasted from its arming on."""
    assert wait.settled is not None
    life = wait.life
    soon = change.moment[1] + evidence.delay(life)
    over = life.crashed or life.closing
    if life.number not in change.linked or (wait.resolved is not None and wait.resolved[1] <= soon):
        return False
    if over is not None and over[1] <= soon:
        return False
    return not any(wait.settled <= moment and moment[1] <= soon for moment, _, _ in life.links)


def _is_news(change: Change, evidence: Evidence) -> bool:
    """Whether a revision is above all that there were before it, and all that were lost."""
    kept = {id(each) for each in evidence.kept[change.where[0]]}
    return all(
        each.revision < change.revision
        for each in evidence.history.changes
        if each.where[0] == change.where[0]
        and each.moment < evidence.rest
        and (each.moment < change.moment or id(each) not in kept)
    )


def w3_once(evidence: Evidence) -> Found:
    """Resolved exactly once, in the order they came; what is made in a callback belongs to the next wake."""
    queues: dict[tuple[int, Key], list[Wait]] = {}
    for wait in evidence.history.waits:
        queues.setdefault((wait.life.number, wait.where), []).append(wait)
        if wait.times > 1:
            yield f"{_shown(wait)}: resolved {wait.times} times"
        if wait.resolved is None and wait.life.crashed is None:
            yield f"{_shown(wait)}: never resolved"
        parent = wait.parent
        if parent is not None and wait.serial is not None and wait.serial == parent.serial:
            call = evidence.history.calls[wait.serial]
            if call.kind is Kind.PULSED and len(evidence.by_serial[call.serial]) == 1:
                yield f"{_shown(wait)}: made in a callback of pulse {wait.serial}, and woken by it"
    for queue in queues.values():
        yield from _in_order(queue)


def _in_order(queue: list[Wait]) -> Found:
    latest: Wait | None = None
    for wait in queue:
        if wait.sync or wait.resolved is None:
            continue
        if latest is None or latest.resolved is None or latest.resolved < wait.resolved:
            latest = wait
        elif wait.outcome in ("value", "failed"):
            yield f"{_shown(wait)}: woken before the older {_shown(latest)}"


def w4_alone(evidence: Evidence) -> Found:
    """Each waiter has the value of its own key's wake, whatever its siblings' handlers do with theirs."""
    for wait in evidence.history.waits:
        if wait.outcome not in ("value", "failed"):
            continue
        call = evidence.history.calls.get(wait.serial) if wait.serial is not None else None
        if call is None or wait.value != {"n": wait.serial}:
            yield f"{_shown(wait)}: got {wait.value!r}, which nobody fired"
        elif call.where != wait.where or (call.kind is Kind.FAILED) != (wait.outcome == "failed"):
            yield f"{_shown(wait)}: got a {wait.outcome} of call {call.serial}, a {call.kind} of {call.where}"
    errors = {"Closed", "CancelledError", "TimedOut"}
    for wait in evidence.history.waits:
        if wait.outcome == "error" and wait.error not in errors:
            yield f"{_shown(wait)}: ended with {wait.error}"
        if wait.error == "CancelledError" and wait.cancelled is None:
            yield f"{_shown(wait)}: cancelled by nobody"
        if wait.error == "TimedOut" and not _in_time(wait):
            yield f"{_shown(wait)}: timed out at the wrong time"


def _in_time(wait: Wait) -> bool:
    assert wait.resolved is not None
    waited = wait.resolved[1] - wait.made[1]
    return wait.timeout is not None and wait.timeout - 1e-6 <= waited <= wait.timeout + _frozen(wait.life) + 1e-6


def w5_no_leak(evidence: Evidence) -> Found:
    """Noted by `simulation.play`, at rest and after every key was reset: entries, subscriptions, timers, the cache."""
    yield from _noted(evidence, "W5")


def w6_closed(evidence: Evidence) -> Found:
    """``close()`` gives every waiter and every call its last word, makes no noise, and comes to an end."""
    for life in evidence.history.lives:
        if life.closing is not None and life.closed is None and life.crashed is None:
            yield f"{life.name}/{life.number}: close() never came to an end"
    for wait in evidence.history.waits:
        closing = wait.life.closing
        there = closing is not None and wait.resolved is not None and wait.made < closing < wait.resolved
        if there and wait.error not in ("Closed", "CancelledError"):
            yield f"{_shown(wait)}: waited at close(), and ended with {wait.error or wait.outcome}"
    yield from _noted(evidence, "W6")


def w7_own_words(evidence: Evidence) -> Found:
    """A call's own node has seen what it did when the call is answered: its waits before, and all that come later."""
    done = [call for call in evidence.history.calls.values() if call.first and call.life.crashed is None]
    by_key: dict[tuple[int, Key], list[Wait]] = {}
    for wait in evidence.history.waits:
        by_key.setdefault((wait.life.number, wait.where), []).append(wait)
    for call in done:
        assert call.answered is not None
        assert call.record is not None
        for wait in by_key.get((call.life.number, call.where), ()):
            if call.kind is not Kind.RESET and wait.made < call.made and _waiting_at(wait, call.answered):
                yield f"{_shown(wait)}: waited before {_call(call)}, which was answered first"
            if wait.made > call.answered and wait.serial is not None and wait.resolved is not None:
                yield from _older(wait, call, call.record.revision, evidence)


def _older(wait: Wait, call: Call, revision: Revision, evidence: Evidence) -> Found:
    assert wait.serial is not None
    assert wait.resolved is not None
    woken = [change.revision for change in evidence.by_serial.get(wait.serial, ())]
    kept = any(change.revision == revision for change in evidence.kept[call.where[0]])
    if woken and max(woken) < revision and kept and not evidence.lost_between(call.made, wait.resolved):
        yield f"{_shown(wait)}: woken by {max(woken)}, and {_call(call)} was answered before with {revision}"


def w8_staleness(evidence: Evidence) -> Found:
    """Nobody is woken by what was over before, but for a message's delay and what a silent death may take to notice.

    ``record()`` says what stood at the server at some moment between the question and the answer.
    """
    for wait in evidence.history.waits:
        changes = evidence.by_serial.get(wait.serial, []) if wait.serial is not None else []
        if (
            changes
            and not evidence.split_at(wait.made, evidence.delay(wait.life))
            and not any(_fresh(each, wait, evidence) for each in changes)
        ):
            yield f"{_shown(wait)}: woken by {changes[-1].kind} {changes[-1].revision}, which was over long before"
    for look in evidence.history.looks:
        if look.answered is None or look.error:
            continue
        revision = look.record.revision if look.record is not None else None
        stood = [each for every in evidence.stood(look.where, look.asked, look.answered) for each in every]
        if all((each.revision if each else None) != revision for each in stood):
            yield f"record({look.where}) said {revision}, and {[str(each and each.revision) for each in stood]} stood"
    yield from _noted(evidence, "W8")


def _fresh(change: Change, wait: Wait, evidence: Evidence) -> bool:
    last = change.moment[1]
    if change.kind is not Kind.PULSED:
        for server in evidence.servers:
            standing = server.standing.get(change.where, [])
            for index, (_, each) in enumerate(standing):
                if each is change:
                    last = max(last, standing[index + 1][0][1] if index + 1 < len(standing) else float("inf"))
    return wait.made[1] <= last + evidence.delay(wait.life)


def _frozen(life: NodeLife) -> float:
    return sum(each[1] - each[0] for each in life.frozen if len(each) == 2)


# To a caller.


def _call(call: Call) -> str:
    return f"{call.kind} {call.serial} of {call.life.name}/{call.life.number} for {'/'.join(call.where)}"


def f1_acknowledged(evidence: Evidence) -> Found:
    """Answered only after it was applied, with what was applied; calls of one node on one map in their order."""
    for call in evidence.history.calls.values():
        if call.answered is None or not call.first:
            continue
        assert call.record is not None
        changes = evidence.by_revision.get((call.where[0], call.record.revision), [])
        if not any(change.moment < call.answered and change.where == call.where for change in changes):
            yield f"{_call(call)}: answered, and not applied"
        elif not any(_is_of(change, call) for change in changes):
            yield f"{_call(call)}: answered with another's change {call.record.revision}"
    for lines in evidence.lineages:
        for life, mine in _by_life(lines, evidence):
            calls = [call for call in evidence.history.calls.values() if call.life is life]
            yield from _placed(mine, [call for call in calls if call.where[0] == mine[0].where[0]], lines)


def _is_of(change: Change, call: Call) -> bool:
    return change.kind is call.kind and (call.kind is Kind.RESET or change.serial == call.serial)


def _by_life(lines: list[Change], evidence: Evidence) -> Iterator[tuple[NodeLife, list[Change]]]:
    for life in evidence.history.lives:
        mine = [change for change in lines if change.node == f"{life.name}-{life.number}"]
        if mine:
            yield life, mine


_NOT_APPLIED = ("Unreachable", "Closed", "ServerRefused")


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
    """Applied once, by section 2's table; ``first`` is the truth. F1 sees that no reset is applied twice."""
    for lines in evidence.lineages:
        seen: set[int] = set()
        stands: dict[Key, Change] = {}
        for change in lines:
            before = stands.get(change.where)
            latched = before is not None and before.kind in _LATCHED
            if change.kind in _LATCHED and latched:
                yield f"{change.kind} {change.revision} of a latched key"
            if change.kind is Kind.RESET and not latched:
                yield f"{change.kind} {change.revision} of a pending key"
            if change.kind is not Kind.RESET and change.serial is not None:
                if change.serial in seen:
                    yield f"call {change.serial} was applied twice"
                seen.add(change.serial)
            stands[change.where] = change
    kept = {change.serial for lines in evidence.kept.values() for change in lines if change.kind is not Kind.RESET}
    for call in evidence.history.calls.values():
        if call.first is False and call.kind is not Kind.RESET and call.serial in kept:
            yield f"{_call(call)}: answered as not the first, and it was"
        if call.first and call.wanted is not None:
            yield from _took_back(call, evidence)


def _took_back(call: Call, evidence: Evidence) -> Found:
    assert call.record is not None
    for lines in evidence.lineages:
        before: Change | None = None
        for change in lines:
            if change.where != call.where:
                continue
            if change.revision == call.record.revision and (before is None or before.revision != call.wanted):
                yield f"{_call(call)}: took back {before and before.revision} where it should {call.wanted}"
            before = change


def f3_the_one_doubt(evidence: Evidence) -> Found:
    """Only `Unconfirmed` leaves a doubt, and only where it was sent; every answer comes by the deadline."""
    for call in evidence.history.calls.values():
        life = call.life
        if call.error in _NOT_APPLIED and call.kind is not Kind.RESET and evidence.by_serial.get(call.serial):
            yield f"{_call(call)}: ended with {call.error}, and was applied"
        if call.error == "ServerRefused" and all(fault.verb != "out of memory" for fault in evidence.history.faults):
            yield f"{_call(call)}: refused by a server that lacks nothing"
        if call.error not in ("", "Unconfirmed", "NotReplicated", "CancelledError", *_NOT_APPLIED):
            yield f"{_call(call)}: ended with {call.error}"
        if call.error == "Unconfirmed" and not _was_linked(call):
            yield f"{_call(call)}: Unconfirmed, though it can't have been sent"
        if call.answered is not None:
            if call.answered[1] > call.made[1] + call.timeout + _frozen(life) + 1e-6:
                yield f"{_call(call)}: answered {call.answered[1] - call.made[1]:g} s after it was made"
        elif life.crashed is None:
            yield f"{_call(call)}: never answered"


def f4_replicas(evidence: Evidence) -> Found:
    """Acknowledged once a replica has it; what is not, was applied all the same (that is F1's to see)."""
    for call in evidence.history.calls.values():
        if call.error == "NotReplicated" and not call.replicas:
            yield f"{_call(call)}: NotReplicated, and it wanted no replica"
        if call.replicas and call.answered is not None and not call.error:
            had: dict[int, int] = {}
            for moment, server, number in evidence.history.replicas:
                if moment < call.answered:
                    had[server] = number if moment < call.made else max(number, had.get(server, 0))
            if not any(had.values()):
                yield f"{_call(call)}: acknowledged, and there was no replica"


def _was_linked(call: Call) -> bool:
    assert call.answered is not None
    links = call.life.links
    for index, (begin, state, _) in enumerate(links):
        end = links[index + 1][0] if index + 1 < len(links) else call.answered
        if state == "connected" and begin < call.answered and end >= call.made:
            return True
    return False


# To a watcher.


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
    elif revision != NEVER and after and max(after) < watching.asked and not evidence.history.losses:
        yield f"now is {revision}, which was over before it was asked for"


def _trimmed(watching: Watching, evidence: Evidence) -> bool:
    return any(server.trimmed[watching.map] for server in evidence.servers)


def _ended(watching: Watching, evidence: Evidence) -> Found:
    if watching.ended is None:
        yield "never ended, though its node was closed"
    elif watching.end not in ("HistoryLost", "CancelledError", "Closed"):
        yield f"ended with {watching.end}"
    elif watching.end == "HistoryLost" and not _trimmed(watching, evidence):
        position = watching.items[-1][1].revision if watching.items else watching.since
        if position == NEVER or all(_has(lines, position) for lines in evidence.of_map(watching.map)):
            yield f"HistoryLost at {position}, which every server always had"


def _has(lines: list[Change], position: object) -> bool:
    return any(change.revision == position for change in lines)


# About the link.


def links(evidence: Evidence) -> Found:
    """Connecting, then connected and suspended in turn, then closed; it recovers, and notices who is silent."""
    follows = {
        "connecting": ("connected", "closed"),
        "connected": ("suspended", "closed"),
        "suspended": ("connected", "closed"),
        "closed": (),
    }
    for life in evidence.history.lives:
        for (_, before, _), (_, after, _) in zip(life.links, life.links[1:], strict=False):
            if after not in follows[before]:
                yield f"{life.name}/{life.number}: from {before} to {after}"
        yield from _unnoticed(life, evidence)
    yield from _noted(evidence, "recovers")


def _unnoticed(life: NodeLife, evidence: Evidence) -> Found:
    """Who is silent for two beats is noticed; a frozen node cannot notice."""
    if life.frozen:
        return
    patience = 2 * evidence.setup.heartbeat + evidence.setup.slowest + _SLACK
    over = life.crashed or life.closing or evidence.rest
    for silence in life.silences:
        end = min(silence[1] if len(silence) == 2 else evidence.rest[1], over[1])
        state = ""
        for moment, after, _ in life.links:
            if moment[1] <= silence[0] + patience:
                state = after
        if end > silence[0] + patience and state == "connected":
            yield f"{life.name}/{life.number}: still connected {patience:g} s after all fell silent"


def noise(evidence: Evidence) -> Found:
    """Nothing is logged as an error: no handler that raises, no Deferred forgotten, no mistake of coord's own."""
    yield from _noted(evidence, "noise")
    yield from _noted(evidence, "W4")


def _noted(evidence: Evidence, promise: str) -> Found:
    return (words for name, words in evidence.history.wrong if name == promise)


CHECKERS: dict[str, Callable[[Evidence], Found]] = {
    "W1": w1_late,
    "W2": w2_no_lost_wake_up,
    "W3": w3_once,
    "W4": w4_alone,
    "W5": w5_no_leak,
    "W6": w6_closed,
    "W7": w7_own_words,
    "W8": w8_staleness,
    "F1": f1_acknowledged,
    "F2": f2_applied_once,
    "F3": f3_the_one_doubt,
    "F4": f4_replicas,
    "watch": watch,
    "link": links,
    "noise": noise,
}


def check(evidence: Evidence) -> list[tuple[str, str]]:
    """Return every broken promise: its name, and what broke it."""
    return [(name, words) for name, checker in CHECKERS.items() for words in checker(evidence)]
