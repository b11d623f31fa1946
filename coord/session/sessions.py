"""The sessions of a node: one for all maps of one server, or one for each map of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed

from coord.link.link import Link, LinkState
from coord.session import figures, unsent
from coord.session.commands import Commands
from coord.session.node import Node
from coord.session.session import Session

__all__ = ["LinkInfo", "OneServer", "Sessions"]


class LinkInfo(NamedTuple):
    """The link to one server: its address, its state, why it is in this state, and how many maps use it."""

    address: str
    state: LinkState
    reason: str
    maps: int


class Sessions(Protocol):
    """What a coordinator uses."""

    node: Node

    @property
    def is_copy(self) -> bool:
        """Whether this is a copy, in the child of a fork."""

    def of(self, name: str) -> Session:
        """Return the session that serves a map."""

    @property
    def every(self) -> Sequence[Session]:
        """All sessions there are now."""

    @property
    def attempts(self) -> int:
        """The number of attempts to connect to a server."""

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The links to the servers in use."""

    @property
    def moves(self) -> tuple[int, int]:
        """How often a map has come to a server, and how often as a guest, while its slot moved."""

    def commands(self, at: str | None) -> Commands:
        """Return the commands of a map's server; raise `InvalidInput` if there are several servers and no map."""

    def scanners(self) -> Deferred[list[Commands]]:
        """Return the commands of each server that has data."""

    def turn(self) -> AbstractContextManager[None]:
        """Return a context at whose end everything is sent."""

    def start(self) -> None:
        """Begin to connect."""

    def close(self) -> Deferred[Any]:
        """Fail all waiters and calls, and then close the connections."""


class OneServer:
    """The one session of a node that uses one server."""

    def __init__(self, node: Node, link: Link) -> None:
        self.node = node
        self._session = Session(node, link)
        figures.track(node.incarnation, self._session)
        unsent.watch(self._session)

    def of(self, name: str) -> Session:  # noqa: ARG002
        """Return the session."""
        return self._session

    @property
    def every(self) -> Sequence[Session]:
        """The session."""
        return (self._session,)

    @property
    def is_copy(self) -> bool:
        """Whether this is a copy, in the child of a fork."""
        return self._session.is_copy

    @property
    def attempts(self) -> int:
        """The number of attempts to connect."""
        return self._session.link.attempts

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The one link."""
        session = self._session
        return (LinkInfo(session.server, session.state, session.reason, len(session.table.maps)),)

    @property
    def moves(self) -> tuple[int, int]:
        """No map moves."""
        return 0, 0

    def commands(self, at: str | None) -> Commands:  # noqa: ARG002
        """Return the commands of the server."""
        return self._session.commands

    def scanners(self) -> Deferred[list[Commands]]:
        """Return the commands of the server."""
        return succeed([self._session.commands])

    def turn(self) -> AbstractContextManager[None]:
        """Return a context at whose end everything is sent."""
        return self._session.receive_context

    def start(self) -> None:
        """Begin to connect."""
        self._session.start()

    def close(self) -> Deferred[Any]:
        """Fail all waiters and calls, and then close the connections."""
        return self._session.close()
