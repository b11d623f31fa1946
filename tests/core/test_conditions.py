"""What a waiter waits for, as plain functions of the records that it gets to know."""

from __future__ import annotations

from coord.core.conditions import Ended, Woken
from coord.core.maps import MapState
from coord.core.names import MapNames
from coord.core.records import FIRED, PULSED, RESET, Revision, StoredRecord, Tail

STATE = MapState(MapNames("default", "m", 0))


def _stored(number: int, *, kind: object = FIRED, generation: int = 1) -> StoredRecord:
    return StoredRecord(kind, Revision(generation, number), 0, "n", None, b"1")  # type: ignore[arg-type]


def test_an_end_before_the_wait_was_armed() -> None:
    """A read has told at which revision the key was latched, and now it is latched at another."""
    assert not Ended(Revision(1, 5)).met(_stored(5), armed=True)
    assert Ended(Revision(1, 5)).met(_stored(7), armed=True)
    assert not Ended(Revision(1, 5)).met(_stored(7), armed=False)


def test_a_wake_after_a_revision() -> None:
    """The record is one, or has kept one; what came before does not count, unless the key is latched."""
    reset = StoredRecord(RESET, Revision(1, 9), 0, "n", Tail(wake=(PULSED, 1, 6)), b"1")
    for stored in (reset, _stored(6, kind=PULSED)):
        assert Woken(Revision(1, 5), STATE).met(stored, armed=True)
        assert not Woken(Revision(1, 6), STATE).met(stored, armed=True)
    assert Woken(Revision(1, 6), STATE).met(_stored(3), armed=True)
    assert not Woken(Revision(1, 6), STATE).met(None, armed=True)


def test_a_wake_after_a_flush() -> None:
    """All of it is new, though the server's clock was behind, so that its revisions are lower."""
    state = MapState(MapNames("default", "m", 0))
    woken, stored = Woken(Revision(7, 5), state), _stored(3, kind=PULSED, generation=2)
    assert not woken.met(stored, armed=True)
    state.flushed_generation = 7
    assert woken.met(stored, armed=True)
