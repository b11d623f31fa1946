"""The numbered calls of one node on one map.

While a batch is unanswered, the next calls gather. A large batch is sent without waiting, so that the server has work
while this process makes more. A batch whose answer was lost is sent again on the next link, unchanged and under its old
number, and the server answers it as before (F2). At most two batches are unanswered, so the server has to remember only
the last two. It refuses the second one if it has not applied the first (F1).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from itertools import islice
from math import inf
from typing import Any, Final

from msgspec import Struct

from coord.core.deadlines import EarlyDeadlines
from coord.core.records import COUNTED, FIRED, SILENT, Kind, Revision, StoredRecord

__all__ = [
    "END",
    "EVICT",
    "HOLD",
    "LOCK",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_CALLS",
    "MOVE",
    "REPEATED",
    "TIMED",
    "Batch",
    "Call",
    "CallName",
    "CallQueue",
    "Outcome",
    "digest",
    "parse_reply",
]

MAX_BATCH_CALLS: Final = 256
MAX_BATCH_BYTES: Final = 262_144

REPEATED: Final = b"="
"""A reply begins with this if the batch was applied before, and the server remembered the outcome."""

_ENOUGH: Final = 1 / 8
"""Fraction of a full batch above which the overhead of a batch is negligible."""

TIMED: Final = ord("T")
MOVE: Final = ord("M")
HOLD: Final = ord("H")
LOCK: Final = ord("L")
EVICT: Final = ord("V")
"""The letters of calls that their kind alone does not tell."""

END: Final = ord("E")
_LETTERS: Final = {
    Kind.FIRED: ord("F"),
    Kind.FAILED: ord("X"),
    Kind.PULSED: ord("P"),
    Kind.RESET: ord("R"),
    Kind.EXPIRED: END,
    Kind.WITHDRAWN: ord("U"),
    Kind.COUNTED: ord("C"),
}

_tuple: Final = tuple.__new__


class CallName(Struct, frozen=True, gc=False):
    """The identity of a named call (`once=`), the same on every node, so that any node may repeat the call.

    ``incarnation`` is made from the name, ``number`` from the call: another call of the same name has another number.
    """

    incarnation: str
    number: int

    @classmethod
    def of(cls, namespace: str, caller: str, name: str, kind: Kind, key: bytes, data: bytes) -> CallName:
        """Return the identity of a name in a map; ``caller`` keeps the names of several callers apart."""
        number = int.from_bytes(digest(bytes([_LETTERS[kind]]), key, data)[:6]) | 1
        return cls(digest(namespace.encode(), caller.encode(), name.encode()).hex()[:32], number)


def digest(*parts: bytes) -> bytes:
    """Return a digest of the parts, each with its length, so that other parts have another digest."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


# Calls and outcomes are structs: one is made in a quarter of the time of a class. The garbage collector does not track
# them, as its visits would be a sixth of the cost of a call: the cycle of a call and its result ends with the result.
class Call(Struct, eq=False, gc=False):
    """One fire, fail, pulse, reset, count, or end of an event; it is also the canceller of its result.

    ``order`` is its number in the order of this node's waits and calls; ``deadline`` is in seconds of the clock.
    ``replication`` says how many replicas must have it, within how many milliseconds (F4). ``node`` names the calling
    node if it is another one; ``name`` is that of a named call (F5). ``taken``: it is, or was, in a batch. ``letter``
    tells `apply.lua` what to do if that is not what the kind says; then ``data`` may have more than the value.
    """

    kind: Kind
    key: bytes
    data: bytes
    deadline: float
    order: int
    result: Any = None
    replication: tuple[int, int] = (0, 0)
    done: bool = False
    node: str = ""
    name: CallName | None = None
    taken: bool = False
    letter: int = 0

    def __call__(self, _: object = None) -> None:
        """Cancel: a call that was not sent yet is never sent."""
        self.done = True


