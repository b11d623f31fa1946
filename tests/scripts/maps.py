"""A map as the scripts see it: calls in, outcomes and what Redis holds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coord.core.calls import Call, Outcome, parse_reply
from coord.core.history import Cursor, parse_entry
from coord.core.names import HEAD, MapNames
from coord.core.records import Head, Kind, Revision, StoredRecord
from coord.link.scripts import APPLY, HEADS, HISTORY, LOOK, Script
from scripts.servers import Client, ServerError, Word

Operation = tuple[str, str, bytes]
"""Letter, key, data."""

KIND_OF = {
    "F": Kind.FIRED,
    "X": Kind.FAILED,
    "P": Kind.PULSED,
    "R": Kind.RESET,
    "T": Kind.FIRED,
    "M": Kind.EXPIRED,
    "E": Kind.EXPIRED,
    "H": Kind.FIRED,
    "L": Kind.FIRED,
    "U": Kind.WITHDRAWN,
    "D": Kind.EXPIRED,
    "V": Kind.RESET,
    "C": Kind.COUNTED,
}
"""What a test's letter stands for."""
HOUR = 3_600_000


class Map:
    """A map and one node that calls it."""

    def __init__(self, client: Client, node: str = "n1", name: str = "mount") -> None:
        self.client = client
        self.node = node
        self.names = MapNames("default", name, 0)
        self.incarnation = f"incarnationof{node}"
        self.number = 0
        self.newest_seen = Revision(0, 0)
        self.retention = HOUR
        self.outcome_life = 60_000
        self.history_kept = 100_000
        self.process = client.process()[:16]
        self.history_id = client.history_id()[:16]

    # --- calls -----------------------------------------------------------------------------

    def apply(self, *operations: Operation, number: int | None = None) -> list[Outcome]:
        """Make calls in one batch under the next number, or this one."""
        return self.parse(self.raw(*operations, number=number), *operations)

    def parse(self, reply: bytes, *operations: Operation) -> list[Outcome]:
        """Return the outcomes that a reply tells."""
        calls = [_call(*operation) for operation in operations]
        return list(parse_reply(reply, calls, self.node))

    @property
    def outcome_field(self) -> bytes:
        """Where this node's last outcome is kept."""
        return b"\0call:%b:%d" % (self.incarnation.encode(), self.number % 2)

    def raw(
        self,
        *operations: Operation,
        number: int | None = None,
        before: int = 0,
        flags: str = "-",
        incarnation: str | None = None,
        nodes: str | None = None,
    ) -> bytes:
        """Make calls and return the reply's bytes."""
        if number is None:
            self.number += 1
            number = self.number
        names = self.names
        generation, seen = self.newest_seen
        settings = f"{flags} {number} {before} {generation} {seen} {incarnation or self.incarnation} {self.node} "
        settings += f"{names.doorbell.decode()} {self.history_kept} {self.retention} {self.outcome_life} 4096"
        words: list[Word] = [*names.keys, settings]
        words += ["".join(letter for letter, _, _ in operations)]
        words += [key for _, key, _ in operations] + [data for _, _, data in operations]
        words += [] if nodes is None else [nodes]
        reply: bytes = self._run(APPLY, len(names.keys), *words)
        return reply

    def fire(self, key: str, data: bytes = b"true") -> Outcome:
        """Fire one key."""
        return self.apply(("F", key, data))[0]

    def fail(self, key: str, data: bytes = b'"bad"') -> Outcome:
        """Fail one key."""
        return self.apply(("X", key, data))[0]

    def pulse(self, key: str, data: bytes = b"true") -> Outcome:
        """Pulse one key."""
        return self.apply(("P", key, data))[0]

    def reset(self, key: str, data: bytes = b"") -> Outcome:
        """Reset one key."""
        return self.apply(("R", key, data))[0]

    def count(self, key: str, n: int = 1, goal: int = 0, who: str = "") -> Outcome:
        """Count on one key."""
        return self.apply(counts(key, n, goal, who))[0]

    def read(self, *keys: str) -> list[bytes | None]:
        """Return the head and the keys' records, as a node reads them."""
        reply: list[bytes | None] = self.client.command("HMGET", self.names.records, HEAD, *keys)
        return reply

    def history(
        self, since: str = "-", enough: int = 1000, most: int = 1 << 30
    ) -> tuple[bytes | None, list[Any], list[bytes]]:
        """Return the head, the entries and the records that stand, as ``history.lua`` answers.

        :param enough: lines   :param most: bytes
        """
        names = self.names
        head, entries, standing = self._run(HISTORY, 2, names.records, names.log, since, enough, most)
        return head, entries, standing

    def heads(self, *names: bytes) -> list[bytes | None]:
        """Return the heads that ``heads.lua`` answers for these maps."""
        reply: list[bytes | None] = self._run(HEADS, len(names), *names)
        return reply

    def ends(self, *keys: str) -> list[int]:
        """Return the milliseconds until the events of these keys end."""
        head, records, left = self._run(LOOK, 2, self.names.records, self.names.due, *keys)
        assert [head, *records] == self.read(*keys)
        return [int(each) for each in left]

    def _run(self, script: Script, keys: int, *words: Word) -> Any:
        try:
            return self.client.command("EVALSHA", script.sha, keys, *words)
        except ServerError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return self.client.command("EVAL", script.text, keys, *words)

    # --- what Redis holds ------------------------------------------------------------------

    @property
    def head(self) -> Head | None:
        """The head, read."""
        return Head.parse(self.head_bytes)

    @property
    def head_bytes(self) -> bytes | None:
        """The head as it stands; assigned, it is put there."""
        head: bytes | None = self.client.command("HGET", self.names.records, HEAD)
        return head

    @head_bytes.setter
    def head_bytes(self, head: Word | None) -> None:
        if head is None:
            self.client.command("HDEL", self.names.records, HEAD)
        else:
            self.client.command("HSET", self.names.records, HEAD, head)

    @property
    def outcome(self) -> bytes | None:
        """What is kept of this node's last call; assigned, it is put there."""
        outcome: bytes | None = self.client.command("HGET", self.names.records, self.outcome_field)
        return outcome

    @outcome.setter
    def outcome(self, outcome: Word) -> None:
        self.client.command("HSET", self.names.records, self.outcome_field, outcome)

    @property
    def revision(self) -> Revision:
        """The head's revision; there has to be one."""
        head = self.head
        assert head is not None
        return head.revision

    @property
    def records(self) -> dict[str, bytes]:
        """All records' bytes by key."""
        flat = self.client.command("HGETALL", self.names.records)
        return {key.decode(): record for key, record in zip(flat[::2], flat[1::2], strict=True) if is_key(key)}

    @property
    def entries(self) -> list[Entry]:
        """The history."""
        return [Entry(id_.decode(), fields) for id_, fields in self.client.command("XRANGE", self.names.log, "-", "+")]

    @property
    def lines(self) -> list[tuple[str, bytes]]:
        """The keys and lines of all entries."""
        return [line for entry in self.entries for line in entry.lines]

    @property
    def due(self) -> dict[str, float]:
        """When each pending key's record is to be forgotten, in milliseconds."""
        flat = self.client.command("ZRANGE", self.names.due, 0, -1, "WITHSCORES")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {key.decode(): float(score) for key, score in pairs if _is_of_a_key(key)}

    @property
    def due_of_outcomes(self) -> dict[bytes, float]:
        """When each node's outcome is to be looked at again, in milliseconds."""
        flat = self.client.command("ZRANGE", self.names.due, 0, -1, "WITHSCORES")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {field: float(score) for field, score in pairs if not is_key(field)}

    @property
    def names_counted(self) -> list[bytes]:
        """The members that stand in the set beside the records, but the empty one."""
        return [member for member in self.client.command("ZRANGE", self.names.entries, 0, -1) if member]

    def stored(self, key: str) -> StoredRecord:
        """Return the record of one key, read."""
        return StoredRecord.parse(self.records[key])

    def dump(self, *, with_head: bool = True) -> dict[bytes, bytes]:
        """Return everything the database holds but outcomes, and when these and the map are to be looked at."""
        client = self.client
        held = {}
        for name in sorted(client.command("KEYS", "*")):
            kind = client.command("TYPE", name)
            what: object
            if name == self.names.idle:
                continue
            if kind == b"hash":
                what = _without_outcomes(client.command("HGETALL", name), with_head)
            elif kind == b"zset":
                what = _without_outcomes(client.command("ZRANGE", name, 0, -1, "WITHSCORES"), False)
            else:
                what = client.dump(name)
            if what:
                held[name] = repr(what).encode()
        return held


