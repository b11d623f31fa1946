"""The judges are judged: a sound history passes, and each way to break it is found by the check that is for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import pytest

from coord import Revision
from faults import checks
from faults.history import Call, Checkpoint, History, Line, Look, Loss, Wait, Watched, read

KEY, OTHER = "k", "other"


def _call(identity: str, order: int, kind: str, made: float, number: int, **other: object) -> Call:
    """Return a call of the node that the identity begins with, applied as 1.NUMBER and answered a second later."""
    call = Call(identity, identity[0], order, "m", KEY, kind, made)
    call.answered, call.answer_order = made + 1, order + 1
    call.first, call.revision, call.latched = True, Revision(1, number), kind in ("fired", "failed")
    _set(call, **other)
    return call


def _line(number: int, kind: str, identity: str | None, node: str = "a", **other: object) -> Line:
    line = Line("m", 0, Revision(1, number), None, kind, KEY, node, identity, 1)
    _set(line, **other)
    return line


def _wait(number: int, order: int, made: float, wake_order: int, resolved: float, value: str | None) -> Wait:
    return Wait(number, "b", order, "m", KEY, made, made + 1, resolved, wake_order, int(value is not None), value)


def _sound() -> History:
    """Two nodes: ``a`` fires, resets and pulses a key, ``b`` waits for it, is told that it stands, and watches."""
    history = History()
    calls = [
        _call("a:1", 0, "fired", 10, 1),
        _call("b:1", 10, "fired", 14, 1, first=False),
        _call("a:2", 4, "reset", 20, 2),
        _call("a:3", 8, "pulsed", 30, 3),
    ]
    history.calls = {call.id: call for call in calls}
    history.waits = [
        _wait(1, 1, 1, 5, 10.5, "a:1"),
        _wait(2, 2, 2, 6, 10.5, "a:1"),
        _wait(3, 21, 22, 25, 30.5, "a:3"),
        _wait(4, 26, 31, 1 << 60, inf, None),
    ]
    history.looks = [Look("b", "m", KEY, 15, 16, Revision(1, 1))]
    history.lines = [
        _line(1, "fired", "a:1", after=Revision(0, 0)),
        _line(2, "reset", None),
        _line(3, "pulsed", "a:3"),
    ]
    seen: list[tuple[Revision, str, str, str | None]] = [
        (Revision(1, 1), "fired", KEY, "a:1"),
        (Revision(1, 2), "reset", KEY, None),
        (Revision(1, 3), "pulsed", KEY, "a:3"),
    ]
    history.watches = [Watched(9, "b", "m", "start", 3, seen, [(1, Revision(1, 1))])]
    history.checkpoints = [Checkpoint(1, 40, 45, {"a": 44, "b": 44})]
    return history


def test_a_sound_history_has_no_violations() -> None:
    """What happened as it should is not complained of."""
    assert checks.violations(_sound()) == []


def _again_after_loss(history: History) -> None:
    history.losses = [Loss(12.5, 13)]
    for line in history.lines[1:]:
        line.era = 1
    history.lines[1:1] = [_line(1, "fired", "a:1", era=1, revision=Revision(2, 1), after=Revision(0, 0))]


def _set(target: object, **values: object) -> None:
    for name, value in values.items():
        setattr(target, name, value)


def _refused(error: str, history: History) -> None:
    _change(history, "a:3", first=None, revision=None, error=error)


def _lost_between(history: History) -> None:
    history.losses = [Loss(25, 26)]
    history.lines[2].era = 1


def _change(history: History, identity: str, **values: object) -> None:
    _set(history.calls[identity], **values)


Break = Callable[[History], object]

BREAKS: dict[str, tuple[str, Break]] = {
    # The history itself.
    "a revision repeats": ("revisions", lambda h: h.lines.insert(1, _line(1, "pulsed", None))),
    "a revision goes back": ("revisions", lambda h: h.lines.append(_line(2, "pulsed", None))),
    "a number is left out": ("revisions", lambda h: _set(h.lines[2], revision=Revision(1, 4))),
    "a generation names another predecessor": (
        "revisions",
        lambda h: h.lines.append(_line(1, "pulsed", None, revision=Revision(2, 1), after=Revision(1, 2))),
    ),
    "a generation names no predecessor": (
        "revisions",
        lambda h: h.lines.append(_line(1, "pulsed", None, revision=Revision(2, 1))),
    ),
    "a latched key is fired": ("table", lambda h: _set(h.lines[1], kind="fired")),
    "a pending key is reset": ("table", lambda h: _set(h.lines[0], kind="pulsed")),
    # F1.
    "an acknowledged fire is not there": ("f1_acknowledged", lambda h: h.lines.pop()),
    "an acknowledged reset is not there": ("f1_acknowledged", lambda h: h.lines.pop(1)),
    "the revision told is of another key": ("f1_acknowledged", lambda h: _set(h.lines[0], key=OTHER)),
    "the revision told is of another call": ("f1_acknowledged", lambda h: _set(h.lines[0], id="a:3")),
    "two calls of a node change places": ("f1_order", lambda h: _change(h, "a:3", order=-1)),
    "a later call is applied first": ("f1_time", lambda h: _change(h, "a:1", made=35)),
    # F2.
    "a pulse is applied twice": ("f2_once", lambda h: h.lines.append(_line(4, "pulsed", "a:3"))),
    "an answered call is applied again after a loss": ("f2_once", _again_after_loss),
    "whoever was not first has changed something": (
        "f2_first",
        lambda h: h.lines.append(_line(4, "fired", "b:1", "b")),
    ),
    "nobody made the call": ("f2_first", lambda h: h.lines.append(_line(4, "fired", "c:7", "c"))),
    "nobody made the reset": ("f2_resets", lambda h: h.lines.append(_line(4, "reset", None))),
    "a refused reset was applied": ("f2_resets", lambda h: _change(h, "a:2", first=None, error="Unreachable")),
    "what is told to stand never was": ("standing", lambda h: _change(h, "b:1", revision=Revision(1, 9))),
    "what is told to stand had gone": ("standing", lambda h: _change(h, "b:1", made=22, answered=23)),
    "what is told to stand was not there yet": ("standing", lambda h: _change(h, "b:1", made=7, answered=8)),
    "a pending record stands in the way": ("standing", lambda h: _change(h, "b:1", latched=False)),
    "nothing is told to stand": ("standing", lambda h: _change(h, "b:1", revision=None, latched=True)),
    "a look finds nothing": ("standing", lambda h: _set(h.looks[0], revision=None)),
    "a look finds what had gone": ("standing", lambda h: _set(h.looks[0], made=23)),
    # F3.
    **{
        f"a call with {error} was applied": (
            "f3_not_applied",
            partial(_refused, error),
        )
        for error in checks.NOT_APPLIED
    },
    # W2.
    "an armed waiter is not woken": ("w2_no_lost_wakeup", lambda h: _set(h.waits[2], resolved=inf)),
    "an armed waiter is woken too late": ("w2_no_lost_wakeup", lambda h: _set(h.waits[2], resolved=50)),
    "an armed waiter times out after the checkpoint": (
        "w2_no_lost_wakeup",
        lambda h: _set(h.waits[2], resolved=50, error="TimedOut"),
    ),
    "an armed waiter is denied": ("w2_stays", lambda h: _set(h.waits[3], resolved=40, error="AccessDenied")),
    "a waiter is given up": ("w2_stays", lambda h: _set(h.waits[3], resolved=40, error="ServerRefused")),
    "a waiter waits for a latched key": ("w2_latched", lambda h: _set(h.lines[2], kind="fired")),
    "a value that nothing had": ("w2_value", lambda h: _set(h.waits[2], value="a:99")),
    "a value of another key": ("w2_value", lambda h: _set(h.waits[2], key=OTHER)),
    "a failure that was none": ("w2_value", lambda h: _set(h.waits[0], failed=True)),
    "a failure taken for a value": ("w2_value", lambda h: _set(h.lines[0], kind="failed")),
    "a value from the future": ("w2_value", lambda h: _set(h.waits[0], resolved=9)),
    "a pulse long over": ("w2_value", lambda h: h.waits.append(_wait(5, 50, 60, 51, 61, "a:3"))),
    "a fire long reset": ("w2_value", lambda h: h.waits.append(_wait(5, 50, 60, 51, 61, "a:1"))),
    # W3.
    "resolved twice": ("w3_once", lambda h: _set(h.waits[0], wakes=2)),
    "woken out of order": ("w3_order", lambda h: _set(h.waits[1], wake_order=4)),
    "a wait made in a pulse's callback gets that pulse": (
        "w3_order",
        lambda h: _set(h.waits[3], value="a:3", wake_order=28),
    ),
    # W7.
    "own waiter not woken before the caller": (
        "w7_own_calls",
        lambda h: _set(h.waits[0], node="a", order=-1),
    ),
    "own reset not seen": (
        "w7_own_calls",
        lambda h: h.waits.append(Wait(5, "a", 6, "m", KEY, 22, 23, 23, 7, 1, "a:1")),
    ),
    "own pulse seen again": (
        "w7_own_calls",
        lambda h: h.waits.append(Wait(5, "a", 11, "m", KEY, 32, 33, 33, 12, 1, "a:3")),
    ),
    # Watchers.
    "a change is not shown": ("watchers", lambda h: h.watches[0].seen.pop(1)),
    "a change is shown twice": ("watchers", lambda h: h.watches[0].seen.insert(1, h.watches[0].seen[1])),
    "changes are shown out of order": ("watchers", lambda h: h.watches[0].seen.reverse()),
    "the beginning is not shown": ("watchers", lambda h: h.watches[0].seen.pop(0)),
    "a resumed watch skips": ("watchers", lambda h: _set(h.watches[0], since="1.1")),
    "a change that never was": (
        "watchers",
        lambda h: h.watches[0].seen.append((Revision(1, 4), "fired", KEY, "a:4")),
    ),
    "another value is shown": (
        "watchers",
        lambda h: h.watches[0].seen.__setitem__(0, (Revision(1, 1), "fired", KEY, "a:3")),
    ),
    "history lost for no reason": ("watchers", lambda h: _set(h.watches[0], error="HistoryLost")),
    "caught up twice": ("watchers", lambda h: h.watches[0].caught_up.append((2, Revision(1, 2)))),
    "caught up elsewhere": ("watchers", lambda h: h.watches[0].caught_up.__setitem__(0, (1, Revision(1, 2)))),
    "a new generation passes for the old one": (
        "watchers",
        _lost_between,
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_history_is_caught(name: str) -> None:
    """The check that is for this finds it."""
    check, broken = BREAKS[name]
    history = _sound()
    broken(history)
    checks._attribute(history)
    assert list(getattr(checks, check)(history))
    assert checks.violations(history)


def test_every_check_has_teeth() -> None:
    """No check is without a history that it catches."""
    assert {check.__name__ for check in checks.CHECKS} == {check for check, _ in BREAKS.values()}


def _event(event: str, t: float = 1.0, **said: object) -> dict[str, object]:
    return {"e": event, "t": t, **said}


CALL = _event("call", id="a:1", map="m", kind="fired", key=KEY, revision=None)
ANSWER = _event("answer", id="a:1", first=True, revision="1.1", latched=True)
QUIET = {"waiters": 0, "pending": 0, "calls": 0}

TOLD: dict[str, tuple[str, list[dict[str, object]]]] = {
    "a call answered twice": ("F1", [CALL, ANSWER, ANSWER]),
    "a waiter left behind": ("W5", [_event("quiet", **{**QUIET, "waiters": 1})]),
    "a waiter forgotten": ("W5", [_event("quiet", **{**QUIET, "pending": 1})]),
    "a call left behind": ("W5", [_event("quiet", **{**QUIET, "calls": 1})]),
    "a waiter left by close": ("W6", [_event("closed", pending=1)]),
    "an error in the log": ("logged", [_event("problem", text="internal error")]),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_a_node_tells_of_itself_is_judged(name: str) -> None:
    """Answers that come twice, what is left behind, and errors in a node's log are violations."""
    promise, events = TOLD[name]
    assert any(problem.startswith(promise) for problem in read({"a": events}).problems)


