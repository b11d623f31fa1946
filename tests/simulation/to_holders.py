"""The promises to holders, as far as they are about events: L1 to L4, and what becomes of a hold that is over."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from coord.core.records import Kind
from simulation.books import Books
from simulation.evidence import DENIED, FULL, SLACK, Evidence, Found, frozen, is_event, noted
from simulation.history import Change, Held, Hold, Key, Moment, NodeLife

__all__ = [
    "answers",
    "away_of",
    "l1_held_means_latched",
    "l2_dead_means_gone",
    "l3_alive_means_kept",
    "l4_told_first",
    "renewals",
    "steps_ahead",
]

_HARMLESS = ("message forged", "history trimmed", "node crashed", "replicas lag", "node's clock stepped")
"""What breaks neither links nor the lease clock."""

_CLOSING = 2.0
"""Seconds that a server is given to take what a node withdraws that is closed."""

_BACK = 1.5
"""Heartbeats, after which what is over has been ended: somebody looks at each."""


def _named(hold: Hold) -> str:
    return f"hold {hold.serial} of {hold.life.name}/{hold.life.number} for {'/'.join(hold.where)}"


def _told(change: Change | None) -> str:
    return f"{change.kind} {change.revision}" if change else "nothing"


# Answers.


def answers(evidence: Evidence) -> Found:
    """Each hold is answered in time, with what was the case; what is over for its user is over on the server."""
    for hold in evidence.history.holds.values():
        yield from _answered(hold, evidence)
        if hold.answered is not None and not hold.error:
            yield from _fits(hold, hold.answered, evidence)
        yield from _stays_over(hold, evidence)


def _answered(hold: Hold, evidence: Evidence) -> Found:
    errors = ("", "Unconfirmed", "Unreachable", "Closed", "AccessDenied", "ServerRefused")
    for error in (hold.error, hold.trouble):
        if error not in errors and not (error == "CancelledError" and hold.cancelled):
            yield f"{_named(hold)}: ended with {error}"
    if hold.answered is None:
        if hold.life.crashed is None:
            yield f"{_named(hold)}: never answered"
        return
    if hold.answered[1] > hold.made[1] + hold.timeout + frozen(hold.life) + 1e-6:
        yield f"{_named(hold)}: answered {hold.answered[1] - hold.made[1]:g} s after it was made"
    if hold.error == "ServerRefused" and not evidence.in_trouble(FULL, hold.made, hold.answered):
        yield f"{_named(hold)}: refused by a server that lacks nothing"
    if hold.error == "AccessDenied" and not evidence.in_trouble(DENIED, hold.life.born, hold.answered):
        yield f"{_named(hold)}: denied by a server that lets it in"


def _fits(hold: Hold, answered: Moment, evidence: Evidence) -> Found:
    """The record of the answer was the case when the hold was made, and latched if one holder is enough."""
    record = hold.held.record
    if hold.need == 1 and (record is None or not record.latched):
        yield f"{_named(hold)}: answered with {record}, which is not latched"
    spells = evidence.any_spell(hold.where, hold.made, answered)
    revision = record.revision if record is not None else None
    there = [spell for spell in spells if revision == (spell.change.revision if spell.change else None)]
    if not any(record is None or record.latched == spell.latched or not record.latched for spell in there):
        yield f"{_named(hold)}: answered with {record}, which was not the case"
    if hold.held.first and not any(
        spell.change is not None and spell.change.moment > hold.made and spell.change.kind is Kind.FIRED
        for spell in there
    ):
        yield f"{_named(hold)}: answered as the first with {record}, and fired nothing"


def _stays_over(hold: Hold, evidence: Evidence) -> Found:
    """What was withdrawn is never fired again, but by a failover that brings it back: that is L2's to see."""
    freed, released = hold.freed, hold.released
    if freed is None or released is None or hold.trouble or evidence.history.splits:
        return
    for server in evidence.books:
        loss = min((copy for copy in evidence.history.copies if copy > released), default=None)
        until = evidence.rest if loss is None else (loss[0] - 1, loss[1])
        if until > freed and any(
            spell.change and spell.change.serial == hold.serial and spell.change.latched
            for spell in server.spells(hold.where, freed, until)
        ):
            yield f"{_named(hold)}: withdrawn, and it has the key of server {server.number} afterwards"