def now_of(client: Client) -> int:
    """Return the server's time in milliseconds."""
    seconds, micro = client.command("TIME")
    return int(seconds) * 1000 + int(micro) // 1000


def let_pass(client: Client, milliseconds: int = 3) -> None:
    """Wait until so much of the server's time has passed."""
    begin = now_of(client)
    while now_of(client) < begin + milliseconds:
        client.pass_time(0.001)


def _call(letter: str, key: str, data: bytes) -> Call:
    return Call(KIND_OF[letter], key.encode(), data, 0.0, 0, letter=ord(letter))


def counts(key: str, n: int = 1, goal: int = 0, who: str = "") -> Operation:
    """Return a call that counts."""
    return "C", key, f"{n},{goal},{who}".encode()


def _without_outcomes(flat: list[bytes], with_head: bool) -> list[tuple[bytes, bytes]]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return sorted(pair for pair in pairs if _is_of_a_key(pair[0]) or (with_head and pair[0] == HEAD))


def is_key(field: bytes) -> bool:
    """Whether a field of the records' hash is a key, and not the head or an outcome."""
    return field[:1] != b"\0"


def _is_of_a_key(field: bytes) -> bool:
    """Whether a field or member is a key's: the set of what is due has a member without a name."""
    return field != b"" and is_key(field)


@dataclass(frozen=True)
class Entry:
    """One entry of the history: its id, what it follows (if it says so), and its lines."""

    identifier: str
    fields: list[bytes]

    @property
    def after(self) -> bytes | None:
        """The revision that the entry names as the one that it follows."""
        return None if self.fields[0] else self.fields[1]

    @property
    def lines(self) -> list[tuple[str, bytes]]:
        """Keys and lines."""
        pairs = zip(self.fields[::2], self.fields[1::2], strict=True)
        return [(key.decode(), line) for key, line in pairs if key]


def follows(entries: list[Entry]) -> bool:
    """Tell whether nothing is missing between the entries, as a watch decides it."""
    cursor = Cursor("mount", None)
    for entry in entries:
        lines = parse_entry("mount", entry.identifier.encode(), entry.fields, {})
        cursor.advance(lines, None)
    return True