def test_data_that_was_lost_excuses() -> None:
    """What was lost with the data is owed to nobody; a call that was unanswered then may be applied again."""
    history = _sound()
    history.losses = [Loss(30.2, 31)]
    for line in history.lines:
        line.seen_at = None
    again = _line(1, "pulsed", "a:3", era=1, revision=Revision(2, 1), after=Revision(0, 0))
    history.lines.append(again)
    _change(history, "a:3", revision=Revision(2, 1), answered=32)
    history.waits[2].resolved = 39
    history.watches[0].error, history.watches[0].ended = "HistoryLost", 32
    assert checks.violations(history) == []


def _set_back() -> History:
    """Return the sound history with a failover after the reset, to a server that had the fire alone."""
    history = _sound()
    history.losses = [Loss(25, 26, {"m": Revision(1, 1)})]
    for line in history.lines[:2]:
        line.seen_at = None
    history.lines[2] = _line(2, "pulsed", "a:3", era=1, revision=Revision(2, 2), after=Revision(1, 1))
    _change(history, "a:3", revision=Revision(2, 2))
    # The fire stands again, and wakes who waited for the next one.
    _set(history.waits[2], value="a:1", resolved=27)
    history.looks.append(Look("b", "m", KEY, 28, 29, Revision(1, 1)))
    watched = history.watches[0]
    watched.seen.pop()
    watched.ended, watched.error = 27, "HistoryLost"
    return history


