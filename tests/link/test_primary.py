"""What a link does when another server is the primary, whatever its receiver's callbacks do then."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from coord.link.discovery import Resolved
from coord.link.link import Link
from coord.link.urls import parse_target


class _Connections:
    """Connections whose loss makes a callback close the link."""

    lost = None
    clients = 0

    def __init__(self, link: Link) -> None:
        self.link = link
        self.closed: list[Deferred[None]] = []

    def lose(self, _: str) -> None:
        self.closed.append(self.link.close())


def test_a_callback_closes_the_link_when_the_heartbeat_finds_another_primary() -> None:
    """The question that found it is over: to cancel it is no error, and closing ends."""
    answer: Deferred[Resolved] = Deferred()
    link: Any = Link(parse_target("redis://a"), b"channel", b"name", heartbeat=1.0, clock=Clock())
    link._receiver, link._resolver, link._address = Mock(), Mock(), "a:1"
    link._resolver.resolve.return_value = answer
    link.connections = connections = _Connections(link)
    link._heartbeat_returned()
    answer.callback(Resolved("b:1", Mock()))
    (closed,) = connections.closed
    results: list[Any] = []
    closed.addBoth(results.append)
    assert results == [None]
    assert not link.up
