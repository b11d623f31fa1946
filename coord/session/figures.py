"""What metrics show of a node, and the nodes of this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from coord.core.maps import Tally
from coord.link.link import CLOSED, LinkState
from coord.session.counters import Counters

__all__ = ["Figures", "every_node", "track"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A node: its gauges as of now, and its counters, which go on counting. Times are in seconds.

    ``linked_at`` is since 1970, 0 before the first link. ``round_trip`` is infinite without a link, ``lease_left``
    without a lease; below 0 the server may have let go.
    """

    namespace: str
    node: str
    server: str
    link: LinkState
    attempts: int
    losses: int
    linked_at: float
    round_trip: float
    waiters: int
    subscriptions: int
    cached: int
    pending_calls: int
    tallies: dict[str, Tally]
    counters: Counters
    watches: int
    holds: int
    locks: int
    leases: int
    lease_left: float


class _Source(Protocol):
    def figures(self) -> Figures: ...


_nodes: WeakValueDictionary[str, _Source] = WeakValueDictionary()


def track(incarnation: str, source: _Source) -> None:
    """Let `every_node` return this one, as long as it exists and is not closed."""
    _nodes[incarnation] = source


def every_node() -> Iterator[Figures]:
    """Return the nodes of this process that are not closed. Any thread may call this."""
    for reference in _nodes.valuerefs():
        source = reference()
        if source is not None:
            figures = source.figures()
            if figures.link is not CLOSED:
                yield figures