# L1.


def l1_held_means_latched(evidence: Evidence) -> Found:
    """No line makes a key pending while enough living, linked, acknowledged holders have it; nor is it without one."""
    for server in evidence.books:
        for lineage in (*server.ended, server.lineage):
            for lines in lineage.values():
                yield from _lines(lines, evidence)
    for change in evidence.history.changes:
        if change.moment < evidence.rest and not change.latched and is_event(change.where):
            yield from _let_go(change, evidence)
    for server in evidence.books:
        for where in server.standing:
            yield from _never_latched(server, where, evidence)
    yield from noted(evidence, "L1")


def _lines(lines: list[Change], evidence: Evidence) -> Found:
    """What is held passes or ends; nothing else happens to it. Each record tells since when the key is latched."""
    stands: dict[Key, Change] = {}
    for change in [change for change in lines if is_event(change.where)]:
        before = stands.get(change.where)
        stands[change.where] = change
        held = evidence.hold_of(before) is not None
        passes = evidence.hold_of(change) is not None
        if held and not passes and change.kind not in (Kind.EXPIRED, Kind.WITHDRAWN):
            yield f"{_told(change)} of {change.where}, which was held at {_told(before)}"
        if change.kind is Kind.WITHDRAWN and not held:
            yield f"{_told(change)} of {change.where}, which was not held at {_told(before)}"
        if held and passes and _is_there(before, change, evidence):
            yield f"{_told(change)} of {change.where}: passed from {_told(before)}, whose holder has not left"
        first = evidence.event(change)
        if change.latched and first is not None and change.latched_at != first.revision:
            said = f"latched at {change.latched_at}, and that was {first.revision}"
            yield f"{_told(change)} of {change.where} says {said}"


def _is_there(before: Change | None, change: Change, evidence: Evidence) -> bool:
    """Whether the server had the holder of a record still when another took that over."""
    assert before is not None
    return any(
        held.server == change.server
        and held.serial == before.serial
        and held.begin < change.moment
        and (held.end is None or held.end[1] > change.moment[1])
        for held in evidence.history.held
    )


def _let_go(change: Change, evidence: Evidence) -> Found:
    """A line that makes a key pending."""
    lines = evidence.books[change.server].standing[change.where]
    before = next((each for moment, each in reversed(lines) if moment < change.moment), None)
    if before is None or not before.latched or before.displaces:
        return
    holds = [hold for hold in evidence.history.holds.values() if hold.where == change.where]
    need = holds[0].need if holds else 1
    for what, counted in (("valid", _says_valid), ("living and linked", _is_settled)):
        there = [hold for hold in holds if hold.wanted_at(change.moment) and counted(hold, change, evidence)]
        if len(there) >= need:
            serials = [hold.serial for hold in there]
            yield f"{_told(change)} of {change.where}, which {serials} hold, who are {what}"
            return


def _says_valid(hold: Hold, change: Change, evidence: Evidence) -> bool:
    """Whether a hold said that it was valid, and had the time to be held again after the last loss of data."""
    loss = max((copy for copy in evidence.history.copies if copy < change.moment), default=None)
    if _apart(hold.life, change.moment, evidence) or hold.serial not in change.valid:
        return False
    return loss is None or evidence.soon(hold.life, loss) + 2 * evidence.setup.heartbeat < change.moment[1]


def _apart(life: NodeLife, moment: Moment, evidence: Evidence) -> bool:
    """Whether two servers may have been asked within the time of a lease."""
    setup = evidence.setup
    return evidence.split_at(moment, 2 * (setup.lease + setup.grace) + evidence.delay(life))


def _is_settled(hold: Hold, change: Change, evidence: Evidence) -> bool:
    return change.server == _server_of(hold.life, change.moment) and _settled(hold, change.moment, evidence)