class Batch(Struct, eq=False):
    """Calls that are sent together, under one number.

    ``repeated``: it was sent before, on a link that was lost before the answer came. ``early``: it was refused because
    the batch before it is not applied; it is sent again when that one is answered. ``postponed``: the server's message
    if it had no time; the batch keeps its place and is sent again after a pause.
    """

    number: int
    calls: list[Call]
    repeated: bool = False
    early: bool = False
    postponed: str = ""

    @property
    def in_doubt(self) -> bool:
        """Whether it may have been applied: it is under way, or was when a link was lost."""
        return self.repeated or not (self.early or self.postponed)

    @property
    def awaited(self) -> bool:
        """Whether any of its calls still has a caller that waits."""
        return not all(call.done for call in self.calls)

    @property
    def args(self) -> list[bytes]:
        """The calls as arguments of ``apply.lua``; those of `nodes` may follow.

        Each argument is packed here, parsed by the server and made a Lua string, so there are few: a key and data for
        each call, and one string of letters for all.
        """
        calls = self.calls
        letters = bytes([call.letter or _LETTERS[call.kind] for call in calls])
        return [letters, *[call.key for call in calls], *[call.data for call in calls]]

    def nodes(self, own: str) -> list[bytes]:
        """Return one argument with the node of each call, if any of them is not our ``own``; else none."""
        if not any([call.node for call in self.calls]):  # noqa: C419 - a list is twice as fast as a generator
            return []
        return [",".join([call.node or own for call in self.calls]).encode()]

    @property
    def name(self) -> CallName | None:
        """The name of its call, if that is a named one."""
        return self.calls[0].name


