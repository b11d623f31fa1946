"""Everything that was observed in one run, in one order.

A *moment* is a place in that order: every entry has one of its own. Times are in virtual seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from coord.core.acks import Acks
from coord.core.records import CaughtUp, Kind, Record, Revision

__all__ = [
    "BLUR",
    "Ack",
    "AckWait",
    "Astray",
    "Call",
    "Change",
    "End",
    "Eviction",
    "Fault",
    "Forgery",
    "Held",
    "History",
    "Hold",
    "Look",
    "Moment",
    "Move",
    "NodeLife",
    "Overlap",
    "Request",
    "Spell",
    "Trouble",
    "Wait",
    "Watching",
]

Moment = tuple[int, float]
"""(place in the order, virtual time)."""

Key = tuple[str, str]
"""(map, key)."""

BLUR = 0.002
"""Seconds: the server counts whole milliseconds."""


@dataclass(slots=True, eq=False)
class Change:
    """One change as a server made it: the truth. ``serial`` names the call that brought its value."""

    moment: Moment
    where: Key
    kind: Kind
    revision: Revision
    node: str
    serial: int | None
    server: int
    # What was the newest before it.
    previous: Revision
    # The lives (by number) whose link was connected, and asked this server, when it was made.
    linked: frozenset[int]
    # Where the server's stream to its replicas was then.
    written: int = 0
    # The TTL of the call that brought its value, and whether the end of the event that it followed had passed.
    ttl: float = 0.0
    displaces: bool = False
    # The revision that it says the key has been latched since; of a counter, what it stands at, and its goal.
    count: int | None = None
    goal: int | None = None
    latched_at: Revision | None = None
    # The holds of the key that said they were valid then.
    valid: frozenset[int] = frozenset()
    # The token of a lock's owner.
    token: str | None = None
    # The name of the server's process.
    process: str = ""

    @property
    def latched(self) -> bool:
        """Whether the key is latched by it."""
        return self.kind in (Kind.FIRED, Kind.FAILED)


@dataclass(slots=True, eq=False)
class End:
    """When a server has an event end from a moment on, by its own clock; ``at`` is ``None`` where it has no end.

    ``wall`` is what that clock showed then; ``copied``: the server got it with other data, and no call set it.
    """

    moment: Moment
    of: Change | None
    at: float | None
    wall: float
    copied: bool


@dataclass(slots=True, eq=False)
class Spell:
    """A time in which nothing changed about a key on one server, and its clock went from ``begin`` to ``end``.

    ``since`` is when it began, in virtual seconds.
    """

    since: float
    change: Change | None
    at: float | None
    begin: float
    end: float

    @property
    def latched(self) -> bool:
        """Whether the key was latched at some moment of it."""
        return self.change is not None and self.change.latched and (self.at is None or self.begin < self.at + BLUR)

    @property
    def pending(self) -> bool:
        """Whether the key was pending at some moment of it, as an event also leaves it whose end has passed."""
        stood = self.change is not None and self.change.latched
        return not stood or (self.at is not None and self.end > self.at - BLUR)


@dataclass(slots=True, eq=False)
class NodeLife:
    """One incarnation of a node, as its user sees it."""

    number: int
    name: str
    born: Moment
    heartbeat: float
    # The name of its node, which several may share, and of its process.
    node: str = ""
    incarnation: str = ""
    links: list[tuple[Moment, str, str]] = field(default_factory=list)
    # When nothing that it asks could be answered: [begin, end], virtual seconds.
    silences: list[list[float]] = field(default_factory=list)
    # When its process was stopped and continued; when it crashed, when close() was called and answered.
    frozen: list[list[float]] = field(default_factory=list)
    crashed: Moment | None = None
    closing: Moment | None = None
    closed: Moment | None = None
    # When it certainly reached which server: a heartbeat was answered, or a link was made.
    reached: list[tuple[Moment, int]] = field(default_factory=list)
    # When it last sent a renewal of a lease, by map, virtual seconds.
    renewed: dict[str, float] = field(default_factory=dict)
    # On a cluster: the same of the links of each map, and what it reached.
    by_map: dict[str, tuple[list[tuple[Moment, str, str]], list[tuple[Moment, int]]]] = field(default_factory=dict)

    def turn_to(self, name: str) -> None:
        """Have its link be that of one map of a cluster."""
        self.links, self.reached = self.by_map.get(name, ([], []))

    @property
    def over(self) -> bool:
        """Whether it crashed or was closed."""
        return self.crashed is not None or self.closing is not None


@dataclass(slots=True, eq=False)
class Wait:
    """One wait: for an event, or (``manner`` is ``gone``) for the end of one.

    ``cached``: the live cache had its key then. ``parent``: it was made in that one's callback. ``armed`` is when
    ``armed()``, asked right after it, said that it was armed. ``serial`` names the call whose wake resolved it;
    ``error`` is the name of any other end. ``value`` is what the Deferred gave; of a wait for the end, the record.
    """

    number: int
    life: NodeLife
    where: Key
    made: Moment
    cached: bool
    manner: str
    parent: Wait | None
    deferred: Any = None
    settled: Moment | None = None
    resolved: Moment | None = None
    sync: bool = False
    outcome: Literal["value", "failed", "error"] | None = None
    serial: int | None = None
    value: Any = None
    error: str = ""
    cancelled: Moment | None = None
    times: int = 0
    timeout: float | None = None
    # The count that is waited for.
    least: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """One call. ``wanted``: the revision that a reset was told to take back. ``replicas``: how many have to have it.

    ``ttl`` is that of a fire, 0 for none; a call of kind ``expired`` moves an end.
    """

    serial: int
    life: NodeLife
    where: Key
    kind: Kind
    made: Moment
    timeout: float
    wanted: Revision | None = None
    replicas: int = 0
    # Seconds that these are given.
    within: float = 0.0
    deferred: Any = None
    answered: Moment | None = None
    first: bool | None = None
    record: Record | None = None
    error: str = ""
    cancelled: Moment | None = None
    ttl: float = 0.0
    # Of a count: what it adds, the goal that it gives, the name that counts once, and what it was told.
    n: int = 0
    goal: int | None = None
    who: str | None = None
    count: int = 0
    # Whether its node was a guest of the server that was about to get the map.
    guest: bool = False


@dataclass(slots=True, eq=False)
class Hold:
    """One hold, which fires its key with its ``serial``. ``held`` is what its Deferred gave.

    ``released`` is when it ended for its user, who withdrew or cancelled it or got an error; ``freed`` when the
    withdrawal was answered, with ``trouble`` if that was an error.
    """

    serial: int
    life: NodeLife
    where: Key
    made: Moment
    need: int
    timeout: float
    deferred: Any = None
    answered: Moment | None = None
    error: str = ""
    held: Any = None
    released: Moment | None = None
    cancelled: bool = False
    freed: Moment | None = None
    trouble: str = ""

    def wanted_at(self, moment: Moment) -> bool:
        """Whether its user had it and wanted it then, and lived."""
        if self.answered is None or self.error or self.answered > moment:
            return False
        ends = (self.released, self.life.crashed, self.life.closing)
        return all(end is None or end > moment for end in ends)


@dataclass(slots=True, eq=False)
class Held:
    """A time in which a server had a holder; ``copied`` and ``lost``: it came, or went, with all other data.

    ``valid``: the hold said that it was valid when a call took its holder away.
    """

    server: int
    where: Key
    name: str
    serial: int
    begin: Moment
    copied: bool
    end: Moment | None = None
    lost: bool = False
    valid: bool = False


@dataclass(slots=True, eq=False)
class Request:
    """One request for a lock. ``leaves``: whoever loses it leaves the release to the node.

    ``over`` is when it ended for its user, who released it, lost it, gave up or got an error.
    """

    serial: int
    life: NodeLife
    where: Key
    made: Moment
    timeout: float | None
    leaves: bool
    deferred: Any = None
    granted: Moment | None = None
    lock: Any = None
    error: str = ""
    cancelled: bool = False
    lost: Moment | None = None
    over: Moment | None = None
    # When it was first seen not to be valid any more, in virtual seconds.
    invalid: float | None = None

    @property
    def held(self) -> Any:
        """What says whether it is valid; ``None`` before it is granted."""
        return self.lock


@dataclass(slots=True, eq=False)
class Eviction:
    """A call that asks the owner of a lock to release it; ``owner`` names the request that it found."""

    asked: Moment
    where: Key
    answered: Moment | None = None
    owner: int | None = None


@dataclass(slots=True, eq=False)
class Overlap:
    """Two requests for one lock that are both valid, from the grant of the second on."""

    moment: Moment
    first: Request
    second: Request


@dataclass(slots=True, eq=False)
class Ack:
    """One acknowledgement that a user sent, of the change at a ``revision`` of a map."""

    serial: int
    life: NodeLife
    map: str
    revision: Revision
    made: Moment
    timeout: float
    deferred: Any = None
    answered: Moment | None = None
    error: str = ""
    cancelled: Moment | None = None

    @property
    def where(self) -> Key:
        """The map and key of its line."""
        return f"{self.map}/acks", f"{self.revision}/{self.life.node}/{self.life.incarnation}"


@dataclass(slots=True, eq=False)
class AckWait:
    """One wait for the acknowledgements of a change: ``by`` these names, so many names, or (``None``) the members.

    ``told`` is what its Deferred, or its error, said of the names; ``error`` is the name of any error.
    """

    number: int
    life: NodeLife
    map: str
    revision: Revision
    by: tuple[str, ...] | int | None
    made: Moment
    timeout: float | None
    deferred: Any = None
    resolved: Moment | None = None
    told: Acks | None = None
    error: str = ""
    cancelled: Moment | None = None
    times: int = 0


@dataclass(slots=True, eq=False)
class Look:
    """One ``record()``: what the server says now."""

    life: NodeLife
    where: Key
    asked: Moment
    answered: Moment | None = None
    record: Record | None = None
    error: str = ""
    # Whether it is a part of a listing.
    listed: bool = False


@dataclass(slots=True, eq=False)
class Watching:
    """One watch; ``items`` is what it showed, ``entered`` when its block began, ``end`` the error it ended with."""

    life: NodeLife
    map: str
    since: str | Revision
    asked: Moment
    entered: Moment | None = None
    items: list[tuple[Moment, Record | CaughtUp]] = field(default_factory=list)
    ended: Moment | None = None
    end: str = ""
    stopped: bool = False


@dataclass(slots=True, eq=False)
class Forgery:
    """A message that no server sent: the value that it would have a waiter take is ``{"f": number}``."""

    moment: Moment
    where: Key
    kind: Kind
    revision: Revision


@dataclass(slots=True, eq=False)
class Trouble:
    """A time in which a server refused: which kind of trouble it was in. ``end`` is ``None`` while it lasts.

    On a cluster it is the trouble of one ``map``.
    """

    kind: str
    server: int
    begin: Moment
    end: Moment | None = None
    map: str = ""


@dataclass(slots=True, eq=False)
class Move:
    """A time in which the slot of a map was open, as its keys moved."""

    map: str
    begin: Moment
    end: Moment | None = None


@dataclass(slots=True, eq=False)
class Astray:
    """A link that led to a replica, from when on, and until when that was seen."""

    life: NodeLife
    begin: Moment
    end: float


@dataclass(slots=True, eq=False)
class Fault:
    """Something that was broken, or mended; on a cluster perhaps for one ``map`` only."""

    moment: Moment
    verb: str
    map: str = ""


@dataclass(slots=True)
class History:
    """All of a run. ``standing`` is the truth over time, of each server; see `simulation.servers`."""

    clock: Any
    moments: int = 0
    lives: list[NodeLife] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    # Waits for the end of an event.
    gone: list[Wait] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    # Calls on keys that are counters, and waits for counts.
    counts: dict[int, Call] = field(default_factory=dict)
    reaching: list[Wait] = field(default_factory=list)
    holds: dict[int, Hold] = field(default_factory=dict)
    # The holders that servers had, of events and of locks.
    held: list[Held] = field(default_factory=list)
    queued: list[Held] = field(default_factory=list)
    locks: dict[int, Request] = field(default_factory=dict)
    overlaps: list[Overlap] = field(default_factory=list)
    # What nodes that join hold, and the members that servers had; who acknowledges, and who waits for that.
    joins: dict[int, Hold] = field(default_factory=dict)
    members: list[Held] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    ack_waits: list[AckWait] = field(default_factory=list)
    evictions: list[Eviction] = field(default_factory=list)
    # Moments at which a server had no lease clock any more.
    flushes: list[Moment] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    watches: list[Watching] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    forgeries: list[Forgery] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    # Of a cluster: the moves of slots.
    moves: list[Move] = field(default_factory=list)
    astray: list[Astray] = field(default_factory=list)
    # When two servers could be asked of which one is not the primary: [begin, end].
    splits: list[list[Moment]] = field(default_factory=list)
    # The replicas of which server's process had acknowledged how much of its stream, from when on.
    acknowledged: list[tuple[Moment, str, int]] = field(default_factory=list)
    # The latest that any server's clock has shown, epoch seconds.
    latest: float = 0.0
    # Which server had how many replicas, from when on.
    replicas: list[tuple[Moment, int, int]] = field(default_factory=list)
    # Moments at which a server lost data, or became another.
    losses: list[Moment] = field(default_factory=list)
    # When each listing was asked for.
    listings: list[Moment] = field(default_factory=list)
    # Maps that a server that was promoted in a split had no lease clock of: it knows of no locks there.
    unclocked: set[str] = field(default_factory=set)
    # Moments at which a server got other data: holders may have come and gone without a line of history.
    copies: list[Moment] = field(default_factory=list)
    # What was seen to be wrong at once, without a checker: (promise, words).
    wrong: list[tuple[str, str]] = field(default_factory=list)
    serials: int = 0

    def now(self) -> Moment:
        """Return a new moment."""
        self.moments += 1
        return self.moments, self.clock.seconds()

    def about(self, name: str) -> History:
        """Return what concerns one map of a cluster, as each is for itself: what is wrong with the whole is left out.

        The map's acknowledgements belong to it, and so do all members.
        """

        def of(entries: Iterable[Any]) -> list[Any]:
            return [entry for entry in entries if entry.where[0] == name]

        def named(entries: dict[int, Any]) -> dict[int, Any]:
            return {serial: entry for serial, entry in entries.items() if entry.where[0] == name}

        return replace(
            self,
            waits=of(self.waits),
            gone=of(self.gone),
            reaching=of(self.reaching),
            calls=named(self.calls),
            counts=named(self.counts),
            holds=named(self.holds),
            locks=named(self.locks),
            held=of(self.held),
            queued=of(self.queued),
            evictions=of(self.evictions),
            looks=of(self.looks),
            overlaps=[overlap for overlap in self.overlaps if overlap.first.where[0] == name],
            changes=[change for change in self.changes if change.where[0].partition("/")[0] == name],
            acks=[ack for ack in self.acks if ack.map == name],
            ack_waits=[wait for wait in self.ack_waits if wait.map == name],
            watches=[watching for watching in self.watches if watching.map == name],
            moves=[move for move in self.moves if move.map == name],
            faults=[fault for fault in self.faults if fault.map in ("", name)],
            troubles=[trouble for trouble in self.troubles if trouble.map in ("", name)],
            wrong=[],
        )

    def valid_holds(self, where: Key) -> frozenset[int]:
        """Return which of the holds of a key say now that they are valid."""
        there = [hold for hold in self.holds.values() if hold.where == where and hold.life.crashed is None]
        return frozenset(hold.serial for hold in there if hold.held is not None and hold.held.valid)

    def check_deadlines(self, lease: float) -> None:
        """Note which holds are valid though the lease time has passed since the last renewal was sent."""
        now = self.clock.seconds()
        for hold in self.holds.values():
            if hold.held is not None and hold.life.crashed is None and hold.held.valid:
                sent = hold.life.renewed.get(hold.where[0], 0.0)
                words = f"hold {hold.serial} of {hold.life.name}/{hold.life.number}: valid too long after a renewal"
                if now > sent + lease + 1e-6 and ("L4", words) not in self.wrong:
                    self.wrong.append(("L4", words))
        for request in self.locks.values():
            if request.lock is not None and request.life.crashed is None:
                self._check_lock(request, now > request.life.renewed.get(request.where[0], 0.0) + lease + 1e-6)

    def _check_lock(self, request: Request, late: bool) -> None:
        valid, now = request.lock.valid, self.clock.seconds()
        untold = request.lost is None and request.over is None and not request.life.frozen
        for promise, wrong, words in (
            ("L4", valid and late, "valid too long after a renewal"),
            ("L4", untold and now > (request.invalid or now) + 0.1, "not valid, and that is not told"),
            ("L5", valid and request.invalid is not None, "valid again"),
        ):
            if wrong:
                said = promise, f"request {request.serial} of {request.life.name}/{request.life.number}: {words}"
                if said not in self.wrong:
                    self.wrong.append(said)
        if not valid and request.invalid is None:
            request.invalid = now

    def serial(self) -> int:
        """Return the name of the next call."""
        self.serials += 1
        return self.serials
