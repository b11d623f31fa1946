"""Records as bytes, for tests that put them into Redis themselves."""

from __future__ import annotations

from msgspec.json import encode

from coord.core.records import Kind, Revision, StoredRecord, Tail

__all__ = ["pack", "reset_of"]


def pack(stored: StoredRecord) -> bytes:
    """Return the bytes that `StoredRecord.parse` reads."""
    header: list[object] = [stored.kind, stored.revision, stored.time, stored.node]
    tail = stored.tail or Tail()
    members = {"ttl": tail.ttl, "count": tail.count, "goal": tail.goal, "since": tail.since, "wake": tail.wake}
    if any(member is not None for member in members.values()):
        header.append({name: member for name, member in members.items() if member is not None})
    return encode(header) + (b"" if stored.data is None else b"\n" + stored.data)


def reset_of(old: StoredRecord, revision: Revision, time: int, node: str, kind: Kind = Kind.RESET) -> StoredRecord:
    """Return the record that a reset (or an end) of ``old`` makes: it keeps the last wake."""
    tail = None if old.wake_kind is None else Tail((old.wake_kind, *old.wake_revision))
    return StoredRecord(kind, revision, time, node, tail, old.data)