class CallQueue:
    """The calls that are not sent yet, ``gathering``, and the batches that are ``sent`` but not answered, two at most.

    Both are in order, oldest first. ``most`` is the number of calls in a full batch. ``due`` is for the call sender:
    the time at which it checks the deadlines of this queue.

    :param number: the first batch has the number after it.
    """

    __slots__ = ("_early", "_latest", "_number", "_over", "due", "gathering", "most", "sent")

    def __init__(self, number: int = 0) -> None:
        self.gathering: deque[Call] = deque()
        # Most calls have the same timeout, so their deadlines come in the order in which they were made. A call with a
        # deadline before the latest one so far is in a heap, too.
        self._latest = -inf
        self._early: EarlyDeadlines[Call] = EarlyDeadlines()
        # The number of calls in `gathering` that have ended since the last `drop_over`.
        self._over = 0
        self._number = number
        self.most = MAX_BATCH_CALLS
        self.sent: list[Batch] = []
        self.due = inf

    def __len__(self) -> int:
        return len(self.gathering) + sum(len(batch.calls) for batch in self.sent)

    def add(self, call: Call) -> bool:
        """Queue a call after those made before it (F1); return whether it ends before the deadlines are checked."""
        self.gathering.append(call)
        deadline = call.deadline
        if deadline >= self._latest:
            self._latest = deadline
        else:
            self._early.add(call)
        return deadline < self.due

    def next(self) -> Batch | None:
        """Return a batch to send now; ``None`` if there is none, or an answer has to come first."""
        if self.sent:
            oldest = self.sent[0]
            if oldest.early:
                oldest.early = False
                return oldest
            if oldest.postponed or not self._may_follow(oldest):
                return None
        calls = self._take()
        if not calls:
            return None
        name = calls[0].name
        if name is None:
            self._number += 1
        batch = Batch(self._number if name is None else name.number, calls)
        self.sent.append(batch)
        return batch

    def _take(self) -> list[Call]:
        """Remove and return the calls of the next batch; a named call is a batch of its own."""
        calls: list[Call] = []
        gathering, most, size = self.gathering, self.most, 0
        while gathering and size < MAX_BATCH_BYTES and len(calls) < most:
            call = gathering.popleft()
            if call.done:
                continue
            if call.name is not None and calls:
                gathering.appendleft(call)
                break
            call.taken = True
            calls.append(call)
            if call.name is not None:
                break
            size += len(call.data)
        return calls

    def _may_follow(self, oldest: Batch) -> bool:
        """Whether a second batch may be sent while ``oldest`` is unanswered.

        A large one may, so that the server has work while this node makes the next: 4 % of the throughput. A named call
        may not: its number is outside the order. The numbers must be neighbours: the server remembers one even and one
        odd number.
        """
        if len(self.gathering) < self.most * _ENOUGH or len(self.sent) > 1 or oldest.number != self._number:
            return False
        return oldest.name is None and self.gathering[0].name is None

    def before(self, batch: Batch) -> int:
        """Return the number of the unanswered batch before this one; 0 if there is none."""
        return self.sent[0].number if self.sent and self.sent[0] is not batch else 0

    def answered(self, batch: Batch) -> bool:
        """Take the answer to ``batch``; return whether it is still wanted."""
        wanted = batch in self.sent
        if wanted:
            self.sent.remove(batch)
        return wanted

    def expire(self, now: float) -> tuple[list[Call], list[Call]]:
        """Return the calls whose deadline has passed: those not applied, and those that may have been.

        A sent batch is given up only when all its calls have ended: until then it must be repeated unchanged. Its
        number is not used again, so that a copy still under way is refused once a later batch was applied.
        """
        doubts = {call: batch.in_doubt for batch in self.sent for call in batch.calls}
        ended = [call for call in doubts if not call.done and call.deadline <= now]
        ended += self._expire_gathering(now)
        ended.sort(key=lambda call: call.order)
        self._end(ended)
        self._trim()
        return [call for call in ended if not doubts.get(call)], [call for call in ended if doubts.get(call)]

    def _expire_gathering(self, now: float) -> list[Call]:
        """Return the gathering calls whose deadline has passed.

        If the deadline of the first call has not passed, none has but early ones: each of the others is no earlier than
        all before it.
        """
        gathering, ended = self.gathering, []
        while gathering and (gathering[0].done or gathering[0].deadline <= now):
            call = gathering.popleft()
            if not call.done:
                call.done = True
                ended.append(call)
        early = self._early.expire(now)
        self._over += len(early)
        return ended + early

    def _end(self, ended: list[Call]) -> None:
        for call in ended:
            call.done = True
        for batch in self.sent:
            if not batch.in_doubt:
                # Its callers were told that it was not applied, so it must not be sent again.
                batch.calls = [call for call in batch.calls if not call.done]
        self.sent = [batch for batch in self.sent if batch.awaited]

    def _trim(self) -> None:
        """Drop ended calls from `gathering`: those at the front at once, the others once they are half of all."""
        gathering = self.gathering
        while gathering and gathering[0].done:
            gathering.popleft()
        if 2 * self._over > len(gathering):
            self.drop_over()

    def drop_over(self) -> None:
        """Drop all ended and cancelled calls from `gathering`."""
        self.gathering = deque(call for call in self.gathering if not call.done)
        self._over = 0

    @property
    def postponed(self) -> str:
        """The server's message if it had no time for a batch of this map; else empty. Later batches wait."""
        return next((batch.postponed for batch in self.sent if batch.postponed), "")

    def drop_unsent(self) -> list[Call]:
        """Remove and return the calls that were never sent."""
        unsent = [call for call in self.gathering if not call.done]
        for call in unsent:
            call.done = True
        self.gathering.clear()
        self._over = 0
        return unsent

    def earliest(self) -> float | None:
        """Return the earliest deadline of all calls that have not ended."""
        self._trim()
        waiting = [call.deadline for batch in self.sent for call in batch.calls if not call.done]
        waiting += [call.deadline for call in islice(self.gathering, 1)]
        early = self._early.earliest()
        return min(waiting if early is None else [*waiting, early], default=None)


class Outcome(Struct, gc=False):
    """The outcome of one call: the server's error message, or the record after it, and whether this call wrote it.

    ``stored`` has no data if the outcome was remembered by the server and the record has been replaced since. ``count``
    is what a counter stands at after the call.
    """

    stored: StoredRecord | None = None
    first: bool = False
    error: str | None = None
    count: int = 0


