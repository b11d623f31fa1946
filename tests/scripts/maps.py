"""A map as the scripts see it: calls in, outcomes and what Redis holds out."""

from __future__ import annotations

from typing import Any

from coord.core.calls import Call, Outcome, parse_reply
from coord.core.names import MapNames
from coord.core.records import Head, Kind, Revision, Stored
from coord.link.scripts import APPLY, HISTORY, READ, Script

from .servers import Client, ServerError, Word

Operation = tuple[str, str, bytes]
"""Letter, key, data."""

KIND_OF = {"F": Kind.FIRED, "X": Kind.FAILED, "P": Kind.PULSED, "R": Kind.RESET}
HOUR = 3_600_000


class Map:
    """A map and one node that calls it."""

    def __init__(self, client: Client, node: str = "n1", name: str = "mount") -> None:
        self.client = client
        self.node = node
        self.names = MapNames("default", name, 0)
        self.call_key = self.names.call(f"incarnation-of-{node}")
        self.number = 0
        self.newest_seen = 0
        self.retention = HOUR
        self.process = client.process()

    # --- calls -----------------------------------------------------------------------------

    def apply(self, *operations: Operation, number: int | None = None) -> list[Outcome]:
        """Make calls in one batch under the next number, or this one."""
        reply = self.raw(*operations, number=number)
        calls = [
            Call(KIND_OF[letter], key.encode(), self.names.channel(key), data, 0.0, 0, None)
            for letter, key, data in operations
        ]
        return parse_reply(reply, calls, self.node.encode())

    def raw(self, *operations: Operation, number: int | None = None) -> bytes:
        """Make calls and return the reply's bytes."""
        if number is None:
            self.number += 1
            number = self.number
        names = self.names
        words: list[Word] = [names.records, names.head, names.log, names.due, self.call_key]
        words += [number, self.process, self.node, names.doorbell, 100_000]
        words += [self.retention, 60_000, self.newest_seen, 4096]
        for operation in operations:
            words += operation
        reply: bytes = self._run(APPLY, 5, *words)
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

    def read(self, *keys: str) -> list[bytes | None]:
        """Return the head and the keys' records, as ``read.lua`` answers."""
        reply: list[bytes | None] = self._run(READ, 2, self.names.records, self.names.head, *keys)
        return reply

    def history(self, since: str = "-", most: int = 1000) -> tuple[bytes | None, list[Any]]:
        """Return the head and the lines, as ``history.lua`` answers."""
        names = self.names
        head, lines = self._run(HISTORY, 3, names.records, names.head, names.log, since, most)
        return head, lines

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
        return Head.parse(self.client.command("GET", self.names.head))

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
        return {key.decode(): record for key, record in zip(flat[::2], flat[1::2], strict=True)}

    @property
    def lines(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """The history: ids and fields."""
        entries = self.client.command("XRANGE", self.names.log, "-", "+")
        return [(id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in entries]

    @property
    def due(self) -> dict[str, float]:
        """When each pending key's record is to be forgotten, in milliseconds."""
        flat = self.client.command("ZRANGE", self.names.due, 0, -1, "WITHSCORES")
        return {key.decode(): float(score) for key, score in zip(flat[::2], flat[1::2], strict=True)}

    def stored(self, key: str) -> Stored:
        """Return the record of one key, read."""
        return Stored.parse(self.records[key])

    def dump(self) -> dict[bytes, bytes | None]:
        """Return everything the database holds but the call numbers."""
        client = self.client
        kept = [key for key in client.command("KEYS", "*") if b":call:" not in key]
        return {key: client.dump(key) for key in sorted(kept)}


def follows(lines: list[tuple[str, dict[bytes, bytes]]]) -> bool:
    """Tell whether each line follows the one before it, as a watch decides it."""
    at: str | None = None
    for id_, fields in lines:
        generation, number = id_.split("-")
        before = f"{generation} {int(number) - 1}"
        if at is not None and fields.get(b"after", before.encode()).decode() != at:
            return False
        at = f"{generation} {number}"
    return True
