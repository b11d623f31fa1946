"""The judgement: one function a promise, each returns the violations it finds, in words.

They are pure: a history goes in. ``test_checks.py`` shows that each catches what it is for.

What happened on the server is known from its own history (`Line`), which every run reads before it loses any. A
change was made somewhere between its call and the answer to that; ``_began`` and ``_done`` say when.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf
from typing import Final

from coord import Revision
from faults.history import LATCHES, NEVER, WAKES, Call, History, Line, Look, Wait, Watched

__all__ = ["CHECKS", "owed", "violations"]

GIVEN_UP: Final = ("CancelledError", "TimedOut", "Closed")
NOT_APPLIED: Final = ("Unreachable", "AccessDenied", "ServerRefused", "CorruptRecord")

Check = Callable[[History], Iterator[str]]


def violations(history: History) -> list[str]:
    """Return all that is wrong with a history."""
    _attribute(history)
    found = list(history.problems)
    for check in CHECKS:
        found += check(history)
    return found


# What is known of the lines.


def _made_by(history: History, line: Line) -> Call | None:
    return history.calls.get(line.id) if line.id is not None else None


def _began(history: History, line: Line) -> float:
    """Return a time before which the change was not made."""
    call = _made_by(history, line)
    return call.made if call else -inf


def _done(history: History, line: Line) -> float:
    """Return a time after which the change had been made: its call's answer, if it was of this change."""
    call = _made_by(history, line)
    if call is None or call.revision != line.revision or not call.first:
        return inf
    return call.answered


def _attribute(history: History) -> None:
    """Give the lines of resets, which have no value, the id of the call that was told of them."""
    told = {(call.map, call.revision): call for call in history.calls.values() if call.first and call.kind == "reset"}
    for line in history.lines:
        if line.kind == "reset" and line.id is None and (line.map, line.revision) in told:
            line.id = told[line.map, line.revision].id


# The history itself.


def revisions(history: History) -> Iterator[str]:
    """Revisions never go back and never repeat; in a generation none is left out, and the first names the last."""
    lines: dict[str, list[Line]] = defaultdict(list)
    for line in history.lines:
        lines[line.map].append(line)
    for of_map in lines.values():
        for before, line in pairwise([Line(of_map[0].map, -1, NEVER, None, "", "", "", None), *of_map]):
            position = history.position(before, line.era)
            if line.revision <= before.revision:
                yield f"revisions: {line.map} {line.revision} comes after {before.revision}"
            follows = line.after if line.after is not None else Revision(line.revision[0], line.revision[1] - 1)
            if follows != position:
                yield f"revisions: {line.map} {line.revision} follows {follows}, where {position} was"


def table(history: History) -> Iterator[str]:
    """What happens to a key: a fire or fail only of a pending key, a reset only of a latched one."""
    for (name, key), lines in history.by_key().items():
        stand: list[Line] = []
        for line in lines:
            while stand and history.last_era(stand[-1]) < line.era:
                stand.pop()
            latched = bool(stand) and stand[-1].kind in LATCHES
            if latched and line.kind in LATCHES:
                yield f"what happens to a key: {name}/{key} {line.kind} at {line.revision}, although it was latched"
            if not latched and line.kind == "reset":
                yield f"what happens to a key: {name}/{key} reset at {line.revision}, although it was pending"
            stand.append(line)


# Promises to a caller.


def f1_acknowledged(history: History) -> Iterator[str]:
    """F1: what was acknowledged is in the history, under the revision that was told."""
    lines = {(line.map, line.revision): line for line in history.lines}
    for call in history.calls.values():
        if call.first:
            line = lines.get((call.map, call.revision)) if call.revision else None
            if line is None:
                yield f"F1: {call.id} was told {call.revision}, which is not in the history of {call.map}"
            elif (line.key, line.kind) != (call.key, call.kind) or (line.id != call.id and call.kind != "reset"):
                yield f"F1: {call.id} ({call.kind} {call.key}) was told {call.revision}, which is {line}"