def _server_of(life: NodeLife, moment: Moment) -> int | None:
    servers = [server for at, server in life.reached if at < moment]
    return servers[-1] if servers else None


def _settled(hold: Hold, moment: Moment, evidence: Evidence) -> bool:
    """Whether a hold has been there for so long, on a link that lasted while all was well, that it counts."""
    begin = moment[1] - evidence.delay(hold.life) - 2 * evidence.setup.heartbeat
    if hold.answered is None or hold.answered[1] > begin or hold.life.frozen:
        return False
    faults = any(
        begin <= each.moment[1] <= moment[1] and each.verb not in _HARMLESS for each in evidence.history.faults
    )
    late = any(
        trouble.begin[1] <= moment[1] and (trouble.end is None or trouble.end[1] >= begin)
        for trouble in evidence.history.troubles
    )
    links = [(at, state) for at, state, _ in hold.life.links if at < moment]
    steady = bool(links) and links[-1][1] == "connected" and links[-1][0][1] <= begin
    return (
        steady
        and not (faults or late or _apart(hold.life, moment, evidence))
        and not _silent(hold.life, begin, moment[1])
        and not any(begin <= copy[1] <= moment[1] for copy in evidence.history.copies)
    )


def away_of(life: NodeLife, first: Moment, last: float) -> int:
    """Return how often the link of a node changed between two moments, or was silent."""
    changes = sum(first < moment and moment[1] <= last for moment, _, _ in life.links)
    return changes + _silent(life, first[1], last)


def _silent(life: NodeLife, first: float, last: float) -> bool:
    return any(each[0] <= last and (len(each) < 2 or each[1] >= first) for each in life.silences)


def _never_latched(server: Books, where: Key, evidence: Evidence) -> Found:
    """A key that enough holders have is not pending for long."""
    holds = [hold for hold in evidence.history.holds.values() if hold.where == where]
    begin: Moment | None = None
    for moment, change in [*server.standing[where], (evidence.rest, None)]:
        if begin is not None and moment <= evidence.rest:
            since = begin
            there = [
                hold
                for hold in holds
                if hold.wanted_at(moment)
                and _settled(hold, moment, evidence)
                and _server_of(hold.life, moment) == server.number
                and since[1] < moment[1] - evidence.delay(hold.life) - 2 * evidence.setup.heartbeat
            ]
            if holds and len(there) >= holds[0].need:
                serials = [each.serial for each in there]
                yield f"{where} was pending for {moment[1] - since[1]:g} s, and {serials} hold it"
        begin = None if change is not None and change.latched else begin or moment


# L2.


def l2_dead_means_gone(evidence: Evidence) -> Found:
    """What nobody holds any more is gone from the server, in time; what ends on purpose was withdrawn by somebody."""
    for held in evidence.history.held:
        yield from _overdue(held, evidence)
        yield from _left_by_close(held, evidence)
    for server in evidence.books:
        for lineage in (*server.ended, server.lineage):
            for lines in lineage.values():
                yield from _ends_are_named(lines, evidence)
    for change in evidence.history.changes:
        if (
            change.kind is Kind.WITHDRAWN
            and is_event(change.where)
            and not any(_may_withdraw(hold, change) for hold in evidence.history.holds.values())
        ):
            yield f"{_told(change)} of {change.where}: nobody withdrew"
    yield from noted(evidence, "L2")


def _may_withdraw(hold: Hold, change: Change) -> bool:
    over = hold.released or hold.life.closing
    named = change.node == f"{hold.life.name}-{hold.life.number}"
    return named and hold.where == change.where and over is not None and over < change.moment


def _ends_are_named(lines: list[Change], evidence: Evidence) -> Found:
    """What is told as expired is told of a node that held the key, and whose holder went at that time."""
    stands: dict[Key, Change] = {}
    for change in lines:
        before = stands.get(change.where)
        stands[change.where] = change
        if change.kind is Kind.EXPIRED and evidence.hold_of(before) is not None:
            gone = [held for held in evidence.history.held if held.where == change.where and held.end is not None]
            lives = [
                evidence.history.holds[held.serial].life
                for held in gone
                if held.end and held.end[1] == change.moment[1]
            ]
            if change.node not in [f"{life.name}-{life.number}" for life in lives]:
                yield f"{_told(change)} of {change.where}: told of {change.node}, whose hold did not end then"