def parse_reply(reply: bytes, calls: list[Call], node: str) -> Iterable[Outcome]:
    """Parse the reply of ``apply.lua``, whose header describes the format; raise `ValueError` if it is none.

    Iterate over the outcomes only once.

    :param node: the name of this node, for calls that name no other.
    """
    header, _, body = reply.removeprefix(REPEATED).partition(b"\n")
    generation, number, time = map(int, header.split(b" "))
    if body == b"+" * len(calls):
        # The usual reply: all calls were applied. Made lazily, and without a call of `_applied`, outcomes cost a node
        # that fires a tenth less time: the memory of one is still in the processor's caches for the next.
        return (
            Outcome(
                StoredRecord(
                    call.kind, _tuple(Revision, (generation, spent)), time, call.node or node, None, call.data
                ),
                True,
            )
            for spent, call in enumerate(calls, number + 1)
        )
    return _parse_outcomes(body, calls, node, Revision(generation, number), time)


def _parse_outcomes(body: bytes, calls: list[Call], node: str, before: Revision, time: int) -> list[Outcome]:
    """Parse the outcomes of calls that were not all applied; ``before`` is the revision before the first of them."""
    generation, number = before
    outcomes: list[Outcome] = []
    counters: dict[bytes, StoredRecord | None] = {}
    at = 0
    for call in calls:
        while body[at : at + 1] == b"~":
            # A change that was undone after its line was written: its number is used up.
            number, at = number + 1, at + 1
        at, count = _count(body, at) if call.kind is COUNTED else (at, 0)
        mark = body[at : at + 1]
        at += 1
        if mark == b"+":
            number += 1
            outcome = _applied(call, generation, number, time, call.node or node)
        elif mark == b"-":
            outcome = Outcome()
        elif mark == b"&" and call.key in counters:
            outcome = Outcome(counters[call.key], True)
        else:
            at, text = _text(body, at, mark)
            number += mark == b"*"
            outcome = _with_record(mark, text, call)
        if call.kind is COUNTED and outcome.error is None:
            outcome.count, counters[call.key] = count, outcome.stored
        outcomes.append(outcome)
    if at != len(body):
        raise ValueError("the reply has more outcomes than there were calls")
    return outcomes


_COUNT: Final = re.compile(rb"\d{0,16}")


def _count(body: bytes, start: int) -> tuple[int, int]:
    """Return the end of a count, and the count; 0 if there is none."""
    match = _COUNT.match(body, start)
    assert match is not None
    return match.end(), int(match[0] or 0)


def _applied(call: Call, generation: int, number: int, time: int, node: str) -> Outcome:
    revision = _tuple(Revision, (generation, number))
    return Outcome(StoredRecord.of_call(call.kind, revision, time, node, call.data), True)


def _text(body: bytes, start: int, mark: bytes) -> tuple[int, bytes]:
    """Return the end of the text that comes after a mark, with its length before it, and the text."""
    if mark not in (b"*", b"=", b";", b"^", b"!"):
        raise ValueError(f"the reply has {mark!r} where an outcome should be")
    colon = body.index(b":", start)
    length = body[start:colon]
    end = colon + 1 + int(length)
    if not length.isdigit() or end > len(body):
        raise ValueError(f"the reply has no text of length {length!r}")
    return end, body[colon + 1 : end]


def _with_record(mark: bytes, text: bytes, call: Call) -> Outcome:
    if mark == b"!":
        return Outcome(error=text.decode(errors="replace"))
    try:
        stored = StoredRecord.parse(text, whole=False)
    except ValueError:
        return Outcome(error="CORRUPT the record that stands is not one of coord's")
    if stored.data is None and stored.kind is FIRED and stored.count is not None:
        stored.data = b"%d" % stored.count
    own = stored.kind is call.kind not in SILENT and call.letter not in (HOLD, LOCK)
    if stored.data is None and mark == b"*" and own:
        # The first call of this name had the same data, though another node may have made it.
        stored.data = call.data.partition(b"\n")[2] if call.letter == TIMED else call.data
    return Outcome(stored.over() if mark == b";" else stored, mark in b"*^")
