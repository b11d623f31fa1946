"""The numbered calls of one node on one map.

While a batch is unanswered the next one gathers; when it is large, it is sent behind the other, so that the server has
work while this process makes more. A batch whose answer was lost is sent again under its number, unchanged, on the next
link, and the server answers it as before (F2). At most two are unanswered, so the server needs to remember no more than
the last two. It refuses the second where it has not applied the first (F1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from itertools import islice
from math import inf
from typing import Any, Final

from msgspec import Struct

from coord.core.deadlines import EarlyDeadlines
from coord.core.records import RESET, Kind, Revision, StoredRecord

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_CALLS",
    "REPEATED",
    "Batch",
    "Call",
    "CallName",
    "CallQueue",
    "Outcome",
    "parse_reply",
]

MAX_BATCH_CALLS: Final = 256
MAX_BATCH_BYTES: Final = 262_144

REPEATED: Final = b"="
"""What the reply to a repetition begins with: the server answered it from memory."""

_ENOUGH: Final = 1 / 8
"""Part of a full batch from which on what a batch costs beside its calls is little beside these."""

_LETTER: Final = {Kind.FIRED: ord("F"), Kind.FAILED: ord("X"), Kind.PULSED: ord("P"), Kind.RESET: ord("R")}
_tuple: Final = tuple.__new__


class CallName(Struct, frozen=True, gc=False):
    """What stands for a call that was given a name: the same on every node, so that any of them may repeat it.

    ``incarnation`` is made of the name, ``number`` of what is called: another call of the same name has another number.
    """

    incarnation: str
    number: int

    @classmethod
    def of(cls, namespace: str, caller: str, name: str, kind: Kind, key: bytes, data: bytes) -> CallName:
        """Return what stands for a name within a map; ``caller`` keeps the names of several callers apart."""
        number = int.from_bytes(_digest(bytes([_LETTER[kind]]), key, data)[:6]) | 1
        return cls(_digest(namespace.encode(), caller.encode(), name.encode()).hex()[:32], number)


def _digest(*parts: bytes) -> bytes:
    """Return a digest of the parts, each with its length, so that no other parts come to the same bytes."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


# Calls and outcomes are structs because one is made in a quarter of the time that a class of our own takes. The garbage
# collector, whose visits are a sixth of what a call costs its node, has no need to visit them: a call and its result
# hold each other no longer than until there is one.
class Call(Struct, eq=False, gc=False):
    """One fire, fail, pulse or reset, which is also the canceller of its result.

    ``order`` is its place among this node's waits and calls, ``deadline`` in seconds of the clock. ``replication`` is
    how many replicas have to have it, and within how many milliseconds (F4). ``node`` is who makes it, if not this node
    itself; ``name`` what it is called (F5). ``taken``: it is, or was, in a batch.
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

    def __call__(self, _: object = None) -> None:
        """Take note that nobody wants the result; one that was not sent yet never will be."""
        self.done = True


class Batch(Struct, eq=False):
    """Calls that travel together, under one number.

    ``repeated``: it was sent before, on a link that was lost before the answer came. ``early``: it was refused because
    the one before it is not applied, and is to be sent again when that one is answered. ``put_off``: the server's words
    where it only had no time for it; it stays where it is, and is to be sent again after a pause.
    """

    number: int
    calls: list[Call]
    repeated: bool = False
    early: bool = False
    postponed: str = ""

    @property
    def in_doubt(self) -> bool:
        """Whether it may have been applied: it is on its way, or was when a link was lost."""
        return self.repeated or not (self.early or self.postponed)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for any of its calls."""
        return not all(call.done for call in self.calls)

    @property
    def args(self) -> list[bytes]:
        """The calls as ``apply.lua`` takes them; see `nodes` for what may follow.

        Each word is packed here, parsed by the server and made a Lua string, so there are few: key and data for a call,
        and one letter. What all calls share is one word.
        """
        calls = self.calls
        letters = bytes([_LETTER[call.kind] for call in calls])
        return [letters, *[call.key for call in calls], *[call.data for call in calls]]

    def nodes(self, own: str) -> list[bytes]:
        """Return the word that names the node of each call, if they are not all of our ``own``."""
        if not any([call.node for call in self.calls]):  # noqa: C419 - a list is twice as fast as a generator
            return []
        return [",".join([call.node or own for call in self.calls]).encode()]

    @property
    def name(self) -> CallName | None:
        """What its one call is called, if it has a name."""
        return self.calls[0].name