def _left_by_close(held: Held, evidence: Evidence) -> Found:
    """Where a link lasts until a node has been closed, nothing is left of what it held."""
    life = evidence.history.holds[held.serial].life
    closing, closed = life.closing, life.closed
    released = evidence.history.holds[held.serial].released
    if closing is None or closed is None or life.crashed or held.begin > closing or (released and released < closing):
        return
    links = [(moment, state) for moment, state, _ in life.links if moment < closed]
    last = [state for _, state in links if state != "closed"]
    broken = any(closing[1] <= fault.moment[1] <= closed[1] for fault in evidence.history.faults)
    broken = broken or any(trouble.end is None or trouble.end > closing for trouble in evidence.history.troubles)
    steady = last[-1:] == ["connected"] and not any(closing < moment and state != "closed" for moment, state in links)
    quick = closed[1] < closing[1] + _CLOSING
    there = held.server == _server_of(life, closing) and (held.end is None or held.end > closed)
    if steady and quick and there and not broken and not _silent(life, closing[1] - evidence.delay(life), closed[1]):
        yield f"hold {held.serial} of {life.name}/{life.number}: server {held.server} has it, and its node was closed"


def _overdue(held: Held, evidence: Evidence) -> Found:
    """Where nothing else is broken, and somebody else is linked, a dead node's holders go in time."""
    hold, setup = evidence.history.holds[held.serial], evidence.setup
    dead = hold.life.crashed
    if dead is None or held.begin > dead or dead > evidence.rest or _apart(hold.life, dead, evidence):
        return
    last = dead[1] + 2 * setup.slowest
    bound = last + setup.lease + setup.grace + _BACK * setup.heartbeat + 6 * setup.slowest + SLACK
    end = held.end or evidence.rest
    if end[1] <= bound or bound > evidence.rest[1]:
        return
    # A map that nobody holds any more is swept by the server's wall clock.
    if any(
        after < before for (_, before), (at, after) in pairwise(evidence.books[held.server].steps) if at[1] <= bound
    ):
        return
    before = dead[1] - setup.lease - setup.grace
    broken = any(before <= each.moment[1] <= bound and each.verb not in _HARMLESS for each in evidence.history.faults)
    troubles = any(trouble.begin[1] <= bound for trouble in evidence.history.troubles)
    if not broken and not troubles and any(_stays(life, dead, bound) for life in evidence.history.lives):
        yield f"{_named(hold)}: dead since {dead[1]:g}, and server {held.server} has it until {end[1]:g}, not {bound:g}"


def _stays(life: NodeLife, first: Moment, last: float) -> bool:
    over = life.crashed or life.closing
    before = [state for moment, state, _ in life.links if moment < first]
    changes = any(first < moment and moment[1] <= last for moment, _, _ in life.links)
    return before[-1:] == ["connected"] and not changes and not life.frozen and (over is None or over[1] > last)


# L3.


def l3_alive_means_kept(evidence: Evidence) -> Found:
    """No holder of a node that reaches the server often enough is taken away."""
    for held in evidence.history.held:
        hold = evidence.history.holds[held.serial]
        if held.end is None or held.lost or held.end > evidence.rest or not hold.wanted_at(held.end):
            continue
        if _kept_up(held, held.end, evidence):
            yield f"{_named(hold)}: taken away at {held.end[1]:g}, and its node reached the server often enough"
        if _too_soon(held, held.end, evidence):
            yield f"{_named(hold)}: taken away at {held.end[1]:g}, less than T + G after a renewal"


