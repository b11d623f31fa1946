"""What a run recorded, put together: calls, waits, looks and watches of all nodes, and the servers' own history.

Times are of the monotonic clock, which all processes share. A node's ``order`` counts its events, so that what
happened in one process is in the order in which it happened there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from coord import Revision

__all__ = ["NEVER", "Call", "Checkpoint", "History", "Line", "Look", "Loss", "Wait", "Watched", "read"]

WAKES: Final = ("fired", "failed", "pulsed")
LATCHES: Final = ("fired", "failed")
NEVER: Final = Revision(0, 0)


@dataclass(slots=True)
class Call:
    """A call of a node: when it was made, and what it was told. ``error`` is the name of one."""

    id: str
    node: str
    order: int
    map: str
    key: str
    kind: str
    made: float
    asked: Revision | None = None
    answered: float = inf
    answer_order: int = 1 << 60
    first: bool | None = None
    revision: Revision | None = None
    latched: bool = False
    error: str | None = None


@dataclass(slots=True)
class Wait:
    """A wait of a node. ``armed`` is a time at which it was known to be armed or resolved."""

    id: int
    node: str
    order: int
    map: str
    key: str
    made: float
    armed: float = inf
    resolved: float = inf
    wake_order: int = 1 << 60
    wakes: int = 0
    value: str | None = None
    failed: bool = False
    error: str | None = None


@dataclass(slots=True)
class Look:
    """A node asked what stands for a key."""

    node: str
    map: str
    key: str
    made: float
    answered: float = inf
    revision: Revision | None = None
    error: str | None = None


@dataclass(slots=True)
class Watched:
    """One life of a watch.

    ``seen`` is (revision, kind, key, the value's id), ``caught_up`` the revisions of the markers.
    """

    id: int
    node: str
    map: str
    since: str
    begun: float
    seen: list[tuple[Revision, str, str, str | None]] = field(default_factory=list)
    caught_up: list[tuple[int, Revision]] = field(default_factory=list)
    ended: float = inf
    error: str | None = None
    restarted: bool = True


@dataclass(slots=True)
class Line:
    """One line of a map's history, as the server had it.

    ``era`` counts the losses before it, ``seen_at`` is the number of the checkpoint at which it was first read (none
    where the data was lost before that).
    """

    map: str
    era: int
    revision: Revision
    after: Revision | None
    kind: str
    key: str
    node: str
    id: str | None
    seen_at: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """Data was lost, by our own doing, between these times: all but what each map had up to the revision ``kept``."""

    begun: float
    ended: float
    kept: Mapping[str, Revision] = field(default_factory=dict)


@dataclass(slots=True)
class Checkpoint:
    """No call was made between ``begun`` and ``time``.

    Each node said at ``quiet[node]`` that it had seen everything.
    """

    number: int
    begun: float
    time: float
    quiet: dict[str, float]


@dataclass(slots=True)
class History:
    """All of it."""

    calls: dict[str, Call] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    watches: list[Watched] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    deaths: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def lost(self, era: int) -> Loss | None:
        """Return how an era ended; the last one has not."""
        return self.losses[era] if era < len(self.losses) else None

    def last_era(self, line: Line) -> int:
        """Return the last era in whose data a line is."""
        era = line.era
        while era < len(self.losses) and line.revision <= self.losses[era].kept.get(line.map, NEVER):
            era += 1
        return era

    def position(self, before: Line, era: int) -> Revision:
        """Return where a map stood when an era began, or later, if ``before`` was its newest line until then."""
        kept = (loss.kept.get(before.map, NEVER) for loss in self.losses[before.era : era])
        return min((before.revision, *kept))

    def by_key(self) -> dict[tuple[str, str], list[Line]]:
        """Return each key's lines, in the order of the history."""
        lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in sorted(self.lines, key=lambda line: line.revision):
            lines[line.map, line.key].append(line)
        return lines


def _revision(text: str | None) -> Revision | None:
    return None if text is None else Revision.parse(text)


class _Reader:
    """Reads the events of one node into a history."""

    def __init__(self, history: History, node: str) -> None:
        self._history = history
        self._node = node
        self._waits: dict[int, Wait] = {}
        self._unarmed: dict[str, list[Wait]] = defaultdict(list)
        self._looks: dict[int, Look] = {}
        self._watches: dict[int, Watched] = {}

    def read(self, events: Iterable[dict[str, Any]]) -> None:
        for order, event in enumerate(events):
            read = getattr(self, f"_{event['e'].replace('-', '_')}", None)
            if read is not None:
                read(order, event)

    def _call(self, order: int, event: dict[str, Any]) -> None:
        self._history.calls[event["id"]] = Call(
            event["id"],
            self._node,
            order,
            event["map"],
            event["key"],
            event["kind"],
            event["t"],
            _revision(event["revision"]),
        )

    def _answer(self, order: int, event: dict[str, Any]) -> None:
        call = self._history.calls[event["id"]]
        if call.answered != inf:
            self._history.problems.append(f"F1: {call.id} was answered twice")
        call.answered, call.answer_order = event["t"], order
        call.error = event.get("error")
        call.first = event.get("first")
        call.revision = _revision(event.get("revision"))
        call.latched = event.get("latched", False)

    def _wait(self, order: int, event: dict[str, Any]) -> None:
        wait = Wait(event["id"], self._node, order, event["map"], event["key"], event["t"])
        self._history.waits.append(wait)
        self._waits[wait.id] = wait
        self._unarmed[wait.map].append(wait)

    def _armed(self, order: int, event: dict[str, Any]) -> None:
        unarmed = self._unarmed[event["map"]]
        while unarmed and unarmed[0].id <= event["upto"]:
            unarmed.pop(0).armed = event["t"]

    def _woken(self, order: int, event: dict[str, Any]) -> None:
        wait = self._waits[event["id"]]
        wait.wakes += 1
        wait.resolved, wait.wake_order = event["t"], order
        wait.value, wait.error = event.get("value"), event.get("error")
        wait.failed = event.get("failed", False)

    def _look(self, order: int, event: dict[str, Any]) -> None:
        look = self._looks[event["id"]] = Look(self._node, event["map"], event["key"], event["t"])
        self._history.looks.append(look)

    def _looked(self, order: int, event: dict[str, Any]) -> None:
        look = self._looks[event["id"]]
        look.answered, look.error, look.revision = event["t"], event.get("error"), _revision(event.get("revision"))

    def _watch(self, order: int, event: dict[str, Any]) -> None:
        watched = Watched(event["id"], self._node, event["map"], event["since"], event["t"])
        self._watches[watched.id] = watched
        self._history.watches.append(watched)

    def _seen(self, order: int, event: dict[str, Any]) -> None:
        revision = Revision.parse(event["revision"])
        self._watches[event["id"]].seen.append((revision, event["kind"], event["key"], event["value"]))

    def _caught_up(self, order: int, event: dict[str, Any]) -> None:
        watched = self._watches[event["id"]]
        watched.caught_up.append((len(watched.seen), Revision.parse(event["revision"])))

    def _watch_ended(self, order: int, event: dict[str, Any]) -> None:
        watched = self._watches[event["id"]]
        watched.ended, watched.error = event["t"], event["error"]

    def _problem(self, order: int, event: dict[str, Any]) -> None:
        self._history.problems.append(f"logged by {self._node}: {event['text']}")

    def _closed(self, order: int, event: dict[str, Any]) -> None:
        if event["pending"]:
            self._history.problems.append(f"W6: {event['pending']} waits of {self._node} were left by close()")

    def _quiet(self, order: int, event: dict[str, Any]) -> None:
        if event["waiters"] != event["pending"] or event["calls"]:
            self._history.problems.append(
                f"W5: {self._node} holds {event['waiters']} waiters and {event['calls']} calls,"
                f" where {event['pending']} wait and nobody calls"
            )


def read(events: dict[str, list[dict[str, Any]]]) -> History:
    """Put together what the nodes told, by the name of each."""
    history = History()
    for node, told in events.items():
        _Reader(history, node).read(told)
    return history
