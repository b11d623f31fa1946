"""The promises to a waiter: W1 to W8."""

from __future__ import annotations

from coord.core.records import Kind, Revision
from simulation.evidence import (
    DENIED,
    ENDED,
    LATCHED,
    Evidence,
    Found,
    frozen,
    is_counter,
    left_at_rest,
    named,
    noted,
    shown,
    waiting_at,
)
from simulation.history import Call, Change, Key, Moment, Wait

__all__ = [
    "brought_back",
    "came_back",
    "contradicted",
    "denied",
    "hidden",
    "in_reach",
    "in_time",
    "is_news",
    "w1_late",
    "w2_no_lost_wake_up",
    "w3_once",
    "w4_alone",
    "w5_no_leak",
    "w6_closed",
    "w7_own_calls",
    "w8_staleness",
]


def w1_late(evidence: Evidence) -> Found:
    """A wait on a latched key is answered as soon as it is armed; on a cached one, before the subscript returns."""
    for wait in evidence.history.waits:
        if wait.cached and not wait.sync:
            yield f"{shown(wait)}: in the live cache, and not answered at once"
        if wait.settled is not None and waiting_at(wait, wait.settled) and not _given_up(wait, wait.settled):
            yield from _late(wait, wait.settled, evidence)
        soon = evidence.soon(wait.life, wait.made, wait.where)
        late = all(moment is None or moment[1] > soon for moment in (wait.settled, wait.resolved))
        if late and evidence.lasted(wait.life, wait.made, soon):
            yield f"{shown(wait)}: not armed soon, though the link lasted"
        if left_at_rest(wait, evidence):
            last = next((each for each in reversed(evidence.kept[wait.where[0]]) if each.where == wait.where), None)
            if last is not None and last.kind in LATCHED and not evidence.found_over(wait):
                yield f"{shown(wait)}: waits at rest, and its key is {last.kind} at {last.revision}"


def _late(wait: Wait, settled: Moment, evidence: Evidence) -> Found:
    # One that joins an armed key is armed as of what the node has heard: a message may be on its way.
    since = wait.made[0], wait.made[1] - evidence.delay(wait.life)
    # And a lie is believed until a heartbeat's read is answered, which a server in trouble may put off.
    for forgery in evidence.forged(wait.where):
        if forgery.moment < settled and settled[1] <= evidence.soon(wait.life, forgery.moment):
            return
    spells = evidence.any_spell(wait.where, since, settled)
    if spells and not any(spell.pending for spell in spells):
        yield f"{shown(wait)}: settled, not answered, and its key had long been latched"


def _given_up(wait: Wait, moment: Moment) -> bool:
    """Whether a wait was cancelled, or its time was over, just then."""
    return wait.outcome == "error" and wait.resolved is not None and wait.resolved[1] == moment[1]


def w2_no_lost_wake_up(evidence: Evidence) -> Found:
    """A waiter that was armed (``armed()`` said so) is woken by every later wake that the server kept.

    Soon, where the link stayed connected all the time and asked the server that made the change; else soon after a
    link came to stay; at rest in any case.
    """
    for wait in evidence.history.waits:
        if wait.settled is None:
            continue
        left = left_at_rest(wait, evidence)
        for change in evidence.history.changes:
            silent = change.kind in (*ENDED, Kind.COUNTED)
            if change.where != wait.where or silent or change.moment < wait.settled:
                continue
            if hidden(wait, change, evidence):
                continue
            if in_reach(wait, change, evidence):
                yield f"{shown(wait)}: armed and connected, and not soon woken by {change.kind} {change.revision}"
            if change not in evidence.kept[wait.where[0]] or not is_news(change, evidence):
                continue
            if left:
                yield f"{shown(wait)}: armed, and not woken by {change.kind} {change.revision}"
            if came_back(wait, change, evidence):
                yield f"{shown(wait)}: armed, and not woken when it was back by {change.kind} {change.revision}"


