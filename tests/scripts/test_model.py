"""Random batches against a map written in Python: the same outcomes, records, lines and messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coord.core.calls import Outcome
from coord.core.records import NEVER, Kind, Revision, StoredRecord, Tail
from scripts.maps import KIND_OF, Map, Operation, counts, follows
from scripts.servers import Server, ServerError
from support.packing import pack, reset_of

KEYS = ["a", "b", "c"]
LETTERS = st.sampled_from("FXPRrTMECCC")
"""What a call does; a small r is a reset by the revision that stands, or by another; so is an E, of an end."""
GOALS = (0, 0, 0, 4, 9)
WHO = ("", "", "x", "y")
TTLS = (1, 2, 1_000_000)
LATER = 2**50
"""What is added to the time at which an event ends, in the due set."""


@dataclass
class Told:
    """What a call is told: whether it was first, what stands, the count, and the code of an error."""

    first: bool
    stored: StoredRecord | None
    count: int = 0
    error: str = ""

    @property
    def shape(self) -> Shape:
        """The same, to compare with an outcome."""
        return self.first, pack(self.stored) if self.stored else None, self.count, self.error


Shape = tuple[bool, bytes | None, int, str]


@dataclass
class Model:
    """A map as docs/semantics.md, "What happens to a key", has it."""

    records: dict[str, StoredRecord] = field(default_factory=dict)
    changes: list[tuple[str, bytes]] = field(default_factory=list)
    head: Revision = NEVER
    ends: dict[str, int] = field(default_factory=dict)
    counted: dict[str, set[bytes]] = field(default_factory=dict)

    def apply(self, generation: int, time: int, operations: list[Operation]) -> list[Told]:
        """Return what each operation is told."""
        # The records of counters that this batch has made: further counts change them, and the line of each.
        self._shared: dict[str, StoredRecord] = {}
        return [self._one(generation, time, *operation) for operation in operations]

    def _one(self, generation: int, time: int, letter: str, key: str, data: bytes) -> Told:
        if letter == "C":
            return self._count(generation, time, key, *data.split(b","))
        old = self.records.get(key)
        if old is not None and old.count is not None and letter not in "RE":
            return Told(False, None, error="KIND")
        first, stored = self._event(generation, time, letter, key, data)
        return Told(first, stored)

    def _count(self, generation: int, time: int, key: str, n: bytes, goal: bytes, who: bytes) -> Told:
        old, revision = self.records.get(key), Revision(generation, self.head.number + 1)
        over = self.ends.get(key, time) <= time // 1000
        if old is None or old.count is None:
            if old is not None and old.latched and not over:
                return Told(False, None, error="KIND")
            self.counted[key] = set()
            self.ends.pop(key, None)
            old = StoredRecord(Kind.COUNTED, revision, time, "n1", self._begun(old), old.data if old else b"")
        tail = old.tail
        assert tail is not None
        assert tail.count is not None
        if int(goal) and tail.goal not in (None, int(goal)):
            return Told(False, None, error="GOAL")
        if who in self.counted[key]:
            return Told(False, old, tail.count)
        self.counted[key] |= {who} - {b""}
        return self._add(
            key, old, revision, time, Tail(tail.wake, count=tail.count + int(n), goal=tail.goal or int(goal) or None)
        )

    @staticmethod
    def _begun(old: StoredRecord | None) -> Tail:
        return Tail(None if old is None or old.wake_kind is None else (old.wake_kind, *old.wake_revision), count=0)

    def _add(self, key: str, old: StoredRecord, revision: Revision, time: int, tail: Tail) -> Told:
        assert tail.count is not None
        stored, fired = old, old.latched or (tail.goal is not None and tail.count >= tail.goal)
        if self._shared.get(key) is not old or self.records.get(key) is not old:
            stored = self._shared[key] = StoredRecord(Kind.COUNTED, revision, time, "n1", None, old.data)
            self.changes.append((key, b""))
            self.records[key], self.head = stored, revision
            tail.since = old.latched_at
        else:
            tail.since = old.tail.since if old.tail else None
        stored.tail = tail
        if fired:
            stored.kind, tail.wake, stored.data = Kind.FIRED, None, b"%d" % tail.count
        line = next(at for at in reversed(range(len(self.changes))) if self.changes[at][0] == key)
        self.changes[line] = key, pack(stored)
        return Told(True, stored, tail.count)

    def _event(
        self, generation: int, time: int, letter: str, key: str, data: bytes
    ) -> tuple[bool, StoredRecord | None]:
        old = self.records.get(key)
        latched, now = old is not None and old.latched, time // 1000
        over = key in self.ends and self.ends[key] <= now
        revision = Revision(generation, self.head.number + 1)
        ttl, data = _ttl(letter, data)
        if letter == "M" or (letter == "T" and latched and not over):
            return self._moved(letter, key, now + ttl, over=over), old.over() if old and over else old
        if letter in "RE":
            ends = old is not None and (latched or old.count is not None)
            if old is None or not ends or data not in (b"", b"%d,%d" % old.revision) or (letter == "E" and not over):
                # What is over is shown as ended.
                return False, old.over() if old and over else old
            by = old.node if letter == "E" else "n1"
            new = reset_of(old, revision, time, by, Kind.EXPIRED if letter == "E" else Kind.RESET)
        elif latched and not over and letter != "P":
            return False, old
        else:
            new = StoredRecord.of_call(KIND_OF[letter], revision, time, "n1", data)
        self.ends.pop(key, None)
        self.counted.pop(key, None)
        if letter == "T":
            self.ends[key], new.tail = now + ttl, Tail(ttl=ttl)
        self.records[key] = new
        self.changes.append((key, pack(new)))
        self.head = revision
        return True, new

    def _moved(self, letter: str, key: str, end: int, *, over: bool) -> bool:
        """Move an end, and return whether that was asked for: to fire again makes it later, never earlier."""
        if key not in self.ends or over:
            return False
        self.ends[key] = end if letter == "M" else max(end, self.ends[key])
        return letter == "M"


def _ttl(letter: str, data: bytes) -> tuple[int, bytes]:
    if letter == "M":
        return int(data), b""
    ttl, _, value = data.partition(b"\n")
    return (int(ttl), value) if letter == "T" else (0, data)


def _shape(outcome: Outcome) -> Shape:
    error = (outcome.error or "").partition(" ")[0]
    return outcome.first, pack(outcome.stored) if outcome.stored else None, outcome.count, error


class Run:
    """A map on a server and its model, step by step."""

    def __init__(self, server: Server) -> None:
        server.clear()
        self.mount = Map(server.connect())
        self.listener = server.connect()
        self.listener.subscribe(*map(self.mount.names.channel, KEYS))
        self.model = Model()
        # The last two batches and their replies.
        self.replies: list[tuple[list[Operation], bytes]] = []
        self.heard: list[bytes] = []

    def step(self, action: list[tuple[str, str, int]] | str) -> None:
        """Do one thing to both."""
        if isinstance(action, str):
            getattr(self, action)()
        else:
            self.call(action)
        self.heard += [payload for _, payload in self.listener.messages()]

    def call(self, wishes: list[tuple[str, str, int]]) -> None:
        """Make a batch of calls, and hold every outcome to the model's."""
        batch = [self._operation(*wish) for wish in wishes]
        self.mount.newest_seen = self.model.head
        self.mount.number += 1
        reply = self.mount.raw(*batch, number=self.mount.number)
        self.replies = [*self.replies[-1:], (batch, reply)]
        generation, _, time = map(int, reply.partition(b"\n")[0].split())
        expected = self.model.apply(generation, time, batch)
        shapes = [told.shape for told in expected]
        assert list(map(_shape, self.mount.parse(reply, *batch))) == shapes
        repeated = map(_shape, self.mount.apply(*batch, number=self.mount.number))
        standing = {pack(each) for stored in self.model.records.values() for each in (stored, stored.over())}
        for (letter, _, _), again, (first, record, count, error) in zip(batch, repeated, shapes, strict=True):
            # What no longer stands is told without its value, unless it is the caller's own.
            own = first and letter in "FXPT"
            # The header of a counter that has fired has its value.
            counter = record is not None and re.match(rb'\["fired",[^\n]*"count":', record)
            whole = own or record is None or record in standing or counter
            assert again == (first, record if whole else (record or b"").partition(b"\n")[0], count, error)

    def _operation(self, letter: str, key: str, n: int) -> Operation:
        if letter == "C":
            return counts(key, n % 3 + 1, GOALS[n % len(GOALS)], WHO[n // 3 % len(WHO)])
        ttl = TTLS[n % len(TTLS)]
        if letter not in "rE":
            return letter, key, {"R": b"", "T": b"%d\n%d" % (ttl, n), "M": b"%d" % ttl}.get(letter, b"%d" % n)
        standing = self.model.records.get(key)
        revision = standing.revision if standing else Revision(1, 1)
        return letter.upper(), key, b"%d,%d" % (revision.generation, revision.number - n % 2)

    def repeat(self) -> None:
        """Send the last batch again, and the one before that."""
        for back, (batch, reply) in enumerate(reversed(self.replies)):
            again = self.mount.raw(*batch, number=self.mount.number - back)
            assert again.startswith(b"=")
            # The values of records that no longer stand are left out.
            assert again == b"=" + reply or len(again) <= len(reply) + 1

    def stale(self) -> None:
        """Send a batch under a number that has passed."""
        if self.mount.number > 2 and len(self.replies) == 2:
            with pytest.raises(ServerError, match=r"^STALE"):
                self.mount.raw(("P", "a", b"0"), number=self.mount.number - 2)

    def early(self) -> None:
        """Send a batch behind one that was not applied."""
        with pytest.raises(ServerError, match=r"^EARLY"):
            self.mount.raw(("P", "a", b"0"), number=self.mount.number + 2, before=self.mount.number + 1)

    def fail_over(self) -> None:
        """Let the data come under another process."""
        head = self.mount.head_bytes
        if head:
            self.mount.head_bytes = head.replace(self.mount.history_id.encode(), b"cd" * 8)

    def flush(self) -> None:
        """Lose all data; call numbers and history go with it."""
        self.mount.client.command("FLUSHALL")
        self.model.records.clear()
        self.model.ends.clear()
        self.model.counted.clear()
        self.model.head = NEVER._replace(generation=self.model.head.generation)
        self.replies = []
        del self.model.changes[:]
        self.heard = []

    def check(self) -> None:
        """Hold what Redis has to the model."""
        mount, model = self.mount, self.model
        timed = {key: score - LATER for key, score in mount.due.items() if score >= LATER}
        assert timed == model.ends
        assert mount.records == {key: pack(stored) for key, stored in model.records.items()}
        names = {(key, name) for key, counted in model.counted.items() for name in counted}
        assert {tuple(member.split(b"\0who\0")) for member in mount.names_counted} == {
            (key.encode(), name) for key, name in names
        }
        lines = mount.lines
        assert lines == model.changes
        assert follows(mount.entries)
        assert self.heard == [record for _, record in model.changes]
        head = mount.head
        assert (head.revision if head else None) == (model.head if lines else None)


_CALLS = st.lists(st.tuples(LETTERS, st.sampled_from(KEYS), st.integers(0, 99)), max_size=6)
_ACTIONS = st.one_of(_CALLS, _CALLS, st.sampled_from(["repeat", "stale", "early", "fail_over", "flush"]))


@given(actions=st.lists(_ACTIONS, max_size=12))
@example(actions=[[("C", "a", 1), ("C", "a", 73), ("R", "a", 0)]])
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_random_batches(server: Server, actions: list[list[tuple[str, str, int]] | str]) -> None:
    """Whatever is called in whatever order, repeated, failed over or flushed: the map is the model's."""
    server.hang_up()
    run = Run(server)
    for action in actions:
        run.step(action)
    run.check()
