"""Random batches against a map written in Python: the same outcomes, records, lines and messages."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coord.core.calls import Outcome
from coord.core.records import NEVER, Kind, Revision, StoredRecord, Tail
from scripts.maps import KIND_OF, Map, Operation, follows
from scripts.servers import Server, ServerError
from support.packing import pack, reset_of

KEYS = ["a", "b", "c"]
LETTERS = st.sampled_from("FXPRrTME")
"""What a call does; a small r is a reset by the revision that stands, or by another; so is an E, of an end."""
TTLS = (1, 2, 1_000_000)
LATER = 2**50
"""What is added to the time at which an event ends, in the due set."""


@dataclass
class Model:
    """A map as docs/semantics.md, "What happens to a key", has it."""

    records: dict[str, StoredRecord] = field(default_factory=dict)
    changes: list[tuple[str, bytes]] = field(default_factory=list)
    head: Revision = NEVER
    ends: dict[str, int] = field(default_factory=dict)

    def apply(self, generation: int, time: int, operations: list[Operation]) -> list[tuple[bool, StoredRecord | None]]:
        """Return, for each operation, whether it was first and what stands."""
        return [self._one(generation, time, *operation) for operation in operations]

    def _one(self, generation: int, time: int, letter: str, key: str, data: bytes) -> tuple[bool, StoredRecord | None]:
        old = self.records.get(key)
        latched, now = old is not None and old.latched, time // 1000
        over = key in self.ends and self.ends[key] <= now
        revision = Revision(generation, self.head.number + 1)
        ttl, data = _ttl(letter, data)
        if letter == "M" or (letter == "T" and latched and not over):
            return self._moved(letter, key, now + ttl, over=over), old.over() if old and over else old
        if letter in "RE":
            if old is None or not latched or data not in (b"", b"%d,%d" % old.revision) or (letter == "E" and not over):
                # What is over is shown as ended.
                return False, old.over() if old and over else old
            by = old.node if letter == "E" else "n1"
            new = reset_of(old, revision, time, by, Kind.EXPIRED if letter == "E" else Kind.RESET)
        elif latched and not over and letter != "P":
            return False, old
        else:
            new = StoredRecord.of_call(KIND_OF[letter], revision, time, "n1", data)
        self.ends.pop(key, None)
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


def _shape(outcome: Outcome) -> tuple[bool, bytes | None]:
    assert outcome.error is None
    return outcome.first, pack(outcome.stored) if outcome.stored else None


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
        shapes = [(first, pack(s) if s else None) for first, s in expected]
        assert list(map(_shape, self.mount.parse(reply, *batch))) == shapes
        repeated = map(_shape, self.mount.apply(*batch, number=self.mount.number))
        standing = {pack(each) for stored in self.model.records.values() for each in (stored, stored.over())}
        for (letter, _, _), again, (first, record) in zip(batch, repeated, shapes, strict=True):
            # What no longer stands is told without its value, unless it is the caller's own.
            own = first and letter in "FXPT"
            whole = own or record is None or record in standing
            assert again == (first, record if whole else (record or b"").partition(b"\n")[0])

    def _operation(self, letter: str, key: str, n: int) -> Operation:
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
            assert again == b"=" + reply or len(again) <= len(reply)

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
        lines = mount.lines
        assert lines == model.changes
        assert follows(mount.entries)
        assert self.heard == [record for _, record in model.changes]
        head = mount.head
        assert (head.revision if head else None) == (model.head if lines else None)


_CALLS = st.lists(st.tuples(LETTERS, st.sampled_from(KEYS), st.integers(0, 99)), max_size=6)
_ACTIONS = st.one_of(_CALLS, _CALLS, st.sampled_from(["repeat", "stale", "early", "fail_over", "flush"]))


@given(actions=st.lists(_ACTIONS, max_size=12))
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