def hidden(wait: Wait, change: Change, evidence: Evidence) -> bool:
    """Whether a forged message hid a change that is over, as the link was lost before a heartbeat could tell.

    On the next link nobody can tell a lie from data that were lost, of which the waiters had seen more.
    """
    over = change.kind is Kind.PULSED or any(
        each.where == change.where and each.moment > change.moment for each in evidence.history.changes
    )
    delay, links = evidence.delay(wait.life), wait.life.links
    for forgery in evidence.forged(change.where) if over else ():
        until = evidence.soon(wait.life, forgery.moment)
        lost = [at for at, state, _ in links if state == "suspended" and forgery.moment < at and at[1] <= until]
        # What happens until the next link has told what is there is hidden, too.
        back = [at[1] for at, state, _ in links if lost and state == "connected" and at > lost[0]]
        if lost and forgery.moment < change.moment and change.moment[1] <= (back[0] if back else float("inf")) + delay:
            return True
    return False


def came_back(wait: Wait, change: Change, evidence: Evidence) -> bool:
    """Whether a wait was not resolved soon after the link was back, and lasted."""
    assert wait.settled is not None
    life = wait.life
    links = life.links
    for index, (moment, state, _) in enumerate(links):
        soon = evidence.soon(life, moment, wait.where)
        end = links[index + 1][0] if index + 1 < len(links) else life.crashed
        lasted = moment > change.moment and state == "connected" and (end is None or end[1] > soon)
        if lasted and not evidence.split_at(moment) and not evidence.lost_between(wait.settled, (moment[0], soon)):
            return wait.resolved is None or wait.resolved[1] > soon
    return False


def in_reach(wait: Wait, change: Change, evidence: Evidence) -> bool:
    """Whether a wait was not resolved soon, though its link lasted from its arming on."""
    assert wait.settled is not None
    soon = evidence.soon(wait.life, change.moment, wait.where)
    if wait.life.number not in change.linked or (wait.resolved is not None and wait.resolved[1] <= soon):
        return False
    if change not in evidence.kept[change.where[0]] and evidence.lost_around(wait.life, change):
        return False
    return evidence.lasted(wait.life, wait.settled, soon)