def f1_order(history: History) -> Iterator[str]:
    """F1: the calls of one node on one map apply in the order they were made."""
    latest: dict[tuple[int, str, str], Call] = {}
    for line in sorted(history.lines, key=lambda line: line.revision):
        call = _made_by(history, line)
        if call is None:
            continue
        before = latest.get((line.era, line.map, call.node))
        if before is not None and before.order > call.order:
            yield f"F1: {call.id}, made before {before.id}, was applied after it"
        latest[line.era, line.map, call.node] = call


def f1_time(history: History) -> Iterator[str]:
    """F1: a call made after another one was acknowledged, on any node, is applied after it."""
    newest: dict[str, float] = defaultdict(lambda: -inf)
    for line in sorted(history.lines, key=lambda line: line.revision):
        if _done(history, line) < newest[line.map]:
            yield f"F1: {line.map} {line.revision} ({line.id}) was acknowledged before an earlier change was asked for"
        newest[line.map] = max(newest[line.map], _began(history, line))


def f2_once(history: History) -> Iterator[str]:
    """F2: no call is applied twice to the same data; one applied again, after a loss, was unanswered then."""
    applied = Counter(
        (era, line.id)
        for line in history.lines
        if line.id is not None
        for era in range(line.era, history.last_era(line) + 1)
    )
    for (era, identity), times in applied.items():
        if times > 1:
            yield f"F2: {identity} was applied {times} times in era {era}"
    eras: dict[str, list[int]] = defaultdict(list)
    for era, identity in {(line.era, line.id) for line in history.lines if line.id is not None}:
        eras[identity].append(era)
    for identity, several in eras.items():
        call = history.calls.get(identity)
        for era in sorted(several)[1:]:
            if call is not None and call.answered < history.losses[era - 1].begun:
                yield f"F2: {identity} was answered, and applied again after the data was lost"


def f2_first(history: History) -> Iterator[str]:
    """F2: whoever was told ``first=False`` changed nothing, and no line is of a call that nobody made."""
    applied = {line.id for line in history.lines if line.id is not None}
    for call in history.calls.values():
        # After a loss a call may be applied, unanswered, and then again: the answer is to the latter.
        if call.first is False and call.id in applied and not history.losses:
            yield f"F2: {call.id} was told that it was not the first, and was applied"
    for line in history.lines:
        if line.kind in WAKES and line.id not in history.calls:
            yield f"F2: {line.map} {line.revision} is of {line.id}, a call that nobody made"


def f2_resets(history: History) -> Iterator[str]:
    """F2: each reset in the history was acknowledged, or is of a call whose fate its caller does not know."""
    doubtful = Counter(
        (call.node, call.map, call.key)
        for call in history.calls.values()
        if call.kind == "reset" and (call.answered == inf or call.error == "Unconfirmed")
    )
    for call in history.calls.values():
        # Applied before a loss, and sent again after it: only what came of the latter was told.
        if call.kind == "reset" and _lost_under(history, call):
            doubtful[call.node, call.map, call.key] += 1
    unknown: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in history.lines:
        if line.kind == "reset" and not line.id:
            unknown[line.node, line.map, line.key].append(line)
    for where, lines in unknown.items():
        if len(lines) > doubtful[where]:
            calls = history.calls.values()
            resets = [call for call in calls if call.kind == "reset" and (call.node, call.map, call.key) == where]
            yield f"F2: of {[str(line.revision) for line in lines]}, {doubtful[where]} can be explained by {resets}"


def f3_not_applied(history: History) -> Iterator[str]:
    """F3: ``Unreachable`` and the other plain errors mean that it was not applied."""
    applied = {line.id: line for line in history.lines if line.id is not None}
    for call in history.calls.values():
        if call.error in NOT_APPLIED and call.id in applied and not _lost_under(history, call):
            yield f"F3: {call.id} got {call.error}, and was applied as {applied[call.id].revision}"


def _lost_under(history: History, call: Call) -> bool:
    """Whether the data was lost while a call was under way."""
    return any(call.made < loss.ended and loss.begun < call.answered for loss in history.losses)


