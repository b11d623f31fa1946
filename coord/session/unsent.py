"""The message at exit of a program that ended before its calls were sent or answered."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol
from weakref import WeakSet

from coord.link.link import CLOSED, LinkState
from coord.session.threads import ReactorThread

__all__ = ["watch"]


class Node(Protocol):
    """The part of a session that is used here."""

    clock: Any
    thread: ReactorThread

    @property
    def server(self) -> str:
        """Its address, without secrets."""

    @property
    def state(self) -> LinkState:
        """The state of the link."""

    def pending(self) -> Mapping[str, int]:
        """Return how many requests of each kind are unanswered, under the kind's name."""


_nodes: Final[WeakSet[Node]] = WeakSet()
# Strong references: until the reactor runs, nothing else may refer to a node with unsent requests.
_early: Final[set[Node]] = set()


def watch(node: Node) -> None:
    """At exit, print what this node was asked in vain."""
    _nodes.add(node)
    if not node.thread.ran:
        _early.add(node)
        node.clock.callWhenRunning(_early.discard, node)


@atexit.register
def _say() -> None:
    for node in list(_nodes):
        text = _ended_early(node) if node.thread.ran else _never_ran(node)
        if text and node.state is not CLOSED and sys.stderr is not None:
            sys.stderr.write(f"coord: {text}\n")


def _never_ran(node: Node) -> str:
    asked = " and ".join(_counted(count, what) for what, count in node.pending().items() if count)
    if not asked:
        return ""
    return (
        f"not sent to {node.server}, because Twisted's reactor never ran: {asked}. "
        "Run it with twisted.internet.task.react(main)"
    )


def _ended_early(node: Node) -> str:
    # A wait that nobody waits for is no loss.
    calls = node.pending()["call"]
    if not calls:
        return ""
    asked = _counted(calls, "call")
    return (
        f"the program ended before {node.server} answered {asked}: await what a call returns, or close the coordinator"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"