def is_news(change: Change, evidence: Evidence) -> bool:
    """Whether a generation is above all others that there were before it, and all that were lost."""
    kept = {id(each) for each in evidence.kept[change.where[0]]}
    return all(
        each.revision.generation <= change.revision.generation
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
            yield f"{shown(wait)}: resolved {wait.times} times"
        if wait.resolved is None and wait.life.crashed is None:
            yield f"{shown(wait)}: never resolved"
        parent = wait.parent
        if parent is not None and wait.serial is not None and wait.serial == parent.serial:
            changes = evidence.by_serial.get(wait.serial, [])
            pulsed = len(changes) == 1 and changes[0].kind is Kind.PULSED
            excused = pulsed and (brought_back(changes[0], wait, evidence) or contradicted(changes[0], wait, evidence))
            if pulsed and not excused:
                yield f"{shown(wait)}: made in a callback of pulse {wait.serial}, and woken by it"
    for queue in queues.values():
        yield from _in_order(queue)


def contradicted(change: Change, wait: Wait, evidence: Evidence) -> bool:
    """Whether a forged message and a change contradicted each other, unconfirmed: then the key is read again."""
    assert wait.resolved is not None
    return any(
        forgery.moment < wait.resolved and wait.resolved[1] <= evidence.soon(wait.life, forgery.moment)
        for forgery in evidence.forged(wait.where)
    )


def _in_order(queue: list[Wait]) -> Found:
    latest: Wait | None = None
    for wait in queue:
        if wait.sync or wait.resolved is None:
            continue
        if latest is None or latest.resolved is None or latest.resolved < wait.resolved:
            latest = wait
        elif wait.outcome in ("value", "failed"):
            yield f"{shown(wait)}: woken before the older {shown(latest)}"


def w4_alone(evidence: Evidence) -> Found:
    """Each waiter has the value of its own key's wake, whatever its siblings' handlers do with theirs."""
    for wait in evidence.history.waits:
        if wait.outcome not in ("value", "failed"):
            continue
        call = evidence.history.calls.get(wait.serial) if wait.serial is not None else None
        if isinstance(wait.value, dict) and "f" in wait.value:
            yield from _forged(wait, evidence)
        elif is_counter(wait.where):
            yield from _of_a_counter(wait, evidence)
        elif wait.serial in evidence.history.holds:
            yield from _of_a_hold(wait, evidence)
        elif call is None or wait.value != _value_of(wait, evidence):
            yield f"{shown(wait)}: got {wait.value!r}, which nobody fired"
        elif call.where != wait.where or (call.kind is Kind.FAILED) != (wait.outcome == "failed"):
            yield f"{shown(wait)}: got a {wait.outcome} of call {call.serial}, a {call.kind} of {call.where}"
    yield from _with_errors(evidence)


def _with_errors(evidence: Evidence) -> Found:
    errors = {"Closed", "CancelledError", "TimedOut"}
    for wait in evidence.history.waits:
        if wait.outcome == "error" and wait.error not in errors and not denied(wait, evidence):
            yield f"{shown(wait)}: ended with {wait.error}"
        if wait.error == "CancelledError" and wait.cancelled is None:
            yield f"{shown(wait)}: cancelled by nobody"
        if wait.error == "TimedOut" and not in_time(wait):
            yield f"{shown(wait)}: timed out at the wrong time"


def _of_a_counter(wait: Wait, evidence: Evidence) -> Found:
    """A goal gives the count, and an event what it was fired with."""
    call = evidence.history.counts.get(-wait.value) if isinstance(wait.value, int) else None
    fired = call is not None and call.where == wait.where and call.kind in (Kind.FIRED, Kind.PULSED)
    changes = evidence.history.changes
    if not fired and not any(
        each.where == wait.where and each.latched and each.count == wait.value for each in changes
    ):
        yield f"{shown(wait)}: got {wait.value!r}, which it never stood at"


def _of_a_hold(wait: Wait, evidence: Evidence) -> Found:
    assert wait.serial is not None
    hold = evidence.history.holds[wait.serial]
    if hold.where != wait.where or wait.outcome != "value" or wait.value != _value_of(wait, evidence):
        yield f"{shown(wait)}: got {wait.value!r}, a {wait.outcome}, of hold {hold.serial} of {hold.where}"


def _value_of(wait: Wait, evidence: Evidence) -> dict[str, object]:
    return {"n": wait.serial, **evidence.setup.pad}


def _forged(wait: Wait, evidence: Evidence) -> Found:
    """A forged message wakes those that it meets, and is believed until the next heartbeat, no longer."""
    forgery = evidence.history.forgeries[wait.value["f"]]
    assert wait.resolved is not None
    if forgery.where != wait.where:
        yield f"{shown(wait)}: woken by what was forged for {'/'.join(forgery.where)}"
    elif wait.resolved[1] > evidence.soon(wait.life, forgery.moment):
        yield f"{shown(wait)}: woken by what was forged {wait.resolved[1] - forgery.moment[1]:g} s before"


def denied(wait: Wait, evidence: Evidence) -> bool:
    """Whether a wait ended because access was denied; one that is armed outlasts that."""
    assert wait.resolved is not None
    armed = wait.settled is not None and wait.settled < wait.resolved
    return wait.error == "AccessDenied" and not armed and evidence.in_trouble(DENIED, wait.life.born, wait.resolved)


def in_time(wait: Wait) -> bool:
    """Whether a wait timed out when it had to."""
    assert wait.resolved is not None
    waited = wait.resolved[1] - wait.made[1]
    return wait.timeout is not None and wait.timeout - 1e-6 <= waited <= wait.timeout + frozen(wait.life) + 1e-6


def w5_no_leak(evidence: Evidence) -> Found:
    """Noted by `simulation.play`, at rest and after every key was reset: entries, subscriptions, timers, the cache."""
    yield from noted(evidence, "W5")


def w6_closed(evidence: Evidence) -> Found:
    """``close()`` gives every waiter and every call its last word, makes no noise, and comes to an end."""
    for life in evidence.history.lives:
        if life.closing is not None and life.closed is None and life.crashed is None:
            yield f"{life.name}/{life.number}: close() never came to an end"
    for wait in (*evidence.history.waits, *evidence.history.gone, *evidence.history.reaching):
        closing = wait.life.closing
        there = closing is not None and wait.resolved is not None and wait.made < closing < wait.resolved
        # What the node holds is withdrawn before its waits end.
        there = there and not (evidence.setup.lease and wait.outcome != "error")
        if there and wait.error not in ("Closed", "CancelledError"):
            yield f"{shown(wait)}: waited at close(), and ended with {wait.error or wait.outcome}"
    yield from noted(evidence, "W6")


def w7_own_calls(evidence: Evidence) -> Found:
    """A call's own node has seen what it did when the call is answered: its waits before, and all that come later."""
    done = [call for call in evidence.history.calls.values() if call.first and call.life.crashed is None]
    by_key: dict[tuple[int, Key], list[Wait]] = {}
    for wait in evidence.history.waits:
        by_key.setdefault((wait.life.number, wait.where), []).append(wait)
    for call in done:
        assert call.answered is not None
        assert call.record is not None
        for wait in by_key.get((call.life.number, call.where), ()):
            if call.kind not in ENDED and wait.made < call.made and waiting_at(wait, call.answered):
                yield f"{shown(wait)}: waited before {named(call)}, which was answered first"
            if wait.made > call.answered and wait.serial is not None and wait.resolved is not None:
                yield from _older(wait, call, call.record.revision, evidence)


def _older(wait: Wait, call: Call, revision: Revision, evidence: Evidence) -> Found:
    assert wait.serial is not None
    assert wait.resolved is not None
    woken = [change.revision for change in evidence.by_serial.get(wait.serial, ())]
    kept = any(change.revision == revision for change in evidence.kept[call.where[0]])
    # Behind a lie, a waiter goes by what it was sure of, and gets the last wake that it may have missed.
    lied_to = any(forgery.moment < wait.resolved for forgery in evidence.forged(wait.where))
    # On the other side of a split, nobody knows of the call.
    lost = evidence.lost_between(call.made, wait.resolved) or evidence.split_at(wait.resolved)
    if woken and max(woken) < revision and kept and not lost and not lied_to:
        yield f"{shown(wait)}: woken by {max(woken)}, and {named(call)} was answered before with {revision}"


def w8_staleness(evidence: Evidence) -> Found:
    """Nobody is woken by what was over before, but for a message's delay and what a silent death may take to notice.

    ``record()`` says what stood at the server at some moment between the question and the answer.
    """
    for wait in evidence.history.waits:
        changes = evidence.by_serial.get(wait.serial, []) if wait.serial is not None else []
        if (
            changes
            and wait.resolved is not None
            # In a split, a waiter may be armed where the key is not, and then find it where it has been all along.
            and not evidence.split_between(wait.made, wait.resolved, evidence.delay(wait.life))
            and not any(
                _fresh(each, wait, evidence) or brought_back(each, wait, evidence) or contradicted(each, wait, evidence)
                for each in changes
            )
        ):
            yield f"{shown(wait)}: woken by {changes[-1].kind} {changes[-1].revision}, which was over long before"
    for look in evidence.history.looks:
        if look.answered is None or look.error or evidence.is_cursor_lost(look):
            continue
        revision = look.record.revision if look.record is not None else None
        stood = [each for every in evidence.stood(look.where, look.asked, look.answered) for each in every]
        if all((each.revision if each else None) != revision for each in stood):
            yield f"record({look.where}) said {revision}, and {[str(each and each.revision) for each in stood]} stood"
    yield from noted(evidence, "W8")


def _fresh(change: Change, wait: Wait, evidence: Evidence) -> bool:
    last = change.moment
    if change.kind is not Kind.PULSED:
        for server in evidence.books:
            standing = server.standing.get(change.where, [])
            for index, (_, each) in enumerate(standing):
                if each is change and index + 1 == len(standing):
                    return True
                if each is change:
                    last = max(last, standing[index + 1][0])
    # Where reads were refused meanwhile, only the next heartbeat after that finds out that it is over.
    return wait.made[1] <= evidence.soon(wait.life, last)


def brought_back(change: Change, wait: Wait, evidence: Evidence) -> bool:
    """Whether a wait was armed where its key had gone, and met a copy of the data from before, with this change.

    Whoever was armed where there was nothing has to take all that stands later for news: a map's first generation,
    begun while its node was away, and an old one that came back look the same. To take it for old would lose wakes.
    """
    if wait.settled is None or wait.resolved is None:
        return False
    # The copy may be at another server, while the wait is armed at the old one, which still answers, or as of what
    # the node has heard last.
    since = wait.made[0], wait.made[1] - evidence.delay(wait.life)
    nothing = any(None in stood for stood in evidence.stood(wait.where, since, wait.resolved))
    return nothing and any(
        since[1] <= moment[1] and moment < wait.resolved and change.moment <= standing.moment
        for moment, standing in evidence.brought_back(wait.where)
    )
