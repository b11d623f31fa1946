"""The message at exit of a program that never ran the reactor, so that nothing it asked for was sent."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from coord.session.threads import ReactorThread

__all__ = ["watch"]


class Node(Protocol):
    """The part of a session that is used here."""

    clock: Any
    thread: ReactorThread

    @property
    def server(self) -> str:
        """Its address, without secrets."""

    def pending(self) -> Mapping[str, int]:
        """Return how many requests of each kind are unanswered, under the kind's name."""


# Strong references: a node that nothing else refers to may have unsent requests, too.
_nodes: Final[set[Node]] = set()


def watch(node: Node) -> None:
    """At exit, if the reactor has not run by then, print what was not sent."""
    if not node.thread.ran:
        _nodes.add(node)
        node.clock.callWhenRunning(_nodes.discard, node)


@atexit.register
def _say() -> None:
    for node in _nodes:
        asked = " and ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in node.pending().items() if count)
        if asked and not node.thread.ran and sys.stderr is not None:
            sys.stderr.write(
                f"coord: not sent to {node.server}, because Twisted's reactor never ran: {asked}. "
                "Run it with twisted.internet.task.react(main)\n"
            )
