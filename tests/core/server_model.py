"""A model of a server: what ``apply.lua`` does to a map, and what HMGET tells of it, and what can happen to its data.

Time is counted in *moments*: one for each change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from coord.core.calls import Outcome
from coord.core.names import MapNames
from coord.core.records import NEVER, Head, Kind, Revision, StoredRecord
from support.packing import reset_of

__all__ = ["CHANNELS", "KINDS", "MAP_OF", "NAMES", "Data", "Operation", "Server"]

NODE = "node"
NAMES = {name: MapNames("default", name, 0) for name in ("one", "two")}
CHANNELS = [NAMES["one"].channel("a"), NAMES["one"].channel("b"), NAMES["two"].channel("a")]
MAP_OF = {channel: "two" if index == 2 else "one" for index, channel in enumerate(CHANNELS)}
KINDS = (Kind.FIRED, Kind.FAILED, Kind.PULSED, Kind.RESET)
_JUNK = b"junk"


class Operation(NamedTuple):
    """One call as the server sees it."""

    kind: Kind
    channel: bytes
    data: bytes


class Data(NamedTuple):
    """All that the server has of one map; never changed in place, so that a failover can bring back an older one."""

    records: dict[bytes, StoredRecord | bytes]
    head: Head | None
    answered: dict[int, list[Outcome]]


NOTHING = Data({}, None, {})


class Server:
    """Holds what ``apply.lua`` would, and tells subscribers."""

    def __init__(self) -> None:
        self.moment = 0
        self.process = 1
        self.clock = 1000
        self.data = dict.fromkeys(NAMES, NOTHING)
        self.past: dict[str, list[Data]] = {name: [NOTHING] for name in NAMES}
        # How often data of a map was lost, and when last; and when each change was made.
        self.losses = dict.fromkeys(NAMES, 0)
        self.lost = dict.fromkeys(NAMES, -1)
        self.made: dict[tuple[bytes, Revision], int] = {}
        self.publish: Callable[[bytes, StoredRecord | None, int], None] = lambda channel, stored, moment: None

    def record(self, channel: bytes) -> StoredRecord | bytes | None:
        """Return what stands for a key."""
        return self.data[MAP_OF[channel]].records.get(channel)

    def apply(self, name: str, operations: list[Operation], number: int = 0, before: int = 0) -> list[Outcome] | None:
        """Carry out a batch; a number answered before is answered as before. ``None``: it came too early."""
        data = self.data[name]
        if number and number in data.answered:
            return data.answered[number]
        last = max(data.answered, default=0)
        assert number == 0 or number > last, "a batch was sent after a later one"
        if before not in (0, last):
            return None
        outcomes = []
        for operation in operations:
            data, outcome = self._apply(data, operation)
            outcomes.append(outcome)
        if number:
            data = data._replace(answered={last: data.answered.get(last, []), number: outcomes})
        self.past[name].append(data)
        self.data[name] = data
        return outcomes

    def _apply(self, data: Data, operation: Operation) -> tuple[Data, Outcome]:
        old = data.records.get(operation.channel)
        repairs = operation.kind is Kind.RESET
        if isinstance(old, bytes):
            if not repairs:
                return data, Outcome(error="CORRUPT")
            return self._change(data, operation, None)
        latched = old is not None and old.latched
        if repairs and not latched:
            return data, Outcome(stored=old)
        if latched and operation.kind in (Kind.FIRED, Kind.FAILED):
            return data, Outcome(stored=old)
        return self._change(data, operation, old)

    def _change(self, data: Data, operation: Operation, old: StoredRecord | None) -> tuple[Data, Outcome]:
        head = self._next_head(data.head)
        self.moment += 1
        kind, channel = operation.kind, operation.channel
        if kind is Kind.RESET:
            stored = StoredRecord(kind, head.revision, self.moment, NODE)
            if old:
                stored = reset_of(old, stored.revision, stored.time, stored.node)
        else:
            stored = StoredRecord.of_call(kind, head.revision, self.moment, NODE, operation.data)
        self.made[channel, head.revision] = self.moment
        self.publish(channel, stored, self.moment)
        records = {**data.records, channel: stored}
        return data._replace(records=records, head=head), Outcome(first=True, stored=stored)

    def _next_head(self, head: Head | None) -> Head:
        process = b"%d" % self.process
        if head is not None and head.process == process:
            return head._replace(revision=Revision(head.revision.generation, head.revision.number + 1))
        self.clock += 1
        return Head(Revision(self.clock, 1), process, head.revision if head else NEVER)

    def flush(self, name: str) -> None:
        """Lose all data of a map, under everybody's feet."""
        self.moment += 1
        self._lose(name, NOTHING)

    def fail_over(self, lost: int) -> None:
        """Go on as another process, which lacks the last changes."""
        self.process += 1
        self.moment += 1
        for name, past in self.past.items():
            if lost:
                del past[max(1, len(past) - lost) :]
                if past[-1] is not self.data[name]:
                    self._lose(name, past[-1])

    def _lose(self, name: str, data: Data) -> None:
        self.losses[name] += 1
        self.lost[name] = self.moment
        self.data[name] = data
        # What was before a loss does not come back by another one.
        self.past[name] = [data]

    def corrupt(self, channel: bytes) -> None:
        """Have somebody else write junk in a record's place."""
        self._put(channel, _JUNK)

    def forget(self, channel: bytes) -> None:
        """Forget a record of a pending key, as the retention does."""
        old = self.record(channel)
        if isinstance(old, StoredRecord) and not old.latched:
            self._put(channel, None)

    def _put(self, channel: bytes, record: bytes | None) -> None:
        self.moment += 1
        name = MAP_OF[channel]
        data = self.data[name]
        records = {**data.records}
        records.pop(channel, None)
        if record is not None:
            records[channel] = record
        self.data[name] = data._replace(records=records)
        self.past[name] = [self.data[name]]
