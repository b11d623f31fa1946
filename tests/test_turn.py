"""When a turn ends, and that what it asked for is sent once, and then."""

from __future__ import annotations

from twisted.internet.task import Clock

from coord.session.turn import Turn


def _turn() -> tuple[Turn, Clock, list[str]]:
    clock, sent = Clock(), list[str]()
    return Turn(clock, lambda: sent.append("sent"), lambda: False), clock, sent


def test_the_reactor_tells_when_a_turn_ends() -> None:
    """However often it was asked for, it is sent once, and not before."""
    turn, clock, sent = _turn()
    turn.schedule()
    turn.schedule()
    assert (turn.due, sent) == (True, [])
    clock.advance(0)
    assert (turn.due, sent) == (False, ["sent"])
    clock.advance(1)
    assert sent == ["sent"]


def test_a_turn_that_began_with_what_arrived_ends_with_it() -> None:
    """What it led to is sent at its end, once, without waiting for the reactor's next round."""
    turn, clock, sent = _turn()
    with turn:
        turn.schedule()
        turn.schedule()
        assert sent == []
    assert (turn.due, sent) == (False, ["sent"])
    assert clock.getDelayedCalls() == []


def test_nothing_asked_nothing_sent() -> None:
    """An arrival that leads to nothing."""
    turn, clock, sent = _turn()
    with turn:
        pass
    assert sent == []
    assert clock.getDelayedCalls() == []


def test_what_arrived_may_lead_to_something_by_itself() -> None:
    """Nobody has to schedule it; and what the reactor was asked for, that is sent with it."""
    clock, sent, wanted = Clock(), list[str](), [True]
    turn = Turn(clock, lambda: sent.append("sent"), wanted.pop)
    with turn:
        assert sent == []
    assert (sent, wanted) == (["sent"], [])
    wanted.append(True)
    turn.schedule()
    with turn:
        pass
    assert sent == ["sent"]
    clock.advance(0)
    assert sent == ["sent", "sent"]


def test_what_the_reactor_was_asked_for_it_tells() -> None:
    """An arrival in between does not make it be sent twice."""
    turn, clock, sent = _turn()
    turn.schedule()
    with turn:
        turn.schedule()
    assert sent == []
    clock.advance(0)
    assert sent == ["sent"]


def test_what_sending_asks_for_has_a_turn_of_its_own() -> None:
    """Where there is more than one turn may send, the rest comes in the reactor's next round."""
    clock, sent = Clock(), list[str]()

    def send() -> None:
        sent.append("sent")
        if len(sent) < 2:
            turn.schedule()

    turn = Turn(clock, send, lambda: False)
    with turn:
        turn.schedule()
    assert sent == ["sent"]
    clock.advance(0)
    assert sent == ["sent", "sent"]


def test_cancelled_it_sends_nothing() -> None:
    """Neither in the reactor's next round nor at the end of what arrived."""
    turn, clock, sent = _turn()
    turn.schedule()
    turn.cancel()
    assert clock.getDelayedCalls() == []
    with turn:
        turn.schedule()
        turn.cancel()
    clock.advance(0)
    assert sent == []
