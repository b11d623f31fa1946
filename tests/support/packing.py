"""Records as bytes, for tests that put them into Redis themselves."""

from __future__ import annotations

from msgspec.json import encode

from coord.core.records import Kind, Revision, StoredRecord, Tail

__all__ = ["pack", "reset_of"]


def pack(stored: StoredRecord) -> bytes:
    """Return the bytes that `StoredRecord.parse` reads."""
    header: list[object] = [stored.kind, stored.revision, stored.time, stored.node]
    if stored.tail is not None and stored.tail.wake is not None:
        header.append({"wake": stored.tail.wake})
    return encode(header) + (b"" if stored.data is None else b"\n" + stored.data)


def reset_of(old: StoredRecord, revision: Revision, time: int, node: str) -> StoredRecord:
    """Return the record that a reset of ``old`` makes: it keeps the last wake."""
    tail = None if old.wake_kind is None else Tail((old.wake_kind, *old.wake_revision))
    return StoredRecord(Kind.RESET, revision, time, node, tail, old.data)
