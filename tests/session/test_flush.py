"""When a turn ends, and that what is wanted then is sent once, and then."""

from __future__ import annotations

from twisted.internet.task import Clock

from coord.session.flush import FlushScheduler


class _Sender:
    """What a turn has sent, each time; and whether there is something to send."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.scheduler = FlushScheduler(self.clock, self.send, lambda: self.pending)
        self.pending = False
        self.again = False
        self.sent = 0

    def send(self) -> None:
        """Send all, or as much as one turn may."""
        self.sent += 1
        self.pending, self.again = self.again, False
        if self.pending:
            self.scheduler.schedule()

    def ask(self) -> None:
        """Do what a wait or a call does."""
        self.pending = True
        self.scheduler.schedule()


def test_the_reactor_tells_when_a_turn_ends() -> None:
    """However often it was asked for, it is sent once, and not before."""
    sender = _Sender()
    sender.ask()
    sender.ask()
    assert (sender.scheduler.scheduled, sender.sent) == (True, 0)
    sender.clock.advance(0)
    assert (sender.scheduler.scheduled, sender.sent) == (False, 1)
    sender.clock.advance(1)
    assert sender.sent == 1


def test_a_turn_that_began_with_what_arrived_ends_with_it() -> None:
    """What it led to is sent at its end, once, without waiting for the reactor's next round."""
    sender = _Sender()
    with sender.scheduler:
        sender.ask()
        sender.ask()
        assert (sender.scheduler.scheduled, sender.sent) == (True, 0)
    assert (sender.scheduler.scheduled, sender.sent) == (False, 1)
    assert sender.clock.getDelayedCalls() == []


def test_what_arrived_may_lead_to_something_by_itself() -> None:
    """Nobody has to schedule it."""
    sender = _Sender()
    with sender.scheduler:
        sender.pending = True
    assert (sender.scheduler.scheduled, sender.sent) == (False, 1)


def test_nothing_asked_nothing_sent() -> None:
    """An arrival that leads to nothing, or to what was sent before it ended."""
    sender = _Sender()
    with sender.scheduler:
        sender.ask()
        sender.pending = False
    assert (sender.scheduler.scheduled, sender.sent) == (False, 0)
    assert sender.clock.getDelayedCalls() == []


def test_what_the_reactor_was_asked_for_it_tells() -> None:
    """An arrival in between does not make it be sent twice, and what it led to is sent with it."""
    sender = _Sender()
    sender.ask()
    with sender.scheduler:
        sender.ask()
    assert (sender.scheduler.scheduled, sender.sent) == (True, 0)
    sender.clock.advance(0)
    assert (sender.scheduler.scheduled, sender.sent) == (False, 1)


def test_what_sending_leaves_has_a_turn_of_its_own() -> None:
    """Where there is more than one turn may send, the rest comes in the reactor's next round."""
    sender = _Sender()
    sender.again = True
    with sender.scheduler:
        sender.ask()
    assert sender.sent == 1
    sender.clock.advance(0)
    assert sender.sent == 2
    assert sender.clock.getDelayedCalls() == []


def test_cancelled_it_sends_nothing() -> None:
    """The reactor was asked for nothing any more, and may be asked again."""
    sender = _Sender()
    sender.ask()
    sender.scheduler.cancel()
    assert (sender.scheduler.scheduled, sender.clock.getDelayedCalls()) == (False, [])
    with sender.scheduler:
        sender.ask()
        sender.scheduler.cancel()
        sender.pending = False
    sender.clock.advance(0)
    assert sender.sent == 0
    sender.ask()
    sender.clock.advance(0)
    assert sender.sent == 1