class CallQueue:
    """The calls that wait to be sent, ``gathering``, and the batches that are ``sent`` and not answered, two at most.

    Both are in order, oldest first. ``most`` is the number of calls in a full batch. ``due`` is the outbox's: when it
    looks at this queue.

    :param number: the first batch comes above it.
    """

    __slots__ = ("_early", "_latest", "_number", "_over", "due", "gathering", "most", "sent")

    def __init__(self, number: int = 0) -> None:
        self.gathering: deque[Call] = deque()
        # Most calls have the same time, so that they end in the order in which they were made. One that ends before the
        # latest deadline so far is in a heap, too.
        self._latest = -inf
        self._early: EarlyDeadlines[Call] = EarlyDeadlines()
        # How many have ended while they were gathering, since all that were over were dropped.
        self._over = 0
        self._number = number
        self.most = MAX_BATCH_CALLS
        self.sent: list[Batch] = []
        self.due = inf

    def __len__(self) -> int:
        return len(self.gathering) + sum(len(batch.calls) for batch in self.sent)

    def add(self, call: Call) -> None:
        """Queue a call behind those that were made before it (F1)."""
        self.gathering.append(call)
        if call.deadline >= self._latest:
            self._latest = call.deadline
        else:
            self._early.add(call)

    def next(self) -> Batch | None:
        """Return a batch to send now, or ``None`` where nothing waits, or has to wait for an answer."""
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
        """Take out the calls of the next batch: the first still wanted; a named one alone."""
        calls: list[Call] = []
        gathering, most, size = self.gathering, self.most, 0
        while gathering and size < MAX_BATCH_BYTES:
            call = gathering.popleft()
            if call.done:
                continue
            if calls and call.name is not calls[0].name:
                gathering.appendleft(call)
                break
            call.taken = True
            calls.append(call)
            size += len(call.data)
            if len(calls) == most or call.name is not None:
                break
        return calls

    def _may_follow(self, oldest: Batch) -> bool:
        """Whether a second batch may be sent behind ``oldest``.

        A large one is, so that the server has work while this node makes the next: 4 % of the throughput. Named
        ones have no place in the order of the numbers. The server remembers an even and an odd number, so the two have
        to be neighbours.
        """
        if len(self.gathering) < self.most * _ENOUGH or len(self.sent) > 1 or oldest.number != self._number:
            return False
        return oldest.name is None and self.gathering[0].name is None

    def before(self, batch: Batch) -> int:
        """Return the number of the batch that is unanswered before this one; 0 for none."""
        return self.sent[0].number if self.sent and self.sent[0] is not batch else 0

    def answered(self, batch: Batch) -> bool:
        """Take the answer to ``batch``; answer whether it is still wanted."""
        wanted = batch in self.sent
        if wanted:
            self.sent.remove(batch)
        return wanted

    def expire(self, now: float) -> tuple[list[Call], list[Call]]:
        """Return the calls whose deadline has passed: those not applied, and those of which nobody knows.

        A sent batch is given up only when nobody waits for any of its calls: until then it must be repeated
        unchanged. Its number is not used again, so that a copy of it still on its way is refused once a later
        batch was applied.
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

        If the first call's has not, neither has that of any other but the early ones: each ends no earlier than all
        that were made before it.
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
                # What was said not to be applied must not be.
                batch.calls = [call for call in batch.calls if not call.done]
        self.sent = [batch for batch in self.sent if batch.awaited]

    def _trim(self) -> None:
        """Drop gathering calls that are over: at the front at once, and all of them once they are half of it."""
        gathering = self.gathering
        while gathering and gathering[0].done:
            gathering.popleft()
        if 2 * self._over > len(gathering):
            self.drop_over()

    def drop_over(self) -> None:
        """Drop all gathering calls that are over, the cancelled ones too."""
        self.gathering = deque(call for call in self.gathering if not call.done)
        self._over = 0

    @property
    def postponed(self) -> str:
        """The server's words, if it puts this map off; the next batch waits for that."""
        return next((batch.postponed for batch in self.sent if batch.postponed), "")

    def drop_unsent(self) -> list[Call]:
        """Give up the calls that were never sent, and return them."""
        unsent = [call for call in self.gathering if not call.done]
        for call in unsent:
            call.done = True
        self.gathering.clear()
        self._over = 0
        return unsent

    def earliest(self) -> float | None:
        """Return the earliest deadline of all calls that somebody waits for."""
        self._trim()
        waiting = [call.deadline for batch in self.sent for call in batch.calls if not call.done]
        waiting += [call.deadline for call in islice(self.gathering, 1)]
        early = self._early.earliest()
        return min(waiting if early is None else [*waiting, early], default=None)


