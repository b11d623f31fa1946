"""Counters of a node's activity since it was made."""

from __future__ import annotations

from typing import Final

from coord.core.maps import Tally
from coord.errors import AccessDenied, Closed, NotReplicated, Unconfirmed, Unreachable

__all__ = ["Counters"]


_MAPS: Final = 50
"""So many maps have a tally of their own, for the life of the node: a program may use any number of maps."""

_OUTCOMES: Final = (
    (Unreachable, "unreachable"),
    (Unconfirmed, "unconfirmed"),
    (AccessDenied, "denied"),
    (NotReplicated, "not_replicated"),
    (Closed, "closed"),
)


class Counters:
    """Totals that only grow; see ``Statistics``.

    ``calls`` were answered, ``firsts`` of them were the first, and ``refusals`` were answered with an error.
    ``failures`` counts all calls that ended with an error, by its kind. ``tallies`` are those of the maps, by name,
    without the waits that the live cache answered (``cache_hits``). ``changes`` were read by watches.
    """

    __slots__ = (
        "batches",
        "cache_hits",
        "calls",
        "changes",
        "failures",
        "firsts",
        "histories_lost",
        "losses",
        "refusals",
        "tallies",
    )

    OTHER: Final = "_other"
    """The name of the tally that all further maps share."""

    def __init__(self) -> None:
        self.cache_hits = 0
        self.calls = self.firsts = self.refusals = 0
        self.failures: dict[str, int] = dict.fromkeys((*(name for _, name in _OUTCOMES), "refused"), 0)
        self.batches = 0
        self.losses = 0
        self.changes = self.histories_lost = 0
        self.tallies: dict[str, Tally] = {}

    def tally(self, name: str) -> Tally:
        """Return the tally of a map."""
        found = self.tallies.get(name)
        if found is None:
            name = name if len(self.tallies) < _MAPS else self.OTHER
            found = self.tallies.setdefault(name, Tally())
        return found

    def call_failed(self, error: BaseException) -> None:
        """Count a call that ended with an error."""
        self.failures[next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "refused")] += 1