class _Key:
    """One key's lines, in order; ``gone[i]`` is a time after which line ``i`` no longer stood."""

    def __init__(self, history: History, lines: list[Line]) -> None:
        self.lines = lines
        self.place = {line.revision: index for index, line in enumerate(lines)}
        self.made_by: dict[str | None, list[int]] = defaultdict(list)
        for index, line in enumerate(lines):
            if line.kind in WAKES:
                self.made_by[line.id].append(index)
        self.done = [_done(history, line) for line in lines]
        self.eras = [history.last_era(line) for line in lines]
        self.gone: list[float] = []
        # By the last era of what was made later: what was lost with a change stands again.
        soonest: dict[int, float] = {}
        for era, done in zip(reversed(self.eras), reversed(self.done), strict=True):
            loss = history.lost(era)
            later = [when for other, when in soonest.items() if other >= era]
            self.gone.append(min((*later, loss.ended if loss else inf)))
            soonest[era] = min(soonest.get(era, inf), done)
        self.gone.reverse()


def _keys(history: History) -> dict[tuple[str, str], _Key]:
    keys: dict[tuple[str, str], _Key] = defaultdict(lambda: _Key(history, []))
    keys.update((where, _Key(history, lines)) for where, lines in history.by_key().items())
    return keys


def standing(history: History) -> Iterator[str]:
    """F2: what a call or a look was told to stand did stand at some time between question and answer."""
    keys = _keys(history)
    for call in history.calls.values():
        if call.first is False:
            yield from _stood(history, keys[call.map, call.key], call, call.id)
            if call.kind in LATCHES and not call.latched:
                yield f"F2: {call.id} ({call.kind}) was told that a pending record stands in its way"
    for look in history.looks:
        if look.answered != inf and look.error is None:
            yield from _stood(history, keys[look.map, look.key], look, f"a look of {look.node}")


def _stood(history: History, key: _Key, asked: Call | Look, who: str) -> Iterator[str]:
    told = asked.revision
    if told is None:
        for line, done, era in zip(key.lines, key.done, key.eras, strict=True):
            loss = history.lost(era)
            if done < asked.made and (loss is None or asked.answered < loss.begun):
                yield f"F2: {who} was told that nothing stands for {asked.map}/{asked.key}, where {line.revision} did"
        return
    index = key.place.get(told)
    if index is None:
        yield f"F2: {who} was told of {asked.map}/{asked.key} {told}, which is not in the history"
    elif _began(history, key.lines[index]) > asked.answered:
        yield f"F2: {who} was told of {told} before anybody asked for it"
    elif key.gone[index] < asked.made:
        yield f"F2: {who} was told that {asked.map}/{asked.key} {told} stands, which it did no longer"


# Promises to a waiter.


def w2_no_lost_wakeup(history: History) -> Iterator[str]:
    """W2: armed before a wake, in data that stayed: resolved by the next checkpoint."""
    for wait, line, quiet in owed(history):
        if wait.resolved > quiet:
            yield f"W2: {_named(wait)}, armed at {wait.armed:.3f}, missed {line.revision} ({line.id})"


def owed(history: History) -> Iterator[tuple[Wait, Line, float]]:
    """Return each armed wait that a wake was owed to: the wake, and the time by which it had to have come."""
    checkpoints = {checkpoint.number: checkpoint for checkpoint in history.checkpoints}
    by_time = {where: _wakes_by_time(history, key.lines) for where, key in _keys(history).items()}
    for wait in history.waits:
        times, wakes = by_time.get((wait.map, wait.key), ([], []))
        index = bisect_right(times, wait.armed)
        if index < len(wakes):
            quiet = checkpoints[wakes[index].seen_at or 0].quiet
            # A node that died before the checkpoint takes its waits with it.
            if wait.node in quiet:
                yield wait, wakes[index], quiet[wait.node]


def _wakes_by_time(history: History, lines: list[Line]) -> tuple[list[float], list[Line]]:
    """Return times, and the wake that whoever was armed before each has to have heard of soonest."""
    wakes = [line for line in lines if line.kind in WAKES and line.seen_at is not None]
    wakes.sort(key=lambda line: _began(history, line))
    times = [_began(history, line) for line in wakes]
    for index in reversed(range(len(wakes) - 1)):
        wakes[index] = min(wakes[index], wakes[index + 1], key=lambda line: line.seen_at or 0)
    return times, wakes


