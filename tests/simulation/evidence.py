"""What the checkers look at, and how they speak of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from coord.core.names import MEMBERS
from coord.core.records import Kind, Revision
from simulation.books import Books
from simulation.history import Call, Change, Forgery, History, Hold, Key, Look, Moment, NodeLife, Spell, Wait
from simulation.setup import Setup

__all__ = [
    "DENIED",
    "ENDED",
    "FULL",
    "LATCHED",
    "PAUSE",
    "SLACK",
    "Evidence",
    "Found",
    "frozen",
    "is_counter",
    "is_event",
    "left_at_rest",
    "named",
    "noted",
    "shown",
    "waiting_at",
]

LATCHED = (Kind.FIRED, Kind.FAILED)
ENDED = (Kind.RESET, Kind.EXPIRED, Kind.WITHDRAWN)
SLACK = 0.5

"""Seconds: what is done in the next beat after a bound has not broken it."""

PAUSE = 6.0
"""Seconds for which a node may pause, at most, before it asks a server again that was in trouble."""

DENIED = ("noperm", "no reads", "no subscribing")
FULL = ("oom", "misconf", "noreplicas")
"""Kinds of trouble: a permission was taken away; writes are refused until somebody does something."""

_LISTING = 30.0
"""Seconds that a listing takes at most."""

_SILENT = ("stall", "stall one connection", "server hangs")

Found = Iterator[str]


@dataclass
class Evidence:
    """What the checkers look at. ``rest`` is when everything was mended and had come to rest, before the last fire.

    ``kept`` is what the last primary's data were made of then, ``lineages`` what any server's data ever were made of.
    On a cluster, each ``map`` has its own.
    """

    history: History
    setup: Setup
    books: list[Books]
    primary: Books
    rest: Moment
    map: str = ""
    kept: dict[str, list[Change]] = field(init=False)
    _of_members: History | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.kept = {name: list(lines) for name, lines in self.primary.lineage.items()}

    def turn(self) -> None:
        """Look at the map alone, if it is one of a cluster."""
        if self.map:
            whole = self.history
            self.history = whole.about(self.map)
            self._of_members = whole.about(MEMBERS) if self.setup.acks else None
            for life in self.history.lives:
                life.turn_to(self.map)

    def with_members(self) -> Evidence:
        """Return the same with what was broken for the members, too, which have a server of their own on a cluster."""
        of_members = self._of_members
        if of_members is None:
            return self
        faults = [*self.history.faults, *(each for each in of_members.faults if each.map)]
        troubles = [*self.history.troubles, *(each for each in of_members.troubles if each.map)]
        return replace(self, history=replace(self.history, faults=faults, troubles=troubles))

    @cached_property
    def lineages(self) -> list[list[Change]]:
        """What any server's data ever were made of."""
        ended = [lines for books in self.books for lineage in books.ended for lines in lineage.values()]
        return [*ended, *self.primary.lineage.values()]

    @cached_property
    def by_serial(self) -> dict[int, list[Change]]:
        """The changes that each call made: more than one only where the first was lost."""
        found: dict[int, list[Change]] = {}
        for change in self.history.changes:
            if change.serial is not None and change.kind is not Kind.RESET:
                found.setdefault(change.serial, []).append(change)
        return found

    @cached_property
    def by_revision(self) -> dict[tuple[str, Revision], list[Change]]:
        """The change at each revision: more than one only where the first was lost and a clock went back."""
        found: dict[tuple[str, Revision], list[Change]] = {}
        for change in self.history.changes:
            found.setdefault((change.where[0], change.revision), []).append(change)
        return found

    def hold_of(self, change: Change | None) -> Hold | None:
        """Return the hold whose value a change has, if it latched the key with one."""
        if change is None or change.serial is None or not change.latched:
            return None
        return self.history.holds.get(change.serial)

    @cached_property
    def first_of(self) -> dict[int, Change]:
        """Where a key passed from one holder to the next: the change by which it was latched, for each later one."""
        found: dict[int, Change] = {}
        for lineages in ([*server.ended, server.lineage] for server in self.books):
            for lines in (lines for lineage in lineages for lines in lineage.values()):
                stands: dict[Key, Change] = {}
                for change in lines:
                    before = stands.get(change.where)
                    if self.hold_of(change) and before is not None and before.latched and not change.displaces:
                        found[id(change)] = found.get(id(before), before)
                    stands[change.where] = change
        return found

    def event(self, change: Change | None) -> Change | None:
        """Return the change by which the event of a change began."""
        return self.first_of.get(id(change), change)

    def is_cursor_lost(self, look: Look) -> bool:
        """Whether a listing may have missed a key because there was another: fakeredis keeps one cursor for both.

        Its cursors are places in a list; that of the other listing has the same name, and the list changes.
        """
        missed = (self.setup.held or self.setup.counters) and look.listed and look.record is None
        answered = look.answered or look.asked
        since = look.asked[1] - _LISTING
        others = (asked for asked in self.history.listings if asked != look.asked)
        return bool(missed) and any(since <= asked[1] <= answered[1] for asked in others)

    def of_map(self, name: str) -> Iterator[list[Change]]:
        """Yield what each server's data of a map were made of, those that were lost included."""
        for server in self.books:
            for lineage in (*server.ended, server.lineage):
                yield lineage[name]

    def lost_between(self, first: Moment, last: Moment) -> bool:
        """Whether any server's data were replaced between two moments."""
        return any(first < loss and loss[1] <= last[1] for loss in self.history.losses)

    def lost_around(self, life: NodeLife, change: Change) -> bool:
        """Whether data were lost shortly before a change, and again shortly after it.

        A node that subscribes anew for the first loss does not hear of a change that the second one takes.
        """
        before = change.moment[1] - self.delay(life)
        after = change.moment[0], self.soon(life, change.moment)
        just_lost = any(loss < change.moment and loss[1] >= before for loss in self.history.losses)
        return just_lost and self.lost_between(change.moment, after)

    def split_at(self, moment: Moment, late: float = 0.0) -> bool:
        """Whether a node that is so late, in seconds, may have been at another server than the primary then.

        Nobody there knows what is over at the new one.
        """
        return self.split_between(moment, moment, late)

    def split_between(self, first: Moment, last: Moment, late: float = 0.0) -> bool:
        """Whether it may have been there at any time between two moments."""
        return any(
            split[0] < last and (len(split) < 2 or first[1] <= split[1][1] + late) for split in self.history.splits
        )

    def delay(self, life: NodeLife) -> float:
        """Return how late a node may know what happened, in seconds: a message's delay, or a silent death."""
        away = frozen(life)
        # A process that was stopped does not judge at its first heartbeat after that.
        again = self.setup.heartbeat if away and self.setup.lease else 0.0
        return 2 * self.setup.heartbeat + self.setup.slowest + SLACK + away + again

    def soon(self, life: NodeLife, since: Moment, where: Key | None = None) -> float:
        """Return by when a node must have got over what was at a moment.

        A silence that begins meanwhile adds to it, and so does a trouble until it is over; for one key, what was
        forged on its channel, too: that may deafen it until the next heartbeat.
        """
        until = since[1] + self.delay(life)
        for moment, lasting in self._disturbances:
            if moment[1] > until:
                break
            if lasting + self.delay(life) > until and (since < moment or lasting >= since[1]):
                until = lasting + self.delay(life)
        for forgery in self.forged(where) if where else ():
            if since[1] - self.delay(life) <= forgery.moment[1] <= until:
                until = max(until, forgery.moment[1] + self.delay(life))
        return until

    @cached_property
    def _disturbances(self) -> list[tuple[Moment, float]]:
        """What delays a node: when it began, and until when it lasts, in the order in which they began."""
        silent = [(fault.moment, fault.moment[1]) for fault in self.history.faults if fault.verb in _SILENT]
        troubles = [(trouble.begin, (trouble.end or trouble.begin)[1] + PAUSE) for trouble in self.history.troubles]
        return sorted(silent + troubles)

    def forged(self, where: Key) -> list[Forgery]:
        """Return what was forged on a key's channel."""
        return [forgery for forgery in self.history.forgeries if forgery.where == where]

    def in_trouble(self, kinds: tuple[str, ...], first: Moment, last: Moment) -> bool:
        """Whether a server was in one of these kinds of trouble between two moments."""
        return any(
            trouble.kind in kinds and trouble.begin < last and (trouble.end is None or trouble.end > first)
            for trouble in self.history.troubles
        )

    def lasted(self, life: NodeLife, first: Moment, last: float) -> bool:
        """Whether a life's link was connected at a moment, and stayed so until a time."""
        over = life.crashed or life.closing
        if over is not None and over[1] <= last:
            return False
        before = [state for moment, state, _ in life.links if moment < first]
        return before[-1:] == ["connected"] and not any(
            first < moment and moment[1] <= last for moment, _, _ in life.links
        )

    def stood(self, where: Key, first: Moment, last: Moment) -> Iterator[list[Change | None]]:
        """Yield, for each server that was there between two moments, what stood for a key during them."""
        for server in self.books:
            if server.born > last or (server.retired is not None and server.retired[1] < first[1]):
                continue
            stood: list[Change | None] = [None]
            for moment, change in server.standing.get(where, ()):
                if moment > last:
                    break
                if (moment[1], moment[0]) <= (first[1], first[0]):
                    stood = [change]
                else:
                    stood.append(change)
            yield stood

    def spells(self, where: Key, first: Moment, last: Moment) -> list[list[Spell]]:
        """Return, for each server that was there between two moments, what was the case for a key during them."""
        there = [
            server
            for server in self.books
            if server.born <= last and (server.retired is None or server.retired[1] >= first[1])
        ]
        return [list(server.spells(where, first, last)) for server in there]

    def any_spell(self, where: Key, first: Moment, last: Moment) -> list[Spell]:
        """Return the same of all servers."""
        return [spell for spells in self.spells(where, first, last) for spell in spells]

    def found_over(self, wait: Wait) -> bool:
        """Whether the end of the event that stands at rest had passed at some moment of a wait.

        It was no event for that wait then, nor is it where a clock that was set back has it stand again. A wait that
        joins an armed key goes by what the node has heard.
        """
        since = wait.made[0], wait.made[1] - self.delay(wait.life)
        spells = self.any_spell(wait.where, since, self.rest)
        stand = [spell.change for spell in self.any_spell(wait.where, self.rest, self.rest)]
        return any(spell.at is not None and spell.pending and spell.change in stand for spell in spells)

    def brought_back(self, where: Key) -> Iterator[tuple[Moment, Change]]:
        """Yield when a key that no server had any more came back with a copy of older data, and what stood then."""
        for server in self.books:
            for moment, change in server.standing.get(where, ()):
                before = moment[0] - 1, moment[1]
                # Otherwise it was copied: what is made stands from the moment it is made.
                if change is None or change.moment == moment:
                    continue
                if all(stood == [None] for stood in self.stood(where, before, before)):
                    yield moment, change


