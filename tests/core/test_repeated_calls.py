"""What the table makes of the outcome of a call that was sent again on another link."""

from __future__ import annotations

from coord.core.records import Kind
from core.test_keys import ABC, NAMES, Node, made, reset, rev, woken


def test_a_repeated_outcome_wakes_only_those_who_came_before_the_call() -> None:
    """W7, W8: a call answered as it was long ago is owed to the earlier waits, and no news to the later ones."""
    node = Node()
    node.wait("before")
    call = node.table.order()
    node.subscribe()
    node.table.link_lost()
    node.wait("after")
    fired = made(Kind.FIRED, 1)
    assert woken(node.table.call_repeated(node.map, ABC, fired, call)) == ["before"]
    node.subscribe()
    # Somebody has reset the key meanwhile.
    assert node.read(rev(2), reset(2, fired)) is None
    assert list(node.entry().waiters) == ["after"]


def test_a_repeated_call_that_is_news_is_learnt() -> None:
    """W7: where this link has taught us what stood, a higher revision was applied just now."""
    node = Node()
    node.arm("first")
    fired = made(Kind.FIRED, 1)
    node.table.message_received(ABC, fired)
    assert node.wait("late") is fired
    node.table.call_repeated(node.map, ABC, reset(2, fired), node.table.order())
    assert node.wait("later") is None


def test_a_read_from_before_a_repeated_call_is_asked_again() -> None:
    """W7: an answer that the call overtook on another connection is not taken for what stands."""
    node = Node()
    node.wait("w")
    node.subscribe()
    (ticket,) = node.tickets().values()
    node.table.call_repeated(node.map, ABC, reset(2, made(Kind.FIRED, 1)), node.table.order())
    assert node.table.read_answered(NAMES.channel("abc"), ticket, rev(1), made(Kind.FIRED, 1)) is None
    assert node.read(rev(2), reset(2, made(Kind.FIRED, 1))) is None
    assert list(node.entry().waiters) == ["w"]