class Outcome(Struct, gc=False):
    """What became of one call: an error in the server's words, or what stands, and whether this call put it there.

    What stands has no data if the server answered a repetition from memory, and it no longer stood.
    """

    stored: StoredRecord | None = None
    first: bool = False
    error: str | None = None


def parse_reply(reply: bytes, calls: list[Call], node: str) -> Iterable[Outcome]:
    """Read the reply of ``apply.lua`` (its header tells the format); raise `ValueError` where it is not one.

    Each outcome is to be looked at once.

    :param node: the name of this node, for the calls that name no other.
    """
    header, _, body = reply.removeprefix(REPEATED).partition(b"\n")
    generation, number, time = map(int, header.split(b" "))
    if body == b"+" * len(calls):
        # Mostly so, and then there is nothing to look for. One at a time, and without a call of `_made`, they take a
        # node that fires a tenth less of its time: the memory that one had is still in the caches for the next.
        return (
            Outcome(
                StoredRecord(
                    call.kind, _tuple(Revision, (generation, spent)), time, call.node or node, None, call.data
                ),
                True,
            )
            for spent, call in enumerate(calls, number + 1)
        )
    outcomes: list[Outcome] = []
    at = 0
    for call in calls:
        while body[at : at + 1] == b"~":
            # A change that was undone after it had a place in the history: its number is spent.
            number += 1
            at += 1
        mark = body[at : at + 1]
        at += 1
        if mark == b"+":
            number += 1
            outcomes.append(_made(call, generation, number, time, call.node or node))
        elif mark == b"-":
            outcomes.append(Outcome())
        elif mark in (b"*", b"=", b"!"):
            end = body.index(b":", at)
            at, text = _cut(body, end + 1, body[at:end])
            if mark == b"*":
                number += 1
            outcomes.append(_told(mark, text, call))
        else:
            raise ValueError(f"the reply has {mark!r} where an outcome should be")
    if at != len(body):
        raise ValueError("the reply has more outcomes than there were calls")
    return outcomes


def _made(call: Call, generation: int, number: int, time: int, node: str) -> Outcome:
    revision = _tuple(Revision, (generation, number))
    return Outcome(StoredRecord.of_call(call.kind, revision, time, node, call.data), True)


def _cut(body: bytes, start: int, length: bytes) -> tuple[int, bytes]:
    """Return where a text of this length ends, and the text."""
    end = start + int(length)
    if not length.isdigit() or end > len(body):
        raise ValueError(f"the reply has no text of length {length!r}")
    return end, body[start:end]


def _told(mark: bytes, text: bytes, call: Call) -> Outcome:
    if mark == b"!":
        return Outcome(error=text.decode(errors="replace"))
    try:
        stored = StoredRecord.parse(text, whole=False)
    except ValueError:
        return Outcome(error="CORRUPT the record that stands is not one of coord's")
    if stored.data is None and stored.kind is call.kind is not RESET and mark == b"*":
        # What was called under this name is what is called now; only who was first may have been another node.
        stored.data = call.data
    return Outcome(stored, mark == b"*")