def is_counter(where: Key) -> bool:
    """Whether a key is one that is counted on."""
    return where[1].startswith("c")


def is_event(where: Key) -> bool:
    """Whether a key is neither a counter nor a lock."""
    return where[1].startswith("k")


def shown(wait: Wait) -> str:
    """Return a wait in words."""
    what = {"gone": "the end of ", "reach": f"a count of {wait.least} of "}.get(wait.manner, "")
    return f"wait {wait.number} of {wait.life.name}/{wait.life.number} for {what}{'/'.join(wait.where)}"


def waiting_at(wait: Wait, moment: Moment) -> bool:
    """Whether a wait was there at a moment, unresolved."""
    return wait.made < moment and (wait.resolved is None or wait.resolved > moment)


def left_at_rest(wait: Wait, evidence: Evidence) -> bool:
    """Whether a wait was still there when everything had come to rest."""
    over = wait.life.crashed or wait.life.closing
    return waiting_at(wait, evidence.rest) and (over is None or over > evidence.rest)


def named(call: Call) -> str:
    """Return a call in words."""
    return f"{call.kind} {call.serial} of {call.life.name}/{call.life.number} for {'/'.join(call.where)}"


def frozen(life: NodeLife) -> float:
    """Return for how long a node's process was stopped, in seconds."""
    return sum(each[1] - each[0] for each in life.frozen if len(each) == 2)


def noted(evidence: Evidence, promise: str) -> Found:
    """Yield what was seen to break a promise while the world ran."""
    return (words for name, words in evidence.history.wrong if name == promise)