def w2_latched(history: History) -> Iterator[str]:
    """W2: at a checkpoint nobody waits for a key that is latched."""
    lines = history.by_key()
    for checkpoint in history.checkpoints:
        era = sum(loss.begun < checkpoint.time for loss in history.losses)
        latched = {}
        for where, of_key in lines.items():
            known = [line for line in of_key if _known(history, line, era, checkpoint.number)]
            if known and known[-1].kind in LATCHES:
                latched[where] = known[-1]
        for wait in history.waits:
            quiet = checkpoint.quiet.get(wait.node, -inf)
            if wait.made < quiet < wait.resolved and (wait.map, wait.key) in latched:
                stands = latched[wait.map, wait.key].revision
                yield f"W2: {_named(wait)} waits at checkpoint {checkpoint.number}, where {stands} is latched"


def _known(history: History, line: Line, era: int, number: int) -> bool:
    """Whether a line was in the data at a checkpoint."""
    if line.era == era:
        return (line.seen_at or inf) <= number
    return line.era < era <= history.last_era(line)


def w2_stays(history: History) -> Iterator[str]:
    """W2: whatever breaks, a wait stays until it is woken, or given up here; one that never was armed may be denied."""
    for wait in history.waits:
        denied = wait.error == "AccessDenied" and wait.armed >= wait.resolved
        if wait.error is not None and wait.error not in GIVEN_UP and not denied:
            yield f"W2: {_named(wait)} ended with {wait.error}"


def w2_value(history: History) -> Iterator[str]:
    """W2: a waiter gets the value of a wake of its own key that was made while it waited, or was latched then."""
    keys = _keys(history)
    for wait in history.waits:
        if wait.error is None and wait.resolved != inf:
            key = keys[wait.map, wait.key]
            places = key.made_by.get(wait.value, [])
            problems = [_wrong(history, wait, key, index) for index in places] or ["which no wake of the key had"]
            # After a loss a call may have been applied again, with the same value.
            if all(problems):
                yield f"W2: {_named(wait)} got {wait.value}, {problems[0]}"


def _wrong(history: History, wait: Wait, key: _Key, index: int) -> str:
    """Return what is wrong with a wait that was woken by this line; the live cache may be stale (W8), but not long."""
    wake = key.lines[index]
    if wait.failed is not (wake.kind == "failed"):
        return f"as if that had {'failed' if wait.failed else 'not failed'}"
    if _began(history, wake) > wait.resolved:
        return "before anybody asked for it"
    over = key.done[index] if wake.kind == "pulsed" else key.gone[index]
    if any(over < checkpoint.begun and checkpoint.time < wait.made for checkpoint in history.checkpoints):
        return "which had been over for long"
    return ""


def w3_once(history: History) -> Iterator[str]:
    """W3: a waiter is resolved once."""
    for wait in history.waits:
        if wait.wakes > 1:
            yield f"W3: {_named(wait)} was resolved {wait.wakes} times"


def w3_order(history: History) -> Iterator[str]:
    """W3: a wake resolves waiters in the order they came, and those made meanwhile belong to the next."""
    kinds = {line.id: line.kind for line in history.lines}
    # A call whose server has lost its data may be applied again, in the next era: that is another wake.
    applied = Counter(identity for _, identity in {(line.era, line.id) for line in history.lines})
    together: dict[tuple[str, str, str], list[Wait]] = defaultdict(list)
    for wait in history.waits:
        if wait.value is not None:
            together[wait.node, wait.key, wait.value].append(wait)
    for (_, _, value), waits in together.items():
        waits.sort(key=lambda wait: wait.wake_order)
        there = [wait for wait in waits if wait.order < waits[0].wake_order]
        for before, wait in pairwise(there):
            if wait.order < before.order:
                yield f"W3: {_named(wait)} came before {_named(before)}, and was woken after it"
        late = [wait for wait in waits if wait.order > waits[0].wake_order]
        if late and kinds.get(value) == "pulsed" and applied[value] == 1:
            yield f"W3: {_named(late[0])} was made after the pulse {value} had been heard here, and got it"


