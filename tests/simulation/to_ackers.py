"""The promise of acknowledgements: L13.

Who lives are the holders of the members that a server has; what is acknowledged are the lines of MAP/acks. A name is
*counted* at a moment if every process that lives under it has acknowledged, and somebody has; it is *left* if it was a
member since the wait began, nobody lives under it, and nobody has acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from coord.core.acks import Acks
from coord.core.names import MEMBERS, acks_of
from simulation.books import Books
from simulation.evidence import DENIED, FULL, SLACK, Evidence, Found, frozen
from simulation.history import Ack, AckWait, Change, Held, Moment

__all__ = ["l13_acks_are_of_handlers"]

_NOT_APPLIED = ("Unreachable", "Closed", "ServerRefused", "AccessDenied")

_ROUND_TRIPS = 8
"""Questions, one after the other, until whoever waits knows what it has not heard of."""


def l13_acks_are_of_handlers(evidence: Evidence) -> Found:
    """`acked` ends once each name is counted or has left, no sooner and soon, and tells the truth about each."""
    if not evidence.setup.acks or evidence.map == MEMBERS:
        return
    evidence = evidence.with_members()
    yield from _sent(evidence)
    for wait in evidence.history.ack_waits:
        look = _Look(wait, evidence)
        yield from _ended(wait, evidence)
        if wait.told is not None:
            yield from (f"{_named(wait)}: told {wait.told}: {words}" for words in _told(wait.told, look))
        yield from (f"{_named(wait)}: {words}" for words in _late(look))


def _named(wait: AckWait) -> str:
    by = "the members" if wait.by is None else wait.by
    return f"acked {wait.number} of {wait.life.name}/{wait.life.number} for {wait.map} {wait.revision} by {by}"


# What was sent.


def _sent(evidence: Evidence) -> Found:
    """An acknowledgement is what somebody sent: each line has its call, and each call that is answered its line."""
    calls: dict[tuple[str, str], list[Ack]] = {}
    for ack in evidence.history.acks:
        calls.setdefault(ack.where, []).append(ack)
        yield from (f"ack {ack.serial} of {ack.life.name}/{ack.life.number}: {words}" for words in _call(ack, evidence))
    for lines in evidence.lineages:
        made: dict[tuple[str, str], int] = {}
        for line in lines:
            if line.where[0].endswith("/acks"):
                made[line.where] = made.get(line.where, 0) + 1
                before = [ack for ack in calls.get(line.where, ()) if ack.made < line.moment]
                if made[line.where] > len(before):
                    yield f"{line.where} was acknowledged {made[line.where]} times, and sent {len(before)} times"


def _call(ack: Ack, evidence: Evidence) -> Found:
    if ack.answered is None:
        if ack.life.crashed is None:
            yield "never answered"
        return
    if ack.answered[1] > ack.made[1] + ack.timeout + frozen(ack.life) + 1e-6:
        yield f"answered {ack.answered[1] - ack.made[1]:g} s after it was made"
    if ack.error not in ("", "Unconfirmed", "CancelledError", *_NOT_APPLIED):
        yield f"ended with {ack.error}"
    if ack.error in ("ServerRefused", "AccessDenied"):
        kinds, since = (FULL, ack.made) if ack.error == "ServerRefused" else (DENIED, ack.life.born)
        if not evidence.in_trouble(kinds, since, ack.answered):
            yield f"{ack.error} by a server that is in no trouble"
    applied = any(
        change.where == ack.where and ack.made < change.moment < ack.answered for change in evidence.history.changes
    )
    if not ack.error and not applied:
        yield "answered, and not applied"


# What was the case while somebody waited.


class _Look:
    """What was the case, from the moment on when a wait began until it ended."""

    def __init__(self, wait: AckWait, evidence: Evidence) -> None:
        self.wait = wait
        self.evidence = evidence
        self.end = wait.resolved or wait.life.crashed or evidence.rest
        self._prefix = f"{wait.revision}/"

    @cached_property
    def moments(self) -> list[Moment]:
        """The moments at which something became different, the first one included."""
        history = self.evidence.history
        moments = [moment for links in self._links for moment, _, _ in links] + history.copies + self.changes
        moments += [server.born for server in self.evidence.books]
        return [self.wait.made, *sorted({moment for moment in moments if self.wait.made < moment <= self.end})]

    @cached_property
    def changes(self) -> list[Moment]:
        """The moments at which somebody acknowledged, came or went."""
        members = self.evidence.history.members
        found = [moment for held in members for moment in (held.begin, held.end) if moment is not None]
        return [line.moment for line in self._lines] + found

    @cached_property
    def _lines(self) -> list[Change]:
        name = acks_of(self.wait.map)
        changes = (change for change in self.evidence.history.changes if change.where[0] == name)
        return [change for change in changes if change.where[1].startswith(self._prefix)]

    def servers(self, moment: Moment) -> list[Books]:
        """The servers that were there."""
        return [
            server
            for server in self.evidence.books
            if server.born <= moment and (server.retired is None or server.retired > moment)
        ]

    def names(self, server: Books, moment: Moment) -> frozenset[str]:
        """The members that a server had."""
        return frozenset(held.where[1] for held in self._members(moment) if held.server == server.number)

    def _members(self, moment: Moment) -> Iterable[Held]:
        for held in self.evidence.history.members:
            if held.begin <= moment and (held.end is None or held.end > moment):
                yield held

    def living(self, server: Books, name: str, moment: Moment) -> frozenset[str]:
        """The processes of a name that a server had."""
        joins = self.evidence.history.joins
        held = (each for each in self._members(moment) if each.server == server.number and each.where[1] == name)
        return frozenset(joins[each.serial].life.incarnation for each in held)

    def acked(self, name: str, moment: Moment) -> frozenset[str]:
        """The processes of a name whose acknowledgement any server had taken."""
        return frozenset(_process(line) for line in self._lines if line.moment <= moment and _name(line) == name)

    def standing(self, server: Books, name: str, moment: Moment) -> frozenset[str]:
        """The processes of a name whose acknowledgement a server had."""
        found = set()
        for line in self._lines:
            marks = [change for at, change in server.standing.get(line.where, ()) if at <= moment]
            if _name(line) == name and marks and marks[-1] is not None:
                found.add(_process(line))
        return frozenset(found)

    def is_counted(self, name: str, moment: Moment) -> bool:
        """Whether all that lived under a name had acknowledged, and somebody had."""
        acked = self.acked(name, moment)
        return bool(acked) and any(self.living(server, name, moment) <= acked for server in self.servers(moment))

    def may_have_left(self, name: str) -> bool:
        """Whether a name was a member, and then nobody lived under it, and then nobody had acknowledged."""
        seen = gone = False
        for moment in self.moments:
            servers = self.servers(moment)
            seen = seen or any(self.living(server, name, moment) for server in servers)
            gone = gone or (seen and any(not self.living(server, name, moment) for server in servers))
            if gone and any(not self.standing(server, name, moment) for server in servers):
                return True
        return False

    # What has to be known in time.

    @property
    def patience(self) -> float:
        """Seconds in which somebody who is linked gets to know what is the case."""
        return _ROUND_TRIPS * 2 * self.evidence.setup.slowest

    @cached_property
    def _known_from(self) -> float:
        # Who was a member before that may have gone before it was asked.
        return self.evidence.soon(self.wait.life, self.wait.made) + self.patience

    @cached_property
    def _told_of_members(self) -> bool:
        """Whether the history of the members has all that happened while the wait was there."""
        history = self.evidence.history
        lost = any(self.wait.made < copy <= self.end for copy in history.copies)
        trimmed = any(fault.verb == "history trimmed" and fault.moment < self.end for fault in history.faults)
        return not (lost or trimmed)

    def was_member(self, name: str, moment: Moment) -> bool:
        """Whether a name was a member since the wait began, and whoever waited has to know.

        Where there were two servers, it may have been one at the other.
        """
        if self.evidence.split_between(self.wait.made, self.end):
            return False
        for held in self.evidence.history.members:
            end = held.end or self.end
            if held.where[1] == name and held.begin < moment and end > self.wait.made:
                long = end[1] - max(held.begin, self.wait.made)[1] > self._known_from - self.wait.made[1]
                if end[1] > self._known_from and (long or self._told_of_members):
                    return True
        return False

    def has_left(self, name: str, moment: Moment, server: Books) -> bool:
        """Whether a name has left, and whoever waits has to know."""
        gone = not self.living(server, name, moment) and not self.acked(name, moment)
        return gone and self.was_member(name, moment)

    def counts(self, name: str, moment: Moment, server: Books) -> bool:
        """Whether a name is counted by what a server has."""
        acked = self.standing(server, name, moment)
        return bool(acked) and self.living(server, name, moment) <= acked

    def is_due(self, moment: Moment, server: Books) -> bool:
        """Whether there is nobody to wait for by what a server has."""
        by = self.wait.by
        if isinstance(by, int):
            names = {_name(line) for line in self._lines}
            return sum(self.counts(name, moment, server) for name in names) >= by
        return all(
            self.counts(name, moment, server) or self.has_left(name, moment, server)
            for name in (self._ever_members(moment) if by is None else by)
        )

    def _ever_members(self, moment: Moment) -> set[str]:
        members = self.evidence.history.members
        return {
            held.where[1]
            for held in members
            if held.begin <= moment and (held.end is None or held.end > self.wait.made)
        }

    def lasts(self, case: Callable[[Moment, Books], bool]) -> float:
        """Return for how long something was the case beyond the time in which it has to be known; 0 if it was not.

        It counts while there is one server, which keeps its data, and the link is connected.
        """
        since: Moment | None = None
        for moment in [*self.moments, self.end]:
            if since is not None:
                late = moment[1] - self.evidence.soon(self.wait.life, since) - self.patience
                if late > 0:
                    return late
            servers = self.servers(moment)
            fits = len(servers) == 1 and self._linked(moment) and case(moment, servers[0])
            if not fits or moment in self.evidence.history.copies:
                since = None
            if fits and since is None:
                since = moment
        return 0.0

    @cached_property
    def _links(self) -> list[list[tuple[Moment, str, str]]]:
        """The links that it takes: on a cluster, that of the members, too."""
        life = self.wait.life
        return [life.links, *([life.by_map.get(MEMBERS, ([], []))[0]] if self.evidence.map else ())]

    def _linked(self, moment: Moment) -> bool:
        ends = ([state for at, state, _ in links if at <= moment][-1:] for links in self._links)
        return all(end == ["connected"] for end in ends)


def _name(line: Change) -> str:
    return line.where[1].split("/")[1]


def _process(line: Change) -> str:
    return line.where[1].split("/")[2]


# What was told.


def _ended(wait: AckWait, evidence: Evidence) -> Found:
    """Once, with one of the errors that are promised; by the timeout, if there is one."""
    life = wait.life
    if wait.times > 1:
        yield f"{_named(wait)}: resolved {wait.times} times"
    if wait.resolved is None:
        if life.crashed is None:
            yield f"{_named(wait)}: never resolved"
        return
    promised = {
        "": wait.told is not None,
        "Unacknowledged": wait.told is not None,
        "Closed": life.closing is not None,
        "CancelledError": wait.cancelled is not None,
        "AccessDenied": evidence.in_trouble(DENIED, life.born, wait.resolved),
    }
    if not promised.get(wait.error):
        yield f"{_named(wait)}: ended with {wait.error}"
    if wait.timeout is not None and wait.resolved[1] > wait.made[1] + wait.timeout + frozen(life) + 1e-6:
        yield f"{_named(wait)}: ended after {wait.resolved[1] - wait.made[1]:g} s"


def _told(told: Acks, look: _Look) -> Found:
    """What was told of each name was the case, and it is enough for the answer."""
    wait = look.wait
    names, missing, left = told.names, told.missing, told.left
    every = [*names, *missing, *left]
    if len({*every}) < len(every) or any([*part] != sorted(part) for part in (names, missing, left)):
        yield "names twice, or not in order"
    for name in names:
        if not any(look.is_counted(name, moment) for moment in look.moments):
            yield f"{name} had not acknowledged, or not each process that lived"
    for name in left:
        if not look.may_have_left(name):
            yield f"{name} was no member, or had not left, or had acknowledged"
    yield from _named_rightly(told, look)
    yield from _enough(told, wait)
    for name in missing:
        if look.lasts(lambda moment, server, name=name: look.counts(name, moment, server)):  # type: ignore[misc]
            yield f"{name} is missing, and had acknowledged"


def _named_rightly(told: Acks, look: _Look) -> Found:
    """Those are named who were asked for: for a number, who has acknowledged, and else nobody who has not."""
    by, every = look.wait.by, {*told.names, *told.missing, *told.left}
    if isinstance(by, int):
        if told.left or any(not look.acked(name, look.end) for name in every):
            yield "somebody is named who has not acknowledged"
    elif by is not None:
        if every != {*by}:
            yield "not those are named who were asked for"
    elif not any(every == look.names(server, moment) for moment in look.moments for server in look.servers(moment)):
        timed_out = look.wait.error == "Unacknowledged" and _timed_out(look.wait)
        if every or not timed_out:
            yield "at no moment these were the members"


def _timed_out(wait: AckWait) -> bool:
    assert wait.resolved is not None
    return wait.timeout is not None and wait.resolved[1] >= wait.made[1] + wait.timeout - 1e-6


def _enough(told: Acks, wait: AckWait) -> Found:
    number = isinstance(wait.by, int)
    over = len(told.names) >= wait.by if isinstance(wait.by, int) else not told.missing
    if not wait.error and not (over and told.names):
        yield "that is not enough"
    if wait.error == "Unacknowledged" and not _timed_out(wait) and (number or told.missing or told.names):
        yield "Unacknowledged before the timeout, and not all have left"
    if wait.error == "Unacknowledged" and over and told.names:
        yield "that is enough"


# What was not told in time.


def _late(look: _Look) -> Found:
    """It ends soon once there is nobody to wait for, if the link lasts; at rest, in any case."""
    late = look.lasts(look.is_due)
    if late:
        yield f"ended {late:g} s later than it should"
    wait, evidence = look.wait, look.evidence
    over = wait.resolved or wait.life.crashed or wait.life.closing
    waits = wait.made < evidence.rest and (over is None or over > evidence.rest)
    # A lease may have ended just before: the next heartbeat notices.
    since = evidence.rest[1] - evidence.setup.heartbeat - look.patience / 2 - SLACK
    new = any(since < moment[1] and moment < evidence.rest for moment in look.changes)
    if waits and not new and look.is_due(evidence.rest, evidence.primary):
        yield "waits at rest, and there is nobody to wait for"