def _kept_up(held: Held, end: Moment, evidence: Evidence) -> bool:
    """Whether a node reached a server once in T, for as long as a lease lasts, and its clock was not set far ahead."""
    setup, life = evidence.setup, evidence.history.holds[held.serial].life
    if _apart(life, end, evidence):
        return False
    at, begin = end, end[1] - setup.lease - setup.grace - 0.1
    for moment in reversed(renewals(life, held.server, end, evidence)):
        late = at[1] - moment[1] > setup.lease - 2 * setup.slowest - 0.1
        ahead = sum(steps_ahead(evidence.books[held.server], moment, at, evidence))
        if late or ahead > setup.grace:
            return False
        at = moment
        if moment[1] <= begin:
            return True
    return False


def _too_soon(held: Held, end: Moment, evidence: Evidence) -> bool:
    """Whether less than T + G had passed since a renewal, by a clock that counts steps as the lease clock does."""
    setup, life = evidence.setup, evidence.history.holds[held.serial].life
    begin = end[1] - 2 * (setup.lease + setup.grace)
    if _apart(life, end, evidence) or any(
        trouble.begin < end and (trouble.end is None or trouble.end[1] > begin) for trouble in evidence.history.troubles
    ):
        return False
    # Who holds under another lease since a recovery may have to say so first.
    said = end[1] - 8 * setup.slowest - 0.1
    # And who holds nothing in the map renews nothing.
    holds = [each for each in evidence.history.holds.values() if each.life is life and each.where[0] == held.where[0]]
    for moment in reversed(renewals(life, held.server, end, evidence)):
        if moment[1] <= said and any(each.wanted_at(moment) for each in holds):
            ahead = sum(steps_ahead(evidence.books[held.server], moment, end, evidence))
            return end[1] - moment[1] + ahead < setup.lease + setup.grace - 0.01
    return False


def renewals(life: NodeLife, server: int, end: Moment, evidence: Evidence) -> list[Moment]:
    """Return when a node reached a server for certain: nothing was broken until what it said then had arrived."""
    arrives = 2 * evidence.setup.slowest + 0.05
    # A connection that lets nothing through is noticed within two heartbeats.
    silent = 2 * evidence.setup.heartbeat
    return [
        moment
        for moment, at in life.reached
        if at == server
        and moment < end
        and moment[1] + arrives < end[1]
        and not any(
            moment[1] - (silent if "stall" in fault.verb else 0) <= fault.moment[1] <= moment[1] + arrives
            for fault in evidence.history.faults
        )
        and not any(moment < each and each[1] <= moment[1] + arrives for each, _, _ in life.links)
        and not any(
            trouble.begin[1] <= moment[1] + arrives and (trouble.end is None or trouble.end > moment)
            for trouble in evidence.history.troubles
        )
    ]


def steps_ahead(server: Books, first: Moment, last: Moment, evidence: Evidence) -> Iterator[float]:
    """Yield by how much a server's clock was set further than it had been since a moment, as the lease clock counts."""
    most = 0.75 * evidence.setup.grace
    high = [offset for moment, offset in server.steps if moment[1] < first[1] or moment == server.steps[0][0]][-1]
    for moment, offset in server.steps:
        if moment[1] < first[1] or moment > last:
            continue
        if high < offset:
            yield min(offset - high, most)
            high = offset
        elif high - offset > most:
            high = offset


# L4.


def l4_told_first(evidence: Evidence) -> Found:
    """A hold is not valid any more when a server lets it go, nor when T has passed since the last renewal was sent."""
    yield from noted(evidence, "L4")
    for held in evidence.history.held:
        hold = evidence.history.holds[held.serial]
        if not held.valid or held.lost or held.end is None or _apart(hold.life, held.end, evidence):
            continue
        if not _set_ahead(held, held.end, evidence):
            yield f"{_named(hold)}: taken away at {held.end[1]:g}, when it said that it was valid"


def _set_ahead(held: Held, end: Moment, evidence: Evidence) -> bool:
    """Whether a clock was set further ahead than the grace time, within the time of a lease."""
    begin = end[0], end[1] - evidence.setup.lease - evidence.setup.grace
    return sum(steps_ahead(evidence.books[held.server], begin, end, evidence)) > evidence.setup.grace