def test_data_that_was_set_back_is_judged_by_what_was_kept() -> None:
    """What the promoted server had stands again; the rest is owed to nobody."""
    assert checks.violations(_set_back()) == []


SET_BACK: dict[str, tuple[str, Break]] = {
    "the next line follows what was lost": ("revisions", lambda h: _set(h.lines[2], after=Revision(1, 2))),
    "a revision is given out again": ("revisions", lambda h: _set(h.lines[2], revision=Revision(1, 2), after=None)),
    "a latched key is fired": ("table", lambda h: _set(h.lines[2], kind="fired")),
    "what was kept is applied again": ("f2_once", lambda h: _set(h.lines[2], id="a:1")),
    "what was lost is told to stand": ("standing", lambda h: _set(h.looks[1], revision=Revision(1, 2))),
    "a waiter waits for what stands again": (
        "w2_latched",
        lambda h: _set(h, lines=h.lines[:2]),
    ),
    "a watch goes on over the gap": (
        "watchers",
        lambda h: _set(h.watches[0], seen=[*h.watches[0].seen, (Revision(2, 2), "pulsed", KEY, "a:3")], error=None),
    ),
    "a watch that had seen nothing of it is ended": ("watchers", lambda h: h.watches[0].seen.pop()),
}


@pytest.mark.parametrize("name", SET_BACK)
def test_a_broken_history_that_was_set_back_is_caught(name: str) -> None:
    """The check that is for this finds it, in what the promoted server had and in what came after."""
    check, broken = SET_BACK[name]
    history = _set_back()
    broken(history)
    checks._attribute(history)
    assert list(getattr(checks, check)(history))