def w7_own_calls(history: History) -> Iterator[str]:
    """W7: what a node's own call did is seen by its own waits as soon as the call is answered."""
    waits: dict[tuple[str, str, str], list[Wait]] = defaultdict(list)
    for wait in history.waits:
        waits[wait.node, wait.map, wait.key].append(wait)
    revisions = {(line.map, line.id): line.revision for line in history.lines if line.id is not None}
    lines = {(line.map, line.revision): line for line in history.lines}
    for call in history.calls.values():
        if call.revision is None:
            continue
        line = lines.get((call.map, call.revision))
        loss = history.lost(history.last_era(line)) if line else None
        for wait in waits[call.node, call.map, call.key]:
            if call.first and call.kind in WAKES and wait.order < call.order and wait.wake_order > call.answer_order:
                yield f"W7: {_named(wait)} was not woken before the node's own {call.id} was answered"
            if wait.order > call.answer_order and wait.value is not None:
                got = revisions.get((wait.map, wait.value))
                if loss is not None and loss.begun < wait.resolved:
                    # What the call did was lost meanwhile.
                    continue
                if got is not None and (got < call.revision or (got == call.revision and not call.latched)):
                    yield f"W7: {_named(wait)} got {got}, older than what the node's own {call.id} had told"


def _named(wait: Wait) -> str:
    return f"wait {wait.id} of {wait.node} for {wait.map}/{wait.key}"


# Promises to a watcher.


def watchers(history: History) -> Iterator[str]:
    """A watch shows every line after the point it began at, once, in order; it ends only where data was lost."""
    lines: dict[str, list[Line]] = defaultdict(list)
    for line in sorted(history.lines, key=lambda line: line.revision):
        lines[line.map].append(line)
    for watched in history.watches:
        who = f"watch {watched.id} of {watched.node} on {watched.map} since {watched.since}"
        for problem in _followed(history, lines[watched.map], watched):
            yield f"watch: {who} {problem}"


def _followed(history: History, lines: list[Line], watched: Watched) -> Iterator[str]:
    position = None if watched.since in ("now", "start") else Revision.parse(watched.since)
    places = {line.revision: index for index, line in enumerate(lines)}
    markers = dict(watched.caught_up)
    if len(watched.caught_up) > 1:
        yield f"told {len(watched.caught_up)} times that it had caught up"
    for count, (revision, kind, key, value) in enumerate(watched.seen):
        marker = markers.get(count)
        if marker is not None and position is not None and count and marker != position:
            yield f"had caught up at {marker}, where it stood at {position}"
        position = marker or position
        index = places.get(revision)
        if index is None:
            yield f"showed {revision}, which is not in the history"
            return
        line = lines[index]
        expected = history.position(lines[index - 1], line.era) if index else NEVER
        if position is None and (watched.since == "now" or expected != NEVER):
            yield f"began at {revision}, and not where it was asked to"
        elif position is not None and position != expected:
            yield f"showed {revision} after {position}, and not after {expected}"
        if (kind, key, value) != (line.kind, line.key, line.id if line.kind != "reset" else value):
            yield f"showed {kind} {key} {value} where the history has {line}"
        position = revision
    yield from _ended(history, places, lines, watched, position)


def _ended(
    history: History, places: dict[Revision, int], lines: list[Line], watched: Watched, position: Revision | None
) -> Iterator[str]:
    if watched.error != "HistoryLost":
        return
    index = places.get(position) if position is not None else None
    era = history.last_era(lines[index]) if index is not None else None
    lost = [loss for loss in history.losses if loss.begun < watched.ended]
    if era is not None:
        lost = [loss for loss in lost if loss is history.lost(era)]
    if not lost:
        yield f"ended with HistoryLost at {position}, although nothing was lost"


CHECKS: Final[tuple[Check, ...]] = (
    revisions,
    table,
    f1_acknowledged,
    f1_order,
    f1_time,
    f2_once,
    f2_first,
    f2_resets,
    f3_not_applied,
    standing,
    w2_no_lost_wakeup,
    w2_latched,
    w2_stays,
    w2_value,
    w3_once,
    w3_order,
    w7_own_calls,
    watchers,
)
